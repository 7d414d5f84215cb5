"""Many Tenants at once until all are Ready, against the same SQL by psql in parallel."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks import sampling
from benchmarks.environment import Result, bench_cluster, percentile, say
from benchmarks.measure import Phase, memory, phase
from benchmarks.raw import Rival, Run, Template, capture, relations, settle
from benchmarks.workload import Kube, Provisioned, blueprint, named, tenants, wide_migrations
from tenantry_local.cluster import Cluster

TABLES = 20
CHOICES = (2, 4, 8)
TARGET = 0.7


async def run(count: int, databases: int, *, profile: Path | None = None) -> Result:
    """Measures Schema isolation with ``count`` Tenants and Database isolation with ``databases``.

    :param profile: where to write samples of the operator's stack, taken while it provisions schemas.
    """
    result = Result("provision", f"Tenants until Ready, {TABLES} tables each, and the same SQL by psql")
    with bench_cluster("provision") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            await _isolation(result, kube, cluster, "Schema", count, profile)
            if databases:
                await _isolation(result, kube, cluster, "Database", databases, None)
    return result


async def _isolation(
    result: Result, kube: Kube, cluster: Cluster, isolation: str, count: int, profile: Path | None
) -> None:
    own, rival, trial = (f"{word}{isolation.lower()}" for word in ("own", "raw", "try"))
    prints = [blueprint(name, wide_migrations(TABLES), isolation) for name in (own, rival, trial)]
    await kube.prepare(*prints)
    say(f"{isolation}: taking down what the operator sends")
    template = await capture(kube, cluster, rival, isolation)
    trial_template = await capture(kube, cluster, trial, isolation)
    await kube.provision(tenants([f"warmup00-{own}"], own, isolation), f"first of {own}")
    cluster.stop("operator")
    processes = _choose(cluster, trial_template, max(16, count // 10))

    half = count // 2
    names = list(named(count, prefix="r"))
    psql = Rival(cluster, template)
    say(f"{isolation}: psql, first half")
    with phase(cluster) as before:
        first = psql.run(names[:half], processes)
    say(f"{isolation}: the operator")
    measured, reached, used = await _operator(kube, cluster, own, isolation, count, profile)
    say(f"{isolation}: psql, second half")
    with phase(cluster) as after:
        second = psql.run(names[half:], processes)
    _report(result, isolation, measured, reached, used, [before, after], [first, second], template)
    if isolation == "Schema":
        made = {name: relations(cluster, name) for name in (own, rival)}
        result.data["Schema"]["tables"] = made
        # psql's two halves and three that were captured; the operator's and one to begin with.
        if reached.complete and made != {own: TABLES * (count + 1), rival: TABLES * (count + 3)}:
            result.notes.append(f"the two did not make the same: {made} tables")
    cluster.start_operator()


def _choose(cluster: Cluster, template: Template, count: int) -> int:
    """The number of psql processes that is fastest here."""
    rival = Rival(cluster, template)
    rates = {}
    for number, processes in enumerate(CHOICES):
        ran = rival.run(list(named(count, start=number * count, prefix="c")), processes)
        rates[processes] = ran.rate
        say(f"psql with {processes} processes: {ran.rate:.1f} tenants a second")
    return max(rates, key=lambda processes: rates[processes])


async def _operator(
    kube: Kube, cluster: Cluster, own: str, isolation: str, count: int, profile: Path | None
) -> tuple[Phase, Provisioned, dict[str, int]]:
    pid = cluster.start_operator(sampling.environment(profile) if profile else None)
    time.sleep(3)  # what it does after a start is another benchmark's
    settle(cluster)
    if profile:
        os.kill(pid, signal.SIGUSR2)  # begins anew
    with phase(cluster) as measured:
        new = tenants(named(count, prefix=isolation[0].lower()), own, isolation)
        reached = await kube.provision(new, f"{isolation}: Tenants Ready")
    used = memory(pid)
    if profile:
        os.kill(pid, signal.SIGUSR2)
        time.sleep(1)
    cluster.stop("operator")
    return measured, reached, used


def _report(
    result: Result,
    isolation: str,
    measured: Phase,
    reached: Provisioned,
    used: dict[str, int],
    phases: list[Phase],
    runs: list[Run],
    template: Template,
) -> None:
    seconds = sum(run.seconds for run in runs)
    count = sum(run.tenants for run in runs)
    raw_rate = count / seconds
    ratio = reached.rate / raw_rate
    together = Phase(seconds, {name: sum(p.cpu.get(name, 0.0) for p in phases) for name in phases[0].cpu})
    halves = " and ".join(f"{run.rate:.1f}" for run in runs)
    result.add(
        f"{isolation}: {reached.asked:,} Tenants",
        f"{reached.rate:.1f} a second" + ("" if reached.complete else f", only {len(reached.ready)} Ready"),
        f"{raw_rate:.1f} a second, {runs[0].processes} psql ({halves} before and after)",
        f"{ratio:.2f}",
        f"{TARGET}" if isolation == "Schema" else "",
    )
    result.add(
        f"{isolation}: from apply to Ready",
        f"{percentile(reached.waits, 0.5):.1f} s half, {percentile(reached.waits, 0.99):.1f} s 99 %, "
        f"API took them in {reached.created:.1f} s",
    )
    result.add(
        f"{isolation}: CPU ms per tenant",
        measured.describe(len(reached.ready)),
        together.describe(count),
    )
    data: dict[str, Any] = {
        "tenants": reached.asked,
        "ready": len(reached.ready),
        "seconds": round(reached.seconds, 2),
        "rate": round(reached.rate, 2),
        "created_seconds": round(reached.created, 2),
        "wait_p50": round(percentile(reached.waits, 0.5), 2),
        "wait_p99": round(percentile(reached.waits, 0.99), 2),
        "cpu_ms_per_tenant": measured.cpu_each(len(reached.ready)),
        "operator_memory": used,
        "psql": {
            "processes": runs[0].processes,
            "rate": round(raw_rate, 2),
            "rates": [round(run.rate, 2) for run in runs],
            "cpu_ms_per_tenant": together.cpu_each(count),
            "characters_per_tenant": template.size,
            "messages_per_tenant": sum(len(segment.messages) for segment in template.segments),
        },
        "ratio": round(ratio, 3),
    }
    result.data[isolation] = data
