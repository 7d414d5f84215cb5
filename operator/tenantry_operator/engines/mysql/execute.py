"""Executes the steps of plans: what each of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from tenantry_operator.engines.base import Credentials, Desired, Ownership, Presence, Stale
from tenantry_operator.engines.mysql import accounts, books, privileges, progress
from tenantry_operator.engines.mysql.books import Kind
from tenantry_operator.engines.mysql.catalog import Catalog, observe_server
from tenantry_operator.engines.mysql.connections import Connection, Connections
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.hardening import open_to_everybody
from tenantry_operator.engines.mysql.migrate import Migrator
from tenantry_operator.engines.mysql.names import definer_of, own_accounts, reader_of
from tenantry_operator.engines.mysql.plan import MySqlStep
from tenantry_operator.engines.mysql.sessions import end_sessions
from tenantry_operator.engines.mysql.sql import account, literal, name
from tenantry_operator.engines.mysql.state import ownership
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

    async def _look(self, connection: Connection, flavour: Flavour, desired: Desired) -> Catalog:
        """The tenant's objects as they are now.

        :raises Stale: when one of them is somebody else's.
        """
        catalog = await observe_server(
            connection, flavour, databases=[desired.names.database], accounts=own_accounts(desired.names)
        )
        whose, conflict = ownership(catalog, desired)
        if whose in (Ownership.STRANGER, Ownership.OTHER_TENANT):
            raise Stale(f"{conflict} is not the tenant's")
        return catalog

    async def _create_database(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        database = desired.names.database
        catalog = await self._look(connection, flavour, desired)
        opened = open_to_everybody(catalog, database)
        if opened is not None:
            raise Stalled(
                "ServerNotHardened",
                f"{self.where(desired)}: everybody has rights on databases {opened} there, so that its data would "
                "be everybody's: run the statements of the DatabaseInstance's condition Hardened",
            )
        there = database in catalog.databases
        row = await books.claim(connection, Kind.DATABASE, database, desired.mark, exists=there)
        reached("database-claimed")
        if not there:
            # What a database of that name was once at says nothing of this one.
            await books.forget(connection, database)
            await books.write_mark(connection, replace(row, mark=desired.mark, made=False, read_only=False))
            await connection.run(f"CREATE DATABASE {name(database)} CHARACTER SET utf8mb4")
            reached("database-created")
        elif not row.made and await self._has_objects(connection, database):
            raise Stale(f"database {database} is not the empty one that was about to be made")
        definer = definer_of(desired.names)
        if definer not in catalog.accounts:
            made = Credentials(definer, new_password())
            await accounts.create(connection, flavour, desired, made, privileges.DEFINER)
            reached("definer-created")
        row = await books.mark_of_database(connection, desired)
        await books.write_mark(connection, replace(row, made=True))

    @staticmethod
    async def _has_objects(connection: Connection, database: str) -> bool:
        rows = await connection.run(
            f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = {literal(database)}"
        )
        return bool(rows[0][0])

    async def _create_login(self, work: _Work) -> None:
        connection, flavour, desired, credentials = work.connection, work.flavour, work.desired, work.credentials
        if credentials is None:
            raise ValueError("a login cannot be made without credentials")
        row = await books.mark_of_database(connection, desired)
        rights = privileges.of_login(desired, read_only=row.read_only)
        await accounts.create(connection, flavour, desired, credentials, rights)
        reached("login-created")
        await accounts.set_locked(connection, [credentials.login], locked=False)

    async def _set_password(self, work: _Work) -> None:
        connection, flavour, desired, credentials = work.connection, work.flavour, work.desired, work.credentials
        if credentials is None:
            raise ValueError("a password cannot be set without credentials")
        row = await books.mark_of_login(connection, desired, credentials.login)
        await accounts.set_password(connection, flavour, row, credentials)

    async def _enable_login(self, work: _Work) -> None:
        connection, desired = work.connection, work.desired
        await books.mark_of_login(connection, desired, work.login)
        await accounts.set_locked(connection, [work.login], locked=False)

    async def _mend_accounts(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        row = await books.mark_of_database(connection, desired)
        catalog = await self._settle(connection, flavour, desired, read_only=row.read_only)
        definer = definer_of(desired.names)
        if definer not in catalog.accounts:
            made = Credentials(definer, new_password())
            await accounts.create(connection, flavour, desired, made, privileges.DEFINER)
        for login in desired.names.logins:
            if login in catalog.accounts:
                await accounts.set_limits(connection, flavour, desired, login)

    async def _settle(
        self, connection: Connection, flavour: Flavour, desired: Desired, *, read_only: bool
    ) -> Catalog:
        catalog = await self._look(connection, flavour, desired)
        if await accounts.settle_rights(connection, catalog, desired, read_only=read_only):
            await end_sessions(connection, flavour, desired.names.logins, self.where(desired))
        return catalog

    async def _refuse_writes(self, work: _Work) -> None:
        await self._set_read_only(work, read_only=True)

    async def _allow_writes(self, work: _Work) -> None:
        await self._set_read_only(work, read_only=False)

    async def _set_read_only(self, work: _Work, *, read_only: bool) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        row = await books.mark_of_database(connection, desired)
        await books.write_mark(connection, replace(row, read_only=read_only))
        reached("writes-noted")
        await self._settle(connection, flavour, desired, read_only=read_only)
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
        row = await books.mark_of_login(connection, desired, login)
        if await accounts.find(connection, flavour, login) is not None:
            await accounts.set_locked(connection, [login], locked=True)
            reached("login-refused")
            await end_sessions(connection, flavour, [login], self.where(desired))
            reached("login-sessions-ended")
            if await accounts.defines_something(connection, desired, login):
                made = Credentials(login, new_password())
                await accounts.set_password(connection, flavour, row, made)
                row = await books.mark_of_login(connection, desired, login)
                await books.write_mark(connection, replace(row, kept=True))
                return
            await connection.run(f"DROP USER IF EXISTS {account(login)}")
            reached("login-dropped")
        await books.drop_mark(connection, Kind.LOGIN, login)

    async def _refuse_logins(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        catalog = await self._look(connection, flavour, desired)
        logins = [*desired.names.logins, reader_of(desired.names)]
        await accounts.set_locked(connection, [one for one in logins if one in catalog.accounts], locked=True)

    async def _end_sessions(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        names: Sequence[str] = [*desired.names.logins, reader_of(desired.names)]
        if desired.presence is Presence.ABSENT:
            names = own_accounts(desired.names)
        await end_sessions(connection, flavour, names, self.where(desired))

    async def _drop_database(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        catalog = await self._look(connection, flavour, desired)
        await self._end_all(connection, flavour, desired, catalog)
        await connection.run(f"DROP DATABASE IF EXISTS {name(desired.names.database)}")

    async def _end_all(
        self, connection: Connection, flavour: Flavour, desired: Desired, catalog: Catalog
    ) -> list[str]:
        there = [login for login in own_accounts(desired.names) if login in catalog.accounts]
        await accounts.set_locked(connection, there, locked=True)
        await end_sessions(connection, flavour, own_accounts(desired.names), self.where(desired))
        return there

    async def _drop_accounts(self, work: _Work) -> None:
        connection, flavour, desired = work.connection, work.flavour, work.desired
        catalog = await self._look(connection, flavour, desired)
        if desired.names.database in catalog.databases:
            raise Stale(f"{self.where(desired)} is there again")
        there = await self._end_all(connection, flavour, desired, catalog)
        await progress.end(connection, desired.names.database, definer_of(desired.names))
        for login in there:
            await connection.run(f"DROP USER IF EXISTS {account(login)}")
            reached("account-dropped")
        await books.forget(connection, desired.names.database)
        for (kind, own), row in sorted(catalog.marks.items(), key=lambda item: item[0], reverse=True):
            # Those of accounts first: what is left shows that there is something left.
            if row.mark.same_owner(desired.mark):
                await books.drop_mark(connection, kind, own)
            reached("mark-dropped")
