"""render's words for Tenants, and its endpoints over a stand-in of the API server."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr, ValidationError

from tenantry_api.dialects.render import schemas, translate
from tenantry_api.dialects.render.routes import create
from tenantry_api.facade import Facade
from tenantry_api.problems import FieldError, Invalid, Missing
from tenantry_api.settings import Settings
from tenantry_api.tenants import NUMBER_LABEL, Tenant
from tenantry_operator.kube import Conflict, NotFound

Object = dict[str, Any]
SECRET = "a secret of at least 32 characters"


def condition(kind: str, status: str = "True") -> Object:
    return {"type": kind, "status": status, "reason": "Because"}


def tenant(
    spec: Object | None = None, status: Object | None = None, number: str | None = "7", **meta: Any
) -> Tenant:
    labels = {NUMBER_LABEL: number} if number is not None else {}
    metadata = {
        "namespace": "default",
        "name": "acme",
        "uid": "u1",
        "generation": 1,
        "creationTimestamp": "2026-01-15T10:30:00Z",
        "labels": labels,
        **meta,
    }
    return Tenant(
        {"metadata": metadata, "spec": spec or {}, "status": {"observedGeneration": 1, **(status or {})}}
    )


READY = {"conditions": [condition("Ready")]}
STALLED = {"conditions": [condition("Ready", "False"), condition("Stalled")]}


@pytest.mark.parametrize(
    ("spec", "status", "word"),
    [
        ({"state": "Draft"}, {}, "PROVISIONING"),
        ({"state": "Draft"}, READY, "PROVISIONING"),
        ({"state": "Active"}, {}, "PROVISIONING"),
        ({}, {}, "PROVISIONING"),
        ({"state": "Active"}, READY, "ACTIVE"),
        ({"state": "Active"}, {**READY, "observedGeneration": 0}, "PROVISIONING"),
        ({"state": "Active"}, {**READY, "phase": "Moving"}, "PROVISIONING"),
        ({"state": "Active"}, {**STALLED, "phase": "Restoring"}, "PROVISIONING"),
        ({"state": "Active"}, STALLED, "ERROR"),
        ({"state": "Suspended"}, READY, "SUSPENDED"),
        ({"state": "Suspended"}, STALLED, "SUSPENDED"),
        ({"state": "Archived"}, READY, "SUSPENDED"),
    ],
)
def test_every_state_has_its_word(spec: Object, status: Object, word: str) -> None:
    assert translate.status_of(tenant(spec, status)) == word


def test_what_is_being_deleted_is_suspended() -> None:
    going = tenant({"state": "Active"}, READY, deletionTimestamp="2026-01-15T11:00:00Z")
    assert translate.status_of(going) == "SUSPENDED"


def test_a_bare_tenant_has_empty_fields() -> None:
    assert translate.detail(tenant(), ("database", "redis")) == {
        "id": 7,
        "name": "acme",
        "slug": "acme",
        "status": "PROVISIONING",
        "render_service_ids": {},
        "custom_plugin_repo": "",
        "created_at": "2026-01-15T10:30:00Z",
        "updated_at": "2026-01-15T10:30:00Z",
    }


def test_a_full_tenant_has_all_fields() -> None:
    full = tenant({"id": "acme_1", "displayName": "Acme", "profile": {"pluginRepo": "https://a.example/b"}}, READY)
    full.obj["updatedAt"] = "2026-01-16T10:30:00Z"
    found = translate.detail(full, ())
    assert (found["name"], found["slug"], found["status"]) == ("Acme", "acme_1", "ACTIVE")
    assert found["custom_plugin_repo"] == "https://a.example/b"
    assert found["updated_at"] == "2026-01-16T10:30:00Z"


def test_the_status_has_six_fields() -> None:
    assert set(translate.provisioning(tenant(), ())) == {
        "id",
        "name",
        "slug",
        "status",
        "render_service_ids",
        "created_at",
    }


def test_ids_are_of_what_is_there_only() -> None:
    databases = [
        {"name": "database", "secret": "acme-database-db", "login": "l1"},
        {"name": "redis", "secret": "acme-redis-db"},
        {"name": "web-service", "secret": "s", "login": "l"},
        {"name": "other", "secret": "s", "login": "l"},
    ]
    found = translate.service_ids(
        tenant({"id": "acme-corp"}, {"databases": databases}), ("web_service", "database", "redis", "worker")
    )
    assert found == {"web_service": "web-acme-corp-7", "database": "db-acme-corp-7"}


def test_a_service_has_an_id_once_it_was_made() -> None:
    services = [
        {"name": "web-service", "deployment": "acme-web-service", "generation": 1, "phase": "Starting"},
        {"name": "worker", "deployment": "acme-worker", "phase": "Pending"},
    ]
    found = translate.service_ids(tenant({}, {"services": services}), ("web_service", "worker"))
    assert found == {"web_service": "web-acme-7"}


def test_a_kind_that_the_contract_does_not_know_is_its_own_prefix() -> None:
    databases = [{"name": "search-index", "secret": "s", "login": "l"}]
    found = translate.service_ids(tenant({}, {"databases": databases}), ("search_index",))
    assert found == {"search_index": "search-index-acme-7"}


def test_a_new_tenant_gets_the_configured_set() -> None:
    settings = Settings(
        render_databases={"database": "app", "redis": "cache"}, render_services={"web_service": "web"}
    )
    assert translate.new_spec("Acme", settings) == {
        "displayName": "Acme",
        "databases": [{"name": "database", "blueprint": "app"}, {"name": "redis", "blueprint": "cache"}],
        "services": [{"name": "web-service", "blueprint": "web"}],
    }
    assert translate.new_spec("Acme", Settings(render_databases={})) == {"displayName": "Acme"}


URL = "http://x.example/api/tenants/"


@pytest.mark.parametrize(
    ("page", "size", "count", "asked", "following", "previous"),
    [
        (1, 10, 0, None, None, None),
        (1, 10, 10, None, None, None),
        (1, 10, 11, None, f"{URL}?page=2", None),
        (2, 10, 11, None, None, f"{URL}?page=1"),
        (2, 3, 9, 3, f"{URL}?page=3&page_size=3", f"{URL}?page=1&page_size=3"),
        (50, 10, 11, None, None, f"{URL}?page=2"),
        (2, 10, 0, None, None, f"{URL}?page=1"),
    ],
)
def test_links_lead_to_pages_that_are_there(
    page: int, size: int, count: int, asked: int | None, following: str | None, previous: str | None
) -> None:
    assert translate.links(URL, page, size, count, asked) == (following, previous)


def test_errors_have_the_form_of_the_contract() -> None:
    assert translate.failure(Missing("Tenant not found")) == {"error": "Tenant not found"}
    one = Invalid("name: bad", errors=[FieldError("name", "bad")])
    assert translate.failure(one) == {"error": "bad", "field": "name"}
    two = Invalid("", errors=[FieldError("name", "bad"), FieldError("slug", "worse")])
    assert translate.failure(two) == {"error": "bad", "field": "name", "detail": "name: bad; slug: worse"}


@pytest.mark.parametrize(
    "url", ["https://github.com/acme/plugins", "http://[::1]:8080/x?y#z", "HTTPS://host/ä", "", None]
)
def test_a_plugin_repository_may_be_a_url_or_empty(url: str | None) -> None:
    assert schemas.TenantChange(custom_plugin_repo=url).custom_plugin_repo == url


@pytest.mark.parametrize(
    "url",
    [
        "x",
        "ftp://host/x",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "http://[::1",
        "http://host:99999/",
        "http://host/a b",
        "http://host/\n",
        "//host/x",
        f"https://host/{'a' * 2048}",
    ],
)
def test_a_plugin_repository_is_nothing_else(url: str) -> None:
    with pytest.raises(ValidationError):
        schemas.TenantChange(custom_plugin_repo=url)


class Kube:
    """An API server that keeps objects in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self._version = 0

    async def request(self, method: str, path: str, body: Any = None, **about: Any) -> Object:
        await asyncio.sleep(0)
        key = path if method != "POST" else f"{path}/{body['metadata']['name']}"
        if method == "POST":
            if key in self.objects:
                raise Conflict(409, "AlreadyExists", "it exists")
            self.objects[key] = body
            meta = body["metadata"] | {"namespace": "default", "uid": key}
            body["metadata"] = meta | {"creationTimestamp": "2026-01-15T10:30:00Z"}
            body["metadata"]["generation"] = 1
        elif key not in self.objects:
            raise NotFound(404, "NotFound", "it is not there")
        elif method == "PATCH":
            _merge(self.objects[key], body)
        elif method == "DELETE":
            self.objects[key]["metadata"]["deletionTimestamp"] = "2026-01-15T11:00:00Z"
        self._version += 1 if method != "GET" else 0
        if method != "GET":
            self.objects[key]["metadata"]["resourceVersion"] = str(self._version)
        return copy.deepcopy(self.objects[key])

    async def get(self, resource: Any, namespace: str, name: str) -> Object:
        return await self.request("GET", resource.path(namespace, name))

    async def delete(self, resource: Any, namespace: str, name: str, **about: Any) -> None:
        await self.request("DELETE", resource.path(namespace, name))


