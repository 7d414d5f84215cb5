"""The contract of tenant management, endpoint by endpoint, on the running stack."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e

BASE = "/tenant-management/v1"
EU = ["eu-central-1", "eu-west-1"]
Object = dict[str, Any]
Token = Callable[..., str]
Make = Callable[..., str]


def new_slug() -> str:
    return f"mg-{uuid4().hex[:12]}"


PARTS: dict[str, Object] = {
    "": {"legal_name": "Acme Incorporated"},
    "/regions": {"items": ["ap-south-1", "eu-central-1"]},
    "/residency": {"policy_id": "eu-only", "effective_from": "2025-10-01"},
    "/plan": {"plan_code": "pro", "effective_from": "2025-10-01"},
    "/contacts": {"items": [{"role": "owner", "name": "Jane Doe", "email": "owner@example.com"}]},
    "/external-ids": {"items": [{"system_key": "billing", "id_value": "BILL-123"}]},
    "/tags": {"items": [{"tag_key": "sector", "tag_value": "manufacturing"}]},
}
"""A body for every PUT below a tenant."""
TRANSITIONS = ("activate", "suspend", "resume", "archive")
READS = [("GET", part, None) for part in PARTS]
WRITES = [("PUT", part, body) for part, body in PARTS.items()] + [
    ("POST", f"/lifecycle/{transition}", None) for transition in TRANSITIONS
]
CODES = {400: "invalid_request", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 409: "conflict"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def client(stack: Stack) -> Iterator[Callable[..., httpx.Client]]:
    """Makes clients of the contract, with a token."""
    opened: list[httpx.Client] = []

    def connect(**claims: Any) -> httpx.Client:
        opened.append(
            httpx.Client(base_url=f"{stack.url}{BASE}", headers=bearer(stack.token(**claims)), timeout=30)
        )
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def admin(client: Callable[..., httpx.Client]) -> httpx.Client:
    return client()


@pytest.fixture
def make(admin: httpx.Client) -> Make:
    """Makes a draft, and returns its slug."""

    def draft(legal_name: str = "Acme Inc") -> str:
        slug = new_slug()
        answer = admin.post("/tenants", json={"slug": slug, "legal_name": legal_name})
        assert answer.status_code == 201, answer.text
        return slug

    return draft


def error(answer: httpx.Response, status: int, code: str = "") -> str:
    """The message of an error."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"code", "message", "correlation_id"}
    assert body["code"] == (code or CODES[status])
    assert body["correlation_id"] == answer.headers["x-correlation-id"]
    return str(body["message"])


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


# Create and read


def test_a_draft_is_made_and_read_at_once_by_slug_and_uuid(stack: Stack, admin: httpx.Client) -> None:
    slug = new_slug().replace("-", "_")
    made = ok(admin.post("/tenants", json={"slug": slug, "legal_name": "Acme Inc", "colour": "red"}), 201)
    assert made == {"tenant_id": made["tenant_id"], "slug": slug}
    expected = {**made, "legal_name": "Acme Inc", "status": "draft"}
    assert ok(admin.get(f"/tenants/{slug}")) == expected
    assert ok(admin.get(f"/tenants/{made['tenant_id'].upper()}")) == expected
    obj = stack.api.get("tenant", slug.replace("_", "-"), "default")
    assert obj is not None
    assert (obj["spec"]["id"], obj["spec"]["state"]) == (slug, "Draft")
    assert obj["spec"]["profile"]["legalName"] == "Acme Inc"
    assert not obj["spec"].get("databases")


