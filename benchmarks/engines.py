"""Tenants on a shared server of each engine, against the same statements by plain clients; and idle sweeps."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pymysql
import redis

from benchmarks import recorded
from benchmarks.environment import Result, bench_cluster, percentile, say
from benchmarks.measure import Phase, StatementLog, operator_metrics, phase, total
from benchmarks.workload import SPACE, Kube, Provisioned, example, is_ready, named, tenants, until
from tenantry_crds.common import DatabaseEngine, Isolation
from tenantry_local.cluster import Cluster
from tenantry_local.node.launch import log_file
from tenantry_local.paths import CHECKOUT
from tenantry_local.postgres import ADMIN
from tenantry_operator.context import INSTANCES
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Credentials, Desired, Engine, Presence, Stale
from tenantry_operator.engines.chain import Chain, Form, Migration
from tenantry_operator.engines.postgres.own import AT_ONCE
from tenantry_operator.instances.engines import engine_factory
from tenantry_operator.instances.manifests import mongodb, postgres
from tenantry_operator.instances.manifests.design import admin_secret, pod_name
from tenantry_operator.settings import Settings
from tenantry_operator.tenants.naming import names_for

FEW = 20
RAW = 40
"""Tenants of the plain clients: one half before the operator's, one half after."""
SWEEP = 2.0
"""Seconds between two sweeps, so that there are some to be counted."""
SWEEPS = 6
HOME = "tenantry-system"
_WITHIN = ("cmdstat_scan", "cmdstat_memory|usage")
"""What Redis counts, but scripts ask within the server, while they measure the tenants' keys."""
_PARALLEL = 64
_LONGEST = 120.0
_ROUNDS = 6


@dataclass(slots=True)
class Case:
    """An engine, its server, and what was measured."""

    engine: DatabaseEngine
    instance: str
    words: str
    blueprint: str
    chain: Chain
    access: Access
    installation: str
    tenants: list[recorded.Tenant] = field(default_factory=list)
    alone: float = 0.0
    """Seconds of the engine in this process, without Kubernetes."""
    raw: list[float] = field(default_factory=list)
    """Seconds of the plain clients."""
    reached: Provisioned | None = None
    phase: Phase = field(default_factory=Phase)
    idle: dict[int, dict[str, float]] = field(default_factory=dict)
    """By number of tenants, what was counted while nothing changed."""


_SERVERS = (
    (DatabaseEngine.POSTGRESQL, "pool-a", "PostgreSQL"),
    (DatabaseEngine.MYSQL, "mysql-a", "MySQL (MariaDB)"),
    (DatabaseEngine.REDIS, "redis-a", "Redis"),
    (DatabaseEngine.MONGODB, "mongo-a", "MongoDB (FerretDB)"),
)


async def run(count: int) -> Result:
    """All engines, one after the other, on one cluster.

    :param count: Tenants on each.
    """
    result = Result("engines", "Tenants on a shared server of each engine, and the same by plain clients")
    recorded.listen()
    with bench_cluster("engines") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            cases = await _prepare(kube, cluster)
            for case in cases:
                say(f"{case.words}: the engine alone, and plain clients, first half")
                await _take_down(case)
                await _replay(case, 0)
            for some, start in ((FEW, 0), (count, FEW)):
                for case in cases:
                    await _provision(kube, cluster, case, some, start)
                await _idle(cluster, cases, some + start)
            for case in cases:
                say(f"{case.words}: plain clients, second half")
                await _replay(case, 1)
            cluster.stop("operator")
            await _idle(cluster, cases, 0)
    _report(result, cases, count)
    return result


async def _prepare(kube: Kube, cluster: Cluster) -> list[Case]:
    cluster.kubectl("apply", "-f", str(CHECKOUT / "examples" / "engines" / "instances.yaml"))
    await kube.prepare(*(example(str(engine)) for engine, _, _ in _SERVERS))
    cluster.start_operator({"TENANTRY_SWEEP_INTERVAL": f"{SWEEP:g}s"})
    say("waiting for the servers")
    found: dict[str, Any] = {}

    deadline = time.monotonic() + 180
    while not all(is_ready(found.get(name, _NOTHING)) for _, name, _ in _SERVERS):
        if time.monotonic() > deadline:
            raise TimeoutError("not all servers became Ready within three minutes: see the operator's log")
        listed = await kube.kube.request("GET", INSTANCES.path(HOME))
        found = {obj["metadata"]["name"]: obj for obj in listed["items"]}
        await asyncio.sleep(0.2)
    return [_case(cluster, found[name], engine, name, words) for engine, name, words in _SERVERS]


_NOTHING: dict[str, Any] = {"metadata": {"generation": 0}}