def _merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody logs in here, and their passwords take long to hash.
    monkeypatch.setattr("tenantry_api.facade.Accounts", lambda *parts: None)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Facade]]:
    made = Settings(jwt_secret=SecretStr(SECRET), **{"render_open": True, **settings})
    facade = Facade(made, Kube())  # type: ignore[arg-type]
    transport = httpx.ASGITransport(create(facade))
    async with httpx.AsyncClient(transport=transport, base_url="http://x.example") as client:
        yield client, facade


def bearer(role: str, **claims: Any) -> dict[str, str]:
    token = jwt.encode({"sub": "somebody", "role": role, "exp": 4_000_000_000, **claims}, SECRET)
    return {"Authorization": f"Bearer {token}"}


async def test_closed_it_is_for_administrators() -> None:
    async with serving(render_open=False) as (client, _):
        assert (await client.get("/health/")).status_code == 200
        for method, path in (
            ("GET", "/tenants/"),
            ("POST", "/tenants/"),
            ("GET", "/tenants/1/"),
            ("GET", "/tenants/1/status/"),
            ("PUT", "/tenants/1/"),
            ("DELETE", "/tenants/1/"),
        ):
            body = {} if method in ("GET", "DELETE") else {"json": {"name": "Acme"}}
            nobody = await client.request(method, path, **body)  # type: ignore[arg-type]
            assert (nobody.status_code, nobody.json()) == (401, {"error": "Not authenticated"})
            theirs = bearer("USER", tenant_id="acme")
            other = await client.request(method, path, headers=theirs, **body)  # type: ignore[arg-type]
            assert other.status_code == 403
            assert other.json() == {"error": "Only an administrator may do that"}
        made = await client.post("/tenants/", json={"name": "Acme"}, headers=bearer("admin"))
        assert made.status_code == 201


