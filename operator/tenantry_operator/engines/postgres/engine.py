"""PostgreSQL as a database engine: observe, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg
import structlog

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Deviation,
    Isolation,
    Mark,
    ServerReport,
    Stale,
    Step,
    Structure,
    UsageRow,
)
from tenantry_operator.engines.postgres import hardening
from tenantry_operator.engines.postgres.catalog import (
    ServerCatalog,
    observe_server,
)
from tenantry_operator.engines.postgres.citus import Sizes, observe_citus
from tenantry_operator.engines.postgres.connections import Connection, Connections, ConnectionSettings
from tenantry_operator.engines.postgres.execute import Executor
from tenantry_operator.engines.postgres.inside import SharedCatalog, observe_shared
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.own import OwnDatabases
from tenantry_operator.engines.postgres.plan import PostgresStep, plan
from tenantry_operator.engines.postgres.scram import StoredCredentials, store
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA
from tenantry_operator.engines.postgres.sizes import (
    MEASURED_AGAIN,
    MEASURED_AT_ONCE,
    measure_databases,
    measure_schemas,
)
from tenantry_operator.engines.postgres.sqlstate import translate
from tenantry_operator.engines.postgres.state import PostgresState
from tenantry_operator.engines.postgres.structures import SharedStructures, compare, read_structure
from tenantry_operator.engines.postgres.usage import count
from tenantry_operator.engines.rehearsal import Rehearsals
from tenantry_operator.engines.rounds import Rounds
from tenantry_operator.errors import Retryable
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import SCRATCH_SUFFIX, connect_group_of, group_of, read_only_group_of

_log = structlog.get_logger(__name__)

_MANY = 50
"""Schemas whose measurement leaves so much in the memory of the server's process that the session ends."""


