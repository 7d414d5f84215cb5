"""Many Tenants at once until all are Ready, against the same SQL by psql in parallel."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import sampling
from benchmarks.environment import Result, bench_cluster, percentile, say
from benchmarks.measure import Phase, api_requests, difference, memory, operator_metrics, phase, total
from benchmarks.raw import Rival, Run, Template, Way, capture, relations, settle
from benchmarks.workload import Kube, Provisioned, blueprint, named, tenants, until, wide_migrations
from tenantry_local.cluster import Cluster

TABLES = 20
CHOICES = (2, 4, 8)
RECONNECT = 25
"""A session takes two to three times as long for a tenant after some hundred of them."""
TARGET = 0.7


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of the operator at work."""

    phase: Phase
    reached: Provisioned
    memory: dict[str, int]
    sweeps: int
    """Since its start, the one at the start included."""
    sweep_seconds: float
    requests: dict[str, int]


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
            await _api_alone(result, kube, cluster, min(count, 300))
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
    way = _choose(cluster, trial_template, max(8, count // 20))

    half = count // 2
    names = list(named(count, prefix="r"))
    psql = Rival(cluster, template)
    say(f"{isolation}: psql, first half")
    first = psql.run(names[:half], way)
    say(f"{isolation}: the operator")
    own_run = await _operator(kube, cluster, own, isolation, count, profile)
    say(f"{isolation}: psql, second half")
    second = psql.run(names[half:], way)
    _report(result, isolation, own_run, [first, second], template)
    if isolation == "Schema":
        made = {name: relations(cluster, name) for name in (own, rival)}
        result.data["Schema"]["tables"] = made
        # psql's two halves and three that were captured; the operator's and one to begin with.
        if own_run.reached.complete and made != {own: TABLES * (count + 1), rival: TABLES * (count + 3)}:
            result.notes.append(f"the two did not make the same: {made} tables")
    cluster.start_operator()


def _choose(cluster: Cluster, template: Template, count: int) -> Way:
    """The way to use psql that is fastest here. Each is tried twice, the second time in reverse order."""
    rival = Rival(cluster, template)
    ways = [Way(processes, RECONNECT) for processes in CHOICES]
    spent = dict.fromkeys(ways, 0.0)
    for number, way in enumerate((*ways, *reversed(ways))):
        ran = rival.run(list(named(count, start=number * count, prefix="c")), way)
        spent[way] += ran.seconds
    for way, seconds in spent.items():
        say(f"{way}: {2 * count / seconds:.1f} tenants a second")
    return min(spent, key=lambda way: spent[way])


async def _operator(
    kube: Kube, cluster: Cluster, own: str, isolation: str, count: int, profile: Path | None
) -> Measured:
    pid = cluster.start_operator(sampling.environment(profile) if profile else None)
    # What it does after a start is another benchmark's.
    await until(lambda: total(operator_metrics(cluster), "tenantry_sweep_seconds_count") >= 1, timeout=120)
    await asyncio.sleep(2)
    settle(cluster)
    if profile:
        os.kill(pid, signal.SIGUSR2)  # begins anew
    requests = api_requests(cluster)
    with phase(cluster) as measured:
        new = tenants(named(count, prefix=isolation[0].lower()), own, isolation)
        reached = await kube.provision(new, f"{isolation}: Tenants Ready")
    metrics = operator_metrics(cluster)
    found = Measured(
        measured,
        reached,
        memory(pid),
        int(total(metrics, "tenantry_sweep_seconds_count")),
        total(metrics, "tenantry_sweep_seconds_sum"),
        difference(requests, api_requests(cluster)),
    )
    if profile:
        os.kill(pid, signal.SIGUSR2)
        await asyncio.sleep(1)
    cluster.stop("operator")
    return found


async def _api_alone(result: Result, kube: Kube, cluster: Cluster, count: int) -> None:
    """What the API server takes for a tenant, whoever asks and whatever becomes of it: the writes that there
    must be, as fast as it takes them, with no operator and no database."""
    say("the API server alone")
    cluster.stop("operator")
    with phase(cluster) as measured:
        await kube.write_only(tenants(named(count, prefix="w"), "ownschema", "Schema"))
    result.add(
        "the API server alone, four writes each",
        f"{count / measured.seconds:.1f} a second",
        f"CPU ms: {measured.describe(count)}",
    )
    result.data["api_alone"] = {
        "tenants": count,
        "rate": round(count / measured.seconds, 2),
        "cpu_ms_per_tenant": measured.cpu_each(count),
    }
    # They share the processors: more than this nothing that needs both can reach here.
    schema = result.data["Schema"]
    both = 1 / (1 / schema["psql"]["rate"] + measured.seconds / count)
    result.add(
        f"Schema: {schema['tenants']:,} Tenants, again",
        f"{schema['rate']:.1f} a second",
        f"{both:.1f} a second, psql and those four writes one after the other",
        f"{schema['rate'] / both:.2f}",
    )
    schema["ratio_to_both"] = round(schema["rate"] / both, 3)


def _report(result: Result, isolation: str, own: Measured, runs: list[Run], template: Template) -> None:
    reached, measured = own.reached, own.phase
    seconds = sum(run.seconds for run in runs)
    count = sum(run.tenants for run in runs)
    raw_rate = count / seconds
    ratio = reached.rate / raw_rate
    names = runs[0].phase.cpu
    together = Phase(seconds, {name: sum(run.phase.cpu.get(name, 0.0) for run in runs) for name in names})
    halves = " and ".join(f"{run.rate:.1f}" for run in runs)
    result.add(
        f"{isolation}: {reached.asked:,} Tenants",
        f"{reached.rate:.1f} a second" + ("" if reached.complete else f", only {len(reached.ready)} Ready"),
        f"{raw_rate:.1f} a second, {runs[0].way} ({halves} before and after)",
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
        "operator_memory": own.memory,
        "sweeps": own.sweeps,
        "sweep_seconds": round(own.sweep_seconds, 2),
        "api_requests": own.requests,
        "psql": {
            "processes": runs[0].way.processes,
            "reconnect": runs[0].way.reconnect,
            "rate": round(raw_rate, 2),
            "rates": [round(run.rate, 2) for run in runs],
            "cpu_ms_per_tenant": together.cpu_each(count),
            "characters_per_tenant": template.size,
            "messages_per_tenant": sum(len(segment.messages) for segment in template.segments),
        },
        "ratio": round(ratio, 3),
    }
    result.data[isolation] = data