async def test_open_it_needs_no_token_but_refuses_a_false_one() -> None:
    async with serving() as (client, _):
        assert (await client.get("/tenants/")).status_code == 200
        false = {"Authorization": f"Bearer {jwt.encode({'role': 'admin'}, None, algorithm='none')}"}
        assert (await client.get("/tenants/", headers=false)).status_code == 401


async def test_a_tenant_is_answered_before_anything_is_there() -> None:
    async with serving() as (client, facade):
        answer = await client.post("/tenants/", json={"name": " Acme Corporation ", "slug": "acme-corp"})
        assert answer.status_code == 201
        body = answer.json()
        assert body == {
            "id": 1,
            "name": "Acme Corporation",
            "slug": "acme-corp",
            "status": "PROVISIONING",
            "render_service_ids": {},
            "custom_plugin_repo": "",
            "created_at": "2026-01-15T10:30:00Z",
            "updated_at": "2026-01-15T10:30:00Z",
        }
        found = facade.tenants.by_number(1)
        assert found is not None
        assert found.spec["databases"] == [{"name": "database", "blueprint": "app"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Customer name is required"),
        ({"name": None}, "Customer name is required"),
        ({"name": "  "}, "Customer name is required"),
        ({"name": " a "}, "Customer name must be at least 2 characters long"),
        ({"name": "TAKEN NAME"}, "A tenant with this name already exists"),
        ({"name": "Another", "slug": "taken-slug"}, "A tenant with this slug already exists"),
    ],
)
async def test_errors_are_in_the_contracts_words(body: Object, message: str) -> None:
    async with serving() as (client, _):
        await client.post("/tenants/", json={"name": "Taken Name", "slug": "taken-slug"})
        answer = await client.post("/tenants/", json=body)
        field = "slug" if "slug" in message else "name"
        assert (answer.status_code, answer.json()) == (400, {"error": message, "field": field})