def test_a_slug_is_given_once(admin: httpx.Client, make: Make) -> None:
    error(admin.post("/tenants", json={"slug": make(), "legal_name": "x"}), 409)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"slug": "mg-bad"},
        {"legal_name": "x"},
        {"slug": "mg-bad", "legal_name": ""},
        {"slug": "mg-bad", "legal_name": "a\x00b"},
        {"slug": "mg-bad", "legal_name": "x" * 256},
        {"slug": "mg-bad", "legal_name": 5},
        {"slug": "mg-bad", "legal_name": ["x"]},
        {"slug": "mg-bad", "legal_name": None},
        {"slug": "MG-BAD", "legal_name": "x"},
        {"slug": "../mg-bad", "legal_name": "x"},
        {"slug": "-mg", "legal_name": "x"},
        {"slug": "m" * 64, "legal_name": "x"},
        {"slug": "6c0f0a3e-6a3b-5d7e-9b34-5d0c4a0a6b1d", "legal_name": "x"},
        {"slug": "mg'; DROP TABLE tenants; --", "legal_name": "x"},
        [],
        "text",
        None,
    ],
)
def test_what_is_no_tenant_is_not_made(admin: httpx.Client, body: Any) -> None:
    error(admin.post("/tenants", json=body), 400)
    assert admin.get("/tenants/mg-bad").status_code == 404


def test_sql_in_a_name_is_a_name(admin: httpx.Client, make: Make) -> None:
    name = 'Robert\'); DROP TABLE users; -- "$1" ${x} %s <b>'
    assert ok(admin.get(f"/tenants/{make(name)}"))["legal_name"] == name


def test_a_tenant_made_with_kubectl_is_seen_with_nothing_set(stack: Stack, admin: httpx.Client) -> None:
    stack.api.apply(manifest("Tenant", "mg-kubectl", {"displayName": "Bare"}, namespace="default"))
    stack.api.wait(
        "tenant", "mg-kubectl", "default", lambda _: admin.get("/tenants/mg-kubectl").status_code == 200
    )
    found = ok(admin.get("/tenants/mg-kubectl"))
    assert (found["slug"], found["legal_name"], found["status"]) == ("mg-kubectl", "Bare", "active")
    for part, empty in {
        "regions": {"items": []},
        "residency": {"policy": None},
        "plan": {"plan_code": None, "effective_from": None},
        "contacts": {"items": []},
        "external-ids": {"items": []},
        "tags": {"items": []},
    }.items():
        assert ok(admin.get(f"/tenants/mg-kubectl/{part}")) == empty
    assert ok(admin.put("/tenants/mg-kubectl", json={"legal_name": "Not Bare"}))["tenant_id"] == found["tenant_id"]


def test_what_gitops_manages_is_not_changed_here(stack: Stack, admin: httpx.Client) -> None:
    spec = {"tags": [{"tagKey": "a", "tagValue": "b"}], "state": "Draft"}
    stack.api.apply(manifest("Tenant", "mg-gitops", spec, namespace="default"), manager="argocd")
    stack.api.wait("tenant", "mg-gitops", "default", lambda _: admin.get("/tenants/mg-gitops").status_code == 200)
    assert "argocd" in error(admin.put("/tenants/mg-gitops/tags", json={"items": []}), 409)
    assert "argocd" in error(admin.post("/tenants/mg-gitops/lifecycle/activate"), 409)
    assert ok(admin.get("/tenants/mg-gitops/tags"))["items"] == [{"tag_key": "a", "tag_value": "b"}]


