"""The stand-in of the tests of the command line does what a real API server does."""

from __future__ import annotations

import pytest

from tenantry_operator.cli.access import find
from tenantry_operator.cli.cluster import ROLLOUTS, TENANTS, Cluster
from tenantry_operator.cli.options import Where
from tenantry_operator.kube import ApiError
from tests.unit.cli_standin import Standin, rollout


async def _cluster() -> Cluster:
    return Cluster(Where(), await find(Where()))


async def test_a_list_comes_in_pages_and_each_item_says_what_it_is(api: Standin) -> None:
    api.page = 2
    for number in range(5):
        api.put("tenants", {"metadata": {"name": f"t{number}", "namespace": "shop"}, "spec": {}})
    cluster = await _cluster()
    found = await cluster.every(TENANTS, "shop")
    await cluster.close()
    assert [obj["metadata"]["name"] for obj in found] == ["t0", "t1", "t2", "t3", "t4"]
    assert {obj["kind"] for obj in found} == {"Tenant"}
    assert len(api.asked) == 3


async def test_a_watch_tells_what_happened_since_its_version(api: Standin) -> None:
    first = api.put("rollouts", rollout())
    api.put("rollouts", rollout("Soaking"))
    api.put("rollouts", {**rollout(), "metadata": {"name": "other", "namespace": "shop"}})
    cluster = await _cluster()
    events = [
        (kind, obj["status"]["phase"])
        async for kind, obj in cluster.watch(ROLLOUTS, "shop-1.1", first["metadata"]["resourceVersion"], 1)
    ]
    await cluster.close()
    assert events == [("MODIFIED", "Soaking")]


async def test_a_watch_from_a_forgotten_version_is_gone(api: Standin) -> None:
    first = api.put("rollouts", rollout())
    api.put("rollouts", rollout())
    api.forget()
    cluster = await _cluster()
    with pytest.raises(ApiError) as caught:
        async for _ in cluster.watch(ROLLOUTS, "shop-1.1", first["metadata"]["resourceVersion"], 1):
            pass
    await cluster.close()
    assert caught.value.status == 410
