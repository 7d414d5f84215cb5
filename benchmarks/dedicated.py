"""A tenant with a server of its own, from apply to Ready, against initdb, start and psql by hand."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import by_hand
from benchmarks.environment import Result, bench_cluster, say
from benchmarks.measure import StatementLog
from benchmarks.workload import SPACE, Kube, example, is_ready, tenant, until
from tenantry_local.cluster import Cluster
from tenantry_local.node.launch import log_file
from tenantry_operator.context import INSTANCES, TENANTS
from tenantry_operator.instances.manifests import postgres
from tenantry_operator.instances.manifests.design import admin_secret, pod_name
from tenantry_operator.kube import PODS, STATEFUL_SETS, NotFound, Resource

Object = dict[str, Any]

ROUNDS = 5
TARGET = 1.5
BLUEPRINT = "orders"
SAMPLE = "sample"
"""A server on which the operator's statements are taken down."""
_LONGEST = 180.0
_STEPS = (
    "DatabaseInstance declared",
    "StatefulSet made",
    "pod made",
    "container started",
    "server answers",
    "pod Ready",
    "DatabaseInstance Ready",
    "Tenant Ready",
)
_ANSWERS = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) \S+ .*database system is ready to accept connections"
)


async def run(rounds: int = ROUNDS) -> Result:
    """One after the other, by turns: the operator, and by hand."""
    result = Result("dedicated", "A tenant with a PostgreSQL server of its own, from apply to Ready")
    with bench_cluster("dedicated") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            await kube.prepare(example("PostgreSQL"))
            sql = await _capture(kube, cluster)
            ours: list[dict[str, float]] = []
            theirs: list[by_hand.Made] = []
            for number in range(rounds):
                say(f"round {number + 1} of {rounds}")
                for own in (number % 2 == 0, number % 2 == 1):
                    if own:
                        ours.append(await _dedicated(kube, cluster, f"own{number}"))
                    else:
                        theirs.append(await by_hand.make(cluster, sql, postgres.ADMIN))
    _report(result, ours, theirs, sql)
    return result


async def _capture(kube: Kube, cluster: Cluster) -> str:
    """What the operator sends to a new server for its first tenant, for psql."""
    say("taking down what the operator sends")
    spec = {"engine": "PostgreSQL", "region": "bench", "deletionPolicy": "Delete", "statefulSet": {}}
    await kube.create(INSTANCES, _object(INSTANCES, SAMPLE, spec))
    await _until_ready(kube, INSTANCES, SAMPLE)
    instance = await kube.kube.get(INSTANCES, SPACE, SAMPLE)
    password = cluster.kubectl.secret(SPACE, admin_secret(SAMPLE))[postgres.SUPERUSER_KEY]
    endpoint = instance["status"]["endpoint"]
    dsn = f"postgresql://{postgres.SUPERUSER}:{password}@{endpoint['host']}:{endpoint['port']}/postgres"
    log = log_file(cluster.paths.node, SPACE, pod_name(SAMPLE), "server")
    wanted = tenant("captured", BLUEPRINT, "Database")
    wanted["spec"]["databases"][0]["instance"] = SAMPLE
    wanted["spec"]["deletionPolicy"] = "Delete"
    with StatementLog(cluster, log=log, dsn=dsn) as statements:
        await kube.provision([wanted], "the first tenant of a server")
        sent = statements.read()
    await _gone(kube, TENANTS, "captured")
    await _gone(kube, INSTANCES, SAMPLE)
    return by_hand.script(sent)


