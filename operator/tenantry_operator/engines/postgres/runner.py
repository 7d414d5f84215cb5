"""What all steps need: the server's facts, the installation's roles, and sending scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Chain, DatabaseState, Desired, Mark, Migration, Ownership, Stale
from tenantry_operator.engines.halfway import take_up
from tenantry_operator.engines.path import path
from tenantry_operator.engines.postgres import migrations, sessions
from tenantry_operator.engines.postgres.catalog import Facts, ServerCatalog, observe_server
from tenantry_operator.engines.postgres.connections import Connection, Connections
from tenantry_operator.engines.postgres.inside import SharedCatalog
from tenantry_operator.engines.postgres.installation import Installation, render_roles
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA
from tenantry_operator.engines.postgres.statements import Script
from tenantry_operator.engines.postgres.unfinished import read_unfinished
from tenantry_operator.errors import ReconcileError, Stalled

Look = Callable[[Desired], Awaitable[DatabaseState]]


class Runner:
    """Sends scripts to one server, for one installation."""

    def __init__(self, connections: Connections, installation: Installation, look: Look) -> None:
        """:param look: observes one tenant database, afresh."""
        self._look = look
        self.connections = connections
        self.installation = installation
        self._facts: Facts | None = None
        self._server_lock = asyncio.Lock()
        self._locks: dict[str, asyncio.Lock] = {}
        self._prepared: set[str] = set()

    def where(self, desired: Desired) -> str:
        """A tenant's database in words, for messages."""
        schema = f", schema {desired.names.schema}" if desired.names.schema else ""
        return f"database {desired.names.database}{schema} on {self.connections.server}"

    def lock(self, database: str) -> AbstractAsyncContextManager[object]:
        """Held by who changes what the tenants of a shared database share."""
        return self._locks.setdefault(database, asyncio.Lock())

    def learn(self, catalog: ServerCatalog, shared: Mapping[str, SharedCatalog], only: str | None = None) -> None:
        """Takes in what was observed: forgets what turned out to be gone.

        :param only: the one database that was looked at; None: all.
        """
        if self._facts is not None:
            self._facts = catalog.facts
        seen = {name for name, found in shared.items() if found.prepared}
        self._prepared -= (self._prepared if only is None else {only}) - seen

    def is_prepared(self, database: str) -> bool:
        """Whether this process prepared a shared database, and never saw it gone."""
        return database in self._prepared

    def set_prepared(self, database: str, prepared: bool) -> None:
        """Remembers whether a shared database is prepared."""
        (self._prepared.add if prepared else self._prepared.discard)(database)

    async def facts(self) -> Facts:
        """The facts of the server, after seeing to it that the installation's own roles are there.

        :raises Stalled: NameTaken.
        """
        if self._facts is None:
            async with self._server_lock:
                if self._facts is None:
                    self._facts = await self._prepare_server()
        return self._facts

    def forget_server(self) -> None:
        """Something that should be there is not: look again before the next step."""
        self._facts = None
        self._prepared.clear()

    async def _prepare_server(self) -> Facts:
        roles = self.installation.roles
        async with self.connections.use() as connection:
            catalog = await observe_server(connection, (), roles=roles, members=roles, databases=())
            for name in roles:
                mark = Mark.decode(catalog.roles[name].mark) if name in catalog.roles else None
                if name in catalog.roles and (mark is None or mark.installation != self.installation.id):
                    raise Stalled(
                        "NameTaken",
                        f"server {self.connections.server} has a role {name} that this installation did not "
                        "make; it is left alone. Rename it there, or choose another installation id",
                    )
            missing = frozenset(roles) - catalog.roles.keys()
            # Without any, a script of grants alone would change nothing but invalidate every session's caches.
            if missing:
                await self.send(connection, render_roles(self.installation, missing))
            if catalog.facts.temp_file_limit:
                await self.send(connection, self._render_parameters())
        return catalog.facts

    def _render_parameters(self) -> Script:
        return Script().format(
            "GRANT SET ON PARAMETER temp_file_limit TO {keeper}", keeper=sql.Identifier(self.installation.keeper)
        )

    async def own_roles(self, desired: Desired, names: Sequence[str]) -> list[str]:
        """Those of a tenant's own roles that exist, after making sure that they still are its own.

        :raises Stale: when one of them, or the database, is somebody else's by now.
        """
        state = await self._look(desired)
        if state.ownership not in (Ownership.OURS, Ownership.FREE):
            raise Stale(f"{state.conflict} is not the tenant's any more")
        async with self.connections.use() as connection:
            return await sessions.existing(connection, names)

    async def pending(self, connection: Connection, desired: Desired, chain: Chain) -> tuple[Migration, ...]:
        """What is to be run to bring a tenant's data to the end of a chain, by what its ledger says.

        :raises Stalled: MigrationEdited, NewerVersion, RollbackMissing, NoPath.
        """
        schema, where = desired.names.schema or PUBLIC_SCHEMA, self.where(desired)
        ledger = await migrations.read_ledger(connection, schema)
        found = path(chain, desired.installed, ledger, where)
        chains = [chain] if desired.installed is None else [chain, desired.installed]
        if all(migration.transactional for known in chains for migration in known.migrations):
            return found
        return take_up(found, await read_unfinished(connection, schema), chains, ledger, where)

    async def send(self, connection: Connection, script: Script) -> None:
        """Sends a script as one transaction."""
        if script:
            await connection.execute(script.transaction())

    async def migrate(
        self,
        desired: Desired,
        chain: Chain | None,
        pending: tuple[Migration, ...],
        render: Callable[[int | None], Script],
        *,
        keep: bool = True,
    ) -> None:
        """Sends a script that runs migrations; finds the line when one fails.

        :param render: the script; its argument is the number of the migration to run one statement at a
            time, None for none.
        :raises Stalled: MigrationFailed.
        :raises Retryable: MigrationBlocked.
        """
        progress = migrations.Progress()
        try:
            async with self.connections.use(desired.names.database, keep=keep) as connection:
                connection.add_notice_handler(progress.notice)
                await self.send(connection, render(None))
                connection.remove_notice_handler(progress.notice)
                if pending and keep:
                    # Temporary tables, prepared statements, locks of the session: not for the next tenant.
                    await connection.execute("DISCARD ALL")
        except psycopg.Error as error:
            if chain is None or not pending or not migrations.is_of_migration(error):
                raise
            raise await self.explain(desired, chain, pending, progress, error, render) from None

    async def explain(
        self,
        desired: Desired,
        chain: Chain,
        pending: tuple[Migration, ...],
        progress: migrations.Progress,
        error: psycopg.Error,
        render: Callable[[int | None], Script],
    ) -> ReconcileError:
        """What an error of a migration means, with the line when it can be found."""
        number = progress.migration or 0
        located = progress.statement is None
        if not located and migrations.locate(error, pending[number].text, progress.statement) is None:
            error = await self._locate(desired.names.database, render(number), progress, error)
        return migrations.explain(error, chain, pending, progress, self.where(desired))

    async def _locate(
        self, database: str, script: Script, progress: migrations.Progress, error: psycopg.Error
    ) -> psycopg.Error:
        """Runs a failed script again, statement by statement, to see where it fails. Never commits."""
        try:
            async with self.connections.use(database, keep=False) as connection:
                connection.add_notice_handler(progress.notice)
                await connection.execute(b"BEGIN;\n" + script.body())
        except psycopg.Error as again:
            if again.sqlstate == error.sqlstate:
                return again
        return error
