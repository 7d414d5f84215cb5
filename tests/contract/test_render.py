"""render's contract, endpoint by endpoint, on the running stack."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.contract.conftest import Stack
from tests.e2e.support import come_up, manifest, run

pytestmark = pytest.mark.e2e

Object = dict[str, Any]
BASE = "/api"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "rest" / "render.sh"
FIELDS = {
    "id",
    "name",
    "slug",
    "status",
    "render_service_ids",
    "custom_plugin_repo",
    "created_at",
    "updated_at",
}
_numbers = itertools.count(1)


def fresh() -> str:
    return f"render-{next(_numbers)}"


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A client as the contract's clients are: without a token."""
    with httpx.Client(base_url=f"{stack.url}{BASE}", timeout=30) as made:
        yield made


@pytest.fixture
def made(client: httpx.Client) -> Object:
    """A tenant, as it was answered."""
    slug = fresh()
    answer = client.post("/tenants/", json={"name": f"Name of {slug}", "slug": slug})
    assert answer.status_code == 201, answer.text
    body: Object = answer.json()
    return body


def failure(answer: httpx.Response, status: int) -> Object:
    assert answer.status_code == status, answer.text
    body: Object = answer.json()
    assert {"error"} <= set(body) <= {"error", "detail", "field"}
    assert all(isinstance(value, str) and value for value in body.values())
    return body


def until(client: httpx.Client, number: int, status: str) -> Object:
    """The tenant when it has a status."""
    deadline = time.monotonic() + 60
    while True:
        body: Object = client.get(f"/tenants/{number}/").json()
        if body.get("status") == status:
            return body
        assert time.monotonic() < deadline, body
        time.sleep(0.1)


def everything(client: httpx.Client) -> list[Object]:
    """All tenants, page by page."""
    found: list[Object] = []
    url: str | None = "/tenants/?page_size=100"
    while url:
        page = client.get(url).json()
        found += page["results"]
        url = page["next"]
    return found


