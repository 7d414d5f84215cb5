"""A version rolled out to many tenants, against the same statement by psql in parallel."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from benchmarks.environment import Result, bench_cluster, say
from benchmarks.measure import Phase, api_requests, difference, memory, operator_metrics, phase, total
from benchmarks.peers import Server
from benchmarks.raw import settle
from benchmarks.references import migrate
from benchmarks.references.psql import run_psql
from benchmarks.workload import SPACE, Kube, blueprint, named, tenants, until, version, wide_migrations
from tenantry_local.cluster import Cluster
from tenantry_operator.context import BLUEPRINTS, ROLLOUTS

Object = dict[str, Any]

TABLES = 20
CHOICES = (1, 2, 4)
TARGET = 0.7
TARGET_NOTHING = 50
ROUNDS = 3
_OWN = "own"
_STATEMENT = "ALTER TABLE {table} ADD COLUMN {column} text"


async def run(count: int) -> Result:
    """Measures one ``ALTER TABLE`` to ``count`` schemas, and a rollout that has nothing to do."""
    result = Result("rollout", f"A version of one ALTER TABLE for {count:,} tenants, and by psql")
    with bench_cluster("rollout") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            own = blueprint(_OWN, wide_migrations(TABLES), "Schema")
            own[0][1]["spec"]["rollout"] = {"maxParallel": 64}
            await kube.prepare(own)
            await kube.provision(tenants(named(count), _OWN, "Schema"), "Tenants Ready")
            await _swept(cluster)
            await _alter(result, kube, cluster, count)
            await _nothing(result, kube, cluster, count)
    return result


async def _alter(result: Result, kube: Kube, cluster: Cluster, count: int) -> None:
    schemas = list(named(count))
    processes = _choose(cluster, schemas[: max(8, count // 4)])
    operator, psql = [], []
    requests: dict[str, int] = {}
    for number in range(1, ROUNDS + 1):
        psql.append(_psql(cluster, schemas, f"raw{number}", processes))
        say(f"psql: {count / psql[-1].seconds:.0f} a second")
        step = {"name": "note", "sql": _STATEMENT.format(table="item5", column=f"note{number}")}
        await _swept(cluster)
        before = api_requests(cluster)
        settle(cluster)
        with phase(cluster) as measured:
            await roll_out(kube, _OWN, f"1.{number}", f"1.{number - 1}", [step])
        operator.append(measured)
        requests = difference(before, api_requests(cluster))
        say(f"Rollout: {count / operator[-1].seconds:.0f} a second")
    ours, theirs = (statistics.median(p.seconds for p in found) for found in (operator, psql))
    result.add(
        "one ALTER TABLE",
        f"{count / ours:.0f} tenants a second, until the Rollout is Completed",
        f"{count / theirs:.0f} a second, {processes} psql",
        f"{theirs / ours:.2f}",
        f"{TARGET}",
    )
    result.add("one ALTER TABLE: CPU ms per tenant", operator[-1].describe(count), psql[-1].describe(count))
    result.data["alter"] = {
        "tenants": count,
        "seconds": [round(p.seconds, 2) for p in operator],
        "psql_seconds": [round(p.seconds, 2) for p in psql],
        "psql_processes": processes,
        "cpu_ms_per_tenant": operator[-1].cpu_each(count),
        "api_requests": requests,
        "operator_memory": memory(cluster.status().get("operator") or 0),
        "ratio": round(theirs / ours, 3),
    }


async def _nothing(result: Result, kube: Kube, cluster: Cluster, count: int) -> None:
    """A Rollout to the version that everybody has, and Django's ``migrate_schemas`` in the same situation."""
    spent = []
    for number in range(ROUNDS):
        body = {
            "apiVersion": "tenantry.dev/v1alpha1",
            "kind": "Rollout",
            "metadata": {"name": f"nothing-{number}", "namespace": SPACE},
            "spec": {"blueprint": _OWN, "version": f"1.{ROUNDS}"},
        }
        started = time.monotonic()
        await kube.create(ROLLOUTS, body)
        await _completed(kube, f"nothing-{number}")
        spent.append(time.monotonic() - started)
    seconds = statistics.median(spent)
    cluster.stop("operator")
    found = migrate.measure(Server.of(cluster), count, runs=2)
    best = min(found, key=lambda each: each.median)
    result.add(
        "a rollout with nothing to do",
        f"{seconds:.2f} s",
        f"{best.median:.1f} s, migrate_schemas, {best.way}",
        f"{best.median / seconds:.0f} times faster",
        f"{TARGET_NOTHING}",
    )
    result.data["nothing"] = {
        "tenants": count,
        "seconds": [round(value, 3) for value in spent],
        "django_tenants": {each.way.executor: each.data() for each in found},
        "ratio": round(best.median / seconds, 1),
    }


async def _swept(cluster: Cluster) -> None:
    """Waits until the server was observed twice: nobody rolls out a version within seconds of another."""

    def sweeps() -> float:
        return total(operator_metrics(cluster), "tenantry_sweep_seconds_count")

    enough = sweeps() + 2
    await until(lambda: sweeps() >= enough, timeout=120)


async def roll_out(kube: Kube, of: str, to: str, before: str, steps: Sequence[Object]) -> None:
    """Gives a blueprint a new version, and waits until its Rollout is Completed."""
    resource, obj = version(of, to, before, steps)
    await kube.create(resource, obj)
    await kube.kube.patch(BLUEPRINTS, SPACE, of, {"spec": {"version": to}})
    await _completed(kube, f"{of}-{to}")


async def _completed(kube: Kube, name: str) -> None:
    deadline = time.monotonic() + 900
    phases: Object = {}
    while time.monotonic() < deadline:
        with suppress(Exception):
            phases = (await kube.kube.get(ROLLOUTS, SPACE, name)).get("status") or {}
            if phases.get("phase") == "Completed":
                return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"Rollout {name} did not complete: {phases}")


def _choose(cluster: Cluster, schemas: Sequence[str]) -> int:
    """How many psql at a time are fastest here."""
    spent = {}
    for processes in CHOICES:
        spent[processes] = min(
            _psql(cluster, schemas, f"try{processes}x{number}", processes).seconds for number in range(2)
        )
        say(f"{processes} psql: {len(schemas) / spent[processes]:.0f} a second")
    return min(spent, key=lambda processes: spent[processes])


def _psql(cluster: Cluster, schemas: Sequence[str], column: str, processes: int) -> Phase:
    """The statement in every schema, each a transaction, by so many psql, as the superuser."""
    scripts = [
        "".join(
            _STATEMENT.format(table=f'"{name}".item5', column=column) + ";\n" for name in schemas[n::processes]
        )
        for n in range(processes)
    ]
    settle(cluster)
    with phase(cluster) as measured:
        run_psql(Server.of(cluster), _OWN, scripts)
    return measured