class PostgresEngine:
    """One PostgreSQL server, administered by a login that need not be a superuser.

    The administrator needs CREATEROLE and CREATEDB; what else it may be given, a report of the server says.
    """

    def __init__(
        self,
        access: Access,
        *,
        installation: str,
        settings: ConnectionSettings | None = None,
    ) -> None:
        self._settings = settings or ConnectionSettings()
        self._installation = Installation(installation, citus=self._settings.citus)
        self._connections = Connections(access, self._settings)
        # Drift and quotas do not wait behind thousands of tenants that are made, or migrations that hang.
        self._observing = Connections(access, replace(self._settings, concurrency=1))
        self._sizes = Rounds[int](MEASURED_AT_ONCE, MEASURED_AGAIN)
        self._schema_sizes: dict[str, Rounds[int]] = {}
        self._node_sizes = Sizes()
        self._own = OwnDatabases(self._observing, installation)
        self._structures = SharedStructures(self._observing)
        self._rehearsals = Rehearsals(installation, DatabaseEngine.POSTGRESQL, self._settle)
        self._executor = Executor(self._connections, self._installation, self.observe_one, self._settle)
        self._catalog: ServerCatalog | None = None

    async def observe(self) -> PostgresState:
        """Takes a snapshot of the whole server."""
        taken_at = time.monotonic()
        where = f"server {self._connections.server}"
        try:
            async with self._observing.use() as connection:
                catalog = await observe_server(connection, self._own_roles())
            names = self._shared_databases(catalog)
            sizes = await self._measure(catalog, names)
            shared = {}
            structures: dict[tuple[str, str], str] = {}
            for name in names:
                found = await self._observe_shared(self._observing, name)
                if found is not None:
                    shared[name] = found
                    sizes[name] = sum(schema.bytes for schema in found.schemas.values())
                    prints = await self._structures.look(name, self._tenants_schemas(found))
                    structures.update({(name, schema): value for schema, value in prints.items()})
            self._structures.forget(names)
            await self._own.look(catalog, taken_at)
        except (psycopg.Error, Stale) as error:
            raise _observation_error(error, where) from None
        self._executor.learn(catalog, shared)
        self._executor.templates.learn(catalog)
        self._catalog = catalog
        report = self._report(catalog, sizes)
        return PostgresState(
            taken_at, report, self._installation, catalog, shared, sizes, self._own.all(), structures
        )

    async def observe_one(self, desired: Desired) -> DatabaseState:
        """Looks at one tenant database, fresh."""
        taken_at = time.monotonic()
        names = desired.names
        roles = {*names.logins}
        if desired.isolation is not Isolation.ROW:
            roles |= {names.owner, group_of(names.owner)}
        shared_roles = {
            names.owner,
            group_of(names.owner),
            read_only_group_of(names.owner),
            connect_group_of(names.database),
            *self._installation.roles[:1],
        }
        shared = {}
        try:
            async with self._connections.use() as connection:
                catalog = await observe_server(
                    connection,
                    self._own_roles(),
                    roles=sorted(roles | shared_roles),
                    members=sorted(roles),
                    databases=[names.database],
                )
                sizes = await measure_databases(connection, [names.database] if names.schema is None else [])
            if names.schema is not None and names.database in self._shared_databases(catalog):
                found = await self._observe_shared(self._connections, names.database, names.schema, names.logins)
                if found is not None:
                    shared[names.database] = found
        except (psycopg.Error, Stale) as error:
            raise _observation_error(error, f"server {self._connections.server}") from None
        self._executor.learn(catalog, shared, names.database)
        report = self._report(catalog, sizes)
        own = self._own.known(names.database)
        state = PostgresState(
            taken_at, report, self._installation, catalog, shared, sizes, {names.database: own} if own else {}
        )
        return state.database(desired)

    def plan(
        self, desired: Desired, state: DatabaseState, credentials: Credentials | None
    ) -> tuple[PostgresStep, ...]:
        """The steps from ``state`` to ``desired``. Pure."""
        return plan(desired, state, credentials)

    async def apply(self, desired: Desired, steps: Sequence[Step], credentials: Credentials | None) -> None:
        """Executes steps in order.

        :raises Stale: when the server is not as the plan assumed.
        """
        stored = await store(credentials) if credentials is not None and steps else None
        database = desired.names.database
        try:
            for step in steps:
                self._own.forget(database)
                await self._execute(desired, step, stored)
                if step.name == "vacuum":
                    # It makes room without moving any counter of the database.
                    self._sizes.again(database)
                reached(step.name)
        finally:
            if steps:
                self._own.forget(database)

    async def _execute(self, desired: Desired, step: Step, credentials: StoredCredentials | None) -> None:
        if not isinstance(step, PostgresStep):
            raise TypeError(f"not a step of this engine: {step!r}")
        try:
            await self._executor.execute(desired, step, credentials)
        except psycopg.Error as error:
            translated = translate(error, self._executor.where(desired))
            if isinstance(translated, Stale):
                self._executor.forget_server()
            raise translated from None

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> Mapping[str, Structure]:
        """Makes a scratch database, brings it along chains one after the other, and drops it."""
        return await self._rehearsals.run(desired, chains, self.structure)

    async def structure(self, desired: Desired) -> Structure | None:
        """How the objects of a tenant database are defined now."""
        names = desired.names
        try:
            async with self._connections.use(names.database) as connection:
                return await read_structure(connection, names.schema)
        except (psycopg.Error, Stale) as error:
            _log.info("a structure was not read", where=self._executor.where(desired), error=str(error))
            return None

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        """What differs. The order of columns does not count."""
        return compare(expected, found)

    async def keep_templates(self, chains: Mapping[str, Chain]) -> None:
        """Keeps the template databases of these chains, and no others; nor scratch copies."""
        if self._catalog is not None:
            try:
                await self._executor.templates.keep(self._catalog, chains)
                await self._clear_scratch(self._catalog)
            except psycopg.Error as error:
                raise _observation_error(error, f"server {self._connections.server}") from None

    async def _clear_scratch(self, catalog: ServerCatalog) -> None:
        """Drops the scratch copies that a crash left."""
        comments = [
            *(role.mark for name, role in catalog.roles.items() if SCRATCH_SUFFIX in name),
            *(database.mark for name, database in catalog.databases.items() if SCRATCH_SUFFIX in name),
        ]
        await self._rehearsals.clear(map(Mark.decode, comments))

    async def _settle(self, desired: Desired) -> None:
        await self.apply(desired, self.plan(desired, await self.observe_one(desired), None), None)

    async def usage(self, desired: Desired, queries: Mapping[str, str]) -> Mapping[str, tuple[UsageRow, ...]]:
        """Runs usage queries read-only, within the tenant's data only."""
        return await count(self._connections, self._installation, desired, queries)

    async def close(self) -> None:
        """Closes all connections."""
        await self._connections.close()
        await self._observing.close()

    def _own_roles(self) -> tuple[str, ...]:
        return (self._connections.admin, *self._installation.roles)

    def _shared_databases(self, catalog: ServerCatalog) -> list[str]:
        """Databases that tenants of this installation share, and that may be connected to."""
        names = []
        for database in catalog.databases.values():
            mark = Mark.decode(database.mark)
            shared = mark is not None and not mark.tenant and not mark.database
            ours = shared and mark is not None and mark.installation == self._installation.id
            if ours and database.open:
                names.append(database.name)
        return names

    def _tenants_schemas(self, catalog: SharedCatalog) -> set[str]:
        """Schemas that each belong to one tenant, and are at a version."""
        marks = {schema.name: Mark.decode(schema.mark) for schema in catalog.schemas.values()}
        return {
            name
            for name, mark in marks.items()
            if mark is not None and mark.installation == self._installation.id and mark.tenant and mark.version
        }

    async def _measure(self, catalog: ServerCatalog, shared: Sequence[str]) -> dict[str, int]:
        """Sizes of the databases but those that are shared, whose schemas are measured each."""
        counters = {name: row.writes for name, row in catalog.databases.items() if name not in shared}
        due = self._sizes.due(counters)
        if due:
            async with self._observing.use() as connection:
                self._sizes.take(counters, await measure_databases(connection, due))
        return self._sizes.all()

    async def _observe_shared(
        self, connections: Connections, name: str, schema: str | None = None, logins: Sequence[str] | None = None
    ) -> SharedCatalog | None:
        """A shared database with the sizes of its schemas; None when it is gone."""
        known = self._schema_sizes.setdefault(name, Rounds(MEASURED_AT_ONCE, MEASURED_AGAIN))
        only = None if schema is None else [schema, PUBLIC_SCHEMA]
        try:
            async with connections.use(name) as connection:
                found = await observe_shared(connection, self._installation.id, schemas=only, logins=logins)
                if self._installation.citus:
                    found = await self._observe_citus(connection, name, found, schema)
            counters = {row.name: row.counter for row in found.schemas.values() if row.mark is not None}
            due = known.due(counters) if schema is None else [schema] if schema in counters else []
            if due:
                # What the server's process learns of the relations on the way, it forgets with the session.
                async with connections.use(name, keep=len(due) < _MANY) as connection:
                    measured = await measure_schemas(connection, due)
                if schema is None:
                    known.take(counters, measured)
            else:
                measured = {}
        except Stale:
            return None
        sizes = {**known.all(), **measured, **self._node_sizes.known(name)}
        schemas = {
            row.name: replace(row, bytes=sizes[row.name]) if row.name in sizes else row
            for row in found.schemas.values()
        }
        return replace(found, schemas=schemas)

    async def _observe_citus(
        self, connection: Connection, name: str, found: SharedCatalog, schema: str | None
    ) -> SharedCatalog:
        """Adds what Citus has of the schemas. What is written on its nodes moves no counter here."""
        if schema is None:
            citus = await observe_citus(connection)
            if citus.installed:
                await self._node_sizes.look(connection, name, citus.schemas)
        else:
            row = found.schemas.get(schema)
            logins = [row.owner, *found.registrations] if row is not None else []
            citus = await observe_citus(connection, [schema], logins)
        return replace(found, citus=citus)

    def _report(self, catalog: ServerCatalog, sizes: Mapping[str, int]) -> ServerReport:
        facts = catalog.facts
        return ServerReport(
            version=facts.version,
            bytes=sum(sizes.values()),
            connections=facts.sessions,
            max_connections=facts.max_connections,
            unhardened=hardening.unhardened(facts, catalog.databases, self._settings.maintenance_database),
            missing=hardening.missing(facts),
        )


def _observation_error(error: psycopg.Error | Stale, where: str) -> Exception:
    translated = error if isinstance(error, Stale) else translate(error, where)
    if isinstance(translated, Stale):
        # What is gone while it is looked at is looked at again.
        return Retryable("ServerChanging", str(translated))
    return translated