def test_it_is_healthy(client: httpx.Client) -> None:
    for path in ("/health/", "/health"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.json() == {"status": "healthy", "message": "Control Plane API is running"}


def test_a_tenant_is_answered_at_once_and_then_provisioned(client: httpx.Client, made: Object) -> None:
    assert set(made) == FIELDS
    assert isinstance(made["id"], int)
    assert (made["status"], made["render_service_ids"], made["custom_plugin_repo"]) == ("PROVISIONING", {}, "")
    found = until(client, made["id"], "ACTIVE")
    assert found["render_service_ids"] == {"database": f"db-{made['slug']}-{made['id']}"}
    for key in ("id", "name", "slug", "custom_plugin_repo", "created_at"):
        assert found[key] == made[key]
    for key in ("created_at", "updated_at"):
        assert found[key].endswith("Z")
        assert datetime.fromisoformat(found[key]).tzinfo is not None


def test_an_id_leads_to_a_database_that_works(stack: Stack, client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    assert stack.api.query("default", made["slug"], "database", "SELECT count(*) FROM users") == [(0,)]


def test_the_status_has_its_six_fields(client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    answer = client.get(f"/tenants/{made['id']}/status/")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": made["id"],
        "name": made["name"],
        "slug": made["slug"],
        "status": "ACTIVE",
        "render_service_ids": {"database": f"db-{made['slug']}-{made['id']}"},
        "created_at": made["created_at"],
    }


def test_paths_answer_the_same_without_the_slash(client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    for path in (f"/tenants/{made['id']}", f"/tenants/{made['id']}/status"):
        plain, slashed = client.get(path), client.get(f"{path}/")
        assert (plain.status_code, plain.json()) == (200, slashed.json())
    assert client.get("/tenants").json()["results"] == client.get("/tenants/").json()["results"]
    slug = fresh()
    new = client.post("/tenants", json={"name": slug})
    assert (new.status_code, new.json()["slug"]) == (201, slug)
    assert client.put(f"/tenants/{new.json()['id']}", json={"name": f"{slug} new"}).status_code == 200
    assert client.delete(f"/tenants/{new.json()['id']}").status_code == 202


def test_a_slug_is_made_of_the_name_and_unique(client: httpx.Client) -> None:
    word = fresh()
    names = [f"Ä {word} & Co.", f"a {word} co", f"A {word}: Co"]
    slugs = [client.post("/tenants/", json={"name": name}).json()["slug"] for name in names]
    assert slugs == [f"a-{word}-co", f"a-{word}-co-2", f"a-{word}-co-3"]
    empty = client.post("/tenants/", json={"name": f"{word} empty", "slug": ""})
    assert (empty.status_code, empty.json()["slug"]) == (201, f"{word}-empty")


def test_no_id_is_taken_for_another_tenants_uuid(
    stack: Stack, client: httpx.Client, api: httpx.Client, made: Object
) -> None:
    headers = {"Authorization": f"Bearer {stack.token()}"}
    uuid = api.get(f"/tenant-management/v1/tenants/{made['slug']}", headers=headers).json()["tenant_id"]
    answer = client.post("/tenants/", json={"name": fresh(), "slug": uuid})
    assert failure(answer, 400)["field"] == "slug"
    named = client.post("/tenants/", json={"name": uuid})
    assert (named.status_code, named.json()["slug"]) == (201, f"{uuid}-2")
    own = {"Authorization": f"Bearer {stack.token('USER', tenant=uuid)}"}
    assert [each["slug"] for each in api.get("/api/v1/tenants", headers=own).json()] == [made["slug"]]


def test_numbers_are_given_in_order(client: httpx.Client) -> None:
    ids = [client.post("/tenants/", json={"name": fresh()}).json()["id"] for _ in range(3)]
    assert ids == sorted(set(ids))


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    body = {"name": fresh(), "id": 1, "status": "ACTIVE", "deletionPolicy": "Delete", "nested": [[[{}]]]}
    answer = client.post("/tenants/", json=body)
    assert answer.status_code == 201
    assert (answer.json()["status"], answer.json()["id"] > 0) == ("PROVISIONING", True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Customer name is required"),
        ({"slug": "render-x"}, "Customer name is required"),
        ({"name": None}, "Customer name is required"),
        ({"name": ""}, "Customer name is required"),
        ({"name": "   "}, "Customer name is required"),
        ({"name": "A"}, "Customer name must be at least 2 characters long"),
    ],
)
def test_a_name_is_required(client: httpx.Client, body: Object, message: str) -> None:
    assert failure(client.post("/tenants/", json=body), 400) == {"error": message, "field": "name"}


def test_a_name_is_given_once_whatever_its_letters_case(client: httpx.Client, made: Object) -> None:
    for name in (made["name"], made["name"].upper(), f" {made['name'].lower()} "):
        said = failure(client.post("/tenants/", json={"name": name, "slug": fresh()}), 400)
        assert said == {"error": "A tenant with this name already exists", "field": "name"}
    assert client.post("/tenants/", json={"name": f"{made['name']}s"}).status_code == 201


def test_a_slug_is_given_once(client: httpx.Client, made: Object) -> None:
    said = failure(client.post("/tenants/", json={"name": fresh(), "slug": made["slug"]}), 400)
    assert said == {"error": "A tenant with this slug already exists", "field": "slug"}


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "body"),
        (b"{", None),
        (b"null", "body"),
        (b"[]", "body"),
        (b'"name"', "body"),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"name": 7}', "name"),
        (b'{"name": ["render"]}', "name"),
        (b'{"name": {"$ne": ""}}', "name"),
        (b'{"name": "nul \\u0000"}', "name"),
        (b'{"name": "half \\ud800"}', "name"),
        (b'{"name": "' + b"x" * 256 + b'"}', "name"),
        (b'{"name": "render ok", "slug": "Not A Slug"}', "slug"),
        (b'{"name": "render ok", "slug": "123e4567-e89b-12d3-a456-426614174000"}', "slug"),
        (b'{"name": "render ok", "slug": "123e4567e89b12d3a456426614174000"}', "slug"),
        (b'{"name": "render ok", "slug": "' + b"x" * 64 + b'"}', "slug"),
        (b'{"name": "render ok", "slug": "../../secrets"}', "slug"),
        (b'{"name": "render ok", "slug": "x\\u0000"}', "slug"),
        (b'{"name": "render ok", "slug": 1e999}', "slug"),
        (b'{"name": "render ok", "slug": "\'; DROP TABLE tenants --"}', "slug"),
        (b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}", None),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, content: bytes, field: str | None) -> None:
    answer = client.post("/tenants/", content=content, headers={"Content-Type": "application/json"})
    said = failure(answer, 400)
    assert field is None or said["field"] == field