# Change


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_put_and_read_at_once(admin: httpx.Client, make: Make, part: str) -> None:
    slug, body = make(), PARTS[part]
    said = ok(admin.put(f"/tenants/{slug}{part}", json=body))
    assert set(said) == ({"updated_at"} if part else {"tenant_id", "updated_at"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said["updated_at"])
    found = ok(admin.get(f"/tenants/{slug}{part}"))
    if part == "/residency":
        assert found == {"policy": body}
    elif part == "":
        assert found["legal_name"] == body["legal_name"]
    else:
        assert found == body
    assert ok(admin.put(f"/tenants/{slug}{part}", json=body)) == said


@pytest.mark.parametrize("part", ["/regions", "/contacts", "/external-ids", "/tags"])
def test_a_list_that_is_put_replaces_the_one_before(admin: httpx.Client, make: Make, part: str) -> None:
    path = f"/tenants/{make()}{part}"
    ok(admin.put(path, json=PARTS[part]))
    ok(admin.put(path, json={"items": []}))
    assert ok(admin.get(path)) == {"items": []}


BAD: list[tuple[str, Any]] = [
    ("", {}),
    ("", {"legal_name": ""}),
    ("", {"slug": "other"}),
    ("/regions", {"items": ["ap-south-1", "ap-south-1"]}),
    ("/regions", {"items": [f"r{number}" for number in range(33)]}),
    ("/regions", {"items": [1]}),
    ("/regions", {"items": "ap-south-1"}),
    ("/regions", {"items": None}),
    ("/regions", {}),
    ("/residency", {"policy_id": "nowhere"}),
    ("/residency", {"policy_id": "eu-only", "effective_from": "2025-02-30"}),
    ("/residency", {"policy_id": None}),
    ("/plan", {"plan_code": "gold"}),
    ("/plan", {"plan_code": "pro", "effective_from": "tomorrow"}),
    ("/plan", {"plan_code": "pro", "effective_from": "0000-00-00"}),
    ("/plan", {"plan_code": "pro", "effective_from": 1e300}),
    ("/plan", {"plan_code": 2}),
    ("/contacts", {"items": [{"name": "Jane"}]}),
    ("/contacts", {"items": [{"role": "owner", "email": "nobody"}]}),
    ("/contacts", {"items": [{"role": "owner", "name": "a\x00b"}]}),
    ("/contacts", {"items": [{"role": "owner"}] * 65}),
    ("/external-ids", {"items": [{"system_key": "a", "id_value": "b"}] * 2}),
    ("/external-ids", {"items": [{"system_key": "", "id_value": "b"}]}),
    ("/external-ids", {"items": [{"system_key": "a"}]}),
    ("/tags", {"items": [{"tag_key": "a", "tag_value": "1"}, {"tag_key": "a", "tag_value": "2"}]}),
    ("/tags", {"items": [{"tag_key": "a", "tag_value": "x" * 256}]}),
    ("/tags", {"items": [{"tag_key": "a", "tag_value": 1}]}),
    ("/tags", {"items": [{"tag_key": f"k{number}"} for number in range(65)]}),
    ("/tags", {"items": {"tag_key": "a"}}),
    ("/tags", [{"tag_key": "a"}]),
]


@pytest.mark.parametrize(("part", "body"), BAD)
def test_what_is_wrong_is_refused_and_changes_nothing(
    admin: httpx.Client, make: Make, part: str, body: Any
) -> None:
    path = f"/tenants/{make()}{part}"
    before = ok(admin.get(path))
    error(admin.put(path, json=body), 400)
    assert ok(admin.get(path)) == before


def test_a_region_that_is_unknown_is_named(admin: httpx.Client, make: Make) -> None:
    answer = admin.put(f"/tenants/{make()}/regions", json={"items": ["eu-west-1", "ap-nowhere-1"]})
    assert error(answer, 400) == "unknown region_code: ap-nowhere-1"


def test_residency_limits_the_regions(stack: Stack, admin: httpx.Client, make: Make) -> None:
    slug = make()
    path = f"/tenants/{slug}"
    ok(admin.put(f"{path}/residency", json={"policy_id": "eu-only"}))
    assert ok(admin.get(f"{path}/residency")) == {"policy": {"policy_id": "eu-only", "effective_from": None}}
    assert ok(admin.get(f"{path}/regions")) == {"items": EU}
    obj = stack.api.get("tenant", slug, "default")
    assert obj is not None
    assert obj["spec"]["regions"] == EU
    assert "us-east-1" in error(admin.put(f"{path}/regions", json={"items": ["us-east-1"]}), 400)
    ok(admin.put(f"{path}/regions", json={"items": ["eu-west-1"]}))
    error(admin.put(f"{path}/residency", json={"policy_id": "in-only"}), 400)
    assert ok(admin.get(f"{path}/residency"))["policy"]["policy_id"] == "eu-only"
    ok(admin.put(f"{path}/regions", json={"items": []}))
    assert ok(admin.get(f"{path}/regions")) == {"items": EU}
    ok(admin.put(f"{path}/residency", json={"policy_id": "in-only"}))
    assert ok(admin.get(f"{path}/regions")) == {"items": ["ap-south-1"]}


# Lifecycle


def test_a_tenant_lives(stack: Stack, admin: httpx.Client, make: Make) -> None:
    slug = make()
    uuid = ok(admin.get(f"/tenants/{slug}"))["tenant_id"]

    def go(transition: str) -> httpx.Response:
        return admin.post(f"/tenants/{slug}/lifecycle/{transition}")

    def refuses(*transitions: str) -> None:
        for transition in transitions:
            error(go(transition), 409, "invalid_transition")

    refuses("suspend", "resume", "archive")
    assert ok(go("activate")) == {"tenant_id": uuid, "status": "active"}
    assert [row[0] for row in stack.api.query("default", slug, "app", "SELECT count(*) FROM users")] == [0]
    refuses("activate", "resume")
    assert ok(go("suspend")) == {"tenant_id": uuid, "status": "suspended"}
    refuses("activate", "suspend")
    assert ok(go("resume")) == {"tenant_id": uuid, "status": "active"}
    assert ok(go("suspend"))["status"] == "suspended"
    assert ok(go("archive")) == {"tenant_id": uuid, "status": "archived"}
    refuses("archive", "suspend", "resume")
    assert ok(go("activate")) == {"tenant_id": uuid, "status": "active"}
    assert ok(admin.get(f"/tenants/{slug}"))["status"] == "active"


def test_a_tenant_that_was_deleted_softly_is_brought_back(stack: Stack, admin: httpx.Client, make: Make) -> None:
    slug = make()
    ok(admin.post(f"/tenants/{slug}/lifecycle/activate"))
    # Under the facade's own name: what kubectl sets is kubectl's, and not to be changed here.
    document = json.dumps({"spec": {"state": "Deleted"}})
    stack.cluster.kubectl(
        "patch", "tenant", slug, "-n", "default", "--type=merge", "--field-manager=tenantry-api", "-p", document
    )
    stack.api.wait(
        "tenant", slug, "default", lambda _: admin.get(f"/tenants/{slug}").json()["status"] == "archived"
    )
    error(admin.post(f"/tenants/{slug}/lifecycle/archive"), 409, "invalid_transition")
    assert ok(admin.post(f"/tenants/{slug}/lifecycle/activate"))["status"] == "active"


def test_activate_leaves_the_databases_of_a_tenant_that_has_some(stack: Stack, admin: httpx.Client) -> None:
    databases = [{"name": "own", "blueprint": "app"}]
    spec = {"displayName": "x", "databases": databases}
    admin.post("/tenants", json={"slug": "mg-own", "legal_name": "x"})
    stack.api.apply(manifest("Tenant", "mg-own", spec, namespace="default"))
    stack.api.wait("tenant", "mg-own", "default", lambda t: t is not None and t["spec"].get("databases"))
    ok(admin.post("/tenants/mg-own/lifecycle/activate"))
    obj = stack.api.get("tenant", "mg-own", "default")
    assert obj is not None
    assert [each.get("name") for each in obj["spec"]["databases"]] == ["own"]


# Search


def test_the_search_filters(admin: httpx.Client, make: Make) -> None:
    one, two = make("Searchable Ünique"), make("searchable other")
    ok(admin.put(f"/tenants/{one}/tags", json={"items": [{"tag_key": "vip", "tag_value": "yes"}]}))
    ok(admin.put(f"/tenants/{one}/regions", json={"items": ["us-east-1"]}))
    ok(admin.post(f"/tenants/{two}/lifecycle/activate"))

    def found(**wanted: str) -> set[str]:
        items = ok(admin.get("/tenants", params={"q": "SEARCHABLE", "limit": 500, **wanted}))["items"]
        return {each["slug"] for each in items}

    both = {one, two}
    assert found() & both == both
    assert found(status="", region="", tag="", cursor="") & both == both
    assert found(q="üNIQUE") & both == {one}
    assert found(q=one) >= {one}
    assert found(q=ok(admin.get(f"/tenants/{two}"))["tenant_id"]) == {two}
    assert found(status="draft") & both == {one}
    assert found(status="active") & both == {two}
    assert found(region="us-east-1") & both == {one}
    assert found(region="ap-nowhere-1") == set()
    assert found(tag="vip") & both == {one}
    assert found(tag="vip:yes") & both == {one}
    assert found(tag="vip:no") & both == set()
    item = ok(admin.get("/tenants", params={"q": one, "tag": "vip"}))
    assert item == {"items": [ok(admin.get(f"/tenants/{one}"))]}


def test_the_search_has_pages(admin: httpx.Client, make: Make) -> None:
    slugs = {make("Paged Ltd") for _ in range(5)}
    seen: list[str] = []
    params: dict[str, Any] = {"q": "paged ltd", "limit": 2}
    while True:
        page = ok(admin.get("/tenants", params=params))
        assert 0 < len(page["items"]) <= 2
        seen += [each["slug"] for each in page["items"]]
        if "next_cursor" not in page:
            break
        params["cursor"] = page["next_cursor"]
    assert len(seen) == len(set(seen))
    assert slugs <= set(seen)


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 501},
        {"limit": "many"},
        {"limit": 10**30},
        {"status": "asleep"},
        {"cursor": "nonsense"},
        {"cursor": "e30"},
        {"cursor": "x" * 513},
        {"q": "a\x00b"},
        {"q": "x" * 321},
    ],
)
def test_a_search_that_makes_no_sense_is_refused(admin: httpx.Client, params: Object) -> None:
    error(admin.get("/tenants", params=params), 400)