async def test_slugs_are_made_unique() -> None:
    async with serving() as (client, _):
        names = ["Ünïcode & Co", "Unicode Co", "unicode: co", "学校", "公司"]
        slugs = [(await client.post("/tenants/", json={"name": name})).json()["slug"] for name in names]
        assert slugs == ["unicode-co", "unicode-co-2", "unicode-co-3", "tenant", "tenant-2"]


async def test_of_many_requests_for_a_name_one_gets_it() -> None:
    async with serving() as (client, _):
        bodies = [{"name": "Race"}, {"name": "RACE", "slug": "other"}, {"name": "race"}]
        answers = await asyncio.gather(*(client.post("/tenants/", json=body) for body in bodies))
        assert sorted(answer.status_code for answer in answers) == [201, 400, 400]


async def test_many_requests_for_a_slug_get_different_ones() -> None:
    async with serving() as (client, _):
        names = [f"Race{'!' * count}" for count in range(8)]
        answers = await asyncio.gather(*(client.post("/tenants/", json={"name": name}) for name in names))
        assert [answer.status_code for answer in answers] == [201] * 8
        assert len({answer.json()["slug"] for answer in answers}) == 8
        assert len({answer.json()["id"] for answer in answers}) == 8


async def test_more_names_of_one_slug_than_are_counted_still_get_one() -> None:
    async with serving() as (client, _):
        answers = [await client.post("/tenants/", json={"name": f"学{'校' * count}"}) for count in range(1, 120)]
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["slug"] for answer in answers}) == 119


async def test_a_change_is_seen_at_once() -> None:
    async with serving() as (client, facade):
        for name in ("First", "Second"):
            await client.post("/tenants/", json={"name": name})
        repo = "https://github.com/acme/plugins"
        changed = await client.put("/tenants/1/", json={"name": "New", "custom_plugin_repo": repo})
        assert changed.status_code == 200
        assert (changed.json()["name"], changed.json()["custom_plugin_repo"]) == ("New", repo)
        assert (await client.get("/tenants/1")).json() == changed.json()
        assert (await client.put("/tenants/1/", json={"name": "NEW"})).json()["name"] == "NEW"
        taken = await client.put("/tenants/1/", json={"name": "second"})
        assert (taken.status_code, taken.json()["error"]) == (400, "A tenant with this name already exists")
        emptied = await client.put("/tenants/1/", json={"custom_plugin_repo": ""})
        assert (emptied.json()["name"], emptied.json()["custom_plugin_repo"]) == ("NEW", "")
        assert (await client.put("/tenants/1/", json={})).json() == emptied.json()
        found = facade.tenants.by_number(1)
        assert found is not None
        assert "pluginRepo" not in found.profile


async def test_deleting_takes_the_data_along() -> None:
    async with serving() as (client, facade):
        await client.post("/tenants/", json={"name": "Acme"})
        for _ in range(2):
            answer = await client.delete("/tenants/1/")
            assert answer.status_code == 202
            assert answer.json() == {"message": "Tenant deletion initiated", "tenant_id": 1}
        found = facade.tenants.by_number(1)
        assert found is not None
        assert found.spec["deletionPolicy"] == "Delete"
        assert (await client.get("/tenants/1/")).json()["status"] == "SUSPENDED"
        facade.cache.tenants.drop(found.key)
        for answer in (await client.get("/tenants/1/"), await client.delete("/tenants/1/")):
            assert (answer.status_code, answer.json()) == (404, {"error": "Tenant not found"})