async def _dedicated(kube: Kube, cluster: Cluster, name: str) -> dict[str, float]:
    """Seconds from apply to each step."""
    instance = f"{name}-{BLUEPRINT}"
    seen: dict[str, float] = {}
    began = time.monotonic()

    def mark(step: str) -> None:
        seen.setdefault(step, time.monotonic() - began)

    def of_instance(obj: Object) -> None:
        mark("DatabaseInstance declared")
        if is_ready(obj):
            mark("DatabaseInstance Ready")

    def of_pod(obj: Object) -> None:
        mark("pod made")
        status = obj.get("status") or {}
        if any("running" in one["state"] for one in status.get("containerStatuses") or []):
            mark("container started")
        if any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or []):
            mark("pod Ready")

    def of_tenant(obj: Object) -> None:
        if is_ready(obj):
            mark("Tenant Ready")

    async def follow(resource: Resource, named: str, version: str, told: Any) -> None:
        async for obj in kube.watch(resource, version):
            if obj["metadata"]["name"] == named:
                told(obj)

    watched = (
        (INSTANCES, instance, of_instance),
        (STATEFUL_SETS, instance, lambda _: mark("StatefulSet made")),
        (PODS, pod_name(instance), of_pod),
        (TENANTS, name, of_tenant),
    )
    listed = await kube.kube.request("GET", TENANTS.path(SPACE), query={"limit": "1"})
    version = listed["metadata"]["resourceVersion"]
    tasks = [asyncio.create_task(follow(resource, of, version, told)) for resource, of, told in watched]
    wanted = tenant(name, BLUEPRINT, "Instance")
    wanted["spec"]["deletionPolicy"] = "Delete"
    began, wall = time.monotonic(), datetime.now(UTC)
    try:
        await kube.create(TENANTS, wanted)
        await until(lambda: "Tenant Ready" in seen or any(task.done() for task in tasks), timeout=_LONGEST)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if "Tenant Ready" not in seen:
        raise TimeoutError(f"Tenant {name} did not become Ready within {_LONGEST:g} s: see the operator's log")
    text = log_file(cluster.paths.node, SPACE, pod_name(instance), "server").read_text(encoding="utf-8")
    answers = _ANSWERS.findall(text)
    if not answers:
        raise RuntimeError(f"the log of {pod_name(instance)} does not say when its server was up: {text[-500:]}")
    at = datetime.fromisoformat(answers[-1]).replace(tzinfo=UTC)
    seen["server answers"] = (at - wall).total_seconds()
    await _gone(kube, TENANTS, name)
    return seen


def _object(resource: Resource, name: str, spec: Object) -> Object:
    return {
        "apiVersion": f"{resource.group}/{resource.version}",
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": SPACE},
        "spec": spec,
    }


async def _until_ready(kube: Kube, resource: Resource, name: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while not is_ready(await kube.kube.get(resource, SPACE, name)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{resource.kind} {name} did not become Ready: see the operator's log")
        await asyncio.sleep(0.2)


async def _gone(kube: Kube, resource: Resource, name: str) -> None:
    """Deletes an object and waits until it is gone, with what belongs to it."""
    await kube.kube.delete(resource, SPACE, name)
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        try:
            await kube.kube.get(resource, SPACE, name)
        except NotFound:
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{resource.kind} {name} is not gone after {_LONGEST:g} s: see the operator's log")


def _report(result: Result, ours: list[dict[str, float]], theirs: list[by_hand.Made], sql: str) -> None:
    totals, raw = [seen["Tenant Ready"] for seen in ours], [made.total for made in theirs]
    own, hand = statistics.median(totals), statistics.median(raw)
    result.add(
        "from apply to Ready",
        f"{own:.2f} s ({min(totals):.2f} to {max(totals):.2f})",
        f"{hand:.2f} s by hand ({min(raw):.2f} to {max(raw):.2f})",
        f"{own / hand:.2f}",
        f"at most {TARGET}",
    )
    parts = {
        name: statistics.median(getattr(made, name) for made in theirs)
        for name in ("initdb", "start", "administrator", "tenant")
    }
    result.add("by hand", "", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items()))
    before = 0.0
    steps = {
        step: statistics.median(values) for step in _STEPS if (values := [s[step] for s in ours if step in s])
    }
    for step, at in steps.items():
        result.add(f"until {step}", f"{at:.2f} s", f"{at - before:+.2f} s")
        before = at
    result.data = {
        "rounds": len(ours),
        "seconds": [round(value, 3) for value in totals],
        "by_hand": [round(value, 3) for value in raw],
        "by_hand_parts": {name: round(value, 3) for name, value in parts.items()},
        "steps": [{step: round(at, 3) for step, at in seen.items()} for seen in ours],
        "characters_of_sql": len(sql),
        "ratio": round(own / hand, 3),
    }
