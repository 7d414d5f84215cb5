"""Redis and Valkey as a database engine: observe, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Deviation,
    Mark,
    Presence,
    ServerReport,
    Stale,
    Step,
    Structure,
    UsageRow,
)
from tenantry_operator.engines.counted import Counted
from tenantry_operator.engines.redis import usage
from tenantry_operator.engines.redis.catalog import ServerCatalog, observe_database, observe_server
from tenantry_operator.engines.redis.connections import FAILURES, Connections, ConnectionSettings
from tenantry_operator.engines.redis.errors import translate
from tenantry_operator.engines.redis.execute import Executor
from tenantry_operator.engines.redis.hardening import missing, unhardened
from tenantry_operator.engines.redis.keyspace import KeySpace
from tenantry_operator.engines.redis.plan import RedisStep, plan
from tenantry_operator.engines.redis.saving import Saver
from tenantry_operator.engines.redis.state import RedisState, look
from tenantry_operator.engines.rehearsal import Rehearsals
from tenantry_operator.faults import reached

_SETTLED = 5
"""Times that a scratch copy is looked at again when it changed meanwhile."""


class RedisEngine:
    """One Redis or Valkey server, administered by a user with all rights.

    Redis limits nothing per user but commands and keys: connections are counted, and no more.
    """

    def __init__(self, access: Access, *, installation: str, settings: ConnectionSettings | None = None) -> None:
        settings = settings or ConnectionSettings()
        self._installation = installation
        self._connections = Connections(access, settings)
        # Drift and quotas do not wait behind thousands of tenants that are made.
        self._observing = Connections(access, replace(settings, concurrency=1))
        self._keys = KeySpace()
        self._saver = Saver(self._connections)
        self._executor = Executor(self._connections, self._keys, self._saver)
        self._rehearsals = Rehearsals(installation, DatabaseEngine.REDIS, self._settle)
        self._catalog: ServerCatalog | None = None
        self._counted = Counted()
        self._server = f"server {self._connections.server}"

    async def observe(self) -> RedisState:
        """Takes a snapshot of the whole server."""
        taken_at = time.monotonic()
        try:
            async with self._observing.use() as session:
                before = self._executor.facts
                catalog = await observe_server(session, before)
                if catalog.facts is not before:
                    self._keys.forget()
                    # An operator that was killed may have had no time for it.
                    self._saver.changed()
                if self._saver.due:
                    await self._saver.save()
                self._executor.facts = catalog.facts
                await self._keys.measure(session)
                lacking = await missing(session, catalog, saved=self._saver.possible)
        except FAILURES as error:
            raise translate(error, self._server) from None
        self._catalog = catalog
        report = ServerReport(
            version=catalog.facts.version,
            bytes=int(catalog.info.get("used_memory", 0)),
            connections=int(catalog.info.get("connected_clients", 0)),
            max_connections=int(catalog.info.get("maxclients", 0)),
            unhardened=unhardened(catalog.users, self._connections.admin),
            missing=lacking,
        )
        return RedisState(taken_at, report, self._installation, catalog, self._keys)

    async def observe_one(self, desired: Desired) -> DatabaseState:
        """Looks at one tenant database, fresh; its size is that of the last round of measuring."""
        names = desired.names
        sessions = self._catalog.sessions if self._catalog is not None else {}
        try:
            async with self._connections.use() as session:
                catalog = await observe_database(
                    session, self._executor.facts, names.database, names.logins, sessions
                )
        except FAILURES as error:
            raise translate(error, self._executor.where(desired)) from None
        self._executor.facts = catalog.facts
        return look(catalog, desired, self._keys.size(names.database))

    def plan(
        self, desired: Desired, state: DatabaseState, credentials: Credentials | None
    ) -> tuple[RedisStep, ...]:
        """The steps from ``state`` to ``desired``. Pure."""
        return plan(desired, state, credentials)

    async def apply(self, desired: Desired, steps: Sequence[Step], credentials: Credentials | None) -> None:
        """Executes steps in order.

        :raises Stale: when the server is not as the plan assumed.
        """
        for step in steps:
            if not isinstance(step, RedisStep):
                raise TypeError(f"not a step of this engine: {step!r}")
            if desired.presence is not Presence.LIVE:
                self._counted.forget(desired.names.database)
            try:
                await self._executor.execute(desired, step, credentials)
            except FAILURES as error:
                raise translate(error, self._executor.where(desired)) from None
            reached(step.name)

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> Mapping[str, Structure]:
        """Brings a scratch prefix along chains one after the other, and removes it.

        :returns: nothing: keys have no definitions.
        :raises Stalled: for what fails, as it would for a tenant.
        """
        return await self._rehearsals.run(desired, chains, self.structure)

    async def structure(self, desired: Desired) -> Structure | None:
        """None: keys have no definitions."""
        return None

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        """Nothing differs where nothing is defined."""
        return Deviation((), "")

    async def keep_templates(self, chains: Mapping[str, Chain]) -> None:
        """Removes the scratch copies that a crash left. There are no templates."""
        marks = map(Mark.decode, self._catalog.marks.values() if self._catalog is not None else ())
        await self._rehearsals.clear(marks)

    async def usage(self, desired: Desired, queries: Mapping[str, str]) -> Mapping[str, tuple[UsageRow, ...]]:
        """Runs usage queries, which read within the tenant's prefix only."""
        where, database = self._executor.where(desired), desired.names.database
        written = self._catalog.written if self._catalog is not None else None
        known = self._counted.get(database, queries, written)
        if known is not None:
            return known
        try:
            async with self._connections.use() as session:
                facts = await self._executor.known(session)
                rows = await usage.count(session, facts, desired, queries, where)
        except FAILURES as error:
            raise translate(error, where) from None
        self._counted.put(database, queries, written, rows)
        return rows

    async def close(self) -> None:
        """Closes all connections."""
        await self._connections.close()
        await self._observing.close()

    async def _settle(self, desired: Desired) -> None:
        for attempt in range(_SETTLED):
            try:
                await self.apply(desired, self.plan(desired, await self.observe_one(desired), None), None)
            except Stale:
                if attempt == _SETTLED - 1:
                    raise
            else:
                return
