"""The tenants that are measured: their blueprints, and how they are created and waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml
from kubernetes.aio import client, config

from benchmarks.environment import Progress, say
from tenantry_local.paths import CHECKOUT
from tenantry_operator.context import BLUEPRINT_VERSIONS, BLUEPRINTS, INSTANCES, TENANTS
from tenantry_operator.kube import NAMESPACES, SECRETS, ApiError, Conflict, KubeClient, Resource

Object = dict[str, Any]

SPACE = "bench"
PARALLEL = 16
"""Requests at a time: creates a few hundred objects a second, more than anything can provision."""
_STUCK_AFTER = 300.0
_ATTEMPTS = 8
_NAMED = 5


def wide_migrations(tables: int = 20) -> list[Object]:
    """A schema as applications have it: keys, foreign keys, indexes, checks, texts; four migrations."""
    steps = []
    for first in range(1, tables + 1, 5):
        statements = [_table(number) for number in range(first, min(first + 5, tables + 1))]
        steps.append({"name": f"tables-{first}", "sql": "\n".join(statements)})
    return steps


def _table(number: int) -> str:
    refers = (
        f"  parent_id bigint NOT NULL REFERENCES item{number - 1} (id) ON DELETE CASCADE,\n" if number > 1 else ""
    )
    index = f"CREATE INDEX item{number}_parent ON item{number} (parent_id);\n" if number > 1 else ""
    return (
        f"CREATE TABLE item{number} (\n"
        "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
        f"{refers}"
        "  name text NOT NULL CHECK (name <> ''),\n"
        "  price numeric(12, 2) NOT NULL DEFAULT 0 CHECK (price >= 0),\n"
        "  attributes jsonb NOT NULL DEFAULT '{}',\n"
        "  created_at timestamptz NOT NULL DEFAULT now()\n"
        ");\n"
        f"{index}"
    )


def small_migrations() -> list[Object]:
    """One table, so that ten thousand tenants are there within minutes."""
    return [{"name": "notes", "sql": "CREATE TABLE notes (id bigint PRIMARY KEY, done boolean NOT NULL);"}]


def blueprint(name: str, migrations: Sequence[Object], isolation: str) -> list[tuple[Resource, Object]]:
    """A Blueprint and its only version."""
    version = {"blueprint": name, "version": "1.0", "migrations": list(migrations)}
    spec = {"engine": "PostgreSQL", "version": "1.0", "isolation": isolation}
    return [
        (BLUEPRINTS, _object(BLUEPRINTS, name, spec)),
        (BLUEPRINT_VERSIONS, _object(BLUEPRINT_VERSIONS, f"{name}-1.0", version)),
    ]


def version(of: str, number: str, before: str, migrations: Sequence[Object]) -> tuple[Resource, Object]:
    """A further version of a blueprint."""
    spec = {"blueprint": of, "version": number, "from": before, "migrations": list(migrations)}
    return BLUEPRINT_VERSIONS, _object(BLUEPRINT_VERSIONS, f"{of}-{number}", spec)


def example(engine: str) -> list[tuple[Resource, Object]]:
    """The Blueprint of an engine in ``examples/engines``, and its version."""
    text = (CHECKOUT / "examples" / "engines" / "blueprints.yaml").read_text(encoding="utf-8")
    found: list[Object] = [
        {**obj, "metadata": {**obj["metadata"], "namespace": SPACE}} for obj in yaml.safe_load_all(text)
    ]
    described = next(obj for obj in found if obj["spec"].get("engine") == engine)
    its_version = next(obj for obj in found if obj["spec"].get("blueprint") == described["metadata"]["name"])
    return [(BLUEPRINTS, described), (BLUEPRINT_VERSIONS, its_version)]


def tenant(name: str, of: str, isolation: str) -> Object:
    """A Tenant with one database."""
    return _object(TENANTS, name, {"databases": [{"name": of, "blueprint": of, "isolation": isolation}]})


def _object(resource: Resource, name: str, spec: Object) -> Object:
    return {
        "apiVersion": f"{resource.group}/{resource.version}",
        "kind": resource.kind,
        "metadata": {"name": name, "namespace": SPACE},
        "spec": spec,
    }


def is_ready(obj: Object) -> bool:
    """Whether an object is Ready for its present generation."""
    status = obj.get("status") or {}
    return status.get("observedGeneration") == obj["metadata"]["generation"] and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in status.get("conditions") or []
    )


@dataclass(slots=True)
class Provisioned:
    """How a number of Tenants became Ready. Times are in seconds since the first was sent."""

    asked: int
    seconds: float = 0.0
    created: float = 0.0
    """When the API server had taken the last of them."""
    ready: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all became Ready."""
        return len(self.ready) >= self.asked

    @property
    def rate(self) -> float:
        """Tenants a second."""
        return len(self.ready) / self.seconds if self.seconds else 0.0

    @property
    def waits(self) -> list[float]:
        """How long each Tenant took from being sent to being seen Ready."""
        return [at - self.sent[name] for name, at in self.ready.items() if name in self.sent]


