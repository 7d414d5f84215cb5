"""Executes the steps of plans: what each of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tenantry_operator.engines.base import Credentials, Desired, Presence, Stale
from tenantry_operator.engines.mysql import accounts, books, privileges, progress
from tenantry_operator.engines.mysql.catalog import Catalog
from tenantry_operator.engines.mysql.connections import Connection, Connections
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.hardening import open_to_everybody
from tenantry_operator.engines.mysql.look import look, mark_on_database
from tenantry_operator.engines.mysql.migrate import Migrator
from tenantry_operator.engines.mysql.names import Kind, definer_of, own_accounts, reader_of
from tenantry_operator.engines.mysql.parts import MarkRow
from tenantry_operator.engines.mysql.plan import MySqlStep
from tenantry_operator.engines.mysql.sessions import end_sessions
from tenantry_operator.engines.mysql.sql import account, literal, name
from tenantry_operator.errors import Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.credentials import new_password


@dataclass(frozen=True, slots=True)
class _Work:
    """What a step is done with."""

    connection: Connection
    flavour: Flavour
    desired: Desired
    login: str
    """The login that the step is about."""
    credentials: Credentials | None


Handler = Callable[[_Work], Awaitable[None]]

_WORTH = 4 * 1024 * 1024
"""Bytes of a table that are free before it is rebuilt, and a fifth of it at least."""


class Executor:
    """Executes the steps of tenants of one server."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._migrator = Migrator(connections)
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._handlers: dict[str, Handler] = {
            "create-database": self._create_database,
            "create-login": self._create_login,
            "set-password": self._set_password,
            "enable-login": self._enable_login,
            "mend-accounts": self._mend_accounts,
            "refuse-writes": self._refuse_writes,
            "allow-writes": self._allow_writes,
            "vacuum": self._vacuum,
            "retire-login": self._retire_login,
            "refuse-logins": self._refuse_logins,
            "end-sessions": self._end_sessions,
            "drop-database": self._drop_database,
            "drop-accounts": self._drop_accounts,
        }

    def where(self, desired: Desired) -> str:
        """A tenant's database in words, for messages."""
        return f"database {desired.names.database} on {self._connections.server}"

    def forget_server(self) -> None:
        """Something that should be there is not: look again before the next step."""
        self._prepared = False

    async def execute(
        self, flavour: Flavour, desired: Desired, step: MySqlStep, credentials: Credentials | None
    ) -> None:
        """Executes one step."""
        await self._prepare()
        if step.name == "migrate":
            await self._migrator.run(flavour, desired, self.where(desired))
            return
        async with self._connections.use() as connection:
            await self._handlers[step.name](_Work(connection, flavour, desired, step.login or "", credentials))

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._prepared:
                async with self._connections.use() as connection:
                    await books.prepare(connection, self._connections.server)
                self._prepared = True

    async def _look(self, work: _Work) -> Catalog:
        """The tenant's objects as they are now.

        :raises Stale: when one of them is somebody else's.
        """
        return (await look(work.connection, work.flavour, work.desired)).catalog

    async def _own(self, work: _Work) -> tuple[Catalog, MarkRow]:
        """The tenant's objects, and the mark on its database.

        :raises Stale: when one of them is somebody else's, or the database has no mark.
        """
        catalog = await self._look(work)
        return catalog, mark_on_database(catalog, work.desired)

    async def _create_database(self, work: _Work) -> None:
        connection, desired = work.connection, work.desired
        database, definer = desired.names.database, definer_of(desired.names)
        catalog = await self._look(work)
        opened = open_to_everybody(catalog, database)
        if opened is not None:
            raise Stalled(
                "ServerNotHardened",
                f"{self.where(desired)}: everybody has rights on databases {opened} there, so that its data would "
                "be everybody's: run the statements of the DatabaseInstance's condition Hardened",
            )
        there, row = database in catalog.databases, catalog.marks.get((Kind.DATABASE, database))
        if row is None and there:
            raise Stale(f"database {database} is there, and has no mark")
        marks = [(Kind.DATABASE, database), (Kind.LOGIN, definer)]
        missing = [mark for mark in marks if mark not in catalog.marks]
        if missing:
            await books.claim(connection, missing, desired.mark)
        reached("database-claimed")
        if not there:
            # What a database of that name was once at says nothing of this one.
            await books.forget(connection, database)
            if row is not None:
                await books.write_mark(connection, replace(row, mark=desired.mark, made=False, read_only=False))
            await connection.run(f"CREATE DATABASE {name(database)} CHARACTER SET utf8mb4")
            reached("database-created")
        elif row is not None and not row.made and database in catalog.sizes:
            raise Stale(f"database {database} is not the empty one that was about to be made")
        if definer not in catalog.accounts or not catalog.grants.get(definer):
            await accounts.make(connection, catalog, desired, _new(definer), privileges.DEFINER)
            reached("definer-created")
        await books.write_made(connection, marks)

    async def _create_login(self, work: _Work) -> None:
        connection, desired, credentials = work.connection, work.desired, work.credentials
        if credentials is None:
            raise ValueError("a login cannot be made without credentials")
        catalog, row = await self._own(work)
        rights = privileges.of_login(desired, read_only=row.read_only)
        await accounts.create(connection, catalog, desired, credentials, rights)
        reached("login-created")
        await accounts.set_locked(connection, [credentials.login], locked=False)

    async def _set_password(self, work: _Work) -> None:
        connection, flavour, desired, credentials = work.connection, work.flavour, work.desired, work.credentials
        if credentials is None:
            raise ValueError("a password cannot be set without credentials")
        row = await books.mark_of(connection, Kind.LOGIN, credentials.login, desired)
        await accounts.set_password(connection, flavour, row, credentials)

    async def _enable_login(self, work: _Work) -> None:
        connection, desired = work.connection, work.desired
        await books.mark_of(connection, Kind.LOGIN, work.login, desired)
        await accounts.set_locked(connection, [work.login], locked=False)

    async def _mend_accounts(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        catalog, row = await self._own(work)
        await self._settle(work, catalog, read_only=row.read_only)
        definer = definer_of(desired.names)
        if definer not in catalog.accounts:
            await accounts.create(connection, catalog, desired, _new(definer), privileges.DEFINER)
        for login in desired.names.logins:
            if login in catalog.accounts:
                await accounts.set_limits(connection, flavour, desired, login)

    async def _settle(self, work: _Work, catalog: Catalog, *, read_only: bool) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        if await accounts.settle_rights(connection, catalog, desired, read_only=read_only):
            await end_sessions(connection, flavour, desired.names.logins, self.where(desired))

    async def _refuse_writes(self, work: _Work) -> None:
        await self._set_read_only(work, read_only=True)

    async def _allow_writes(self, work: _Work) -> None:
        await self._set_read_only(work, read_only=False)

    async def _set_read_only(self, work: _Work, *, read_only: bool) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        catalog, row = await self._own(work)
        await books.write_mark(connection, replace(row, read_only=read_only))
        reached("writes-noted")
        await self._settle(work, catalog, read_only=read_only)
        # A session keeps the rights on its database until it ends, be they fewer or more by now.
        await end_sessions(connection, flavour, desired.names.logins, self.where(desired))

    async def _vacuum(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        database = desired.names.database
        if not flavour.mariadb:
            await connection.run("SET SESSION information_schema_stats_expiry = 0")
        rows = await connection.run(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = {literal(database)} "
            f"AND engine = 'InnoDB' AND data_free >= {_WORTH} AND data_free * 5 >= data_length + index_length"
        )
        for (table,) in rows:
            await connection.run(f"OPTIMIZE TABLE {name(database)}.{name(str(table))}")

    async def _retire_login(self, work: _Work) -> None:
        connection, flavour, desired, login = work.connection, work.flavour, work.desired, work.login
        catalog = await self._look(work)
        row = catalog.marks.get((Kind.LOGIN, login))
        if row is None:
            raise Stale(f"account {login} has no mark")
        if login in catalog.accounts:
            await accounts.set_locked(connection, [login], locked=True)
            reached("login-refused")
            await end_sessions(connection, flavour, [login], self.where(desired))
            reached("login-sessions-ended")
            if await accounts.defines_something(connection, desired, login):
                row = await accounts.set_password(connection, flavour, row, _new(login))
                await books.write_mark(connection, replace(row, kept=True))
                return
            await connection.run(f"DROP USER IF EXISTS {account(login)}")
            reached("login-dropped")
        await books.drop_marks(connection, [(Kind.LOGIN, login)])

    async def _refuse_logins(self, work: _Work) -> None:
        connection, desired = work.connection, work.desired
        catalog = await self._look(work)
        logins = [*desired.names.logins, reader_of(desired.names)]
        await accounts.set_locked(connection, [one for one in logins if one in catalog.accounts], locked=True)

    async def _end_sessions(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        names: Sequence[str] = [*desired.names.logins, reader_of(desired.names)]
        if desired.presence is Presence.ABSENT:
            names = own_accounts(desired.names)
        await end_sessions(connection, flavour, names, self.where(desired))

    async def _drop_database(self, work: _Work) -> None:
        catalog = await self._look(work)
        await self._end_all(work, catalog)
        await work.connection.run(f"DROP DATABASE IF EXISTS {name(work.desired.names.database)}")

    async def _end_all(self, work: _Work, catalog: Catalog) -> list[str]:
        desired = work.desired
        own = own_accounts(desired.names)
        there = [login for login in own if login in catalog.accounts]
        await accounts.set_locked(work.connection, there, locked=True)
        await end_sessions(work.connection, work.flavour, own, self.where(desired))
        return there

    async def _drop_accounts(self, work: _Work) -> None:
        connection, desired = work.connection, work.desired
        catalog = await self._look(work)
        if desired.names.database in catalog.databases:
            raise Stale(f"{self.where(desired)} is there again")
        there = await self._end_all(work, catalog)
        await progress.drop(connection, desired.names.database)
        if there:
            await connection.run(f"DROP USER IF EXISTS {', '.join(map(account, there))}")
        reached("accounts-dropped")
        await books.forget(connection, desired.names.database)
        # Last, and all at once: as long as there are some, there may be something left.
        await books.drop_marks(connection, list(catalog.marks))
        reached("marks-dropped")


def _new(login: str) -> Credentials:
    return Credentials(login, new_password())
