"""The operator's memory, against kopf alone that keeps the same Tenants."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from benchmarks.environment import Result, say
from benchmarks.measure import memory, operator_metrics, total
from benchmarks.population import SWEEP, Population
from tenantry_local.paths import CHECKOUT

_LONGEST = 900.0
TARGET = 1.5


async def run(population: Population, count: int) -> Result:
    """Compares them with ``count`` Tenants."""
    result = Result("memory", f"Memory with {count:,} Tenants")
    await population.grow(count, result)
    cluster = population.cluster
    cluster.stop("operator")
    say("kopf alone, keeping the Tenants")
    kopf = await _kopf(population, secrets=False)
    say("kopf alone, keeping the Tenants and their Secrets")
    both = await _kopf(population, secrets=True)
    say("the operator")
    pid = cluster.start_operator()
    started = time.monotonic()
    while total(operator_metrics(cluster), "tenantry_reconciles_total", kind="Tenant", result="ok") < count:
        await asyncio.sleep(0.5)
        if time.monotonic() - started > _LONGEST:
            raise RuntimeError("the operator does not come to an end with the Tenants")
    fresh = memory(pid)
    await asyncio.sleep(SWEEP * 2 + 5)
    own = memory(pid)
    result.data |= {"tenants": count, "operator": own, "operator_fresh": fresh, "kopf": kopf, "kopf_both": both}
    result.add(
        "resident, after two sweeps",
        f"{_mib(own['rss'])} (highest {_mib(own['peak'])})",
        f"{_mib(kopf['rss'])}, kopf keeping {kopf['objects']:,} Tenants",
        f"{own['rss'] / max(kopf['rss'], 1):.2f}",
        f"{TARGET}",
    )
    result.add(
        "the same",
        _mib(own["rss"]),
        f"{_mib(both['rss'])}, kopf keeping Tenants and Secrets, as the operator watches both",
        f"{own['rss'] / max(both['rss'], 1):.2f}",
    )
    return result


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


async def _kopf(population: Population, *, secrets: bool) -> dict[str, Any]:
    arguments = ["-m", "benchmarks.kopf_watch", str(population.count), *(["--secrets"] if secrets else [])]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=CHECKOUT,
        env={**os.environ, "KUBECONFIG": str(population.cluster.kubeconfig)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _LONGEST)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"kopf failed: {errors.decode(errors='replace')[-2000:]}")
    found: dict[str, Any] = json.loads(output)
    return found
