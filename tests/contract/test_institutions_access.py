"""Who may do what by the contract of institutions, and what it makes of those who mean no good."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.contract.test_institutions import BASE, NOBODY, bearer, detail, invalid, tenant_body, unique

pytestmark = pytest.mark.e2e

LESSER = ("USER", "USER_MANAGER", "OFFICIAL_SIGNATORY", "")
ENDPOINTS = [
    ("GET", "/tenants"),
    ("POST", "/tenants"),
    ("GET", f"/tenants/{NOBODY}"),
    ("PUT", f"/tenants/{NOBODY}"),
    ("DELETE", f"/tenants/{NOBODY}"),
    ("GET", f"/tenants/{NOBODY}/stats"),
]


@dataclass
class Family:
    """ministry > university > faculty, and one that is not related."""

    client: httpx.Client
    stack: Stack
    ministry: dict[str, Any]
    university: dict[str, Any]
    faculty: dict[str, Any]
    stranger: dict[str, Any]

    def ask(
        self, method: str, path: str, role: str, tenant: str | None = None, body: Any = None
    ) -> httpx.Response:
        """A request of somebody of the university."""
        token = self.stack.token(role, tenant=self.university["slug"] if tenant is None else tenant)
        return self.client.request(method, f"{BASE}{path}", headers=bearer(token), json=body)

    def listed(self, role: str, tenant: str | None = None) -> list[str]:
        """The ids that somebody of the university sees."""
        answer = self.ask("GET", "/tenants?limit=1000", role, tenant)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()]


@pytest.fixture
def family(stack: Stack) -> Iterator[Family]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        headers = bearer(stack.token("SUPER_ADMIN"))

        def make(**fields: Any) -> dict[str, Any]:
            answer = client.post(f"{BASE}/tenants", json=tenant_body(**fields), headers=headers)
            assert answer.status_code == 201, answer.text
            made: dict[str, Any] = answer.json()
            return made

        ministry = make(type="MAIN")
        university = make(parent_id=ministry["id"])
        faculty = make(parent_id=university["id"], type="FACULTY")
        yield Family(client, stack, ministry, university, faculty, make())


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_without_a_valid_token_nothing_is_told(api: httpx.Client, stack: Stack, method: str, path: str) -> None:
    bad = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        bearer("nonsense"),
        bearer("x" * 9000),
        bearer(stack.token("SUPER_ADMIN", lifetime=-120)),
        bearer(stack.token("SUPER_ADMIN", secret="another secret that is long enough")),
        bearer(stack.token("SUPER_ADMIN", algorithm="none")),
    ]
    for headers in bad:
        answer = api.request(method, f"{BASE}{path}", headers=headers, json=tenant_body())
        assert detail(answer, 401) == "Not authenticated"


@pytest.mark.parametrize("role", ["SUPER_ADMIN", "SYSTEM_OWNER"])
def test_administrators_do_everything_whatever_their_tenant(family: Family, role: str) -> None:
    made = family.ask("POST", "/tenants", role, body=tenant_body())
    assert made.status_code == 201
    path = f"/tenants/{made.json()['id']}"
    assert family.ask("GET", path, role).status_code == 200
    assert family.ask("GET", f"{path}/stats", role).status_code == 200
    assert family.ask("PUT", path, role, body={"status": "SUSPENDED"}).json()["status"] == "SUSPENDED"
    assert family.ask("DELETE", path, role).status_code == 204
    assert family.ask("PUT", path, role, body={"status": "ACTIVE"}).json()["status"] == "ACTIVE"
    assert {family.ministry["id"], family.stranger["id"]} <= set(family.listed(role))


@pytest.mark.parametrize("role", LESSER)
def test_a_lesser_role_reads_its_own_tenant_only(family: Family, role: str) -> None:
    own = f"/tenants/{family.university['id']}"
    assert family.ask("GET", own, role).json()["slug"] == family.university["slug"]
    assert family.ask("GET", f"{own}/stats", role).json()["tenant_id"] == family.university["id"]
    assert family.listed(role) == [family.university["id"]]
    for other in (family.ministry["id"], family.faculty["id"], family.stranger["id"], NOBODY):
        for tail in ("", "/stats"):
            answer = family.ask("GET", f"/tenants/{other}{tail}", role)
            assert detail(answer, 403) == "Access denied to this tenant"


@pytest.mark.parametrize("role", LESSER)
def test_a_lesser_role_changes_nothing(family: Family, role: str) -> None:
    own = f"/tenants/{family.university['id']}"
    for method, path in (("PUT", own), ("DELETE", own), ("POST", "/tenants")):
        answer = family.ask(method, path, role, body=tenant_body(name="Hijacked"))
        assert detail(answer, 403) == "Not enough permissions"
    stranger = f"/tenants/{family.stranger['id']}"
    assert detail(family.ask("PUT", stranger, role, body={"name": "Hijacked"}), 403)
    assert detail(family.ask("DELETE", stranger, role), 403)
    names = {family.ask("GET", path, "SUPER_ADMIN").json()["name"] for path in (own, stranger)}
    assert names == {"Université de Buea"}


def test_an_institutions_administrator_reads_and_updates_what_is_below(family: Family) -> None:
    role = "INSTITUTION_ADMIN"
    assert family.listed(role) == [family.university["id"], family.faculty["id"]]
    for each in (family.university, family.faculty):
        path = f"/tenants/{each['id']}"
        assert family.ask("GET", path, role).status_code == 200
        assert family.ask("GET", f"{path}/stats", role).status_code == 200
        changed = family.ask("PUT", path, role, body={"name": "Renamed by its own", "status": "ACTIVE"})
        assert changed.json()["name"] == "Renamed by its own"
    for other in (family.ministry["id"], family.stranger["id"], NOBODY):
        for method, tail in (("GET", ""), ("GET", "/stats"), ("PUT", "")):
            answer = family.ask(method, f"/tenants/{other}{tail}", role, body={"name": "Hijacked"})
            assert detail(answer, 403) == "Access denied to this tenant"
    assert family.ask("GET", f"/tenants/{family.stranger['id']}", "SUPER_ADMIN").json()["name"] != "Hijacked"


def test_an_institutions_administrator_neither_makes_nor_deletes(family: Family) -> None:
    role = "INSTITUTION_ADMIN"
    own, below = (f"/tenants/{each['id']}" for each in (family.university, family.faculty))
    body = tenant_body(parent_id=family.university["id"])
    assert detail(family.ask("POST", "/tenants", role, body=body), 403) == "Not enough permissions"
    for path in (own, below):
        assert detail(family.ask("DELETE", path, role), 403) == "Not enough permissions"
        said = detail(family.ask("PUT", path, role, body={"status": "INACTIVE"}), 403)
        assert said == "Not enough permissions"
        assert family.ask("GET", path, role).json()["status"] == "ACTIVE"
    family.ask("DELETE", below, "SUPER_ADMIN")
    assert detail(family.ask("PUT", below, role, body={"status": "ACTIVE"}), 403)


def test_suspension_is_lifted_from_above(family: Family) -> None:
    role = "INSTITUTION_ADMIN"
    own, below = (f"/tenants/{each['id']}" for each in (family.university, family.faculty))
    assert family.ask("PUT", below, role, body={"status": "SUSPENDED"}).json()["status"] == "SUSPENDED"
    assert family.ask("PUT", below, role, body={"status": "ACTIVE"}).json()["status"] == "ACTIVE"
    family.ask("PUT", own, "SUPER_ADMIN", body={"status": "SUSPENDED"})
    assert detail(family.ask("PUT", own, role, body={"status": "ACTIVE"}), 403)
    ministry = family.ministry["slug"]
    assert family.ask("PUT", own, role, ministry, body={"status": "ACTIVE"}).json()["status"] == "ACTIVE"


def test_an_institutions_administrator_moves_nothing_out_of_or_into_what_is_anothers(family: Family) -> None:
    role = "INSTITUTION_ADMIN"
    own, below = (f"/tenants/{each['id']}" for each in (family.university, family.faculty))
    for path in (own, below):
        for parent in (family.stranger["id"], NOBODY, None):
            answer = family.ask("PUT", path, role, body={"parent_id": parent})
            assert detail(answer, 403) == "Access denied to this tenant"
    assert set(invalid(family.ask("PUT", own, role, body={"parent_id": family.faculty["id"]}))) == {"parent_id"}
    assert family.ask("PUT", own, role, body={"parent_id": family.ministry["id"]}).status_code == 200
    assert family.ask("GET", own, role).json()["parent_id"] == family.ministry["id"]


@pytest.mark.parametrize("role", ["USER", "INSTITUTION_ADMIN", ""])
@pytest.mark.parametrize("tenant", ["", "no-such-tenant", NOBODY, "' OR 1=1 --", "*"])
def test_who_belongs_to_no_tenant_sees_none(family: Family, role: str, tenant: str) -> None:
    assert detail(family.ask("GET", "/tenants", role, tenant), 403) == "Not enough permissions"
    assert detail(family.ask("GET", f"/tenants/{family.university['id']}", role, tenant), 403)


def test_a_token_may_name_its_tenant_by_the_uuid(family: Family) -> None:
    assert family.listed("USER", family.university["id"]) == [family.university["id"]]


def test_an_account_gets_the_rights_of_its_role_and_tenant(family: Family) -> None:
    email, password = f"{unique()}@ub.example", "correct horse"
    family.stack.account(email, "INSTITUTION_ADMIN", family.university["slug"], password)
    answer = family.client.post(f"{BASE}/auth/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    user = answer.json()["user"]
    assert (user["email"], user["role"], user["tenantId"]) == (
        email,
        "INSTITUTION_ADMIN",
        family.university["slug"],
    )
    headers = bearer(answer.json()["access_token"])
    found = family.client.get(f"{BASE}/tenants", headers=headers).json()
    assert [each["id"] for each in found] == [family.university["id"], family.faculty["id"]]
    refused = family.client.delete(f"{BASE}/tenants/{family.faculty['id']}", headers=headers)
    assert detail(refused, 403) == "Not enough permissions"
    wrong = family.client.post(f"{BASE}/auth/login", json={"email": email, "password": "wrong"})
    assert detail(wrong, 401) == "Incorrect email or password"
    assert family.client.post(f"{BASE}/auth/login", json={"email": email, "password": password}).is_success


def test_deep_and_broken_json_is_refused(api: httpx.Client, stack: Stack) -> None:
    headers = {**bearer(stack.token("SUPER_ADMIN")), "Content-Type": "application/json"}
    for method, path in (("POST", "/tenants"), ("POST", "/auth/login")):
        for content in (b"{", b"[" * 100_000, b"\xff", b"", b"1" * 10_000):
            answer = api.request(method, f"{BASE}{path}", content=content, headers=headers)
            assert answer.status_code == 400, content[:10]
            assert "detail" in answer.json()
        large = json.dumps(tenant_body(description="x" * (1 << 20)))
        assert api.request(method, f"{BASE}{path}", content=large, headers=headers).status_code == 413
    deep: Any = 1
    for _ in range(100):
        deep = {"a": deep}
    answer = api.post(f"{BASE}/tenants", json=tenant_body(security_config=deep), headers=headers)
    assert set(invalid(answer)) == {"security_config"}


def test_paths_that_are_none_are_not_found(api: httpx.Client, stack: Stack) -> None:
    headers = bearer(stack.token("SUPER_ADMIN"))
    for path in (
        "/nothing",
        "/tenants/..%2f..%2fhealthz",
        "/tenants/%00",
        f"/tenants/{NOBODY}/nothing",
        "/tenants/'%20OR%201=1",
        f"/tenants/{'9' * 3000}",
    ):
        answer = api.get(f"{BASE}{path}", headers=headers)
        assert answer.status_code in (400, 404), path
        assert "detail" in answer.json()
    for path, allowed in (
        ("", "GET, HEAD, POST"),
        (f"/{NOBODY}", "DELETE, GET, HEAD, PUT"),
        (f"/{NOBODY}/stats", "GET, HEAD"),
    ):
        answer = api.patch(f"{BASE}/tenants{path}", headers=headers)
        assert detail(answer, 405) == "Method Not Allowed"
        assert answer.headers["Allow"] == allowed
