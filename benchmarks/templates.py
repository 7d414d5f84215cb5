"""A new tenant of a blueprint with many tables, copied from a template, against replaying the DDL."""

from __future__ import annotations

import statistics

import psycopg

from benchmarks.environment import Result, bench_cluster
from benchmarks.peers import Server
from benchmarks.references import replay, tables
from benchmarks.workload import Kube, named, tenants, until
from tenantry_local.cluster import Cluster

RUNS = 15
TARGET = 5
_OWN = "wide"


async def run(runs: int = RUNS) -> Result:
    """Makes tenants one after the other, and as many databases by psql."""
    result = Result("template", f"A new tenant with a database of {tables.TABLES} tables")
    with bench_cluster("template") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            await kube.prepare(tables.manifests(_OWN))
            first = await kube.provision(tenants(["first"], _OWN, "Database"), "the first tenant")
            await until(lambda: _template(cluster), timeout=120)
            if not _template(cluster):
                raise TimeoutError("the operator made no template within two minutes: see its log")
            spent = []
            for name in named(runs):
                spent.append((await kube.provision(tenants([name], _OWN, "Database"), name)).seconds)
            by_psql = replay.replay(Server.of(cluster), runs=runs)
    ours = statistics.median(spent)
    result.add(
        "a new tenant, from apply to Ready",
        f"{ours:.2f} s ({min(spent):.2f} to {max(spent):.2f})",
        f"{by_psql.median:.2f} s for the database alone, by psql",
        f"{by_psql.median / ours:.1f} times faster",
        f"{TARGET}",
    )
    result.add("the first one, for which every migration was run", f"{first.seconds:.2f} s")
    result.data = {
        "tables": tables.TABLES,
        "seconds": [round(value, 3) for value in spent],
        "first": round(first.seconds, 3),
        "psql": by_psql.data(),
        "ratio": round(by_psql.median / ours, 2),
    }
    return result


def _template(cluster: Cluster) -> bool:
    with psycopg.connect(cluster.admin_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_database WHERE datname LIKE 'wide%template' AND NOT datallowconn"
        ).fetchone()
    return row is not None and bool(row[0])