def _case(cluster: Cluster, obj: dict[str, Any], engine: DatabaseEngine, name: str, words: str) -> Case:
    described, version = (value for _, value in example(str(engine)))
    blueprint, number = f"{SPACE}/{described['metadata']['name']}", version["spec"]["version"]
    steps = [
        Migration(number, step["name"], step["sql"], form=Form.SQL)
        if "sql" in step
        else Migration(number, step["name"], json.dumps(step["commands"]), form=Form.COMMANDS)
        for step in version["spec"]["migrations"]
    ]
    endpoint = obj["status"]["endpoint"]
    if engine is DatabaseEngine.POSTGRESQL:
        username, password = ADMIN, cluster.postgres.admin_password
    else:
        secret = cluster.kubectl.secret(HOME, admin_secret(name))
        username, password = secret["username"], secret["password"]
    access = Access(engine, endpoint["host"], endpoint["port"], username, password)
    if engine is DatabaseEngine.MONGODB:
        behind = replace(access, engine=DatabaseEngine.POSTGRESQL, port=postgres.PORT, database=mongodb.DATABASE)
        access = replace(access, backend=behind)
    own = described["metadata"]["name"]
    installation = cluster.kubectl.get("namespace", "kube-system")["metadata"]["uid"]
    return Case(engine, name, words, own, Chain.of(blueprint, number, steps), access, installation)


def _desired(case: Case, name: str) -> Desired:
    names = names_for(
        Isolation.DATABASE, case.chain.blueprint, name, case.blueprint, namespace=SPACE, engine=case.engine
    )
    return Desired(
        installation=case.installation,
        tenant=f"{SPACE}/{name}",
        tenant_id=name,
        entry=case.blueprint,
        isolation=Isolation.DATABASE,
        names=names,
        blueprint=case.chain.blueprint,
        presence=Presence.LIVE,
        chain=case.chain,
        login=names.login_a,
    )


async def _take_down(case: Case) -> None:
    """Has the engine, in this process, make tenants; takes down what it sends; and removes them."""
    at_once = asyncio.Semaphore(_PARALLEL)
    engine = engine_factory(Settings(), case.installation)(case.access)

    async def make(name: str, tenant: recorded.Tenant) -> None:
        wanted = _desired(case, name)
        password = Credentials(wanted.names.login_a, secrets.token_urlsafe(32))
        async with at_once:
            with recorded.taken_down(tenant):
                await _bring(engine, wanted, password)

    async def remove(name: str) -> None:
        async with at_once:
            await _bring(engine, replace(_desired(case, name), presence=Presence.ABSENT, chain=None, login=None))

    try:
        await make(f"first{case.blueprint}", recorded.Tenant())  # it makes what tenants share, and stays
        names = list(named(RAW, prefix=f"raw{case.blueprint[0]}"))
        case.tenants = [recorded.Tenant() for _ in names]
        with recorded.recorder():
            started = time.monotonic()
            await asyncio.gather(*map(make, names, case.tenants))
            case.alone = time.monotonic() - started
        await asyncio.gather(*map(remove, names))
    finally:
        await engine.close()


async def _bring(engine: Engine, desired: Desired, credentials: Credentials | None = None) -> None:
    for _ in range(_ROUNDS):
        steps = engine.plan(desired, await engine.observe_one(desired), credentials)
        if not steps:
            return
        try:
            await engine.apply(desired, steps, credentials)
        except Stale:
            continue
        credentials = None
    raise RuntimeError(f"{desired.names.database} does not come to rest")


async def _replay(case: Case, half: int) -> None:
    middle = len(case.tenants) // 2
    chosen = case.tenants[:middle] if half == 0 else case.tenants[middle:]
    started = time.monotonic()
    await recorded.replay(case.access, chosen)
    case.raw.append(time.monotonic() - started)


async def _provision(kube: Kube, cluster: Cluster, case: Case, count: int, start: int) -> None:
    new = tenants(named(count, start, prefix=f"own{case.blueprint[0]}"), case.blueprint, "Database")
    with phase(cluster) as measured:
        reached = await kube.provision(new, f"{case.words}: Tenants Ready")
    if not reached.complete:
        raise RuntimeError(f"{case.words}: only {len(reached.ready)} of {count} Tenants became Ready")
    case.reached, case.phase = reached, measured


@contextmanager
def _counters(cluster: Cluster, cases: Sequence[Case]) -> Iterator[dict[str, Callable[[], int]]]:
    """By instance, how many commands its server was sent so far."""
    with ExitStack() as stack:
        found: dict[str, Callable[[], int]] = {}
        for case in cases:
            access = case.access
            if case.engine is DatabaseEngine.MYSQL:
                found[case.instance] = _mysql_counter(stack, access)
            elif case.engine is DatabaseEngine.REDIS:
                found[case.instance] = _redis_counter(stack, access)
            else:
                log = stack.enter_context(_statements(cluster, case))
                found[case.instance] = lambda log=log: len(log.read())  # type: ignore[misc]
        yield found


def _statements(cluster: Cluster, case: Case) -> StatementLog:
    if case.access.backend is None:
        return StatementLog(cluster)
    password = cluster.kubectl.secret(HOME, admin_secret(case.instance))[postgres.SUPERUSER_KEY]
    where = f"{case.access.host}:{postgres.PORT}/postgres"
    log = log_file(cluster.paths.node, HOME, pod_name(case.instance), "postgresql")
    return StatementLog(cluster, log=log, dsn=f"postgresql://{postgres.SUPERUSER}:{password}@{where}")


