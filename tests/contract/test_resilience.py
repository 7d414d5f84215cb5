"""What the facade promises while things break: the API server away, replicas at once, killed in the middle."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import running
from tests.contract.conftest import QUICK, Stack

pytestmark = pytest.mark.e2e

NEOSTACK, INSTITUTIONS, MANAGEMENT, RENDER = "/api/v3", "/api/v1", "/tenant-management/v1", "/api"


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack that may be broken."""
    with running("resilience", request, operator=False, api=False) as started:
        started.start_operator(QUICK)
        started.start_api()
        yield Stack(started)


@contextmanager
def replica(
    stack: Stack, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Another replica, with settings of its own; its URL and process."""
    pid = stack.cluster.processes.pid("api")
    assert pid is not None
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    environment |= {"TENANTRY_API_PORT": "0", "TENANTRY_API_LOG_FORMAT": "console", **(settings or {})}
    command = [sys.executable, "-m", "tenantry_api"]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        url = ""
        for line in process.stderr:
            if "running on http" in line:
                url = line.split("running on ")[1].split()[0]
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            deadline = time.monotonic() + 30
            while httpx.get(f"{url}/readyz").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield url, process
        finally:
            process.terminate()


@contextmanager
def second_facade(stack: Stack, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """Another replica, with settings of its own; its URL."""
    with replica(stack, settings) as (url, _):
        yield url


def bearer(stack: Stack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.token()}"}


def numbers(stack: Stack) -> list[int]:
    page = httpx.get(f"{stack.url}{RENDER}/tenants/", params={"page_size": 100}).json()
    return [each["id"] for each in page["results"]]


def names(stack: Stack, kind: str) -> list[str]:
    """Of the objects in the project."""
    found = stack.cluster.kubectl("get", kind, "-n", "default", "-o", "name").split()
    return sorted(name.partition("/")[2] for name in found)


def test_replicas_at_once_make_one_tenant_of_an_id(own: Stack) -> None:
    with second_facade(own) as other, ThreadPoolExecutor(12) as pool:
        urls = [own.url, other] * 6

        def make(url: str) -> int:
            body = {"id": "only-one", "name": "x"}
            return httpx.post(f"{url}{NEOSTACK}/tenants", json=body, headers=bearer(own), timeout=30).status_code

        codes = sorted(pool.map(make, urls))
    assert codes == [201] + [409] * 11


def test_replicas_at_once_make_one_tenant_of_an_idempotency_key(own: Stack) -> None:
    with second_facade(own) as other, ThreadPoolExecutor(12) as pool:
        urls = [own.url, other] * 6

        def make(url: str) -> httpx.Response:
            headers = {**bearer(own), "Idempotency-Key": "one-key"}
            body = {"slug": "one-key", "legal_name": "One"}
            return httpx.post(f"{url}{MANAGEMENT}/tenants", json=body, headers=headers, timeout=30)

        answers = list(pool.map(make, urls))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    # Another body under the same key is another request.
    headers = {**bearer(own), "Idempotency-Key": "one-key"}
    body = {"slug": "another", "legal_name": "One"}
    assert httpx.post(f"{own.url}{MANAGEMENT}/tenants", json=body, headers=headers).status_code == 422


def test_an_idempotency_key_is_one_requests_though_two_reach_replicas_at_once(own: Stack) -> None:
    with second_facade(own) as other, ThreadPoolExecutor(12) as pool:

        def make(number: int) -> tuple[str, int]:
            slug = f"two-bodies-{number // 2 % 2}"
            headers = {**bearer(own), "Idempotency-Key": "two-bodies"}
            body = {"slug": slug, "legal_name": "One"}
            url = (own.url, other)[number % 2]
            return slug, httpx.post(
                f"{url}{MANAGEMENT}/tenants", json=body, headers=headers, timeout=30
            ).status_code

        answers = list(pool.map(make, range(12)))
    made = {slug for slug, code in answers if code == 201}
    assert len(made) == 1, answers
    assert {code for slug, code in answers if slug not in made} == {422}
    assert {code for slug, code in answers if slug in made} == {201}
    there = [name for name in names(own, "tenant") if name.startswith("two-bodies-")]
    assert there == sorted(made)


def test_a_key_is_one_changes_though_two_tenants_are_changed_at_once(own: Stack) -> None:
    ids = []
    for slug in ("left", "right"):
        body = {"slug": slug, "legal_name": slug}
        answer = httpx.post(f"{own.url}{MANAGEMENT}/tenants", json=body, headers=bearer(own), timeout=30)
        ids.append(answer.json()["tenant_id"])
    with second_facade(own) as other, ThreadPoolExecutor(8) as pool:

        def change(number: int) -> int:
            headers = {**bearer(own), "Idempotency-Key": "two-tenants"}
            url = f"{(own.url, other)[number % 2]}{MANAGEMENT}/tenants/{ids[number // 2 % 2]}"
            return httpx.put(url, json={"legal_name": "Changed"}, headers=headers, timeout=30).status_code

        codes = list(pool.map(change, range(8)))
    assert set(codes) == {200, 422}, codes
    tenants = (own.api.get("tenant", slug, "default") for slug in ("left", "right"))
    names = sorted((each or {})["spec"]["profile"]["legalName"] for each in tenants)
    assert names in (["Changed", "left"], ["Changed", "right"])


def test_replicas_give_a_name_once_whatever_its_letters_case(own: Stack) -> None:
    with second_facade(own) as other, ThreadPoolExecutor(12) as pool:

        def make(number: int) -> int:
            url = (own.url, other)[number % 2]
            body = {"name": ("Only Once", "ONLY ONCE", "only once")[number % 3]}
            return httpx.post(f"{url}{RENDER}/tenants/", json=body, timeout=30).status_code

        codes = sorted(pool.map(make, range(12)))
        assert codes == [201] + [400] * 11
        rest = [
            httpx.post(f"{own.url}{RENDER}/tenants/", json={"name": f"Rival {number}"}, timeout=30).json()["id"]
            for number in range(2)
        ]

        def rename(number: int) -> int:
            url = f"{(own.url, other)[number]}{RENDER}/tenants/{rest[number]}/"
            return httpx.put(url, json={"name": "Wanted by both"}, timeout=30).status_code

        assert sorted(pool.map(rename, range(2))) == [200, 400]


def test_two_that_are_put_below_each_other_at_once_make_no_ring(own: Stack) -> None:
    headers = {"Authorization": f"Bearer {own.token('SYSTEM_OWNER')}"}

    def make(slug: str) -> str:
        body = {
            "name": slug,
            "slug": slug,
            "type": "UNIVERSITY",
            "legal_status": "PUBLIC",
            "contact_email": "somebody@example.org",
            "max_users": 10,
            "max_diplomas": 10,
            "storage_quota_mb": 100,
        }
        answer = httpx.post(f"{own.url}{INSTITUTIONS}/tenants", json=body, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    ids = [make(slug) for slug in ("ring-one", "ring-two")]
    with second_facade(own) as other, ThreadPoolExecutor(2) as pool:

        def put_below(number: int) -> int:
            url = f"{(own.url, other)[number]}{INSTITUTIONS}/tenants/{ids[number]}"
            body = {"parent_id": ids[1 - number]}
            return httpx.put(url, json=body, headers=headers, timeout=30).status_code

        assert sorted(pool.map(put_below, range(2))) == [200, 400]


def test_a_claim_that_a_crash_left_runs_out(own: Stack) -> None:
    name = hashlib.sha256(b"render name left behind").hexdigest()[:32]
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": f"tenantry-claim-{name}", "namespace": "default"},
        "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"},
    }
    own.api.apply(lease)
    answer = httpx.post(f"{own.url}{RENDER}/tenants/", json={"name": "Left Behind"}, timeout=30)
    assert answer.status_code == 201, answer.text
    deadline = time.monotonic() + 15
    while f"tenantry-claim-{name}" in names(own, "lease"):
        assert time.monotonic() < deadline, "the claim stays"
        time.sleep(0.5)


def test_replicas_give_every_tenant_a_number_of_its_own(own: Stack) -> None:
    before = set(numbers(own))
    with second_facade(own) as other, ThreadPoolExecutor(8) as pool:

        def make(number: int) -> int:
            url = own.url if number % 2 else other
            answer = httpx.post(f"{url}{RENDER}/tenants/", json={"name": f"Numbered {number}"}, timeout=30)
            assert answer.status_code == 201, answer.text
            return int(answer.json()["id"])

        given = list(pool.map(make, range(20)))
    assert len(set(given)) == 20
    assert not before & set(given)


def test_a_tenant_of_kubectls_gets_the_next_number(own: Stack) -> None:
    highest = max(numbers(own), default=0)
    manifest = {"metadata": {"name": "by-kubectl", "namespace": "default"}, "spec": {"displayName": "By hand"}}
    own.api.apply({"apiVersion": "tenantry.dev/v1alpha1", "kind": "Tenant", **manifest})
    found = own.api.wait(
        "tenant",
        "by-kubectl",
        "default",
        lambda t: t is not None and "tenantry.dev/number" in (t["metadata"].get("labels") or {}),
        30,
    )
    assert int(found["metadata"]["labels"]["tenantry.dev/number"]) > highest


def test_killed_in_the_middle_it_loses_no_write_and_doubles_none(own: Stack) -> None:
    confirmed: dict[int, Any] = {}
    stop = threading.Event()

    def make(number: int) -> None:
        headers = {**bearer(own), "Idempotency-Key": f"killed-{number}"}
        body = {"slug": f"killed-{number}", "legal_name": "x"}
        while not stop.is_set():
            try:
                answer = httpx.post(f"{own.url}{MANAGEMENT}/tenants", json=body, headers=headers, timeout=10)
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code == 201:
                confirmed[number] = answer.json()
                return
            assert answer.status_code == 503, answer.text
            time.sleep(0.05)

    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(make, number) for number in range(40)]
        for _ in range(3):
            time.sleep(0.25)
            own.cluster.kill("api")
            own.cluster.start_api()
        deadline = time.monotonic() + 60
        while not all(future.done() for future in futures) and time.monotonic() < deadline:
            time.sleep(0.1)
        stop.set()
    for future in futures:
        future.result()
    assert len(confirmed) == 40
    names = own.cluster.kubectl("get", "tenants", "-n", "default", "-o", "name").split()
    assert len([name for name in names if "killed-" in name]) == 40
    for number, answer in confirmed.items():
        found = httpx.get(f"{own.url}{MANAGEMENT}/tenants/killed-{number}", headers=bearer(own)).json()
        assert found["tenant_id"] == answer["tenant_id"]


def test_told_to_stop_it_answers_what_it_has_begun(own: Stack) -> None:
    own.cluster.stop("operator")  # nobody makes the tenant ready: the request waits
    try:
        with replica(own, {"TENANTRY_API_WAIT": "3s"}) as (url, process), ThreadPoolExecutor(1) as pool:
            body = {"id": "stopping", "name": "x"}
            begun = pool.submit(httpx.post, f"{url}{NEOSTACK}/tenants", json=body, headers=bearer(own), timeout=30)
            own.api.wait("tenant", "stopping", "default", lambda found: found is not None, 20)
            process.terminate()
            answer = begun.result(20)
            assert (answer.status_code, answer.json()["status"]) == (201, "provisioning")
            assert process.wait(20) == 0
    finally:
        own.cluster.start_operator(QUICK)


def test_with_the_api_server_away_reads_go_on_and_writes_are_told_to_come_back(own: Stack) -> None:
    path = f"{own.url}{NEOSTACK}/tenants"
    body = {"id": "before", "name": "x"}
    assert httpx.post(path, json=body, headers=bearer(own), timeout=30).status_code == 201
    assert "Warning" not in httpx.get(f"{path}/before", headers=bearer(own)).headers
    own.cluster.kill("kube-apiserver")
    try:
        for method, where, content in (
            ("POST", path, {"id": "during", "name": "x"}),
            ("PATCH", f"{path}/before", {"name": "y"}),
            ("DELETE", f"{path}/before", None),
        ):
            answer = httpx.request(method, where, json=content, headers=bearer(own), timeout=30)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) >= 1
        deadline = time.monotonic() + 30
        while "Warning" not in (answer := httpx.get(f"{path}/before", headers=bearer(own))).headers:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert (answer.status_code, answer.json()["name"]) == (200, "x")
    finally:
        own.cluster.up(operator=False, api=False)
    deadline = time.monotonic() + 60
    while "Warning" in httpx.get(f"{path}/before", headers=bearer(own)).headers:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert httpx.patch(f"{path}/before", json={"name": "y"}, headers=bearer(own), timeout=30).status_code == 200
    own.api.patch("tenant", "before", "default", {"metadata": {"labels": {"a": "b"}}, "spec": {"tags": []}})
    assert httpx.get(f"{path}/before", headers=bearer(own)).json()["name"] == "y"
