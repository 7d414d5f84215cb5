"""Migrations of a schema that Citus distributes: one transaction of a session that may act as the owner only.

Citus makes a table in a distributed schema a distributed one when the statement is one of the session's own, not
of a function's. So they are not executed by the function that is used elsewhere, nor in the administrator's
session, in which a migration could take the administrator's place.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.lexer import line_of, split
from tenantry_operator.engines.postgres.migrations import PASSING, render_ledger
from tenantry_operator.engines.postgres.runner import Runner
from tenantry_operator.engines.postgres.sqlstate import describe, is_of_server
from tenantry_operator.engines.postgres.statements import Script, render_mark
from tenantry_operator.engines.postgres.untransacted import Untransacted
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.faults import reached


def committed_mark(under_way: Mark, migrations: tuple[Migration, ...]) -> Mark:
    """The mark that a schema gets in the same transaction as these migrations: it tells that they were run."""
    text = "\0".join(f"{m.version}\0{m.name}\0{m.undo}\0{m.text}" for m in migrations)
    return replace(under_way, fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16])


class CitusMigrations:
    """Runs migrations on all nodes."""

    def __init__(self, runner: Runner, untransacted: Untransacted) -> None:
        self._runner = runner
        self._untransacted = untransacted

    async def run(
        self, desired: Desired, chain: Chain, migrations: tuple[Migration, ...], under_way: Mark, mark: Mark
    ) -> None:
        """Runs migrations together, or finds that they were run, and writes them down.

        The ledger is the administrator's, so that it is written afterwards. What a crash leaves in between is
        known by the mark.

        :param under_way: the mark of the data meanwhile.
        :param mark: the mark of the data afterwards.
        :raises Stalled: MigrationFailed.
        :raises Retryable: MigrationBlocked.
        """
        schema = desired.names.schema or ""
        committed = committed_mark(under_way, migrations)
        if not await self.is_committed(desired, committed):
            credentials = await self._untransacted.make_login(desired)
            try:
                async with self._runner.connections.session(desired.names.database, credentials) as session:
                    await self._transaction(desired, chain, migrations, committed, session)
            finally:
                await self._untransacted.drop_login(desired)
        script = render_ledger(schema, chain, migrations).add(self._untransacted.render_mark(desired, mark))
        async with self._runner.connections.use(desired.names.database) as connection:
            await self._runner.send(connection, script)

    async def is_committed(self, desired: Desired, committed: Mark | None) -> bool:
        """Whether migrations were run and are only to be written down.

        :param committed: the mark that they leave; None: there are none to be run.
        :raises Stalled: NoPath, when others were.
        """
        mark = Mark.decode(await self._comment(desired))
        if mark is None or mark.fingerprint is None:
            return False
        if committed is not None and mark.fingerprint == committed.fingerprint:
            return True
        raise Stalled(
            "NoPath",
            f"{self._runner.where(desired)}: the migrations to version {mark.target} were run, but the operator "
            "was interrupted before it wrote that down: go to that version first",
        )

    async def _comment(self, desired: Desired) -> str | None:
        async with self._runner.connections.use(desired.names.database) as connection:
            cursor = await connection.execute(
                "SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') FROM pg_catalog.pg_namespace n\n"
                "WHERE n.nspname = %s",
                (desired.names.schema,),
            )
            row = await cursor.fetchone()
        return row[0] if row is not None else None

    async def _transaction(
        self,
        desired: Desired,
        chain: Chain,
        migrations: tuple[Migration, ...],
        committed: Mark,
        session: Connection,
    ) -> None:
        await session.execute("BEGIN")
        for migration in migrations:
            await session.execute(self._render_begin(desired).body())
            for statement in split(migration.text):
                try:
                    await session.execute(statement.text.encode())
                except psycopg.Error as error:
                    if is_of_server(error):
                        raise
                    raise self._explain(
                        desired, chain, migration, line_of(migration.text, statement.start), error
                    ) from None
                if session.info.transaction_status is not TransactionStatus.INTRANS:
                    raise Stalled(
                        "MigrationFailed",
                        f"{self._runner.where(desired)}: {migration.what} of blueprint {chain.blueprint}, line "
                        f"{line_of(migration.text, statement.start)}, ends the transaction: leave that out",
                    )
        script = self._render_begin(desired).add(render_mark("SCHEMA", desired.names.schema or "", committed))
        await session.execute(script.body())
        reached("migrations-run-on-nodes")
        try:
            await session.execute("COMMIT")
        except psycopg.Error as error:
            if is_of_server(error):
                raise
            # What was deferred to the end.
            raise self._explain(desired, chain, migrations[-1], None, error) from None
        reached("migrations-committed-on-nodes")

    @staticmethod
    def _render_begin(desired: Desired) -> Script:
        """What one migration set is not for the next."""
        script = Script().format(
            "RESET ROLE;\nRESET ALL;\nSET ROLE {owner};\nSET search_path = {schema}",
            owner=sql.Identifier(desired.names.owner),
            schema=sql.Identifier(desired.names.schema or ""),
        )
        if desired.pace is not None:
            script.format(
                "SET lock_timeout = {lock};\nSET statement_timeout = {timeout}",
                lock=sql.Literal(max(1, round(desired.pace.lock_timeout * 1000))),
                timeout=sql.Literal(max(1, round(desired.pace.timeout * 1000))),
            )
        return script

    def _explain(
        self, desired: Desired, chain: Chain, migration: Migration, line: int | None, error: psycopg.Error
    ) -> ReconcileError:
        what = f"{self._runner.where(desired)}: {migration.what} of blueprint {chain.blueprint}"
        if error.sqlstate in PASSING:
            return Retryable("MigrationBlocked", f"{what} could not be run now: {describe(error)}")
        place = f", line {line}" if line is not None else " when it was committed"
        hint = f" Hint: {error.diag.message_hint}" if error.diag.message_hint else ""
        return Stalled("MigrationFailed", f"{what} failed{place}: {describe(error)}.{hint} Nothing was changed")
