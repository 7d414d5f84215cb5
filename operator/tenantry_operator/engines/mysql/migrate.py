"""Running migrations: statement by statement, as an account that is confined to the tenant's database.

Neighbouring statements on data are one transaction. A definition (CREATE, ALTER, DROP, ...) commits what was
before it and itself, and **cannot be rolled back**: when a later statement fails, what came before the last
definition, and that definition, stay done. How far a migration got is known at any time (:mod:`.progress`), and it
goes on from there: after a crash, and when a failed one is tried again. To get rid of one that is half done, go
back to the version before: its rollback is run, which has to cope with what may not be there (``IF EXISTS``).

What is lost with a session is lost when another takes over: temporary tables, and locks. Variables are set anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pymysql
import structlog

from tenantry_operator.engines.base import Chain, Credentials, Desired, Migration, Stale
from tenantry_operator.engines.halfway import take_up
from tenantry_operator.engines.mysql import accounts, books, privileges, progress
from tenantry_operator.engines.mysql.catalog import Catalog, Single
from tenantry_operator.engines.mysql.connections import Connection, Connections, NoAnswer
from tenantry_operator.engines.mysql.errno import BUSY, describe, is_of_server, number_of
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.lexer import Statement, StatementKind, line_of, split
from tenantry_operator.engines.mysql.look import look, mark_on_database
from tenantry_operator.engines.mysql.names import definer_of
from tenantry_operator.engines.mysql.parts import MarkRow
from tenantry_operator.engines.mysql.privileges import sees_all
from tenantry_operator.engines.mysql.progress import Progress
from tenantry_operator.engines.mysql.sessions import end_sessions
from tenantry_operator.engines.mysql.structures import read_structure
from tenantry_operator.engines.path import path
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.credentials import new_password

_log = structlog.get_logger(__name__)
_LONGEST = 3600.0
"""Seconds for one statement, when nobody says how long it may take."""


class Migrator:
    """Brings the databases of one server from version to version."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._recorded: set[str] = set()
        """Checksums of the migrations whose texts are known to be in the books."""

    async def run(self, flavour: Flavour, desired: Desired, where: str) -> None:
        """Brings a database to the end of its chain.

        :raises Stalled: MigrationFailed, MigrationEdited, RollbackMissing, NoPath, NewerVersion.
        :raises Retryable: MigrationBlocked.
        """
        chain = desired.chain
        if chain is None:
            return
        job = _Job(self, self._connections, flavour, desired, chain, where)
        await job.run()

    async def record(self, connection: Connection, migration: Migration) -> None:
        """Keeps the text of a migration, so that it can be undone when nobody else has it any more."""
        if migration.checksum not in self._recorded and not migration.undo:
            await books.write_text(connection, migration)
            self._recorded.add(migration.checksum)


