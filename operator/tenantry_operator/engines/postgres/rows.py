"""The steps of Row isolation: tables that all tenants of a blueprint share."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration
from tenantry_operator.engines.path import Stretch, first_stretch, stretches
from tenantry_operator.engines.postgres import migrations, provision, rowsecurity, sessions
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.installation import render_delegated
from tenantry_operator.engines.postgres.plan import PostgresStep
from tenantry_operator.engines.postgres.rowcatalog import read_relations, read_sequences
from tenantry_operator.engines.postgres.rowremoval import render_removal
from tenantry_operator.engines.postgres.rowsecurity import Sharing
from tenantry_operator.engines.postgres.scram import StoredCredentials
from tenantry_operator.engines.postgres.shared import SharedDatabase
from tenantry_operator.engines.postgres.sqlstate import describe
from tenantry_operator.engines.postgres.statements import (
    Script,
    render_as_admin,
    render_as_steward,
    render_create_role,
    render_mark,
    render_membership,
)
from tenantry_operator.engines.postgres.untransacted import Untransacted
from tenantry_operator.errors import Stalled
from tenantry_operator.tenants.naming import connect_group_of, group_of, read_only_group_of

if TYPE_CHECKING:
    from tenantry_operator.engines.postgres.runner import Runner


class RowSteps:
    """Executes the steps that Row isolation has for itself."""

    def __init__(self, runner: Runner, untransacted: Untransacted) -> None:
        self._runner = runner
        self._untransacted = untransacted

    async def create_schema(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """The shared schema with its roles, and the blueprint's tables in it. One transaction."""
        async with self._runner.lock(desired.names.database):
            if await self._has_schema(desired):
                return
            owner = desired.names.owner
            script = provision.render_forget_ledger(owner)
            script.add(provision.render_forget_members((group_of(owner), read_only_group_of(owner))))
            script.add(self._render_schema(desired, step.missing))
            chain = desired.chain
            pending = first_stretch(chain)
            await self._bring(desired, script, pending, provision.first_mark(self._shared_mark(desired), chain))

    async def migrate(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Brings the shared schema to the chain's version, for all its tenants."""
        chain, runner = desired.chain, self._runner
        if chain is None:
            return
        async with runner.lock(desired.names.database):
            async with runner.connections.use(desired.names.database) as connection:
                if await self._mark(connection, desired) == provision.versioned(self._shared_mark(desired), chain):
                    return  # another tenant's reconcile was here first
                pending = await runner.pending(connection, desired, chain)
            shared = self._shared_mark(desired)
            done = provision.versioned(shared, chain)
            under_way = provision.on_the_way(shared, desired.installed, chain)
            for stretch in [*stretches(pending)] or [Stretch((), transactional=True, last=True)]:
                mark = done if stretch.last else under_way
                if stretch.transactional:
                    await self._bring(desired, self._as_owner(desired), stretch.migrations, mark)
                else:
                    await self._untransacted.run(desired, stretch.migrations[0], under_way, under_way)
                    # What it made is made safe to share before the version counts as reached.
                    await self._bring(desired, self._as_owner(desired), (), mark)

    async def mend_grants(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """Puts policies and grants of the shared schema right."""
        database = desired.names.database
        async with self._runner.lock(database), self._runner.connections.use(database) as connection:
            owner = desired.names.owner
            roles = (owner, group_of(owner), read_only_group_of(owner))
            missing = set(roles) - set(await sessions.existing(connection, roles))
            script = self._render_roles(desired, missing) if missing else Script()
            await connection.execute(b"BEGIN;\n" + script.add(self._as_owner(desired)).body())
            await self._secure(connection, desired)
            end = render_as_admin(desired.names.owner)
            await connection.execute(end.body() + b";\nCOMMIT")

    async def register(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Makes the tenant one of the shared schema's, with its login. One transaction."""
        names, facts = desired.names, await self._runner.facts()
        first = Script().format(
            "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({tenant}, 0))",
            tenant=sql.Literal(desired.tenant_id),
        )
        script = Script()
        if credentials is not None and credentials.login in step.missing:
            work = provision.render_login(desired, facts, credentials)
            work.add(render_membership(self._group(desired), credentials.login))
            script.add(render_delegated(self._runner.installation, names.login_a, work))
        async with self._runner.connections.use(names.database) as connection:
            await connection.execute(b"BEGIN;\n" + first.body())
            await self._check_id(connection, desired)
            script = provision.render_registration(desired).add(script)
            await connection.execute(script.body() + b";\nCOMMIT")

    async def create_login(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """Another login for a tenant."""
        if credentials is None:
            raise ValueError("a login cannot be made without credentials")
        script = render_as_steward(self._steward(desired))
        script.add(provision.render_login(desired, await self._runner.facts(), credentials))
        script.add(render_membership(self._group(desired), credentials.login))
        async with self._runner.connections.use() as connection:
            await self._runner.send(connection, script)

    async def refuse_writes(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """The tenant's logins change from the group that writes to the one that does not."""
        await self._regroup(desired, read_only=True)

    async def allow_writes(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """And back."""
        await self._regroup(desired, read_only=False)

    async def remove(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Deletes a tenant's rows from all tables, and its logins. One transaction.

        :raises Stalled: RemovalFailed, when a trigger of the blueprint stands against it.
        """
        names, runner = desired.names, self._runner
        roles = await runner.own_roles(desired, names.logins)
        async with runner.connections.use(names.database) as connection:
            script = provision.render_acting(desired)
            if await self._has_schema(desired):
                relations = await read_relations(connection, names.owner)
                removal = Migration("", "remove-rows", render_removal(desired, relations))
                script.add(self._as_owner(desired))
                script.add(migrations.render_run(names.owner, names.owner, (removal,)))
                script.add(render_as_admin(names.owner))
            script.add(provision.render_acting_end())
            script.add(provision.render_drop_logins(desired, self._steward(desired), roles))
            try:
                await runner.send(connection, script)
            except psycopg.Error as error:
                if not migrations.is_of_migration(error):
                    raise
                raise Stalled(
                    "RemovalFailed",
                    f"{runner.where(desired)}: the rows of tenant {desired.tenant_id} cannot be deleted: "
                    f"{describe(error)}",
                ) from None

    def _steward(self, desired: Desired) -> str:
        return self._runner.installation.steward(desired.names.login_a)

    def _group(self, desired: Desired) -> str:
        owner = desired.names.owner
        return read_only_group_of(owner) if desired.read_only else group_of(owner)

    def _as_owner(self, desired: Desired) -> Script:
        owner = desired.names.owner
        return render_as_steward(self._runner.installation.steward(owner), owner)

    def _render_roles(self, desired: Desired, missing: Collection[str]) -> Script:
        names, installation = desired.names, self._runner.installation
        mark = self._shared_mark(desired)
        group, read_only = group_of(names.owner), read_only_group_of(names.owner)
        script = render_as_steward(installation.steward(names.owner))
        for role in (names.owner, group, read_only):
            if role in missing:
                script.add(render_create_role(role, mark))
        values = {
            "owner": sql.Identifier(names.owner),
            "group": sql.Identifier(group),
            "read_only": sql.Identifier(read_only),
            "keeper": sql.Identifier(installation.keeper),
            "connect": sql.Identifier(connect_group_of(names.database)),
        }
        script.format(
            # Stewards add each their tenants' logins to the groups: through the keeper.
            "GRANT {group}, {read_only} TO {keeper} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;\n"
            "GRANT {connect} TO {owner}, {group}, {read_only} WITH INHERIT TRUE, SET FALSE",
            **values,
        )
        return script

    def _render_schema(self, desired: Desired, missing: Collection[str]) -> Script:
        names = desired.names
        script = self._render_roles(desired, missing)
        return script.format(
            "GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\n"
            "CREATE SCHEMA {owner} AUTHORIZATION {owner};\n"
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON ROUTINES FROM PUBLIC;\n"
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON ROUTINES TO {group}, {read_only}",
            owner=sql.Identifier(names.owner),
            group=sql.Identifier(group_of(names.owner)),
            read_only=sql.Identifier(read_only_group_of(names.owner)),
        )

    async def _bring(
        self,
        desired: Desired,
        script: Script,
        pending: tuple[Migration, ...],
        mark: Mark,
    ) -> None:
        """Runs migrations and makes what they made safe to share: one transaction."""
        names, chain, runner = desired.names, desired.chain, self._runner
        progress = migrations.Progress()

        def render(located: int | None) -> Script:
            run = migrations.render_run(names.owner, names.owner, pending, pace=desired.pace, located=located)
            return Script().add(script, run)

        try:
            async with runner.connections.use(names.database) as connection:
                connection.add_notice_handler(progress.notice)
                await connection.execute(b"BEGIN;\n" + render(None).body())
                connection.remove_notice_handler(progress.notice)
                await self._secure(connection, desired)
                await connection.execute(self._render_end(desired, chain, pending, mark).body() + b";\nCOMMIT")
                if pending:
                    await connection.execute("DISCARD ALL")
        except psycopg.Error as error:
            if chain is None or not pending or not migrations.is_of_migration(error):
                raise
            raise await runner.explain(desired, chain, pending, progress, error, render) from None

    def _render_end(
        self, desired: Desired, chain: Chain | None, pending: tuple[Migration, ...], mark: Mark
    ) -> Script:
        names = desired.names
        script = Script().add(render_mark("SCHEMA", names.owner, mark), render_mark("ROLE", names.owner, mark))
        script.add(render_as_admin(names.owner))
        if chain is not None:
            script.add(migrations.render_ledger(names.owner, chain, pending))
        return script

    async def _secure(self, connection: Connection, desired: Desired) -> None:
        """Inside a transaction, with the owner's rights.

        :raises Stalled: UnsafeObjects, UnsafeKeys.
        """
        runner, column = self._runner, desired.row_column
        schema = desired.names.owner
        relations = await read_relations(connection, schema)
        objects = rowsecurity.unsafe_objects(relations, column)
        if objects:
            raise Stalled("UnsafeObjects", f"{runner.where(desired)}: {'; '.join(objects)}")
        keys = rowsecurity.unsafe_keys(relations, column)
        if keys and not desired.allow_unsafe_keys:
            raise Stalled(
                "UnsafeKeys",
                f"{runner.where(desired)}: tenants could collide or probe each other by {'; '.join(keys)}. "
                "Or set row.unsafeKeys: Allow in the blueprint",
            )
        sharing = Sharing.of(desired.names.owner, column, runner.connections.admin, desired.allow_unsafe_keys)
        sequences = await read_sequences(connection, sharing.schema)
        script = Script().format(
            "GRANT USAGE ON SCHEMA {schema} TO {admin}, {group}, {read_only}",
            schema=sql.Identifier(sharing.schema),
            admin=sql.Identifier(sharing.admin),
            group=sql.Identifier(sharing.group),
            read_only=sql.Identifier(sharing.read_only_group),
        )
        script.add(rowsecurity.render_secure(sharing, relations))
        script.add(rowsecurity.render_sequence_grants(sharing, sequences))
        try:
            await connection.execute(script.body())
        except psycopg.errors.NotNullViolation as error:
            raise Stalled(
                "UnsafeObjects",
                f"{runner.where(desired)}: table {error.diag.table_name} has rows that belong to no tenant: "
                f"insert none in migrations, or say in {column} whose they are",
            ) from None

    async def _regroup(self, desired: Desired, *, read_only: bool) -> None:
        owner = desired.names.owner
        groups = (group_of(owner), read_only_group_of(owner))
        old, new = groups if read_only else reversed(groups)
        roles = await self._runner.own_roles(desired, desired.names.logins)
        script = render_as_steward(self._steward(desired))
        for login in roles:
            script.add(render_membership(new, login))
            script.format("REVOKE {old} FROM {login}", old=sql.Identifier(old), login=sql.Identifier(login))
        async with self._runner.connections.use() as connection:
            await self._runner.send(connection, script)

    def _shared_mark(self, desired: Desired) -> Mark:
        return SharedDatabase(self._runner.installation, desired.names.database, desired.blueprint).mark

    async def _mark(self, connection: Connection, desired: Desired) -> Mark | None:
        cursor = await connection.execute(
            "SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') FROM pg_catalog.pg_namespace n "
            "WHERE n.nspname = %s",
            (desired.names.owner,),
        )
        row = await cursor.fetchone()
        return Mark.decode(row[0]) if row is not None else None

    async def _has_schema(self, desired: Desired) -> bool:
        async with self._runner.connections.use(desired.names.database) as connection:
            cursor = await connection.execute(
                "SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = %s", (desired.names.owner,)
            )
            return await cursor.fetchone() is not None

    async def _check_id(self, connection: Connection, desired: Desired) -> None:
        """No two tenants of shared tables may have one id: it is all that tells their rows apart.

        :raises Stalled: IdTaken.
        """
        owner = desired.names.owner
        cursor = await connection.execute(
            "SELECT r.rolname::text, pg_catalog.shobj_description(r.oid, 'pg_authid') "
            "FROM tenantry.logins l JOIN pg_catalog.pg_roles r ON r.rolname = l.login "
            "WHERE l.tenant_id = %s AND l.login <> ALL (%s) AND EXISTS ("
            "  SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid"
            "  WHERE m.member = r.oid AND g.rolname = ANY (%s))",
            (desired.tenant_id, list(desired.names.logins), [group_of(owner), read_only_group_of(owner)]),
        )
        row = await cursor.fetchone()
        if row is not None:
            mark = Mark.decode(row[1])
            whose = f"{mark.tenant}, database {mark.database}" if mark is not None else f"login {row[0]}"
            raise Stalled(
                "IdTaken",
                f"{self._runner.where(desired)}: tenant id {desired.tenant_id} is in use there by {whose}: "
                "under Row isolation the id is what tells the rows apart",
            )
