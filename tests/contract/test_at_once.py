"""Many requests at the same moment, through two replicas, that want the same: all are served, one by one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.contract.test_institutions import BASE, bearer, tenant_body, unique
from tests.contract.test_resilience import second_facade
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e

MANY = 50
FEWER = 30
"""Where each makes a tenant with a database."""


@pytest.fixture(scope="module")
def replicas(stack: Stack) -> Iterator[list[httpx.Client]]:
    """Clients of two replicas, as administrator."""
    with second_facade(stack) as other:
        headers = bearer(stack.token("SYSTEM_OWNER"))
        limits = httpx.Limits(max_connections=MANY, keepalive_expiry=1)
        clients = [
            httpx.Client(base_url=url, headers=headers, timeout=60, limits=limits) for url in (stack.url, other)
        ]
        yield clients
        for client in clients:
            client.close()


def at_once(count: int, ask: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def codes(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


def plain_tenants(stack: Stack, replicas: list[httpx.Client], count: int) -> list[str]:
    """UUIDs of tenants without databases, which both replicas know."""
    word = unique()
    slugs = [f"{word}-{number}" for number in range(count)]
    stack.api.apply(
        *(manifest("Tenant", slug, {"displayName": slug}, namespace="default") for slug in slugs),
        manager="tenantry-api",
    )
    deadline = time.monotonic() + 30
    for client in replicas:
        while True:
            found = {each["slug"]: each["id"] for each in listed(client)}
            if found.keys() >= set(slugs):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return [found[slug] for slug in slugs]


def listed(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := client.get(f"{BASE}/tenants", params={"limit": 1000, "skip": len(found)}).json():
        found += page
    return found


def test_all_moves_in_a_hierarchy_are_made(stack: Stack, replicas: list[httpx.Client]) -> None:
    left, right, *rest = plain_tenants(stack, replicas, MANY + 2)

    def move(number: int) -> httpx.Response:
        path = f"{BASE}/tenants/{rest[number]}"
        return replicas[number % 2].put(path, json={"parent_id": (left, right)[number // 2 % 2]})

    assert codes(at_once(MANY, move)) == {200: MANY}
    parents = {each["id"]: each["parent_id"] for each in listed(replicas[0])}
    assert [parents[each] for each in rest] == [(left, right)[number // 2 % 2] for number in range(MANY)]


def test_who_are_put_below_each_other_make_no_ring(stack: Stack, replicas: list[httpx.Client]) -> None:
    ids = plain_tenants(stack, replicas, 6)

    def put_below_the_next(number: int) -> httpx.Response:
        path = f"{BASE}/tenants/{ids[number]}"
        return replicas[number % 2].put(path, json={"parent_id": ids[(number + 1) % 6]})

    # Only the last one closes the ring.
    assert codes(at_once(6, put_below_the_next)) == {200: 5, 400: 1}


def test_all_changes_of_one_tenant_are_made(stack: Stack, replicas: list[httpx.Client]) -> None:
    (tenant,) = plain_tenants(stack, replicas, 1)
    fields = [f"word-{number}" for number in range(MANY)]

    def change(number: int) -> httpx.Response:
        body = {"security_config": {fields[number]: number}}
        return replicas[number % 2].put(f"{BASE}/tenants/{tenant}", json=body)

    assert codes(at_once(MANY, change)) == {200: MANY}
    deadline = time.monotonic() + 10
    for client in replicas:
        while len(client.get(f"{BASE}/tenants/{tenant}").json()["security_config"]) < MANY:
            assert time.monotonic() < deadline, "a change is lost"
            time.sleep(0.1)


def test_all_get_a_slug_whose_names_make_the_same(replicas: list[httpx.Client]) -> None:
    word = unique()

    def make(number: int) -> httpx.Response:
        return replicas[number % 2].post("/api/tenants/", json={"name": f"{word}{'!' * (number + 1)}"})

    answers = at_once(FEWER, make)
    assert codes(answers) == {201: FEWER}
    slugs = {answer.json()["slug"] for answer in answers}
    assert slugs == {word, *(f"{word}-{number}" for number in range(2, FEWER + 1))}


def test_a_name_that_nobody_gets_keeps_nobody_waiting(replicas: list[httpx.Client]) -> None:
    slug = unique()
    assert replicas[0].post(f"{BASE}/tenants", json=tenant_body(slug=slug)).status_code == 201
    body = {"name": f"Wanted {slug}", "slug": slug}
    answers = at_once(MANY, lambda number: replicas[number % 2].post("/api/tenants/", json=body))
    assert {answer.text for answer in answers} == {
        '{"error":"A tenant with this slug already exists","field":"slug"}'
    }
    assert codes(answers) == {400: MANY}