@dataclass(slots=True)
class _Job:
    """One database on its way to one version."""

    migrator: Migrator
    connections: Connections
    flavour: Flavour
    desired: Desired
    chain: Chain
    where: str

    @property
    def database(self) -> str:
        return self.desired.names.database

    async def run(self) -> None:
        async with self.connections.use() as connection:
            found = await look(connection, self.flavour, self.desired, ledger=True)
            row = mark_on_database(found.catalog, self.desired)
            pending, half = await self._pending(connection, found)
        done = replace(row.mark, version=self.chain.version, digest=self.chain.digest, target=None)
        if pending:
            # A text that cannot be run is refused before anything of it is.
            for migration in pending:
                self._statements(migration)
            await self._apply(found.catalog, row, pending, half)
        async with self.connections.use() as connection:
            await books.write_mark(connection, replace(row, mark=done))

    async def _pending(self, connection: Connection, found: Single) -> tuple[tuple[Migration, ...], bool]:
        """What is to be run, and whether the first of it was begun before."""
        ledger, installed = found.ledger, self.desired.installed
        chains = [self.chain, *([installed] if installed is not None else [])]
        try:
            pending = path(self.chain, installed, ledger, self.where)
        except Stalled as error:
            if error.reason != "NewerVersion":
                raise
            # A version that was begun and left again: its chain is nobody's to give any more.
            recorded = await books.recorded_chain(connection, self.database, self.chain.blueprint)
            applied = replace(recorded, migrations=recorded.migrations[: len(ledger)])
            pending = path(self.chain, applied, ledger, self.where)
        if found.unfinished is None:
            return pending, False
        unfinished, checksum = found.unfinished
        recorded = await books.recorded_chain(connection, self.database, self.chain.blueprint)
        pending = take_up(pending, unfinished, [*chains, recorded], ledger, self.where)
        if not pending or not unfinished.is_of(pending[0]):
            return pending, False
        if pending[0].checksum != checksum:
            raise Stalled(
                "MigrationEdited",
                f"{self.where}: {pending[0].what} was edited while it was half done: put its text back, and make "
                "the change a migration of a new version",
            )
        return pending, True

    def _statements(self, migration: Migration) -> Sequence[Statement]:
        statements = split(migration.text)
        for statement in statements:
            if statement.kind is StatementKind.REFUSED:
                line = line_of(migration.text, statement.start)
                word = statement.text.split(maxsplit=1)[0].upper()
                raise Stalled(
                    "MigrationFailed",
                    f"{self.where}: {migration.what} of blueprint {self.chain.blueprint}, line {line}: leave out "
                    f"{word}: the operator begins and ends transactions and chooses the database, and there is no "
                    "DELIMITER: a body ends with the END of its BEGIN",
                )
        return statements

    async def _apply(self, catalog: Catalog, row: MarkRow, pending: Sequence[Migration], half: bool) -> None:
        credentials = Credentials(definer_of(self.desired.names), new_password())
        async with self.connections.use() as connection:
            await self._open(connection, catalog, credentials)
        reached("migrator-opened")
        timeout = self.desired.pace.timeout if self.desired.pace is not None else _LONGEST
        patience = self.desired.pace.lock_timeout if self.desired.pace is not None else None
        seconds = max(1, math.ceil(patience or self.connections.settings.lock_timeout))
        variables: dict[str, int | float] = {
            "lock_wait_timeout": seconds,
            "innodb_lock_wait_timeout": seconds,
            # Nobody looks at what a SELECT of a migration answers.
            "sql_select_limit": 1,
        }
        if self.flavour.mariadb:
            variables["max_statement_time"] = timeout
        try:
            for number, migration in enumerate(pending):
                # Each in a session of its own: what one sets is not for the next.
                taken_up, before = half and number == 0, row
                row = await self._begin(row, migration, taken_up=taken_up, first=number == 0)
                async with self.connections.session(
                    self.database, credentials, variables=variables, within=timeout
                ) as session:
                    await self._one(session, before, migration, taken_up=taken_up)
                await self._end(row, migration, last=number == len(pending) - 1)
                reached("migration-done")
        finally:
            await self._close_quietly()

    async def _begin(self, row: MarkRow, migration: Migration, *, taken_up: bool, first: bool) -> MarkRow:
        """What is noted before a migration begins; the mark of the database from then on."""
        under_way = replace(row.mark, target=self.chain.version)
        async with self.connections.use() as connection:
            if not taken_up:
                await self.migrator.record(connection, migration)
                if first:
                    await progress.begin(connection, self.database)
                else:
                    await progress.again(connection, self.database)
                await books.write_unfinished(connection, row, migration, under_way)
            if first:
                await progress.allow(connection, self.database, definer_of(self.desired.names))
        reached("migration-begun")
        return row if taken_up else replace(row, mark=under_way)

    async def _end(self, row: MarkRow, migration: Migration, *, last: bool) -> None:
        async with self.connections.use() as connection:
            await books.write_applied(connection, row, self.chain, migration)
            reached("migration-written-down")
            if last:
                await progress.end(connection, self.database, definer_of(self.desired.names))

    async def _one(self, session: Connection, row: MarkRow, migration: Migration, *, taken_up: bool) -> None:
        statements = self._statements(migration)
        stands = await progress.read(session, self.database) if taken_up else Progress(0, None)
        if stands.before is not None:
            moved = await self._definition() != stands.before
            stands = Progress(stands.done + moved, None)
            await progress.write(session, self.database, stands)
        done = stands.done
        number = 0
        try:
            for number, statement in enumerate(statements):
                if number < done:
                    if statement.kind is StatementKind.SESSION:
                        await session.run(statement.text)
                    continue
                reached("migration-statement")
                if statement.kind is StatementKind.DEFINITION:
                    done = await self._define(session, statement, number)
                else:
                    if not session.get_transaction_status():
                        await session.run("START TRANSACTION")
                    await session.run(statement.text)
            number = len(statements)
            if number > done or session.get_transaction_status():
                await progress.write(session, self.database, Progress(number, None))
                await _commit(session)
        except NoAnswer:
            await self._end_late(row)
            what = f"{self.where}: {migration.what} of blueprint {self.chain.blueprint}"
            raise Retryable("MigrationBlocked", f"{what}: statement {number + 1} took too long") from None
        except pymysql.MySQLError as error:
            if is_of_server(error):
                raise
            statement = statements[min(number, len(statements) - 1)]
            raise await self._explain(session, row, migration, statement, number, error) from None

    async def _define(self, session: Connection, statement: Statement, number: int) -> int:
        before = await self._definition()
        await progress.write(session, self.database, Progress(number, before))
        await _commit(session)
        reached("definition-begun")
        await session.run(statement.text)
        reached("definition-done")
        await progress.write(session, self.database, Progress(number + 1, None))
        await _commit(session)
        return number + 1

    async def _definition(self) -> str:
        """How the database is defined now, by the administrator: the session's settings are the migration's.

        :raises Retryable: MigrationBlocked, when it cannot be told.
        """
        async with self.connections.use() as connection:
            patience = round(self.connections.settings.lock_timeout)
            found = await read_structure(connection, self.database, self.flavour, patience=patience)
        if found is None:
            raise Retryable(
                "MigrationBlocked",
                f"{self.where}: somebody else is defining something there, so that it cannot be told how it is "
                "defined: trying again",
            )
        return found.fingerprint

    async def _explain(
        self,
        session: Connection,
        row: MarkRow,
        migration: Migration,
        statement: Statement,
        number: int,
        error: pymysql.MySQLError,
    ) -> ReconcileError:
        await session.run("ROLLBACK")
        done = (await progress.read(session, self.database)).done
        # It was answered, so that it is known not to have happened.
        await progress.write(session, self.database, Progress(done, None))
        await session.run("COMMIT")
        if not done:
            async with self.connections.use() as connection:
                await books.write_not_begun(connection, row)
                await progress.end(connection, self.database, definer_of(self.desired.names))
        what = f"{self.where}: {migration.what} of blueprint {self.chain.blueprint}"
        if number_of(error) in BUSY:
            return Retryable("MigrationBlocked", f"{what} could not be run now: {describe(error)}")
        line = line_of(migration.text, statement.start)
        rest = "Nothing of it is done"
        if done:
            rest = (
                f"Statements 1 to {done} are done, and what they define is not rolled back; it goes on from there "
                "when it is tried again"
            )
        return Stalled(
            "MigrationFailed", f"{what} failed, line {line}, statement {number + 1}: {describe(error)}. {rest}"
        )

    async def _end_late(self, row: MarkRow) -> None:
        """Ends a statement that the server itself would let go on, and finds out whether it happened."""
        login = definer_of(self.desired.names)
        async with self.connections.use() as connection:
            await end_sessions(connection, self.flavour, [login], self.where)
            stands = await progress.read(connection, self.database)
        done = stands.done
        if stands.before is not None:
            done += await self._definition() != stands.before
        async with self.connections.use() as connection:
            await progress.write(connection, self.database, Progress(done, None))
            if not done:
                await books.write_not_begun(connection, row)
                await progress.end(connection, self.database, login)

    async def _open(self, connection: Connection, catalog: Catalog, credentials: Credentials) -> None:
        login = credentials.login
        there = accounts.one_of(catalog, login)
        if there is None:
            await accounts.create(connection, catalog, self.desired, credentials, privileges.DEFINER)
            await accounts.set_locked(connection, [login], locked=False)
            return
        if not there.locked or catalog.sessions.get(login) or not sees_all(connection.rights):
            # What an operator that died left running has to end before it is looked how far it got.
            await self._close(connection)
        await accounts.let_in(connection, self.flavour, credentials)

    async def _close(self, connection: Connection) -> None:
        login = definer_of(self.desired.names)
        await accounts.set_locked(connection, [login], locked=True)
        await end_sessions(connection, self.flavour, [login], self.where)

    async def _close_quietly(self) -> None:
        """What went wrong with the migration matters more; the next one closes it, too."""
        try:
            async with self.connections.use() as connection:
                await self._close(connection)
        except (pymysql.MySQLError, ReconcileError, Stale) as error:
            _log.warning("a migrator stays open until the next migration", where=self.where, error=str(error))


async def _commit(session: Connection) -> None:
    """Ends what was begun. Nothing of the session's own, such as autocommit, is relied on: the server says whether
    there is something to be ended."""
    if session.get_transaction_status():
        await session.run("COMMIT")