async def test_soft_deleted_and_unnumbered_tenants_are_not_shown() -> None:
    async with serving() as (client, facade):
        facade.cache.tenants.put(tenant({"state": "Deleted", "id": "gone"}, number="1", name="gone").obj)
        facade.cache.tenants.put(tenant({"id": "new"}, number=None, name="new").obj)
        facade.cache.tenants.put(tenant({"id": "here"}, number="3", name="here", uid="u1").obj)
        facade.cache.tenants.put(tenant({"id": "copy"}, number="3", name="copy", uid="u2").obj)
        listed = (await client.get("/tenants/")).json()
        assert [each["slug"] for each in listed["results"]] == ["here"]
        assert listed["count"] == 1
        for path in ("/tenants/1/", "/tenants/1/status/"):
            assert (await client.get(path)).status_code == 404
        assert (await client.put("/tenants/1/", json={"name": "Back"})).status_code == 404
        assert (await client.delete("/tenants/1/")).status_code == 404


async def test_pages_follow_each_other() -> None:
    async with serving() as (client, _):
        for number in range(12):
            await client.post("/tenants/", json={"name": f"Tenant {number}"})
        first = (await client.get("/tenants/")).json()
        assert (first["count"], len(first["results"]), first["previous"]) == (12, 10, None)
        second = (await client.get(first["next"])).json()
        assert [each["id"] for each in second["results"]] == [11, 12]
        assert second["next"] is None
        assert (await client.get(second["previous"])).json() == first
        past = (await client.get("/tenants/?page=99")).json()
        assert (past["results"], past["next"]) == ([], None)
        assert len((await client.get("/tenants/?page_size=1000")).json()["results"]) == 12


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=", "page_size=0", "page=1.5", f"page={'9' * 5000}"]
)
async def test_a_page_that_is_none_is_an_error(query: str) -> None:
    async with serving() as (client, _):
        answer = await client.get(f"/tenants/?{query}")
        assert answer.status_code == 400
        assert answer.json()["field"] in ("page", "page_size")


@pytest.mark.parametrize("host", ["[", "a b", "x:99999", "evil.example/path?", ""])
async def test_a_false_host_breaks_nothing(host: str) -> None:
    async with serving() as (client, _):
        assert (await client.get("/tenants/?page=2", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", "٣", "%00", "9" * 400, "1'--", "..%2f1"])
async def test_what_is_no_id_is_not_found(number: str) -> None:
    async with serving() as (client, _):
        await client.post("/tenants/", json={"name": "Acme"})
        for path in (f"/tenants/{number}/", f"/tenants/{number}/status/", f"/tenants/{number}"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"name": 5}',
        b'{"name": ["a"]}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "a\\ud800b"}',
        b'{"name": "Ok", "slug": "UPPER"}',
        b'{"name": "Ok", "slug": "../x"}',
        b'{"name": "Ok", "slug": 5}',
        b'{"name": "' + b"a" * 256 + b'"}',
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe",
    ],
)
async def test_a_bad_body_is_an_error(body: bytes) -> None:
    async with serving() as (client, _):
        answer = await client.post("/tenants/", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]


async def test_the_openapi_document_has_every_endpoint_once() -> None:
    async with serving() as (client, _):
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert {path: sorted(operations) for path, operations in paths.items()} == {
            "/health/": ["get"],
            "/tenants/": ["get", "post"],
            "/tenants/{id}/": ["delete", "get", "put"],
            "/tenants/{id}/status/": ["get"],
        }
        (name,) = paths["/tenants/{id}/"]["get"]["parameters"]
        assert (name["name"], name["schema"]["type"]) == ("id", "integer")