def test_all_that_is_wrong_is_in_the_detail(client: httpx.Client) -> None:
    said = failure(client.post("/tenants/", json={"name": "", "slug": "!"}), 400)
    assert said["error"] == "Customer name is required"
    assert "name: " in said["detail"]
    assert "slug: " in said["detail"]


def test_a_request_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/tenants/", json={"name": "x" * (1 << 21)})
    assert answer.status_code == 413
    assert "bytes" in answer.json()["error"]


def test_sql_in_a_name_is_a_name(client: httpx.Client) -> None:
    name = f"{fresh()}'; DROP TABLE users; --"
    answer = client.post("/tenants/", json={"name": name})
    assert (answer.status_code, answer.json()["name"]) == (201, name)
    assert until(client, answer.json()["id"], "ACTIVE")["name"] == name


def test_the_list_has_pages(client: httpx.Client) -> None:
    for _ in range(3):
        client.post("/tenants/", json={"name": fresh()})
    found = everything(client)
    assert [each["id"] for each in found] == sorted({each["id"] for each in found})
    assert all(set(each) == FIELDS for each in found)
    first = client.get("/tenants/").json()
    assert set(first) == {"count", "next", "previous", "results"}
    assert (first["count"], first["previous"]) == (len(found), None)
    assert [each["id"] for each in first["results"]] == [each["id"] for each in found[:10]]
    second = client.get("/tenants/", params={"page": 2, "page_size": 2}).json()
    assert [each["id"] for each in second["results"]] == [each["id"] for each in found[2:4]]
    assert second["previous"] == f"{client.base_url}tenants/?page=1&page_size=2"
    before = client.get(second["previous"]).json()
    assert [each["id"] for each in before["results"]] == [each["id"] for each in found[:2]]
    assert before["next"] == f"{client.base_url}tenants/?page=2&page_size=2"


def test_a_page_past_the_end_is_empty(client: httpx.Client, made: Object) -> None:
    page = client.get("/tenants/", params={"page": 1_000_000}).json()
    assert (page["results"], page["next"], page["count"] > 0) == ([], None, True)
    assert client.get(page["previous"]).json()["results"]


def test_a_page_has_a_hundred_tenants_at_most(client: httpx.Client) -> None:
    page = client.get("/tenants/", params={"page_size": 100_000}).json()
    assert len(page["results"]) == min(100, page["count"])


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=1.5", "page=%00", "page_size=0", f"page_size={'9' * 5000}"]
)
def test_a_page_that_is_none_is_refused(client: httpx.Client, query: str) -> None:
    said = failure(client.get(f"/tenants/?{query}"), 400)
    assert said["field"] == query.partition("=")[0]


def test_a_query_that_is_no_text_breaks_nothing(client: httpx.Client) -> None:
    assert client.get("/tenants/?page=1&x=%ff%fe'--").status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "number", ["999999999", "0", "-1", "abc", "1.0", "1e3", "9" * 400, "%00", "'%20OR%201=1", "%D9%A3"]
)
def test_what_is_not_there_is_not_found(client: httpx.Client, method: str, number: str) -> None:
    body = {"json": {"name": "render nobody"}} if method == "PUT" else {}
    answer = client.request(method, f"/tenants/{number}/", **body)  # type: ignore[arg-type]
    assert failure(answer, 404) == {"error": "Tenant not found"}
    assert failure(client.get(f"/tenants/{number}/status/"), 404) == {"error": "Tenant not found"}


