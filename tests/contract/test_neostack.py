"""neostack's contract, endpoint by endpoint, on the running stack."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tenantry_api.identity import uuid_of
from tests.contract.conftest import Stack
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e

BASE = "/api/v3"
Token = Callable[..., str]
_numbers = itertools.count(1)


def bearer(token: str, **headers: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }


@pytest.fixture
def admin(stack: Stack) -> Any:
    with httpx.Client(base_url=f"{stack.url}{BASE}", headers=bearer(stack.token()), timeout=30) as client:
        yield client


@pytest.fixture
def made(admin: httpx.Client) -> dict[str, Any]:
    """A tenant."""
    body = {
        "id": f"neo_{next(_numbers)}",
        "name": "Neo",
        "domain": "neo.example",
        "plan_id": 2,
        "settings": {"a": 1},
    }
    answer = admin.post("/tenants", json=body)
    assert answer.status_code == 201, answer.text
    return body | answer.json()


def detail(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    return str(answer.json()["detail"])


def test_health_needs_no_token(api: httpx.Client) -> None:
    answer = api.get(f"{BASE}/health")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["database"]) == ("healthy", "connected")
    assert answer.json()["version"] == "3.0.0"
    assert answer.json()["timestamp"].endswith("Z")


def test_a_tenant_is_made_and_read_at_once(admin: httpx.Client, made: dict[str, Any]) -> None:
    assert made["status"] == "active"
    found = admin.get(f"/tenants/{made['id']}")
    assert found.status_code == 200
    body = found.json()
    assert body == {
        "id": made["id"],
        "name": "Neo",
        "domain": "neo.example",
        "status": "active",
        "plan_id": 2,
        "created_at": made["created_at"],
        "updated_at": body["updated_at"],
        "settings": {"a": 1},
        "limits": {"max_users": 100, "max_storage_gb": 10, "max_api_calls": 1000000},
    }
    assert body["updated_at"] >= body["created_at"]


def test_the_list_has_pages_and_a_filter(admin: httpx.Client, made: dict[str, Any]) -> None:
    everything = admin.get("/tenants", params={"limit": 1000}).json()
    assert (everything["limit"], everything["offset"]) == (1000, 0)
    assert everything["total"] == len(everything["items"])
    item = next(each for each in everything["items"] if each["id"] == made["id"])
    assert set(item) == {"id", "name", "domain", "status", "plan_id", "created_at", "settings"}
    page = admin.get("/tenants", params={"limit": 1, "offset": everything["total"] - 1}).json()
    assert [each["id"] for each in page["items"]] == [everything["items"][-1]["id"]]
    assert admin.get("/tenants", params={"offset": 100000}).json()["items"] == []
    admin.patch(f"/tenants/{made['id']}", json={"status": "suspended"})
    ids = [
        each["id"] for each in admin.get("/tenants", params={"status": "suspended", "limit": 1000}).json()["items"]
    ]
    assert made["id"] in ids
    defaults = admin.get("/tenants").json()
    assert (defaults["limit"], defaults["offset"]) == (50, 0)
    # A filter that is empty is none.
    assert admin.get("/tenants", params={"status": ""}).json() == defaults


def test_a_tenant_is_changed_and_its_settings_are_merged(admin: httpx.Client, made: dict[str, Any]) -> None:
    answer = admin.patch(
        f"/tenants/{made['id']}",
        json={"name": "New", "domain": "new.example", "plan_id": 1, "settings": {"a": None, "b": {"c": 2}}},
    )
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "updated_at"}
    found = admin.get(f"/tenants/{made['id']}").json()
    assert (found["name"], found["domain"], found["plan_id"]) == ("New", "new.example", 1)
    assert found["settings"] == {"b": {"c": 2}}
    assert found["limits"]["max_users"] == 3
    assert found["updated_at"] == answer.json()["updated_at"]


def test_a_change_that_only_takes_something_out_is_one(admin: httpx.Client, made: dict[str, Any]) -> None:
    time.sleep(1.1)
    answer = admin.patch(f"/tenants/{made['id']}", json={"settings": {"a": None}})
    found = admin.get(f"/tenants/{made['id']}").json()
    assert found["settings"] == {}
    assert found["updated_at"] == answer.json()["updated_at"] > found["created_at"]


def test_what_is_null_is_left_as_it_is(admin: httpx.Client, made: dict[str, Any]) -> None:
    before = admin.get(f"/tenants/{made['id']}").json()
    body = dict.fromkeys(("name", "domain", "plan_id", "settings", "status"))
    assert admin.patch(f"/tenants/{made['id']}", json=body).status_code == 200
    assert admin.get(f"/tenants/{made['id']}").json() == before
    bare = f"neo-{next(_numbers)}"
    body = {"id": bare, "name": "Bare", "domain": None, "plan_id": None, "settings": None}
    assert admin.post("/tenants", json=body).status_code == 201
    found = admin.get(f"/tenants/{bare}").json()
    assert (found["domain"], found["plan_id"], found["settings"]) == (None, None, {})


def test_all_changes_at_once_are_made(admin: httpx.Client, made: dict[str, Any]) -> None:
    path = f"/tenants/{made['id']}"

    def put(number: int) -> int:
        return admin.patch(path, json={"settings": {f"k{number}": number}}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(16))) == {200}
    assert admin.get(path).json()["settings"] == {"a": 1, **{f"k{number}": number for number in range(16)}}


def test_the_id_of_a_tenant_that_goes_can_be_given_again(admin: httpx.Client, made: dict[str, Any]) -> None:
    assert admin.post(f"/tenants/{made['id']}/schema").status_code == 201
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    again = admin.post("/tenants", json={"id": made["id"], "name": "Again"})
    assert again.status_code == 201, again.text
    assert admin.get(f"/tenants/{made['id']}").json()["name"] == "Again"


def test_a_tenant_goes(admin: httpx.Client, made: dict[str, Any]) -> None:
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    assert detail(admin.get(f"/tenants/{made['id']}"), 404) == "Tenant not found"
    assert detail(admin.delete(f"/tenants/{made['id']}"), 404) == "Tenant not found"
    assert made["id"] not in str(admin.get("/tenants", params={"limit": 1000}).json())


def test_use_is_reported_and_read(stack: Stack, admin: httpx.Client, made: dict[str, Any]) -> None:
    path = f"/tenants/{made['id']}/resources"
    answer = admin.post(path, json={"resource_type": "api_calls", "used": 500000})
    assert answer.status_code == 200
    assert answer.json() == {
        "resource_type": "api_calls",
        "used": 500000,
        "updated_at": answer.json()["updated_at"],
    }
    admin.post(path, json={"resource_type": "exports", "used": 3})
    # Whatever a Plan may name.
    assert admin.post(path, json={"resource_type": "apiCalls.v2", "used": 1}).status_code == 200
    found = admin.get(path).json()
    assert found["tenant_id"] == made["id"]
    by_type = {each["resource_type"]: each for each in found["resources"]}
    assert by_type["api_calls"] == {
        "resource_type": "api_calls",
        "used": 500000,
        "limit_value": 1000000,
        "percentage": 50,
    }
    assert by_type["exports"] == {"resource_type": "exports", "used": 3, "limit_value": None, "percentage": None}
    assert by_type["users"] == {"resource_type": "users", "used": 0, "limit_value": 100, "percentage": 0}
    assert found["last_updated"]
    # What is above its limit the Tenant says itself.
    admin.post(path, json={"resource_type": "api_calls", "used": 1000001})

    def exceeded(obj: Any) -> bool:
        conditions = {each["type"]: each["status"] for each in (obj.get("status") or {}).get("conditions") or []}
        return conditions.get("QuotaExceeded") == "True"

    stack.api.wait("tenant", made["id"].replace("_", "-"), "default", exceeded, 30)
    usage = {each["resource_type"]: each["used"] for each in admin.get(path).json()["resources"]}
    assert (usage["api_calls"], usage["exports"]) == (1000001, 3)


def test_a_schema_is_made_once_and_dropped(stack: Stack, admin: httpx.Client, made: dict[str, Any]) -> None:
    path = f"/tenants/{made['id']}/schema"
    answer = admin.post(path)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["tenant_id"], answer.json()["status"]) == (made["id"], "created")
    name = answer.json()["schema_name"]
    found = stack.api.get("tenant", made["id"].replace("_", "-"), "default")
    assert found is not None
    assert found["status"]["databases"][0]["schema"] == name
    assert "already" in detail(admin.post(path), 409)
    assert admin.delete(path).status_code == 204
    assert detail(admin.delete(path), 404) == "The tenant has no schema"


def test_a_draft_gets_its_schema_when_it_is_activated(stack: Stack, admin: httpx.Client) -> None:
    name = f"neo-draft-{next(_numbers)}"
    stack.api.apply(manifest("Tenant", name, {"state": "Draft"}, namespace="default"), manager="tenantry-api")
    stack.api.ready("default", name, "Draft")
    began = time.monotonic()
    answer = admin.post(f"/tenants/{name}/schema")
    assert (answer.status_code, answer.json()["status"]) == (201, "creating")
    assert time.monotonic() - began < 9, "nothing comes that could be waited for"
    admin.patch(f"/tenants/{name}", json={"status": "active"})
    found = stack.api.ready("default", name)
    assert found["status"]["databases"][0]["schema"] == answer.json()["schema_name"]


def test_a_schema_that_cannot_be_made_is_not_asked_for(
    stack: Stack, admin: httpx.Client, made: dict[str, Any]
) -> None:
    path = f"/tenants/{made['id']}"
    admin.patch(path, json={"status": "archived"})
    assert "cannot be made" in detail(admin.post(f"{path}/schema"), 409)
    found = stack.api.get("tenant", made["id"].replace("_", "-"), "default")
    assert found is not None
    assert not found["spec"].get("databases")
    assert detail(admin.delete(f"{path}/schema"), 404) == "The tenant has no schema"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "x"}, "id"),
        ({"id": "ok-1"}, "name"),
        ({"id": "Not An Id", "name": "x"}, "id"),
        ({"id": "x" * 64, "name": "x"}, "id"),
        ({"id": "'; DROP TABLE tenants --", "name": "x"}, "id"),
        ({"id": "ok-1", "name": "nul \x00"}, "NUL"),
        ({"id": "ok-1", "name": "\ud800"}, "name"),
        ({"id": "ok-1", "name": 7}, "name"),
        ({"id": "ok-1", "name": ""}, "name"),
        ({"id": "ok-1", "name": "x", "plan_id": 99}, "no plan 99"),
        ({"id": "ok-1", "name": "x", "plan_id": "2"}, "plan_id"),
        ({"id": "ok-1", "name": "x", "plan_id": 1e99}, "plan_id"),
        ({"id": "ok-1", "name": "x", "settings": [1]}, "settings"),
        ({"id": "ok-1", "name": "x", "settings": {"a": "\x00"}}, "NUL"),
        ([], "body"),
    ],
)
def test_what_is_wrong_is_named(admin: httpx.Client, body: Any, words: str) -> None:
    content = json.dumps(body).encode()  # a half of a surrogate pair as an escape
    answer = admin.post("/tenants", content=content, headers={"Content-Type": "application/json"})
    assert words in detail(answer, 400)


def test_a_second_one_of_an_id_is_refused(admin: httpx.Client, made: dict[str, Any]) -> None:
    assert "already exists" in detail(admin.post("/tenants", json={"id": made["id"], "name": "x"}), 409)


def test_deep_and_broken_json_is_refused(admin: httpx.Client) -> None:
    json_type = {"Content-Type": "application/json"}
    for content in (
        b"{",
        b"[" * 100_000,
        b"\xff",
        b'{"id": "ok-1", "name": "x", "settings": ' + b'{"a":' * 100 + b"1" + b"}" * 101,
    ):
        assert detail(admin.post("/tenants", content=content, headers=json_type), 400)
    large = b'{"id": "ok-1", "name": "' + b"x" * (1 << 20) + b'"}'
    assert admin.post("/tenants", content=large, headers=json_type).status_code == 413


@pytest.mark.parametrize(
    "params", [{"limit": 0}, {"limit": -1}, {"limit": "x"}, {"offset": -1}, {"status": "'"}, {"limit": 10**30}]
)
def test_a_number_that_is_none_is_refused(admin: httpx.Client, params: dict[str, Any]) -> None:
    assert next(iter(params)) in detail(admin.get("/tenants", params=params), 400)


@pytest.mark.parametrize("used", [-1, "7", 1.5, None, 10**30])
def test_a_use_that_is_no_number_is_refused(admin: httpx.Client, made: dict[str, Any], used: Any) -> None:
    body = {"resource_type": "users", "used": used}
    assert "used" in detail(admin.post(f"/tenants/{made['id']}/resources", json=body), 400)


ENDPOINTS = [
    ("GET", "/tenants"),
    ("POST", "/tenants"),
    ("GET", "/tenants/x"),
    ("PATCH", "/tenants/x"),
    ("DELETE", "/tenants/x"),
    ("GET", "/tenants/x/resources"),
    ("POST", "/tenants/x/resources"),
    ("POST", "/tenants/x/schema"),
    ("DELETE", "/tenants/x/schema"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_without_a_valid_token_nothing_is_told(api: httpx.Client, stack: Stack, method: str, path: str) -> None:
    bad = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        bearer("nonsense"),
        bearer(stack.token(lifetime=-120)),
        bearer(stack.token(secret="another secret that is long enough")),
        bearer(stack.token(algorithm="none")),
    ]
    for headers in bad:
        answer = api.request(method, f"{BASE}{path}", headers=headers, json={"id": "ok-1", "name": "x"})
        assert detail(answer, 401) == "Not authenticated"


def test_a_tenants_own_token_reads_its_own_and_reports(
    api: httpx.Client, stack: Stack, admin: httpx.Client, made: dict[str, Any]
) -> None:
    own, other = made["id"], f"neo_{next(_numbers)}"
    admin.post("/tenants", json={"id": other, "name": "Other"})
    headers = bearer(stack.token(role="", tenant=own), X_Tenant_ID=own)
    assert api.get(f"{BASE}/tenants/{own}", headers=headers).json()["id"] == own
    assert api.get(f"{BASE}/tenants/{own}/resources", headers=headers).status_code == 200
    use = {"resource_type": "api_calls", "used": 1}
    assert api.post(f"{BASE}/tenants/{own}/resources", headers=headers, json=use).status_code == 200
    without = bearer(stack.token(role="", tenant=own))
    for headers_of_none in (without, {**without, "X-Tenant-ID": ""}):
        answer = api.get(f"{BASE}/tenants/{own}", headers=headers_of_none)
        assert detail(answer, 400) == "X-Tenant-ID is required"
    for method, path in (("GET", other), ("GET", f"{other}/resources"), ("GET", "no-such-tenant")):
        answer = api.request(
            method, f"{BASE}/tenants/{path}", headers={**headers, "X-Tenant-ID": path.partition("/")[0]}
        )
        assert detail(answer, 403)
    assert detail(api.get(f"{BASE}/tenants/{own}", headers={**headers, "X-Tenant-ID": other}), 403)
    for method, path in (
        ("GET", ""),
        ("POST", ""),
        ("PATCH", f"/{own}"),
        ("DELETE", f"/{own}"),
        ("POST", f"/{own}/schema"),
        ("DELETE", f"/{own}/schema"),
    ):
        body = {"id": "ok-1", "name": "x"}
        answer = api.request(method, f"{BASE}/tenants{path}", headers=headers, json=body)
        assert detail(answer, 403) == "Only an administrator may do that"


def test_a_tenants_own_token_may_name_it_by_its_uuid(
    api: httpx.Client, stack: Stack, admin: httpx.Client, made: dict[str, Any]
) -> None:
    token = stack.token(role="", tenant=uuid_of("default", made["id"].replace("_", "-")))
    found = api.get(f"{BASE}/tenants/{made['id']}", headers=bearer(token, X_Tenant_ID=made["id"]))
    assert found.json()["id"] == made["id"], found.text
    other = f"neo-{next(_numbers)}"
    admin.post("/tenants", json={"id": other, "name": "Other"})
    for name in (other, "no-such-tenant"):
        said = detail(api.get(f"{BASE}/tenants/{name}", headers=bearer(token, X_Tenant_ID=name)), 403)
        assert said == "Access denied to this tenant"


def test_an_administrator_names_the_tenant_of_the_path_or_none(
    api: httpx.Client, stack: Stack, made: dict[str, Any]
) -> None:
    for header, status in ((made["id"], 200), ("", 200), ("other", 403)):
        headers = bearer(stack.token(), X_Tenant_ID=header)
        assert api.get(f"{BASE}/tenants/{made['id']}", headers=headers).status_code == status


def test_a_tenant_of_kubectls_is_there_and_its_fields_are_its_owners(stack: Stack, admin: httpx.Client) -> None:
    name = f"neo-kubectl-{next(_numbers)}"
    stack.api.apply(manifest("Tenant", name, {"displayName": "By hand"}, namespace="default"), manager="argocd")
    stack.api.ready("default", name)
    assert admin.get(f"/tenants/{name}").json()["name"] == "By hand"
    said = detail(admin.patch(f"/tenants/{name}", json={"name": "Mine"}), 409)
    assert "argocd" in said
    assert "displayName" in said
    assert admin.patch(f"/tenants/{name}", json={"domain": "mine.example"}).status_code == 200
    assert admin.get(f"/tenants/{name}").json()["domain"] == "mine.example"


def test_paths_that_are_none_are_not_found(api: httpx.Client, stack: Stack) -> None:
    headers = bearer(stack.token())
    for path in ("/nothing", "/tenants/..%2f..%2fapi", "/tenants/%00", "/tenants/a/b", "/tenants/'%20OR%201=1"):
        answer = api.get(f"{BASE}{path}", headers=headers)
        assert answer.status_code in (400, 404), path
        assert set(answer.json()) == {"detail"}
    assert api.put(f"{BASE}/tenants", headers=headers).status_code == 405


def test_it_documents_itself(api: httpx.Client) -> None:
    document = api.get(f"{BASE}/openapi.json").json()
    assert set(document["paths"]) == {
        "/health",
        "/tenants",
        "/tenants/{tenant_id}",
        "/tenants/{tenant_id}/resources",
        "/tenants/{tenant_id}/schema",
    }
    assert api.get(f"{BASE}/docs").status_code == 200
