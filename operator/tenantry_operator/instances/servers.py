"""The database servers in use: one engine and one snapshot each.

A snapshot is taken by the sweep and answers for all tenants of the server. What a reconcile changed since
is looked at on its own, so that nothing is planned from a snapshot that is older than the change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from tenantry_crds.database_instance import Sharding
from tenantry_operator import telemetry
from tenantry_operator.cache import Key, Store
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import DatabaseState, Desired, Engine, ServerState
from tenantry_operator.errors import ReconcileError, Waiting
from tenantry_operator.instances.hibernation import is_asleep
from tenantry_operator.instances.provider import Instance
from tenantry_operator.instances.providers import Providers

_log = structlog.get_logger(__name__)


EngineFactory = Callable[[Access], Engine]


_ONE_LOOK = 0.007
"""Seconds that a look at a single tenant takes: a snapshot is cheaper when many are to be looked at."""


class Server:
    """One database server."""

    def __init__(self, key: Key, access: Access, engine: Engine) -> None:
        self.key = key
        self.access = access
        self.engine = engine
        self.snapshot: ServerState | None = None
        self.error: ReconcileError | None = None
        self._touched: dict[tuple[str, str], float] = {}
        self._observing: asyncio.Task[ServerState] | None = None
        self._took = 0.0
        """How many seconds the last snapshot took."""

    @property
    def name(self) -> str:
        """``<namespace>/<name>`` of the DatabaseInstance."""
        return "/".join(self.key)

    async def observe(self) -> ServerState:
        """Takes a snapshot; callers at the same time share one.

        :raises ReconcileError: when the server cannot be observed; the last snapshot stays.
        """
        if self._observing is None:
            self._observing = asyncio.create_task(self._observe(), name=f"observe {self.name}")
            self._observing.add_done_callback(self._observed)
        return await asyncio.shield(self._observing)

    def _observed(self, task: asyncio.Task[ServerState]) -> None:
        self._observing = None
        if not task.cancelled():
            task.exception()  # it is raised to whoever awaits; nobody may be left

    async def _observe(self) -> ServerState:
        started = time.monotonic()
        try:
            snapshot = await self.engine.observe()
        except ReconcileError as error:
            self.error = error.about(f"instance {self.name}")
            telemetry.instance_up.labels(self.name).set(0)
            raise
        self.snapshot, self.error = snapshot, None
        self._took = time.monotonic() - started
        self._touched = {key: at for key, at in self._touched.items() if at >= snapshot.taken_at}
        telemetry.instance_up.labels(self.name).set(1)
        telemetry.sweep_seconds.labels(self.name).observe(time.monotonic() - started)
        return snapshot

    async def state(self, desired: Desired) -> DatabaseState:
        """What is known of a tenant database; looked at afresh when it was touched since the snapshot."""
        snapshot = self.snapshot if self.snapshot is not None else await self.observe()
        key = (desired.tenant, desired.entry)
        if self._touched.get(key, -1.0) >= snapshot.taken_at and len(self._touched) * _ONE_LOOK > self._took:
            snapshot = await self.observe()
        if self._touched.get(key, -1.0) >= snapshot.taken_at:
            return await self.engine.observe_one(desired)
        return snapshot.database(desired)

    def touch(self, desired: Desired) -> None:
        """The tenant database is about to change: the snapshot does not speak for it any more."""
        self._touched[desired.tenant, desired.entry] = time.monotonic()


class Servers:
    """All servers, connected to when they are first needed."""

    def __init__(self, instances: Store, providers: Providers, factory: EngineFactory) -> None:
        self._instances = instances
        self._providers = providers
        self._factory = factory
        self._servers: dict[Key, Server] = {}
        self._locks: dict[Key, asyncio.Lock] = {}

    def known(self) -> Iterable[Server]:
        """The servers that were connected to."""
        return list(self._servers.values())

    def peek(self, key: Key) -> Server | None:
        """A server, when it was connected to."""
        return self._servers.get(key)

    async def get(self, key: Key) -> Server:
        """The server of a DatabaseInstance, connected.

        :raises Waiting: when the instance or its Secret is not there, or the server is not up.
        :raises Stalled: when they cannot be used.
        """
        server = self._servers.get(key)
        if server is not None:
            return server
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._servers:
                access = await self._access(key)
                self._servers[key] = Server(key, access, self._factory(access))
            return self._servers[key]

    async def refresh(self, key: Key) -> Server:
        """Like :meth:`get`, but reads the Secret again and reconnects when the access changed."""
        server = self._servers.get(key)
        if server is None:
            return await self.get(key)
        access = await self._access(key)
        if access == server.access:
            return server
        _log.info("connecting anew, the way to the server changed", instance=server.name)
        async with self._locks.setdefault(key, asyncio.Lock()):
            await server.engine.close()
            self._servers[key] = Server(key, access, self._factory(access))
            return self._servers[key]

    async def drop(self, key: Key) -> None:
        """The DatabaseInstance is gone."""
        server = self._servers.pop(key, None)
        if server is not None:
            await server.engine.close()
            for gauge in (telemetry.instance_up, telemetry.sweep_age):
                gauge.remove(server.name)

    async def close(self) -> None:
        """Closes all connections."""
        for key in list(self._servers):
            await self.drop(key)

    async def _access(self, key: Key) -> Access:
        obj = self._instances.get(key)
        if obj is None:
            raise Waiting("InstanceNotFound", f"there is no DatabaseInstance {'/'.join(key)}: create it")
        if is_asleep(obj):
            raise Waiting("InstanceStarting", f"DatabaseInstance {'/'.join(key)} sleeps; it is being woken")
        instance = Instance(obj)
        access = await self._providers.access(instance)
        chosen = instance.spec.postgres
        return replace(access, citus=chosen is not None and chosen.sharding is Sharding.CITUS)