def test_paths_and_methods_that_are_none_are_refused(client: httpx.Client, made: Object) -> None:
    for path in ("/nothing/", "/tenants/..%2f..%2fapi/", f"/tenants/{made['id']}/secrets/", "/tenants//"):
        assert failure(client.get(path), 404)
    for method, path, allowed in (
        ("PATCH", f"/tenants/{made['id']}/", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/tenants", "GET, HEAD, POST"),
        ("POST", "/health/", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert failure(answer, 405)
        assert answer.headers["Allow"] == allowed


def test_the_headers_of_a_get_are_to_be_had_alone(client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    for path in ("/health/", f"/tenants/{made['id']}/", "/tenants/999999999/"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_a_tenant_is_changed(client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    repo = "https://github.com/acme/custom-plugins"
    body = {
        "name": f"{made['name']} Updated",
        "custom_plugin_repo": repo,
        "slug": "render-other",
        "status": "ERROR",
    }
    answer = client.put(f"/tenants/{made['id']}/", json=body)
    assert answer.status_code == 200
    changed = answer.json()
    assert set(changed) == FIELDS
    assert (changed["name"], changed["custom_plugin_repo"]) == (body["name"], repo)
    assert (changed["slug"], changed["created_at"]) == (made["slug"], made["created_at"])
    assert changed["updated_at"] >= made["updated_at"]
    found = until(client, made["id"], "ACTIVE")
    assert (found["name"], found["custom_plugin_repo"]) == (body["name"], repo)
    emptied = client.put(f"/tenants/{made['id']}/", json={"custom_plugin_repo": ""}).json()
    assert (emptied["name"], emptied["custom_plugin_repo"]) == (body["name"], "")


def test_a_change_of_nothing_changes_nothing(client: httpx.Client, made: Object) -> None:
    before = until(client, made["id"], "ACTIVE")
    for body in ({}, {"name": None, "custom_plugin_repo": None}, {"name": made["name"]}):
        answer = client.put(f"/tenants/{made['id']}/", json=body)
        assert (answer.status_code, answer.json()) == (200, before)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "A"}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": 7}, "name"),
        ({"name": "nul \x00"}, "name"),
        ({"custom_plugin_repo": "no url"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": "ftp://host.example/x"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": "javascript:alert(1)"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": "https://"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": "https://good.example\\@evil.example/"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": "https://host.example/\x00"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": f"https://host.example/{'x' * 2048}"}, "custom_plugin_repo"),
        ({"custom_plugin_repo": ["https://host.example"]}, "custom_plugin_repo"),
        ([], "body"),
    ],
)
def test_a_bad_change_is_refused(client: httpx.Client, made: Object, body: Any, field: str) -> None:
    assert failure(client.put(f"/tenants/{made['id']}/", json=body), 400)["field"] == field
    found = client.get(f"/tenants/{made['id']}/").json()
    assert (found["name"], found["custom_plugin_repo"]) == (made["name"], "")


def test_a_tenant_keeps_its_name_and_gets_no_others(client: httpx.Client, made: Object) -> None:
    other = client.post("/tenants/", json={"name": fresh()}).json()
    said = failure(client.put(f"/tenants/{made['id']}/", json={"name": other["name"].upper()}), 400)
    assert said == {"error": "A tenant with this name already exists", "field": "name"}
    louder = client.put(f"/tenants/{made['id']}/", json={"name": made["name"].upper()})
    assert (louder.status_code, louder.json()["name"]) == (200, made["name"].upper())


def schemas(stack: Stack, database: str, name: str) -> int:
    """How many schemas of a name a database has."""
    escaped = name.replace("'", "''")
    statement = f"SELECT count(*) FROM pg_namespace WHERE nspname = '{escaped}'"
    found: int = run(stack.cluster.admin_dsn(database), statement)[0][0]
    return found


def test_a_tenant_goes_with_its_data(stack: Stack, client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    tenant = stack.api.get("tenant", made["slug"], "default")
    assert tenant is not None
    place = tenant["status"]["databases"][0]
    assert schemas(stack, place["database"], place["schema"]) == 1
    # Something else that wants to see to it first.
    hold = [*tenant["metadata"].get("finalizers", []), "tests.example/hold"]
    stack.api.patch("tenant", made["slug"], "default", {"metadata": {"finalizers": hold}})
    for _ in range(2):
        answer = client.delete(f"/tenants/{made['id']}/")
        assert answer.status_code == 202
        assert answer.json() == {"message": "Tenant deletion initiated", "tenant_id": made["id"]}
    assert client.get(f"/tenants/{made['id']}/").json()["status"] == "SUSPENDED"
    assert client.get(f"/tenants/{made['id']}/status/").json()["status"] == "SUSPENDED"
    said = failure(client.post("/tenants/", json={"name": made["name"]}), 400)
    assert said["error"] == "A tenant with this name already exists"

    def is_let_go(obj: Object | None) -> bool:
        return obj is not None and obj["metadata"].get("finalizers") == ["tests.example/hold"]

    stack.api.wait("tenant", made["slug"], "default", is_let_go, 60)
    assert schemas(stack, place["database"], place["schema"]) == 0
    stack.api.patch("tenant", made["slug"], "default", {"metadata": {"finalizers": []}})
    stack.api.gone("tenant", made["slug"], "default")
    deadline = time.monotonic() + 10
    while client.get(f"/tenants/{made['id']}/").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    for method, path in (("GET", ""), ("GET", "status/"), ("DELETE", "")):
        said = failure(client.request(method, f"/tenants/{made['id']}/{path}"), 404)
        assert said == {"error": "Tenant not found"}
    assert made["id"] not in [each["id"] for each in everything(client)]
    again = client.post("/tenants/", json={"name": made["name"], "slug": made["slug"]})
    assert (again.status_code, again.json()["id"] > made["id"]) == (201, True)


def test_every_state_has_its_word(stack: Stack, client: httpx.Client, made: Object) -> None:
    until(client, made["id"], "ACTIVE")
    stack.api.set_state("default", made["slug"], "Suspended")
    until(client, made["id"], "SUSPENDED")
    stack.api.set_state("default", made["slug"], "Active")
    until(client, made["id"], "ACTIVE")
    stack.api.set_state("default", made["slug"], "Deleted")
    deadline = time.monotonic() + 10
    while client.get(f"/tenants/{made['id']}/").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    failure(client.get(f"/tenants/{made['id']}/"), 404)
    failure(client.put(f"/tenants/{made['id']}/", json={"name": "render back"}), 404)
    failure(client.delete(f"/tenants/{made['id']}/"), 404)
    assert made["id"] not in [each["id"] for each in everything(client)]


def listed(client: httpx.Client, slug: str) -> Object:
    """A tenant that somebody else made, when it has its number."""
    deadline = time.monotonic() + 30
    while True:
        for each in everything(client):
            if each["slug"] == slug:
                return each
        assert time.monotonic() < deadline, slug
        time.sleep(0.2)


def test_a_draft_is_provisioning(stack: Stack, client: httpx.Client) -> None:
    slug = fresh()
    stack.api.apply(manifest("Tenant", slug, {"state": "Draft"}, namespace="default"))
    found = listed(client, slug)
    stack.api.ready("default", slug, "Draft")
    assert client.get(f"/tenants/{found['id']}/").json()["status"] == "PROVISIONING"


def test_what_needs_a_person_is_an_error(stack: Stack, client: httpx.Client) -> None:
    slug = fresh()
    secret = {"name": f"{slug}-database-db", "namespace": "default"}
    stack.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": secret})
    number = client.post("/tenants/", json={"name": slug, "slug": slug}).json()["id"]
    assert until(client, number, "ERROR")["render_service_ids"] == {}
    stack.api.delete("secret", secret["name"], "default")
    # Nobody watches Secrets of strangers: it would be looked at again within five minutes.
    stack.api.annotate("default", slug, looked="again")
    assert until(client, number, "ACTIVE")["render_service_ids"] == {"database": f"db-{slug}-{number}"}


def test_a_tenant_of_kubectls_gets_a_number_and_its_fields_are_its_owners(
    stack: Stack, client: httpx.Client
) -> None:
    slug = fresh()
    spec = {"displayName": f"{slug} by hand"}
    stack.api.apply(manifest("Tenant", slug, spec, namespace="default"), manager="argocd")
    found = listed(client, slug)
    assert (found["name"], found["render_service_ids"]) == (spec["displayName"], {})
    said = failure(client.put(f"/tenants/{found['id']}/", json={"name": f"{slug} mine"}), 409)
    assert "argocd" in said["error"]
    repo = "http://plugins.example/x"
    changed = client.put(f"/tenants/{found['id']}/", json={"custom_plugin_repo": repo})
    assert (changed.status_code, changed.json()["custom_plugin_repo"]) == (200, repo)
    taken = failure(client.post("/tenants/", json={"name": spec["displayName"]}), 400)
    assert taken["error"] == "A tenant with this name already exists"


def test_a_tenant_is_seen_through_another_contract(
    client: httpx.Client, api: httpx.Client, token: Callable[..., str], made: Object
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    there = api.get(f"/api/v3/tenants/{made['slug']}", headers=headers)
    assert (there.status_code, there.json()["name"]) == (200, made["name"])
    slug = fresh()
    api.post("/api/v3/tenants", headers=headers, json={"id": f"{slug}_x", "name": f"{slug} x"})
    here = listed(client, f"{slug}_x")
    assert (here["name"], here["status"]) == (f"{slug} x", "ACTIVE")


def test_open_it_takes_any_valid_token_and_no_false_one(stack: Stack, client: httpx.Client, made: Object) -> None:
    for token in (stack.token(), stack.token(role="", tenant=made["slug"]), stack.token(role="", tenant="other")):
        answer = client.get(f"/tenants/{made['id']}/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    for header in false_headers(stack):
        answer = client.get("/tenants/", headers={"Authorization": header})
        assert failure(answer, 401) == {"error": "Not authenticated"}


def false_headers(stack: Stack) -> list[str]:
    """What is no valid token."""
    return [
        "Bearer",
        "Basic YTpi",
        "Bearer nonsense",
        f"Bearer {stack.token(lifetime=-120)}",
        f"Bearer {stack.token(secret='another secret that is long enough')}",
        f"Bearer {stack.token(algorithm='none')}",
    ]


@contextmanager
def replica(stack: Stack, **settings: str) -> Iterator[httpx.Client]:
    """A second replica, with settings of its own."""
    env = {
        **os.environ,
        "KUBECONFIG": str(stack.cluster.paths.service_kubeconfig("api")),
        "TENANTRY_API_PORT": "0",
        "TENANTRY_API_JWT_SECRET": stack.secret,
        **settings,
    }
    process = subprocess.Popen([sys.executable, "-m", "tenantry_api"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                break
        else:
            pytest.fail("it ended at once:\n" + "".join(log))
        with httpx.Client(base_url=f"{found[1]}{BASE}", timeout=30) as client:
            deadline = time.monotonic() + 30
            while client.get(f"{found[1]}/readyz").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.1)
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def closed(stack: Stack) -> Iterator[httpx.Client]:
    """A replica for which the contract is not open."""
    with replica(stack, TENANTRY_API_RENDER_OPEN="false") as client:
        yield client


ENDPOINTS = [
    ("GET", "/tenants/"),
    ("GET", "/tenants"),
    ("POST", "/tenants/"),
    ("GET", "/tenants/{id}/"),
    ("GET", "/tenants/{id}/status/"),
    ("PUT", "/tenants/{id}/"),
    ("DELETE", "/tenants/{id}/"),
    ("DELETE", "/tenants/999999999/"),
]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_closed_it_is_for_administrators(
    stack: Stack, client: httpx.Client, closed: httpx.Client, made: Object, method: str, path: str
) -> None:
    body = {"name": "render intruder"}
    path = path.format(id=made["id"])
    assert failure(closed.request(method, path, json=body), 401) == {"error": "Not authenticated"}
    for header in false_headers(stack):
        answer = closed.request(method, path, json=body, headers={"Authorization": header})
        assert failure(answer, 401) == {"error": "Not authenticated"}
    for token in (stack.token(role="USER"), stack.token(role="", tenant=made["slug"])):
        answer = closed.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert failure(answer, 403) == {"error": "Only an administrator may do that"}
    assert client.get(f"/tenants/{made['id']}/").json()["name"] == made["name"]


def test_closed_its_health_is_open_and_an_administrator_may_do_all(stack: Stack, closed: httpx.Client) -> None:
    assert closed.get("/health/").json()["status"] == "healthy"
    headers = {"Authorization": f"Bearer {stack.token()}"}
    answer = closed.post("/tenants/", json={"name": fresh()}, headers=headers)
    assert answer.status_code == 201
    number = answer.json()["id"]
    assert closed.get(f"/tenants/{number}/", headers=headers).json()["id"] == number
    assert closed.delete(f"/tenants/{number}/", headers=headers).status_code == 202


def test_services_come_with_the_tenant_and_get_its_plugins(stack: Stack) -> None:
    api = stack.api
    template = {"image": "python:3", "command": ["sleep", "3600"]}
    api.apply(
        manifest("Blueprint", "render-web", {"service": {**template, "port": 8000}}, namespace="default"),
        manifest("Blueprint", "render-worker", {"service": template}, namespace="default"),
    )
    settings = {
        "TENANTRY_API_RENDER_OPEN": "true",
        "TENANTRY_API_RENDER_SERVICES": json.dumps({"web_service": "render-web", "worker": "render-worker"}),
    }
    with replica(stack, **settings) as client:
        made = client.post("/tenants/", json={"name": fresh()}).json()
        assert (made["status"], made["render_service_ids"]) == ("PROVISIONING", {})
        slug, number = made["slug"], made["id"]

        def active(wanted: Callable[[], bool]) -> Object:
            deadline = time.monotonic() + 60
            while True:
                come_up(api, "default", f"tenantry.dev/tenant={slug}")
                body: Object = client.get(f"/tenants/{number}/").json()
                if body["status"] == "ACTIVE" and wanted():
                    return body
                assert time.monotonic() < deadline, body
                time.sleep(0.2)

        assert active(lambda: True)["render_service_ids"] == {
            "web_service": f"web-{slug}-{number}",
            "database": f"db-{slug}-{number}",
            "worker": f"worker-{slug}-{number}",
        }

        def plugins() -> list[str]:
            found = [
                api.get("deployment", f"{slug}-{name}", "default") or {} for name in ("web-service", "worker")
            ]
            return [
                variable["value"]
                for deployment in found
                for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
                if variable["name"] == "CUSTOM_PLUGIN_REPO"
            ]

        assert plugins() == []
        url = "https://github.com/acme/custom-plugins"
        assert client.put(f"/tenants/{number}/", json={"custom_plugin_repo": url}).status_code == 200
        assert active(lambda: plugins() == [url, url])["custom_plugin_repo"] == url
        # Another variable of the service's is not to be had by its name in a URL.
        trick = "https://evil.example/$(TENANTRY_TENANT_ID)"
        assert client.put(f"/tenants/{number}/", json={"custom_plugin_repo": trick}).status_code == 200
        active(lambda: plugins() == [trick.replace("$", "$$")] * 2)
        assert client.delete(f"/tenants/{number}/").status_code == 202
        for kind, name in (("deployment", "web-service"), ("service", "web-service"), ("deployment", "worker")):
            api.gone(kind, f"{slug}-{name}", "default")


def test_redis_is_a_database_of_its_own(stack: Stack) -> None:
    api = stack.api
    instance = {"engine": "Redis", "role": "Shared", "statefulSet": {"storage": "64Mi"}}
    version = {"blueprint": "render-cache", "version": "1", "migrations": []}
    api.apply(
        manifest("DatabaseInstance", "render-redis", instance, namespace="default"),
        manifest("Blueprint", "render-cache", {"engine": "Redis", "version": "1"}, namespace="default"),
        manifest("BlueprintVersion", "render-cache-1", version, namespace="default"),
    )
    databases = json.dumps({"database": "app", "redis": "render-cache"})
    with replica(stack, TENANTRY_API_RENDER_OPEN="true", TENANTRY_API_RENDER_DATABASES=databases) as client:
        made = client.post("/tenants/", json={"name": fresh()}).json()
        slug, number = made["slug"], made["id"]
        found = until(client, number, "ACTIVE")
        assert found["render_service_ids"] == {
            "database": f"db-{slug}-{number}",
            "redis": f"redis-{slug}-{number}",
        }
        secret = api.secret("default", slug, "redis")
        with redis.Redis.from_url(secret["uri"]) as store:
            assert store.set(f"{secret['prefix']}greeting", "hello")
            with pytest.raises(redis.exceptions.NoPermissionError):
                store.set("other:greeting", "hello")
        assert client.delete(f"/tenants/{number}/").status_code == 202
        api.gone("tenant", slug, "default")
    api.delete("databaseinstance", "render-redis", "default")


def test_it_documents_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/health/", "/tenants/", "/tenants/{id}/", "/tenants/{id}/status/"}
    assert "422" not in document["paths"]["/tenants/"]["post"]["responses"]
    assert client.get("/docs").status_code == 200


def test_the_example_runs_and_cleans_up(stack: Stack, client: httpx.Client) -> None:
    env = {**os.environ, "TENANTRY_API_URL": stack.url, "TENANTRY_ADMIN_TOKEN": stack.token()}
    done = subprocess.run(
        ["bash", str(EXAMPLE)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"ACTIVE"' in done.stdout
    assert not [each for each in everything(client) if "walk" in each["slug"] and each["status"] != "SUSPENDED"]
