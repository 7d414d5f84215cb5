"""MySQL and MariaDB as a database engine: observe, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pymysql
import structlog

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Deviation,
    Presence,
    ServerReport,
    Stale,
    Step,
    Structure,
    UsageRow,
)
from tenantry_operator.engines.counted import Counted
from tenantry_operator.engines.mysql import hardening
from tenantry_operator.engines.mysql.catalog import (
    Catalog,
    Facts,
    observe_server,
    observe_tenant,
    read_changes,
    read_flavour,
)
from tenantry_operator.engines.mysql.connections import Connection, Connections, ConnectionSettings
from tenantry_operator.engines.mysql.errno import describe, is_of_server, translate
from tenantry_operator.engines.mysql.execute import Executor
from tenantry_operator.engines.mysql.flavour import OLDEST, Flavour
from tenantry_operator.engines.mysql.names import Kind
from tenantry_operator.engines.mysql.plan import MySqlStep, plan
from tenantry_operator.engines.mysql.privileges import sees_all
from tenantry_operator.engines.mysql.state import MySqlState
from tenantry_operator.engines.mysql.structures import compare, read_structure
from tenantry_operator.engines.mysql.usage import Usage
from tenantry_operator.engines.rehearsal import Rehearsals
from tenantry_operator.engines.rounds import Rounds
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.faults import reached

_log = structlog.get_logger(__name__)

_STRUCTURES_AT_ONCE = 20
"""Databases whose structure is read with one snapshot."""
_STRUCTURES_AGAIN = 1800.0
"""Seconds after which one is read again although no table was changed: views and routines may have been."""


class MySqlEngine:
    """One MySQL or MariaDB server.

    The administrator needs no SUPER, only::

        GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO ...
        GRANT ALL ON `%`.* TO ... WITH GRANT OPTION

    where MySQL calls the third ``CONNECTION_ADMIN``, and ``SHOW_ROUTINE`` is needed, too.
    """

    def __init__(self, access: Access, *, installation: str, settings: ConnectionSettings | None = None) -> None:
        used = settings or ConnectionSettings()
        self._installation = installation
        self._connections = Connections(access, used)
        # Drift and quotas do not wait behind thousands of tenants that are made, or migrations that hang.
        self._observing = Connections(access, replace(used, concurrency=1))
        self._executor = Executor(self._connections)
        self._usage = Usage(self._connections)
        self._rehearsals = Rehearsals(installation, DatabaseEngine.MYSQL, self._settle)
        self._structures = Rounds[str | None](_STRUCTURES_AT_ONCE, _STRUCTURES_AGAIN)
        self._flavour: Flavour | None = None
        self._catalog: Catalog | None = None
        self._counted = Counted()
        self._written: int | None = None
        """How far the server's log of changes had come when it was observed last."""

    async def observe(self) -> MySqlState:
        """Takes a snapshot of the whole server."""
        taken_at = time.monotonic()
        try:
            async with self._observing.use() as connection:
                # Servers are upgraded while they are used.
                self._flavour = self._checked(await read_flavour(connection))
                facts, catalog = await observe_server(connection, self._flavour)
                for connections in (self._connections, self._observing):
                    connections.granted(facts.rights)
                structures = await self._look_at_structures(connection, self._flavour, catalog)
        except (pymysql.MySQLError, Stale) as error:
            raise self._observation_error(error) from None
        self._catalog, self._written = catalog, facts.written
        return MySqlState(taken_at, self._report(facts, catalog), self._installation, catalog, structures)

    async def _look_at_structures(
        self, connection: Connection, flavour: Flavour, catalog: Catalog
    ) -> Mapping[str, str]:
        """The structures of tenants' databases, as far as they are known: some are read at a time."""
        if not sees_all(connection.rights):
            return {}
        changes = await read_changes(connection, flavour)
        counters = {
            row.name: changes.get(row.name, 0)
            for row in catalog.marks.values()
            if row.kind is Kind.DATABASE and row.name in catalog.databases and row.mark.version is not None
        }
        due = self._structures.due(counters)
        found: dict[str, str | None] = dict.fromkeys(due)
        for name in due:
            try:
                structure = await read_structure(connection, name, flavour)
            except pymysql.MySQLError as error:
                if is_of_server(error):
                    raise
                _log.warning("a structure was not read", database=name, error=describe(error))
                continue
            found[name] = structure.fingerprint if structure is not None else None
        self._structures.take(counters, found)
        for name, known in found.items():
            if known is None:
                # It is looked at again after those that waited longer.
                self._structures.again(name)
        return {name: known for name, known in self._structures.current(counters).items() if known is not None}

    async def observe_one(self, desired: Desired) -> DatabaseState:
        """Looks at one tenant database, fresh."""
        taken_at = time.monotonic()
        flavour = await self._which()
        try:
            async with self._connections.use() as connection:
                found = await observe_tenant(connection, flavour, desired.names, measured=True)
        except (pymysql.MySQLError, Stale) as error:
            raise self._observation_error(error) from None
        report = ServerReport(flavour.words, 0, 0, 0)
        return MySqlState(taken_at, report, self._installation, found.catalog).database(desired)

    def plan(
        self, desired: Desired, state: DatabaseState, credentials: Credentials | None
    ) -> tuple[MySqlStep, ...]:
        """The steps from ``state`` to ``desired``. Pure."""
        return plan(desired, state, credentials)

    async def apply(self, desired: Desired, steps: Sequence[Step], credentials: Credentials | None) -> None:
        """Executes steps in order.

        :raises Stale: when the server is not as the plan assumed.
        """
        for step in steps:
            if not isinstance(step, MySqlStep):
                raise TypeError(f"not a step of this engine: {step!r}")
            flavour = await self._which()
            if desired.presence is not Presence.LIVE:
                self._usage.forget(desired)
                self._counted.forget(desired.names.database)
            try:
                await self._executor.execute(flavour, desired, step, credentials)
            except pymysql.MySQLError as error:
                translated = translate(error, self._executor.where(desired))
                if isinstance(translated, Stale):
                    self._executor.forget_server()
                raise translated from None
            finally:
                self._structures.forget(desired.names.database)
            reached(step.name)

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> Mapping[str, Structure]:
        """Makes a scratch database, brings it along chains one after the other, and drops it."""
        return await self._rehearsals.run(desired, chains, self.structure)

    async def structure(self, desired: Desired) -> Structure | None:
        """How the objects of a tenant database are defined now."""
        database = desired.names.database
        try:
            flavour = await self._which()
            async with self._connections.use() as connection:
                found = await read_structure(connection, database, flavour)
        except (pymysql.MySQLError, Retryable) as error:
            _log.info("a structure was not read", where=self._executor.where(desired), error=str(error))
            return None
        return found if found is not None and found.objects else None

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        """What differs. The order of columns does not count."""
        return compare(expected, found)

    async def keep_templates(self, chains: Mapping[str, Chain]) -> None:
        """Drops scratch copies that a crash left; there are no templates."""
        marks = self._catalog.marks.values() if self._catalog is not None else ()
        await self._rehearsals.clear(row.mark for row in marks)

    async def usage(self, desired: Desired, queries: Mapping[str, str]) -> Mapping[str, tuple[UsageRow, ...]]:
        """Runs usage queries read-only, within the tenant's data only."""
        flavour, database, written = await self._which(), desired.names.database, self._written
        known = self._counted.get(database, queries, written)
        if known is not None:
            return known
        try:
            rows = await self._usage.count(flavour, desired, queries)
        except pymysql.MySQLError as error:
            raise self._observation_error(error) from None
        self._counted.put(database, queries, written, rows)
        return rows

    async def close(self) -> None:
        """Closes all connections."""
        await self._connections.close()
        await self._observing.close()

    async def _settle(self, desired: Desired) -> None:
        await self.apply(desired, self.plan(desired, await self.observe_one(desired), None), None)

    async def _which(self) -> Flavour:
        if self._flavour is None:
            try:
                async with self._connections.use() as connection:
                    self._flavour = self._checked(await read_flavour(connection))
            except (pymysql.MySQLError, Stale) as error:
                raise self._observation_error(error) from None
        return self._flavour

    def _checked(self, flavour: Flavour) -> Flavour:
        if flavour.too_old:
            oldest = ".".join(map(str, OLDEST[flavour.mariadb]))
            raise Stalled(
                "ServerTooOld",
                f"server {self._connections.server} is {flavour.words}: use {oldest} or newer, whose definitions "
                "happen as a whole or not at all",
            )
        return flavour

    def _report(self, facts: Facts, catalog: Catalog) -> ServerReport:
        return ServerReport(
            version=facts.flavour.words,
            bytes=sum(size for name, size in catalog.sizes.items() if (Kind.DATABASE, name) in catalog.marks),
            connections=facts.sessions,
            max_connections=facts.max_connections,
            unhardened=hardening.unhardened(catalog),
            missing=hardening.missing(facts, self._connections.admin),
        )

    def _observation_error(self, error: pymysql.MySQLError | Stale) -> Exception:
        where = f"server {self._connections.server}"
        translated = error if isinstance(error, Stale) else translate(error, where)
        if isinstance(translated, Stale):
            # What is gone while it is looked at is looked at again.
            return Retryable("ServerChanging", f"{where}: {translated}")
        return translated
