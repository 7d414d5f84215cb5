"""Executes steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Chain, Credentials, Desired, Mark, Migration, Stale
from tenantry_operator.engines.postgres import migrations, provision, shared
from tenantry_operator.engines.postgres.catalog import Facts, ServerCatalog, SharedCatalog, observe_server
from tenantry_operator.engines.postgres.connections import Connection, Connections
from tenantry_operator.engines.postgres.installation import Installation, render_roles
from tenantry_operator.engines.postgres.plan import PostgresStep
from tenantry_operator.engines.postgres.statements import Script
from tenantry_operator.errors import Stalled

Handler = Callable[[Desired, PostgresStep, Credentials | None], Awaitable[None]]


class Executor:
    """Executes the steps of tenants of one server."""

    def __init__(self, connections: Connections, installation: Installation) -> None:
        self._connections = connections
        self._installation = installation
        self._facts: Facts | None = None
        self._server_lock = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._prepared: set[str] = set()
        self._handlers: dict[str, Handler] = {
            "prepare-database": self._prepare_database,
            "create-schema": self._create_schema,
        }

    def learn(self, catalog: ServerCatalog, shared_catalogs: Mapping[str, SharedCatalog]) -> None:
        """Takes in what was observed, and forgets what turned out to be gone."""
        self._facts = catalog.facts if self._facts is not None else None
        self._prepared &= {name for name, found in shared_catalogs.items() if found.prepared} | (
            self._prepared - catalog.databases.keys()
        )

    def where(self, desired: Desired) -> str:
        """A tenant's database in words, for messages."""
        schema = f", schema {desired.names.schema}" if desired.names.schema else ""
        return f"database {desired.names.database}{schema} on {self._connections.server}"

    async def execute(self, desired: Desired, step: PostgresStep, credentials: Credentials | None) -> None:
        """Executes one step."""
        await self._server()
        await self._handlers[step.name](desired, step, credentials)

    async def _server(self) -> Facts:
        """Sees to it that the installation's own roles are there."""
        if self._facts is None:
            async with self._server_lock:
                if self._facts is None:
                    self._facts = await self._prepare_server()
        return self._facts

    async def _prepare_server(self) -> Facts:
        roles = self._installation.roles
        async with self._connections.use() as connection:
            catalog = await observe_server(
                connection, (self._connections.admin,), roles=roles, members=roles, databases=()
            )
            for name in roles:
                if name in catalog.roles:
                    mark = Mark.decode(catalog.roles[name].mark)
                    if mark is None or mark.installation != self._installation.id:
                        raise Stalled(
                            "NameTaken",
                            f"server {self._connections.server} has a role {name} that this installation did "
                            "not make; it is left alone. Rename it, or choose another installation id",
                        )
            missing = frozenset(roles) - catalog.roles.keys()
            if missing:
                await self._send(connection, render_roles(self._installation, missing))
        return catalog.facts

    async def _prepare_database(
        self, desired: Desired, step: PostgresStep, credentials: Credentials | None
    ) -> None:
        name = desired.names.database
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name in self._prepared:
                return
            database = shared.SharedDatabase(self._installation, name, desired.blueprint)
            async with self._connections.use() as connection:
                catalog = await observe_server(
                    connection, (), roles=[database.connect_group], members=(), databases=[name]
                )
                if database.connect_group not in catalog.roles:
                    await self._send(connection, shared.render_connect_group(database))
                if name not in catalog.databases:
                    await connection.execute(shared.render_create_database(name, self._installation.keeper))
                found = catalog.databases.get(name)
                if found is None or not found.open or found.mark is None:
                    await self._send(connection, shared.render_open_shared(database))
            async with self._connections.use(name) as connection:
                cursor = await connection.execute("SELECT to_regnamespace('tenantry') IS NULL")
                row = await cursor.fetchone()
                if row is not None and row[0]:
                    await self._send(connection, shared.render_prepare())
            self._prepared.add(name)

    async def _create_schema(self, desired: Desired, step: PostgresStep, credentials: Credentials | None) -> None:
        facts = await self._server()
        chain = desired.chain
        pending: tuple[Migration, ...] = ()
        if chain is not None:
            pending = migrations.remaining(chain, (), self.where(desired))

        def render(located: int | None) -> Script:
            return provision.render_create_schema(
                self._installation, desired, facts, step.missing, credentials, located=located
            )

        await self._migrate(desired.names.database, render, desired, chain, pending)

    async def _migrate(
        self,
        database: str,
        render: Callable[[int | None], Script],
        desired: Desired,
        chain: Chain | None,
        pending: tuple[Migration, ...],
    ) -> None:
        """Sends a script that runs migrations; finds the line when one fails."""
        progress = migrations.Progress()
        try:
            async with self._connections.use(database) as connection:
                connection.add_notice_handler(progress.notice)
                await self._send(connection, render(None))
                connection.remove_notice_handler(progress.notice)
                if pending:
                    # Temporary tables, prepared statements and locks of the session would be the next
                    # tenant's trouble.
                    await connection.execute("DISCARD ALL")
        except psycopg.Error as error:
            if chain is None or not migrations.is_of_migration(error):
                raise
            where = self.where(desired)
            number = progress.migration or 0
            text = pending[number].sql
            if migrations.locate(error, text, progress.statement) is None:
                error = await self._locate(database, render(number), progress, error)
            raise migrations.explain(error, chain, pending, progress, where) from None

    async def _locate(
        self, database: str, script: Script, progress: migrations.Progress, error: psycopg.Error
    ) -> psycopg.Error:
        """Runs a failed script again, statement by statement, to see where it fails. Never commits."""
        try:
            async with self._connections.use(database, keep=False) as connection:
                connection.add_notice_handler(progress.notice)
                await connection.execute(b"BEGIN;\n" + script.body())
        except psycopg.Error as again:
            if again.sqlstate == error.sqlstate:
                return again
        return error

    async def _send(self, connection: Connection, script: Script) -> None:
        """Sends a script as one transaction."""
        if script:
            await connection.execute(script.transaction())


__all__ = ["Executor", "Stale", "sql"]
