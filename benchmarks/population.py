"""A cluster full of small tenants, on which restart, steady state and memory are measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.environment import Result, bench_cluster, say
from benchmarks.measure import operator_metrics, total
from benchmarks.workload import Kube, blueprint, named, small_migrations, tenants
from tenantry_local.cluster import Cluster

BLUEPRINT = "small"
SWEEP = 30.0
"""The operator's default, in seconds."""
_LONGEST = 600.0


class Population:
    """Tenants under Schema isolation with one table each, all on one server."""

    def __init__(self, cluster: Cluster, kube: Kube) -> None:
        self.cluster = cluster
        self.kube = kube
        self.count = 0

    async def grow(self, count: int, result: Result) -> None:
        """Provisions tenants until there are ``count``, and waits until the operator writes nothing more.

        :raises RuntimeError: when some do not become Ready.
        """
        if count > self.count:
            new = tenants(named(count - self.count, self.count), BLUEPRINT, "Schema")
            reached = await self.kube.provision(new, f"from {self.count:,} to {count:,} Tenants")
            if not reached.complete:
                raise RuntimeError(f"only {len(reached.ready):,} of {reached.asked:,} Tenants became Ready")
            result.data.setdefault("set_up", []).append(
                {"from": self.count, "to": count, "seconds": round(reached.seconds, 1)}
            )
            self.count = count
        await self.settle()

    async def settle(self) -> None:
        """Waits until the operator has written nothing for more than one sweep."""
        say("waiting until the operator writes nothing more")
        deadline = time.monotonic() + _LONGEST
        written, since = -1.0, time.monotonic()
        while time.monotonic() - since < SWEEP * 1.3:
            now = total(operator_metrics(self.cluster), "tenantry_api_writes_total")
            if now != written:
                written, since = now, time.monotonic()
            if time.monotonic() > deadline:
                say("it does not stop writing")
                return
            await asyncio.sleep(1)


@asynccontextmanager
async def populated() -> AsyncIterator[Population]:
    """A cluster that is to be populated; removed at the end."""
    with bench_cluster("population") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            await kube.prepare(blueprint(BLUEPRINT, small_migrations(), "Schema"))
            yield Population(cluster, kube)