def test_sql_in_a_search_finds_nothing(admin: httpx.Client) -> None:
    for name in ("q", "region", "tag"):
        assert ok(admin.get("/tenants", params={name: "' OR 1=1 --"})) == {"items": []}


# Who may


@pytest.mark.parametrize(("method", "part", "body"), [*READS, *WRITES])
def test_nobody_gets_in_without_a_valid_token(
    api: httpx.Client, token: Token, make: Make, method: str, part: str, body: Any
) -> None:
    path = f"{BASE}/tenants/{make()}{part}"
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": "Basic YTpi"},
        bearer("nonsense"),
        bearer(token(algorithm="none")),
        bearer(token(lifetime=-3600)),
        bearer(token(secret="another secret of thirty-two chars")),
    ]
    for each in headers:
        error(api.request(method, path, json=body, headers=each), 401)


def test_search_and_create_need_a_token(api: httpx.Client, token: Token) -> None:
    for headers in ({}, bearer(token(algorithm="none"))):
        error(api.get(f"{BASE}/tenants", headers=headers), 401)
        error(api.post(f"{BASE}/tenants", json={"slug": "mg-no", "legal_name": "x"}, headers=headers), 401)


def test_a_tenants_token_reads_its_own_and_nothing_else(
    client: Callable[..., httpx.Client], admin: httpx.Client, make: Make
) -> None:
    own, other = make(), make()
    uuid = ok(admin.get(f"/tenants/{own}"))["tenant_id"]
    for tenant in (own, uuid):
        mine = client(role="", tenant=tenant)
        for _, part, _ in READS:
            assert ok(mine.get(f"/tenants/{own}{part}")) == ok(admin.get(f"/tenants/{own}{part}"))
            there = error(mine.get(f"/tenants/{other}{part}"), 404)
            assert there == error(mine.get(f"/tenants/mg-nowhere{part}"), 404)
        assert [each["slug"] for each in ok(mine.get("/tenants"))["items"]] == [own]
        assert ok(mine.get("/tenants", params={"q": other}))["items"] == []