class Kube:
    """The API server, as the people who apply Tenants use it."""

    def __init__(self, kube: KubeClient, session: aiohttp.ClientSession, base: str) -> None:
        self.kube = kube
        self._session = session
        self._base = base

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Kube]:
        """Connects as the kubeconfig says."""
        configuration = client.Configuration()
        load: Any = config.load_kube_config  # not typed
        await load(config_file=str(kubeconfig), client_configuration=configuration)
        context = client.rest.RESTClientObject(configuration).ssl_context
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=64), timeout=aiohttp.ClientTimeout(total=60)
        )
        async with session:
            yield cls(KubeClient(session, configuration.host, configuration), session, configuration.host)

    async def create(self, resource: Resource, obj: Object) -> None:
        """Creates an object, patiently; one that exists is fine."""
        path = resource.path(obj["metadata"].get("namespace"))
        for attempt in range(_ATTEMPTS):
            try:
                await self.kube.request("POST", path, obj, query={"fieldManager": "benchmark"})
            except Conflict:
                return
            except ApiError as error:
                if attempt == _ATTEMPTS - 1 or (400 <= error.status < 500 and error.status != 429):
                    raise
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                return

    async def prepare(self, *blueprints: list[tuple[Resource, Object]]) -> None:
        """Makes the namespace and blueprints, and waits until the server is in use."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
        await self.create(NAMESPACES, namespace)
        for resource, obj in (pair for pairs in blueprints for pair in pairs):
            await self.create(resource, obj)
        deadline = time.monotonic() + 60
        path = INSTANCES.path()
        while not any(is_ready(obj) for obj in (await self.kube.request("GET", path))["items"]):
            if time.monotonic() > deadline:
                raise TimeoutError("no DatabaseInstance became Ready within a minute: see the operator's log")
            await asyncio.sleep(0.1)

    async def provision(self, tenants: Sequence[Object], what: str = "Tenants Ready") -> Provisioned:
        """Creates Tenants as fast as they are taken, and waits until all are Ready.

        Gives up when none becomes Ready for five minutes; what was reached is in the result.
        """
        done = Provisioned(len(tenants))
        wanted = {obj["metadata"]["name"] for obj in tenants}
        listed = await self.kube.request("GET", TENANTS.path(SPACE), query={"limit": "1"})
        started = time.monotonic()
        progress = Progress(what, len(tenants))
        todo = iter(tenants)

        async def watch() -> None:
            async for obj in self.watch(TENANTS, listed["metadata"]["resourceVersion"]):
                name = obj["metadata"]["name"]
                if name in wanted and name not in done.ready and is_ready(obj):
                    done.ready[name] = time.monotonic() - started
                    progress.at(len(done.ready))
                    if done.complete:
                        return

        async def create() -> None:
            for obj in todo:
                done.sent[obj["metadata"]["name"]] = time.monotonic() - started
                await self.create(TENANTS, obj)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(create() for _ in range(PARALLEL)))
        done.created = time.monotonic() - started
        while not watching.done():
            await asyncio.wait([watching], timeout=5)
            last = max(done.ready.values(), default=0.0)
            if time.monotonic() - started - max(last, done.created) > _STUCK_AFTER:
                say(f"giving up: {len(done.ready)} of {done.asked} are Ready, and no more become so")
                watching.cancel()
                await self._say_why(sorted(wanted - done.ready.keys())[:_NAMED])
                break
        with suppress(asyncio.CancelledError):
            await watching
        done.seconds = max(done.ready.values(), default=0.0)
        return done

    async def _say_why(self, names: Sequence[str]) -> None:
        for name in names:
            status = (await self.kube.get(TENANTS, SPACE, name)).get("status") or {}
            conditions: list[Object] = status.get("conditions") or []
            ready: Object = next((c for c in conditions if c["type"] == "Ready"), {})
            say(f"  {name}: {ready.get('reason', 'no status')}. {ready.get('message', '')}")

    async def write_only(self, tenants: Sequence[Object]) -> None:
        """Does for new Tenants what an operator has to write, copied from one that is Ready."""
        listed = await self.kube.request("GET", TENANTS.path(SPACE), query={"limit": "50"})
        model = next(obj for obj in listed["items"] if is_ready(obj))
        secret = await self.kube.get(SECRETS, SPACE, model["status"]["databases"][0]["secret"])
        annotations = {**model["metadata"]["annotations"]}
        todo = iter(tenants)

        async def write() -> None:
            for obj in todo:
                name = obj["metadata"]["name"]
                await self.create(TENANTS, obj)
                claim = {"metadata": {"finalizers": ["tenantry.dev/benchmark"], "annotations": annotations}}
                await self.kube.patch(TENANTS, SPACE, name, claim)
                kept = {key: secret["metadata"].get(key) for key in ("labels", "annotations")}
                copy = {**secret, "metadata": {"name": f"{name}-copy", "namespace": SPACE, **kept}}
                await self.create(SECRETS, copy)
                await self.kube.patch(TENANTS, SPACE, name, {"status": model["status"]}, sub="status")

        await asyncio.gather(*(write() for _ in range(PARALLEL)))

    async def watch(self, resource: Resource, version: str) -> AsyncIterator[Object]:
        """Every object of a kind that changes after a resource version."""
        timeout = aiohttp.ClientTimeout(total=None, sock_read=None)
        while True:
            url = f"{self._base}{resource.path(SPACE)}?watch=1&resourceVersion={version}"
            async with self._session.get(url, timeout=timeout) as response:
                buffer = b""
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    for line in lines:
                        event = orjson.loads(line)
                        if event["type"] == "ERROR":
                            raise RuntimeError(f"the watch ended: {event['object'].get('message')}")
                        version = event["object"]["metadata"]["resourceVersion"]
                        yield event["object"]


async def until(done: Callable[[], bool], *, timeout: float) -> None:
    """Waits until something is so, or for ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not done() and time.monotonic() < deadline:
        await asyncio.sleep(0.2)


def named(count: int, start: int = 0, prefix: str = "t") -> Iterator[str]:
    """Names of the same length."""
    return (f"{prefix}{number:06d}" for number in range(start, start + count))


def tenants(names: Iterable[str], of: str, isolation: str) -> list[Object]:
    """Tenants of one blueprint."""
    return [tenant(name, of, isolation) for name in names]