def _mysql_counter(stack: ExitStack, access: Access) -> Callable[[], int]:
    connection = stack.enter_context(
        pymysql.connect(host=access.host, port=access.port, user=access.username, password=access.password)
    )
    asked = 0

    def count() -> int:
        nonlocal asked
        asked += 1
        with connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            row = cursor.fetchone()
        return int(row[1] if row else 0) - asked

    return count


def _redis_counter(stack: ExitStack, access: Access) -> Callable[[], int]:
    client = stack.enter_context(
        redis.Redis(host=access.host, port=access.port, username=access.username, password=access.password)
    )
    client.ping()
    asked = 0

    def count() -> int:
        nonlocal asked
        asked += 1
        information: Any = client.info("stats", "commandstats")
        within = sum(int(information.get(name, {"calls": 0})["calls"]) for name in _WITHIN)
        return int(information["total_commands_processed"]) - within - asked

    return count


async def _idle(cluster: Cluster, cases: Sequence[Case], count: int) -> None:
    """Counts what servers are sent while nothing changes, by sweeps as far as an operator runs."""
    if count:
        say(f"{count} Tenants on each: waiting until all was looked at")
        await _settle(cluster, cases, count)
    say(f"counting for {SWEEP * SWEEPS:g} s")
    with _counters(cluster, cases) as counters:
        before = {name: counter() for name, counter in counters.items()}
        swept, started = _swept(cluster, cases), time.monotonic()
        await asyncio.sleep(SWEEP * SWEEPS)
        seconds = time.monotonic() - started
        after, ended = {name: counter() for name, counter in counters.items()}, _swept(cluster, cases)
    for case in cases:
        name = case.instance
        case.idle[count] = {
            "commands": after[name] - before[name],
            "sweeps": ended[name] - swept[name],
            "seconds": round(seconds, 2),
        }


def _swept(cluster: Cluster, cases: Sequence[Case]) -> dict[str, float]:
    metrics = operator_metrics(cluster)
    name = "tenantry_sweep_seconds_count"
    return {c.instance: total(metrics, name, database_instance=f"{HOME}/{c.instance}") for c in cases}


async def _settle(cluster: Cluster, cases: Sequence[Case], count: int) -> None:
    """Waits until the operator has looked once into each of PostgreSQL's databases, some in each sweep."""
    last = cases[0].instance
    wanted = _swept(cluster, cases)[last] + math.ceil((count + RAW + 1) / AT_ONCE) + 3
    await until(lambda: _swept(cluster, cases)[last] >= wanted, timeout=_LONGEST)


def _report(result: Result, cases: Sequence[Case], count: int) -> None:
    for case in cases:
        reached = case.reached
        if reached is None:
            continue
        raw = len(case.tenants) / sum(case.raw)
        half = len(case.tenants) / 2
        halves = " and ".join(f"{half / seconds:.1f}" for seconds in case.raw)
        alone = len(case.tenants) / case.alone
        result.add(
            f"{case.words}: {count} Tenants",
            f"{reached.rate:.1f} a second; {percentile(reached.waits, 0.5):.1f} s half, "
            f"{percentile(reached.waits, 0.99):.1f} s 99 %",
            f"{raw:.1f} a second, {recorded.PARALLEL} connections ({halves} before and after)",
            f"{reached.rate / raw:.2f}",
        )
        changes, looks = (
            sum(values) / len(case.tenants)
            for values in ([len(t.changes) for t in case.tenants], [t.looks for t in case.tenants])
        )
        result.add(
            f"{case.words}: the engine alone, without Kubernetes",
            f"{alone:.1f} a second",
            f"{changes:.0f} messages that change something, {looks:.0f} that look, for each",
            f"{alone / raw:.2f}",
        )
        result.add(f"{case.words}: CPU ms per tenant", case.phase.describe(count))
        each = {number: _each(case, number) for number in (FEW, FEW + count)}
        result.add(
            f"{case.words}: commands of an idle sweep",
            f"{each[FEW + count]:.1f} with {FEW + count} tenants",
            f"{each[FEW]:.1f} with {FEW}",
            f"{each[FEW + count] / each[FEW]:.2f}" if each[FEW] else "",
            "does not grow",
        )
        result.data[str(case.engine)] = {
            "tenants": count,
            "seconds": round(reached.seconds, 2),
            "rate": round(reached.rate, 2),
            "raw_rate": round(raw, 2),
            "raw_seconds": [round(value, 2) for value in case.raw],
            "engine_rate": round(alone, 2),
            "ratio": round(reached.rate / raw, 3),
            "messages_that_change": round(changes, 1),
            "messages_that_look": round(looks, 1),
            "cpu_ms_per_tenant": case.phase.cpu_each(count),
            "idle": {str(number): values for number, values in case.idle.items()},
            "commands_per_sweep": {str(number): round(value, 2) for number, value in each.items()},
        }


def _each(case: Case, count: int) -> float:
    """Commands per sweep, without those that the server is sent when there is no operator: probes."""
    seen, without = case.idle[count], case.idle[0]
    others = without["commands"] / without["seconds"] * seen["seconds"]
    return max(seen["commands"] - others, 0.0) / max(seen["sweeps"], 1.0)
