"""All Tenants Ready and nothing changing: what a minute costs."""

from __future__ import annotations

import asyncio

from benchmarks.environment import Result, say
from benchmarks.measure import (
    StatementLog,
    api_requests,
    difference,
    operator_metrics,
    phase,
    revision,
    total,
    writes,
)
from benchmarks.population import Population

MINUTES = 2


async def run(population: Population, count: int) -> Result:
    """Watches the cluster with the operator, then without."""
    result = Result("steady", f"Steady state with {count:,} Tenants Ready, each minute")
    await population.grow(count, result)
    cluster = population.cluster
    for operator in (True, False):
        if not operator:
            cluster.stop("operator")
            await asyncio.sleep(5)
        say(f"watching for {MINUTES} minutes, {'with' if operator else 'without'} the operator")
        requests, version = api_requests(cluster), revision(cluster)
        swept = total(operator_metrics(cluster), "tenantry_sweep_seconds_count")
        with StatementLog(cluster) as log, phase(cluster) as measured:
            await asyncio.sleep(60 * MINUTES)
            statements = log.read()
        after = difference(requests, api_requests(cluster))
        swept = total(operator_metrics(cluster), "tenantry_sweep_seconds_count") - swept
        result.data["with_operator" if operator else "without_operator"] = {
            "tenants": count,
            "minutes": MINUTES,
            "api_requests": after,
            "api_writes": writes(after),
            "etcd_revisions": revision(cluster) - version,
            "cpu_seconds_per_minute": {name: round(value / MINUTES, 2) for name, value in measured.cpu.items()},
            "statements": len(statements),
            "sweeps": int(swept),
        }
    _report(result)
    cluster.start_operator()
    return result


def _report(result: Result) -> None:
    own, without = result.data["with_operator"], result.data["without_operator"]

    def both(name: str) -> tuple[str, str]:
        return f"{own[name] / MINUTES:.1f}", f"{without[name] / MINUTES:.1f} without the operator"

    written = sum(own["api_writes"].values())
    result.add("writes to the API server", f"{written / MINUTES:.1f}", "but for the Lease", "", "0")
    result.add("revisions of etcd, the Lease's included", *both("etcd_revisions"))
    result.add("statements to PostgreSQL", *both("statements"))
    for name, seconds in own["cpu_seconds_per_minute"].items():
        reference = without["cpu_seconds_per_minute"].get(name, 0.0)
        if max(seconds, reference) >= 0.05:
            result.add(f"CPU seconds of {name}", f"{seconds:.2f}", f"{reference:.2f} without the operator")
