"""Servers that go away in the middle of the work, and come back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.support import NOTES, Api, blueprint, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "outage"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "2s"}
TENANTS = 12


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    return api


@pytest.mark.parametrize("gone", ["postgres", "kube-apiserver", "etcd"])
def test_a_server_that_is_killed_while_tenants_are_made_costs_nothing_but_time(api: Api, gone: str) -> None:
    names = [f"{gone}-{number}" for number in range(TENANTS)]
    isolations = ("Database", "Schema", "Row")
    api.apply(*(tenant(SPACE, name, "notes", isolations[i % 3]) for i, name in enumerate(names)))
    time.sleep(0.3)
    assert api.cluster.kill(gone)
    time.sleep(2)
    api.cluster.up(operator=False, api=False)
    assert api.cluster.operator_pid() is not None, "the operator ended"
    uris = {}
    for name in names:
        api.ready(SPACE, name, timeout=150)
        uris[name] = api.secret(SPACE, name, "notes")["uri"]
        assert run(uris[name], "SELECT count(*) FROM notes") == [(0,)]
    # The same while all of them get new credentials.
    api.kubectl("annotate", "tenants", *names, "-n", SPACE, f"tenantry.dev/rotate={gone}")
    time.sleep(0.2)
    assert api.cluster.kill(gone)
    time.sleep(2)
    api.cluster.up(operator=False, api=False)
    for name in names:
        api.wait("tenant", name, SPACE, lambda found: has_rotated(found, gone), timeout=150)
        new = api.secret(SPACE, name, "notes")["uri"]
        assert new != uris[name]
        assert run(new, "SELECT count(*) FROM notes") == [(0,)]


def has_rotated(found: Any, value: str) -> bool:
    return found is not None and (found["status"].get("handled") or {}).get("rotate") == value


def test_tenants_of_a_server_that_is_away_are_not_ready_and_heal_by_themselves(api: Api) -> None:
    api.apply(tenant(SPACE, "witness", "notes"))
    api.ready(SPACE, "witness")
    api.cluster.kill("postgres")
    api.trouble("databaseinstance", "tenantry-system", "pool-a", "ServerUnreachable")
    api.trouble("tenant", SPACE, "witness", "ServerUnreachable")
    api.cluster.up(operator=False, api=False)
    assert api.ready(SPACE, "witness", timeout=150)["metadata"]["generation"] == 1
