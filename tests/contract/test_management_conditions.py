"""Entity tags and idempotency of tenant management, on the running stack."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Stack

# Fixtures are found by their names here.
from tests.contract.test_management import PARTS, Make, admin, client, error, make, ok

__all__ = ["admin", "client", "make"]

pytestmark = pytest.mark.e2e


def key(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


@pytest.mark.parametrize("part", PARTS)
def test_a_read_has_a_tag_and_is_not_answered_twice(admin: httpx.Client, make: Make, part: str) -> None:
    path = f"/tenants/{make()}{part}"
    first = admin.get(path)
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = admin.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ok(admin.get(path, headers={"If-None-Match": '"other"'})) == first.json()
    ok(admin.put(path, json=PARTS[part]))
    changed = admin.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


@pytest.mark.parametrize("part", PARTS)
def test_a_change_of_what_was_not_read_is_refused(admin: httpx.Client, make: Make, part: str) -> None:
    path = f"/tenants/{make()}{part}"
    before = admin.get(path)
    tag, body = before.headers["etag"], PARTS[part]
    for wrong in ('"other"', "", tag.strip('"')):
        error(admin.put(path, json=body, headers={"If-Match": wrong}), 412, "precondition_failed")
    assert ok(admin.get(path)) == before.json()
    ok(admin.put(path, json=body, headers={"If-Match": tag}))
    error(admin.put(path, json=body, headers={"If-Match": tag}), 412, "precondition_failed")
    ok(admin.put(path, json=body, headers={"If-Match": "*"}))


def test_one_of_many_changes_of_the_same_version_is_made(admin: httpx.Client, make: Make) -> None:
    path = f"/tenants/{make()}/tags"
    tag = admin.get(path).headers["etag"]

    def put(number: int) -> int:
        body = {"items": [{"tag_key": f"k{number}"}]}
        return admin.put(path, json=body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(put, range(8))) == [200] + [412] * 7


def test_create_is_replayed(stack: Stack, admin: httpx.Client) -> None:
    slug = f"mg-once-{time.time_ns()}"
    body = {"slug": slug, "legal_name": "Once"}

    def post(_: int) -> httpx.Response:
        return admin.post("/tenants", json=body, headers=key(slug))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    different = admin.post("/tenants", json=body | {"legal_name": "Twice"}, headers=key(slug))
    error(different, 422, "idempotency_mismatch")
    error(
        admin.post("/tenants", json=body | {"slug": f"{slug}-2"}, headers=key(slug)), 422, "idempotency_mismatch"
    )
    error(admin.post("/tenants", json=body, headers=key(f"{slug}-2")), 409)
    assert stack.api.get("tenant", f"{slug}-2", "default") is None


@pytest.mark.parametrize("part", PARTS)
def test_a_put_is_replayed_and_changes_nothing_again(
    stack: Stack, admin: httpx.Client, make: Make, part: str
) -> None:
    slug = make()
    path = f"/tenants/{slug}{part}"
    mine = key(f"put-{slug}")
    first = ok(admin.put(path, json=PARTS[part], headers=mine))
    obj: Any = stack.api.get("tenant", slug, "default")
    time.sleep(1.1)
    assert ok(admin.put(path, json=PARTS[part], headers=mine)) == first
    again: Any = stack.api.get("tenant", slug, "default")
    assert again["metadata"]["annotations"] == obj["metadata"]["annotations"]
    assert again["metadata"]["generation"] == obj["metadata"]["generation"]


def test_a_key_is_for_one_request(admin: httpx.Client, make: Make) -> None:
    slug = make()
    path, mine = f"/tenants/{slug}", key(f"one-{slug}")
    ok(admin.put(f"{path}/tags", json=PARTS["/tags"], headers=mine))
    error(admin.put(f"{path}/tags", json={"items": []}, headers=mine), 422, "idempotency_mismatch")
    error(admin.put(f"{path}/contacts", json={"items": []}, headers=mine), 422, "idempotency_mismatch")
    error(admin.post(f"{path}/lifecycle/activate", headers=mine), 422, "idempotency_mismatch")
    error(admin.put(f"/tenants/{make()}/tags", json=PARTS["/tags"], headers=mine), 422, "idempotency_mismatch")
    error(admin.put(f"{path}/tags", json={"items": []}, headers=key("x" * 256)), 400)
    assert ok(admin.get(f"{path}/tags")) == PARTS["/tags"]
    assert ok(admin.get(path))["status"] == "draft"


def test_a_transition_is_replayed(admin: httpx.Client, make: Make) -> None:
    slug = make()
    path = f"/tenants/{slug}/lifecycle"
    first = ok(admin.post(f"{path}/activate", headers=key(f"on-{slug}")))
    ok(admin.post(f"{path}/suspend", headers=key(f"off-{slug}")))
    assert ok(admin.post(f"{path}/activate", headers=key(f"on-{slug}"))) == first
    assert ok(admin.get(f"/tenants/{slug}"))["status"] == "suspended"
    error(admin.post(f"{path}/activate"), 409, "invalid_transition")
