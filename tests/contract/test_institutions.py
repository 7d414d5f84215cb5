"""The contract of institutions on the running stack: making and listing tenants, as an administrator."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e

BASE = "/api/v1"
NOBODY = "123e4567-e89b-12d3-a456-426614174000"
FIELDS = {
    "id",
    "name",
    "slug",
    "type",
    "description",
    "logo_url",
    "contact_email",
    "contact_phone",
    "legal_status",
    "registration_number",
    "parent_id",
    "max_users",
    "max_diplomas",
    "storage_quota_mb",
    "status",
    "is_active",
    "created_at",
    "updated_at",
}
"""What a tenant in a list has."""
Make = Callable[..., dict[str, Any]]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def unique() -> str:
    return f"inst-{uuid4().hex[:10]}"


def tenant_body(**fields: Any) -> dict[str, Any]:
    """What makes a tenant."""
    return {
        "name": "Université de Buea",
        "slug": unique(),
        "type": "UNIVERSITY",
        "description": "University located in Buea",
        "logo_url": "https://ub.example/logo.png",
        "contact_email": "info@ub.example",
        "contact_phone": "+237 987 654 321",
        "legal_status": "PUBLIC",
        "registration_number": "REG-2024-002",
        "max_users": 150,
        "max_diplomas": 15000,
        "storage_quota_mb": 3000,
        "security_config": {"tsa_enabled": True, "zero_trust_mode": True},
        **fields,
    }


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    return str(answer.json()["detail"])


def invalid(answer: httpx.Response) -> dict[str, str]:
    """What is said of each field of a request that is not valid."""
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert set(body) == {"detail", "errors"}
    assert body["detail"] == "Validation failed"
    assert all(set(each) == {"field", "message"} for each in body["errors"])
    return {each["field"]: each["message"] for each in body["errors"]}


def as_administrator(stack: Stack) -> httpx.Client:
    return httpx.Client(base_url=f"{stack.url}{BASE}", headers=bearer(stack.token("SYSTEM_OWNER")), timeout=30)


def made_by(admin: httpx.Client) -> Make:
    """What makes a tenant, and answers what was answered."""

    def make(**fields: Any) -> dict[str, Any]:
        answer = admin.post("/tenants", json=tenant_body(**fields))
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return make


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with as_administrator(stack) as client:
        yield client


@pytest.fixture
def make(admin: httpx.Client) -> Make:
    return made_by(admin)


# Making


def test_a_tenant_is_made_and_read_at_once(admin: httpx.Client, make: Make) -> None:
    ministry = make(type="MAIN")
    sent = tenant_body(parent_id=ministry["id"])
    answer = admin.post("/tenants", json=sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert set(made) == FIELDS
    expected = {field: value for field, value in sent.items() if field != "security_config"}
    assert {field: made[field] for field in expected} == expected
    assert (made["status"], made["is_active"]) == ("ACTIVE", True)
    assert made["created_at"].endswith("Z")
    assert made["updated_at"] >= made["created_at"]
    found = admin.get(f"/tenants/{made['id']}")
    assert found.status_code == 200
    assert found.json() == {**made, "security_config": sent["security_config"]}


def test_a_new_tenant_gets_its_database(stack: Stack, make: Make) -> None:
    found = stack.api.ready("default", make()["slug"])
    assert [each["blueprint"] for each in found["status"]["databases"]] == ["app"]


def test_only_what_must_be_there_must_be_sent(admin: httpx.Client) -> None:
    assert set(invalid(admin.post("/tenants", json={}))) == {
        "name",
        "slug",
        "type",
        "contact_email",
        "legal_status",
        "max_users",
        "max_diplomas",
        "storage_quota_mb",
    }
    optional = ("description", "logo_url", "contact_phone", "registration_number", "security_config")
    body = {field: value for field, value in tenant_body().items() if field not in optional}
    answer = admin.post("/tenants", json={**body, "unheard_of": 1})
    assert answer.status_code == 201
    assert {answer.json()[field] for field in (*optional[:4], "parent_id")} == {None}
    assert admin.get(f"/tenants/{answer.json()['id']}").json()["security_config"] == {}


def test_all_that_is_wrong_is_named_at_once(admin: httpx.Client) -> None:
    said = invalid(admin.post("/tenants", json=tenant_body(name="ab", slug="U B", max_users=9)))
    assert said == {
        "name": "String should have at least 3 characters",
        "slug": "String should match pattern '^[a-z0-9-]+$'",
        "max_users": "Input should be greater than or equal to 10",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 256),
        ("name", "nul \x00"),
        ("name", "half \ud800"),
        ("name", ["x"]),
        ("slug", "../../etc"),
        ("slug", "'; DROP TABLE tenants; --"),
        ("slug", "x" * 64),
        ("slug", "-x"),
        ("slug", NOBODY),
        ("slug", NOBODY.replace("-", "")),
        ("type", "SCHOOL"),
        ("description", "x" * 1001),
        ("logo_url", "javascript:alert(1)"),
        ("logo_url", "http:host.example"),
        ("logo_url", "http:///x"),
        ("logo_url", "https://good.example\\@evil.example/"),
        ("contact_email", "nobody"),
        ("contact_phone", "1"),
        ("legal_status", "PRIVATE"),
        ("registration_number", "x" * 51),
        ("parent_id", "t-minesup"),
        ("max_users", 10**30),
        ("max_users", "150"),
        ("max_diplomas", 100_001),
        ("storage_quota_mb", 1e99),
        ("security_config", "on"),
        ("security_config", {"a": "\x00"}),
        ("security_config", {"a": 10**30}),
        ("security_config", {"\ud800": 1}),
        ("security_config", {"a": "x" * 70_000}),
    ],
)
def test_a_field_that_is_wrong_is_named(admin: httpx.Client, field: str, value: Any) -> None:
    # As text: json.dumps escapes what httpx would not encode.
    content = json.dumps(tenant_body(**{field: value}))
    answer = admin.post("/tenants", content=content, headers={"Content-Type": "application/json"})
    assert set(invalid(answer)) == {field}


def test_text_is_kept_as_it_is(admin: httpx.Client, make: Make) -> None:
    hostile = 'Robert\'); DROP TABLE tenants; -- "<script>" {{7*7}} ${x} 学校 🎓'
    made = make(name=hostile, description=hostile)
    found = admin.get(f"/tenants/{made['id']}").json()
    assert (found["name"], found["description"]) == (hostile, hostile)


def test_a_slug_is_given_once(admin: httpx.Client, make: Make) -> None:
    slug = make()["slug"]
    answer = admin.post("/tenants", json=tenant_body(slug=slug))
    assert detail(answer, 409) == f"Slug '{slug}' already exists"


def test_the_slug_of_a_deleted_tenant_stays_its_own(admin: httpx.Client, make: Make) -> None:
    made = make()
    admin.delete(f"/tenants/{made['id']}")
    assert admin.post("/tenants", json=tenant_body(slug=made["slug"])).status_code == 409


def test_a_parent_that_is_not_there_is_not_found(admin: httpx.Client) -> None:
    assert detail(admin.post("/tenants", json=tenant_body(parent_id=NOBODY)), 404) == "Parent tenant not found"


def test_a_tenant_is_not_made_above_its_parent(stack: Stack, admin: httpx.Client) -> None:
    """Those below a tenant that is gone still name it; a new one of its name would be above them again."""
    gone, child = unique(), unique()
    stack.api.apply(manifest("Tenant", child, {"displayName": child, "parent": gone}, namespace="default"))
    deadline = time.monotonic() + 30
    while not (found := [each for each in admin.get("/tenants?limit=10000").json() if each["slug"] == child]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answer = admin.post("/tenants", json=tenant_body(slug=gone, parent_id=found[0]["id"]))
    assert invalid(answer) == {"parent_id": "A tenant cannot be below itself"}
    made = admin.post("/tenants", json=tenant_body(slug=gone))
    assert (made.status_code, made.json()["id"]) == (201, found[0]["parent_id"])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_is_not_sent_as_json_is_refused_with_what_to_do(admin: httpx.Client, kind: str) -> None:
    content = json.dumps(tenant_body()).encode()
    answer = admin.post("/tenants", content=content, headers={"Content-Type": kind} if kind else {})
    assert invalid(answer) == {"body": "Input should be JSON, sent with Content-Type: application/json"}


# Listing


def test_the_list_is_an_array_with_pages(admin: httpx.Client, make: Make) -> None:
    parent = make()["id"]
    made = [make(parent_id=parent, name=f"Tenant {number}")["id"] for number in range(4)]
    found = admin.get("/tenants", params={"parent_id": parent}).json()
    assert [each["id"] for each in found] == made
    assert all(set(each) == FIELDS for each in found)
    page = admin.get("/tenants", params={"parent_id": parent, "skip": 1, "limit": 2}).json()
    assert [each["id"] for each in page] == made[1:3]
    assert admin.get("/tenants", params={"skip": 1_000_000}).json() == []
    assert len(admin.get("/tenants").json()) <= 100
    assert admin.get("/tenants", params={"limit": 0}).json() == []
    assert set(made) <= {each["id"] for each in admin.get("/tenants", params={"limit": 1_000_000}).json()}


def test_the_list_is_filtered(admin: httpx.Client, make: Make) -> None:
    parent = make(type="MAIN")["id"]
    active, suspended, inactive = (make(parent_id=parent, type=kind) for kind in ("FACULTY", "FACULTY", "MAIN"))
    admin.put(f"/tenants/{suspended['id']}", json={"status": "SUSPENDED"})
    admin.delete(f"/tenants/{inactive['id']}")

    def ids(**filters: str) -> list[str]:
        found = admin.get("/tenants", params={"parent_id": parent, **filters})
        assert found.status_code == 200
        return [each["id"] for each in found.json()]

    assert ids() == [active["id"], suspended["id"], inactive["id"]]
    assert ids(status="ACTIVE") == [active["id"]]
    assert ids(status="SUSPENDED") == [suspended["id"]]
    assert ids(status="INACTIVE") == [inactive["id"]]
    assert ids(type="FACULTY") == [active["id"], suspended["id"]]
    assert ids(type="MAIN", status="ACTIVE") == []
    assert admin.get("/tenants", params={"parent_id": NOBODY}).json() == []


@pytest.mark.parametrize(
    "params",
    [
        {"skip": -1},
        {"skip": 10**30},
        {"limit": -1},
        {"limit": 10**30},
        {"limit": "x"},
        {"status": "active' OR 1=1"},
        {"type": "SCHOOL"},
        {"parent_id": "t-minesup-uuid"},
    ],
)
def test_a_filter_that_is_none_is_refused(admin: httpx.Client, params: dict[str, Any]) -> None:
    assert set(invalid(admin.get("/tenants", params=params))) == set(params)


def test_it_documents_itself(api: httpx.Client) -> None:
    document = api.get(f"{BASE}/openapi.json").json()
    assert set(document["paths"]) == {
        "/auth/login",
        "/tenants",
        "/tenants/{tenant_id}",
        "/tenants/{tenant_id}/stats",
    }
    answers = document["paths"]["/tenants"]["post"]["responses"]
    assert set(answers) == {"201", "default"}