@pytest.mark.parametrize(("method", "part", "body"), WRITES)
def test_a_tenants_token_writes_nothing(
    client: Callable[..., httpx.Client], admin: httpx.Client, make: Make, method: str, part: str, body: Any
) -> None:
    own, other = make(), make()
    mine = client(role="INSTITUTION_ADMIN", tenant=own)
    before = ok(admin.get(f"/tenants/{own}"))
    for tenant in (own, other, "mg-nowhere"):
        error(mine.request(method, f"/tenants/{tenant}{part}", json=body), 403)
    error(mine.post("/tenants", json={"slug": "mg-no", "legal_name": "x"}), 403)
    assert ok(admin.get(f"/tenants/{own}")) == before


def test_a_token_of_nobody_sees_nothing(client: Callable[..., httpx.Client], make: Make) -> None:
    nobody = client(role="USER")
    error(nobody.get("/tenants"), 403)
    error(nobody.get(f"/tenants/{make()}"), 404)


# What is not there, and what is hostile


@pytest.mark.parametrize(("method", "part", "body"), [*READS, *WRITES])
def test_a_tenant_that_is_not_there_is_missing(admin: httpx.Client, method: str, part: str, body: Any) -> None:
    for tenant in ("mg-nowhere", "00000000-0000-0000-0000-000000000000", "%27%20OR%201=1", "x" * 253):
        error(admin.request(method, f"/tenants/{tenant}{part}", json=body), 404)


