"""A restart with nothing changed: what the operator writes and asks, and how long until it knows all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from benchmarks.environment import Result, say
from benchmarks.measure import (
    StatementLog,
    api_requests,
    difference,
    memory,
    operator_metrics,
    phase,
    revision,
    total,
    writes,
)
from benchmarks.population import SWEEP, Population

_LONGEST = 900.0


async def run(population: Population, counts: list[int]) -> Result:
    """Restarts the operator with each number of Tenants, in rising order."""
    result = Result("restart", "Restart of the operator with nothing changed (Schema isolation, one server)")
    for count in counts:
        await population.grow(count, result)
        await _restart(population, result)
    queries = {entry["tenants"]: entry["statements"] for entry in result.data["restarts"]}
    if len(queries) > 1:
        fewest, most = min(queries), max(queries)
        result.add(
            "statements do not grow with tenants",
            f"{queries[most]} with {most:,}",
            f"{queries[fewest]} with {fewest:,}",
            f"{queries[most] / max(queries[fewest], 1):.2f}",
            "1.00",
        )
    return result


async def _restart(population: Population, result: Result) -> None:
    cluster, count = population.cluster, population.count
    say(f"restarting the operator with {count:,} Tenants")
    cluster.stop("operator")
    await asyncio.sleep(2)
    requests, version = api_requests(cluster), revision(cluster)
    with StatementLog(cluster) as log:
        with phase(cluster) as measured:
            pid = cluster.start_operator(wait=False)
            seconds = await _reconciled(population, time.monotonic())
        statements = log.read()
        first = difference(requests, api_requests(cluster))
        used = memory(pid)
        say(f"all reconciled after {seconds:.1f} s; watching two sweeps")
        await asyncio.sleep(2 * SWEEP + 5)
        later = log.read()
    after = difference(requests, api_requests(cluster))
    grown = revision(cluster) - version
    written = writes(after)
    leases = sum(
        n for name, n in after.items() if name.endswith(" leases") and name.split()[0] in ("PUT", "PATCH", "POST")
    )
    metrics = operator_metrics(cluster)
    sweeps = _count(metrics, "tenantry_sweep_seconds_count")
    entry: dict[str, Any] = {
        "tenants": count,
        "seconds": round(seconds, 2),
        "statements": len(statements),
        "statements_by_database": dict(Counter(statement.database for statement in statements)),
        "statements_with_two_sweeps": len(later),
        "observations": sweeps,
        "observe_seconds": round(total(metrics, "tenantry_sweep_seconds_sum") / max(sweeps, 1), 2),
        "api_writes": written,
        "lease_writes": leases,
        "etcd_revisions": grown,
        "operator_api_writes": int(total(metrics, "tenantry_api_writes_total")),
        "api_requests_until_reconciled": first,
        "cpu_seconds": measured.cpu,
        "memory": used,
        "memory_after_sweeps": memory(pid),
    }
    result.data.setdefault("restarts", []).append(entry)
    result.add(
        f"{count:,} Tenants: all reconciled",
        f"{seconds:.1f} s, CPU s: {', '.join(f'{k} {v:.1f}' for k, v in measured.cpu.items() if v >= 0.05)}",
    )
    result.add(
        f"{count:,} Tenants: writes to the API server",
        f"{sum(written.values())}" + (f" ({written})" if written else ""),
        f"and {leases} of the Lease; etcd's revision rose by {grown}",
        "",
        "0",
    )
    changing = [s for s in later if not s.text.lstrip("( \n").lower().startswith(("select", "with", "show"))]
    entry["database_writes"] = [statement.text[:200] for statement in changing[:20]]
    result.add(f"{count:,} Tenants: writes to databases", f"{len(changing)}", "", "", "0")
    result.add(
        f"{count:,} Tenants: statements to PostgreSQL",
        f"{len(statements)} until reconciled, {len(later) - len(statements)} in two sweeps after",
    )
    result.add(f"{count:,} Tenants: operator's memory", f"{used['rss'] / 2**20:.0f} MiB")


def _count(metrics: dict[str, float], name: str) -> int:
    return int(total(metrics, name))


async def _reconciled(population: Population, started: float) -> float:
    """Seconds until every Tenant was reconciled."""
    while True:
        metrics = operator_metrics(population.cluster)
        done = total(metrics, "tenantry_reconciles_total", kind="Tenant", result="ok")
        elapsed = time.monotonic() - started
        if done >= population.count:
            return elapsed
        if elapsed > _LONGEST:
            raise RuntimeError(f"after {elapsed:.0f} s only {done:.0f} of {population.count:,} were reconciled")
        await asyncio.sleep(0.1)
