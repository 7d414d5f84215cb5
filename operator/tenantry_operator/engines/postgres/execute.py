"""Executes the steps of plans: what each of them does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Chain, Desired, Isolation, Mark, Migration, Stale
from tenantry_operator.engines.path import Stretch, first_stretch, path, stretches
from tenantry_operator.engines.postgres import mend, provision, sessions, shared
from tenantry_operator.engines.postgres.catalog import observe_server
from tenantry_operator.engines.postgres.citusmigrate import CitusMigrations
from tenantry_operator.engines.postgres.citussteps import CitusSteps
from tenantry_operator.engines.postgres.connections import Connections
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.migrations import read_ledger
from tenantry_operator.engines.postgres.plan import PostgresStep
from tenantry_operator.engines.postgres.rows import RowSteps
from tenantry_operator.engines.postgres.runner import Look, Runner
from tenantry_operator.engines.postgres.scram import StoredCredentials
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA
from tenantry_operator.engines.postgres.statements import (
    Script,
    render_as_admin,
    render_as_steward,
    render_password,
)
from tenantry_operator.engines.postgres.templates import (
    Settle,
    Templates,
    own_schemas,
    render_take_over,
    template_owner,
)
from tenantry_operator.engines.postgres.untransacted import Untransacted
from tenantry_operator.engines.postgres.vacuum import vacuum
from tenantry_operator.errors import Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import group_of, migrator_of

Handler = Callable[[Desired, PostgresStep, StoredCredentials | None], Awaitable[None]]


class Executor(Runner):
    """Executes the steps of tenants of one server."""

    def __init__(self, connections: Connections, installation: Installation, look: Look, settle: Settle) -> None:
        """:param look: observes one tenant database, afresh.
        :param settle: brings a database to what is desired.
        """
        super().__init__(connections, installation, look)
        self.templates = Templates(self, settle)
        self._untransacted = Untransacted(self)
        rows = RowSteps(self, self._untransacted)
        citus = CitusSteps(self)
        self._citus_migrations = CitusMigrations(self, self._untransacted)
        self._handlers: dict[str, Handler] = {
            "prepare-database": self._prepare_database,
            "create-schema": self._create_schema,
            "create-roles": self._create_roles,
            "create-database": self._create_database,
            "open-database": self._open_database,
            "build-database": self._build_database,
            "create-row-schema": rows.create_schema,
            "register-tenant": rows.register,
            "create-login": self._create_login,
            "set-password": self._set_password,
            "enable-login": self._enable_login,
            "mend-database": self._mend_database,
            "mend-roles": self._mend_roles,
            "mend-grants": self._mend_grants,
            "migrate": self._migrate,
            "refuse-writes": self._refuse_writes,
            "allow-writes": self._allow_writes,
            "vacuum": self._vacuum,
            "retire-login": self._retire_login,
            "refuse-logins": self._refuse_logins,
            "end-sessions": self._end_sessions,
            "drop-schema": self._drop_schema,
            "drop-database": self._drop_database,
            "drop-roles": self._drop_roles,
            "remove-rows": rows.remove,
            "check-citus": citus.check,
            "sync-nodes": citus.sync,
            "distribute": citus.distribute,
            "drop-on-nodes": citus.drop,
        }
        self._row_handlers: dict[str, Handler] = {
            "create-login": rows.create_login,
            "mend-grants": rows.mend_grants,
            "migrate": rows.migrate,
            "refuse-writes": rows.refuse_writes,
            "allow-writes": rows.allow_writes,
        }

    async def execute(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Executes one step."""
        await self.facts()
        handler = self._handlers[step.name]
        if desired.isolation is Isolation.ROW:
            handler = self._row_handlers.get(step.name, handler)
        await handler(desired, step, credentials)

    def steward(self, desired: Desired) -> str:
        """Who administers a tenant's logins."""
        row = desired.isolation is Isolation.ROW
        return self.installation.steward(desired.names.login_a if row else desired.names.owner)

    async def _prepare_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        name = desired.names.database
        async with self.lock(name):
            if self.is_prepared(name):
                return
            database = shared.SharedDatabase(self.installation, name, desired.blueprint)
            async with self.connections.use() as connection:
                catalog = await observe_server(
                    connection, (), roles=[database.connect_group], members=(), databases=[name]
                )
                if database.connect_group not in catalog.roles:
                    await self.send(connection, shared.render_connect_group(database))
                    reached("connect-group-created")
                if name not in catalog.databases:
                    await connection.execute(shared.render_create_database(name, self.installation.keeper))
                    reached("shared-database-created")
                found = catalog.databases.get(name)
                if found is None or not found.open or found.mark is None:
                    await self.send(connection, shared.render_open_shared(database))
                    reached("shared-database-opened")
            async with self.connections.use(name) as connection:
                cursor = await connection.execute("SELECT pg_catalog.to_regnamespace('tenantry') IS NULL")
                row = await cursor.fetchone()
                if row is not None and row[0]:
                    await self.send(connection, shared.render_prepare_shared(self.installation))
            self.set_prepared(name, True)

    async def _create_schema(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        facts = await self.facts()
        pending = first_stretch(desired.chain)

        def render(located: int | None) -> Script:
            return provision.render_create_schema(
                self.installation, desired, facts, step.missing, credentials, located=located
            )

        await self.migrate(desired, desired.chain, pending, render)

    async def _create_roles(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        facts = await self.facts()
        script = provision.render_create_roles(self.installation, desired, facts, step.missing, credentials)
        async with self.connections.use() as connection:
            await self.send(connection, script)

    async def _create_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        names = desired.names
        async with self.connections.use() as connection:
            # Normally the steward has that right already; not after a crash that was mended in between.
            await self.send(connection, render_as_steward(self.steward(desired), names.owner))
            reached("steward-may-give-database")
            source = self.templates.of(desired)
            try:
                await connection.execute(shared.render_create_database(names.database, names.owner, source))
            except psycopg.Error:
                # Whatever it was, the next attempt does without.
                self.templates.forget()
                raise

    async def _open_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        script = provision.render_open_database(self.installation, desired, await self.facts())
        async with self.connections.use() as connection:
            await self.send(connection, script)

    async def _build_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        chain, where = desired.chain, self.where(desired)
        pending: tuple[Migration, ...] = first_stretch(chain)
        schemas: list[str] = []
        async with self.connections.use(desired.names.database, keep=False) as connection:
            template = await template_owner(connection)
            if template is not None and chain is not None:
                schemas = await own_schemas(connection, template)
                ledger = await read_ledger(connection, PUBLIC_SCHEMA)
        if template is not None and chain is not None:
            try:
                pending = first_stretch(chain, len(chain.migrations) - len(path(chain, None, ledger, where)))
            except Stalled:
                # The version was exchanged for another branch since it was copied; there is no data yet.
                await self._drop_database(desired, step, credentials)
                raise Stale(f"{where} was a copy of another version") from None

        def render(located: int | None) -> Script:
            copied = render_take_over(desired, template, schemas) if template is not None else None
            return provision.render_build_database(
                self.installation, desired, pending, copied=copied, located=located
            )

        await self.migrate(desired, chain, pending, render, keep=False)

    async def _create_login(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        if credentials is None:
            raise ValueError("a login cannot be made without credentials")
        names, facts = desired.names, await self.facts()
        script = render_as_steward(self.steward(desired), names.owner)
        script.add(provision.render_login(desired, facts, credentials))
        script.add(provision.render_login_memberships(desired, group_of(names.owner), credentials.login))
        script.add(render_as_admin(names.owner))
        async with self.connections.use() as connection:
            await self.send(connection, script)

    async def _set_password(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        if credentials is None:
            raise ValueError("a password cannot be set without credentials")
        script = render_as_steward(self.steward(desired)).add(render_password(credentials, desired.mark))
        async with self.connections.use() as connection:
            await self.send(connection, script)

    async def _enable_login(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        script = sessions.render_can_login(self.steward(desired), [step.login or ""], allowed=True)
        async with self.connections.use() as connection:
            await self.send(connection, script)

    async def _mend_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        facts = await self.facts()
        inside = desired.names.database if desired.names.schema is not None else None
        async with self.lock(desired.names.database), self.connections.use(inside) as connection:
            catalog = await observe_server(
                connection, (), roles=(), members=(), databases=[desired.names.database]
            )
            database = catalog.databases.get(desired.names.database)
            if database is None:
                raise Stale(f"{self.where(desired)} is gone")
            await self.send(connection, mend.mend_database(self.installation, desired, facts, database))

    async def _mend_roles(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        own = frozenset({*self.installation.roles, self.connections.admin})
        async with self.connections.use() as connection:
            script = await mend.mend_roles(connection, self.installation, desired, own)
            await self.send(connection, script)

    async def _mend_grants(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        await self._grants(desired, None)

    async def _refuse_writes(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        await self._grants(desired, True)

    async def _allow_writes(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        await self._grants(desired, False)

    async def _grants(self, desired: Desired, read_only: bool | None) -> None:
        names = desired.names
        async with self.connections.use(names.database, keep=names.schema is not None) as connection:
            if read_only is None:
                read_only = await mend.read_only_of(connection, group_of(names.owner))
            script = await mend.mend_grants(connection, self.installation, desired, read_only=read_only)
            await self.send(connection, script)

    async def _migrate(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        chain = desired.chain
        if chain is None:
            return
        keep = desired.names.schema is not None
        async with self.connections.use(desired.names.database, keep=keep) as connection:
            pending = await self.pending(connection, desired, chain)
        done = provision.versioned(desired.mark, chain)
        under_way = provision.on_the_way(desired.mark, desired.installed, chain)
        for stretch in [*stretches(pending)] or [Stretch((), transactional=True, last=True)]:
            mark = done if stretch.last else under_way
            if stretch.transactional and stretch.migrations and self._on_nodes(desired):
                await self._citus_migrations.run(desired, chain, stretch.migrations, under_way, mark)
            elif stretch.transactional:
                if self._on_nodes(desired):
                    await self._citus_migrations.is_committed(desired, None)
                await self._migrate_together(desired, chain, stretch.migrations, mark, keep=keep)
            else:
                await self._untransacted.run(desired, stretch.migrations[0], under_way, mark)
            reached("migrations-run")

    def _on_nodes(self, desired: Desired) -> bool:
        return self.installation.citus and desired.isolation is Isolation.SCHEMA

    async def _migrate_together(
        self, desired: Desired, chain: Chain, pending: tuple[Migration, ...], mark: Mark, *, keep: bool
    ) -> None:
        def render(located: int | None) -> Script:
            return provision.render_migrate(self.installation, desired, chain, pending, mark, located=located)

        await self.migrate(desired, chain, pending, render, keep=keep)

    async def _vacuum(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        await vacuum(self.connections, self.installation.steward(desired.names.owner), desired)

    async def _retire_login(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        login, steward = step.login or "", self.steward(desired)
        heir = desired.login or desired.names.owner
        async with self.connections.use() as connection:
            await self.send(connection, sessions.render_can_login(steward, [login], allowed=False))
            reached("login-refused")
            await sessions.end_sessions(connection, [login], self.where(desired))
            reached("login-sessions-ended")
        async with self.connections.use(
            desired.names.database, keep=desired.names.schema is not None
        ) as connection:
            await self.send(connection, sessions.render_retire(steward, login, heir))

    async def _refuse_logins(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        async with self.connections.use() as connection:
            found = await sessions.existing(connection, desired.names.logins)
            script = sessions.render_can_login(self.steward(desired), found, allowed=False)
            await self.send(connection, script)

    async def _end_sessions(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        async with self.connections.use() as connection:
            await sessions.end_sessions(connection, desired.names.logins, self.where(desired))

    async def _roles(self, desired: Desired) -> list[str]:
        names = desired.names
        return await self.own_roles(
            desired, (*names.logins, migrator_of(names.owner), group_of(names.owner), names.owner)
        )

    async def _drop_schema(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        roles = await self._roles(desired)
        async with self.connections.use(desired.names.database) as connection:
            await self.send(connection, provision.render_drop_schema(self.installation, desired, roles))

    async def _drop_database(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        await self._roles(desired)
        names, facts = desired.names, await self.facts()
        await self.connections.forget(names.database)
        script = render_as_steward(self.steward(desired)).format(
            "GRANT {owner} TO {admin} WITH INHERIT TRUE, SET TRUE",
            owner=sql.Identifier(names.owner),
            admin=sql.Identifier(facts.admin),
        )
        drop = sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(name=sql.Identifier(names.database))
        async with self.connections.use() as connection:
            await self.send(connection, script)
            reached("admin-may-drop-database")
            await connection.execute(drop.as_bytes(None))

    async def _drop_roles(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        roles = await self._roles(desired)
        async with self.connections.use() as connection:
            await self.send(connection, sessions.render_drop_roles(self.steward(desired), roles))
