"""Migrations that cannot be in a transaction, such as CREATE INDEX CONCURRENTLY.

Their statements run one by one, in a session of a login that is made for that time and has the rights of
the tenant's owner and no others: the administrator's own session is never lent to a blueprint's SQL.
Before each statement it is written down which one is begun, so that after a crash, or a mended failure, the
migration goes on where it was.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Credentials, Desired, Isolation, Mark, Migration
from tenantry_operator.engines.postgres import provision, sessions
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.lexer import Statement, line_of, split
from tenantry_operator.engines.postgres.migrations import PASSING, render_ledger
from tenantry_operator.engines.postgres.scram import store
from tenantry_operator.engines.postgres.sqlstate import describe, is_of_server
from tenantry_operator.engines.postgres.statements import (
    Script,
    render_as_admin,
    render_as_steward,
    render_create_login,
    render_mark,
)
from tenantry_operator.engines.postgres.unfinished import (
    index_created,
    index_dropped,
    is_valid,
    prepare_unfinished,
    read_unfinished,
    render_finished,
    write_unfinished,
)
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import migrator_of

if TYPE_CHECKING:
    from tenantry_operator.engines.postgres.runner import Runner

_AT_ONCE = 2
"""They read whole tables, and their sessions come on top of the others."""
_LONGEST = 3600.0
"""Seconds for one statement, when nobody says how long it may take."""


class Untransacted:
    """Runs migrations outside of transactions."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._few = asyncio.Semaphore(_AT_ONCE)

    async def run(self, desired: Desired, migration: Migration, under_way: Mark, mark: Mark) -> None:
        """Runs a migration to its end, from the beginning or from where it was.

        :param under_way: the mark of the data meanwhile.
        :param mark: the mark of the data afterwards.
        :raises Stalled: MigrationFailed.
        :raises Retryable: MigrationBlocked.
        """
        chain, database = desired.chain, desired.names.database
        if chain is None:
            return
        schema = provision.data_schema(desired)
        async with self._few:
            async with self._runner.lock(f"{database}/unfinished"), self._admin(desired) as connection:
                await prepare_unfinished(connection)
                found = await read_unfinished(connection, schema)
                begun = found.statement if found is not None and found.is_of(migration) else None
                if begun is None:
                    await write_unfinished(connection, schema, migration, 0)
                # Seen from outside from now on: whoever finds it knows that there is something to be ended.
                await self._runner.send(connection, self.render_mark(desired, under_way))
            reached("untransacted-begun")
            credentials = await self.make_login(desired)
            try:
                async with self._runner.connections.session(database, credentials) as session:
                    await self._statements(desired, migration, begun, session)
            finally:
                await self.drop_login(desired)
            end = render_ledger(schema, chain, (migration,)).add(render_finished(schema))
            async with self._admin(desired) as connection:
                await self._runner.send(connection, end.add(self.render_mark(desired, mark)))

    def _admin(self, desired: Desired) -> AbstractAsyncContextManager[Connection]:
        """The administrator's connection for a moment: others need it while a statement runs for long."""
        names = desired.names
        return self._runner.connections.use(names.database, keep=names.schema is not None)

    async def _statements(
        self, desired: Desired, migration: Migration, begun: int | None, session: Connection
    ) -> None:
        schema = provision.data_schema(desired)
        for number, statement in enumerate(split(migration.text)):
            if begun is not None and number < begun:
                continue
            async with self._admin(desired) as connection:
                await write_unfinished(connection, schema, migration, number)
            reached("untransacted-statement")
            await self._prepare(desired, session)
            try:
                if not await self._is_done(session, schema, statement.text, again=number == begun):
                    await session.execute(statement.text.encode())
            except psycopg.Error as error:
                if is_of_server(error):
                    raise
                raise self._explain(desired, migration, statement, error) from None
            reached("untransacted-done")

    async def _prepare(self, desired: Desired, session: Connection) -> None:
        """What one statement sets is not for the next. It waits for other transactions as long as it may."""
        timeout = desired.pace.timeout if desired.pace is not None else _LONGEST
        script = Script().format(
            "RESET ROLE;\nRESET ALL;\nSET ROLE {owner};\nSET search_path = {schema};\n"
            "SET lock_timeout = 0;\nSET statement_timeout = {timeout}",
            owner=sql.Identifier(desired.names.owner),
            schema=sql.Identifier(provision.data_schema(desired)),
            timeout=sql.Literal(round(timeout * 1000)),
        )
        await session.execute(script.body())

    async def _is_done(self, session: Connection, schema: str, statement: str, *, again: bool) -> bool:
        """Whether a statement that may have been begun before came to its end then.

        An index that was left invalid is dropped: nothing uses it, and its name is in the way.
        """
        created = index_created(statement)
        if created is not None:
            valid = await is_valid(session, schema, created)
            if valid is False:
                drop = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, created))
                await session.execute(drop)
            return again and valid is True
        dropped = index_dropped(statement)
        return again and dropped is not None and await is_valid(session, schema, dropped) is None

    def _explain(
        self, desired: Desired, migration: Migration, statement: Statement, error: psycopg.Error
    ) -> ReconcileError:
        blueprint = desired.chain.blueprint if desired.chain is not None else ""
        what = f"{self._runner.where(desired)}: {migration.what} of blueprint {blueprint}"
        if error.sqlstate in PASSING:
            return Retryable("MigrationBlocked", f"{what} could not be run now: {describe(error)}")
        line = line_of(migration.text, statement.start)
        hint = f" Hint: {error.diag.message_hint}" if error.diag.message_hint else ""
        return Stalled(
            "MigrationFailed",
            f"{what} failed, line {line}: {describe(error)}.{hint} What came before it is done, and it goes on "
            "from there when it is tried again",
        )

    def render_mark(self, desired: Desired, mark: Mark) -> Script:
        names = desired.names
        owner = names.owner
        script = render_as_steward(self._runner.installation.steward(owner), owner)
        if names.schema is None:
            script.add(render_mark("DATABASE", names.database, mark))
        else:
            script.add(render_mark("SCHEMA", names.schema, mark))
        return script.add(render_as_admin(owner))

    async def make_login(self, desired: Desired) -> Credentials:
        """A login with the owner's rights, for as long as the migration takes."""
        await self.drop_login(desired)
        owner = desired.names.owner
        credentials = Credentials(migrator_of(owner), secrets.token_urlsafe(32))
        script = Script()
        if desired.isolation is not Isolation.ROW:
            script.format(
                "INSERT INTO tenantry.logins (login, tenant_id) VALUES ({login}, {tenant})\n"
                "ON CONFLICT (login) DO UPDATE SET tenant_id = excluded.tenant_id",
                login=sql.Literal(credentials.login),
                tenant=sql.Literal(desired.tenant_id),
            )
        script.add(render_as_steward(self._runner.installation.steward(owner)))
        script.add(render_create_login(await store(credentials), desired.mark, 1, {}))
        script.format(
            "GRANT {owner} TO {login} WITH INHERIT TRUE, SET TRUE",
            owner=sql.Identifier(owner),
            login=sql.Identifier(credentials.login),
        )
        async with self._admin(desired) as connection:
            await self._runner.send(connection, script)
        reached("migrator-made")
        return credentials

    async def drop_login(self, desired: Desired) -> None:
        """Takes the login away again, with any session that a crash left to itself."""
        owner, where = desired.names.owner, self._runner.where(desired)
        login, steward = migrator_of(owner), self._runner.installation.steward(owner)
        async with self._admin(desired) as connection:
            cursor = await connection.execute(
                "SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') FROM pg_catalog.pg_roles r\n"
                "WHERE r.rolname = %s",
                (login,),
            )
            row = await cursor.fetchone()
            if row is None:
                return
            mark = Mark.decode(row[0])
            if mark is None or mark.installation != desired.installation:
                raise Stalled("NameTaken", f"{where}: role {login} was not made by Tenantry: rename it")
            await self._runner.send(connection, sessions.render_can_login(steward, [login], allowed=False))
            await sessions.end_sessions(connection, [login], where)
            forget = Script().format("DELETE FROM tenantry.logins WHERE login = {login}", login=sql.Literal(login))
            await self._runner.send(connection, forget.add(sessions.render_retire(steward, login, owner)))