@pytest.mark.parametrize(
    "path",
    ["/tenants/%00", f"/tenants/{'x' * 300}", "/tenants/a%00b/tags", f"/tenants/{'x' * 300}/lifecycle/activate"],
)
def test_a_path_that_cannot_be_a_tenants_is_refused(admin: httpx.Client, path: str) -> None:
    method = "POST" if "lifecycle" in path else "GET"
    error(admin.request(method, path), 400)


@pytest.mark.parametrize(
    "path",
    ["/tenants/..%2f..%2fapi", "/tenants/%2e%2e", "/tenants/x/nothing", "/tenants/x/lifecycle/explode", "/x"],
)
def test_a_path_that_leads_elsewhere_leads_nowhere(admin: httpx.Client, path: str) -> None:
    error(admin.get(path), 404)


def test_a_method_that_is_not_served_is_refused(admin: httpx.Client, make: Make) -> None:
    slug = make()
    error(admin.delete(f"/tenants/{slug}"), 405, "method_not_allowed")
    error(admin.get(f"/tenants/{slug}/lifecycle/activate"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"legal_name": "\\ud800"}',
        b"[" * 100_000,
        b'{"legal_name":' * 10_000,
        b'{"legal_name": 1e999}',
        b'{"legal_name": ' + b"9" * 5000 + b"}",
        b"NaN",
    ],
)
def test_a_body_that_is_no_json_of_ours_is_refused(admin: httpx.Client, make: Make, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    error(admin.put(f"/tenants/{make()}", content=content, headers=headers), 400)


def test_a_body_that_is_too_large_is_refused(admin: httpx.Client, make: Make) -> None:
    answer = admin.put(f"/tenants/{make()}", json={"legal_name": "x" * 2_000_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_the_correlation_id_is_the_callers_or_a_new_one(admin: httpx.Client) -> None:
    given = admin.get("/tenants/mg-nowhere", headers={"X-Correlation-ID": "mine-1"})
    assert given.json()["correlation_id"] == "mine-1"
    for headers in ({}, {"X-Correlation-ID": "two words"}, {"X-Correlation-ID": "x" * 200}):
        answer = admin.get("/tenants/mg-nowhere", headers=headers)
        assert error(answer, 404)
        assert re.fullmatch(r"[0-9a-f]{32}", answer.json()["correlation_id"])


def test_the_openapi_document_has_every_path(api: httpx.Client) -> None:
    paths = ok(api.get(f"{BASE}/openapi.json"))["paths"]
    expected = {"/tenants"} | {f"/tenants/{{tenant_id}}{part}" for part in PARTS}
    assert set(paths) == expected | {f"/tenants/{{tenant_id}}/lifecycle/{name}" for name in TRANSITIONS}


def test_a_change_that_only_takes_something_out_is_one(admin: httpx.Client, make: Make) -> None:
    path = f"/tenants/{make()}/plan"
    before = ok(admin.put(path, json=PARTS["/plan"]))["updated_at"]
    time.sleep(1.1)
    after = ok(admin.put(path, json={"plan_code": "pro"}))["updated_at"]
    assert ok(admin.get(path)) == {"plan_code": "pro", "effective_from": None}
    assert after > before
