"""The flavour FerretDB: logins, rights and marks are those of the PostgreSQL behind it.

Each MongoDB database is a schema there, made through FerretDB, which keeps what databases and collections
there are in its own memory: a schema that comes or goes behind its back is not noticed. A tenant's logins act
as a role that owns its collections and may make more, but does not own the schema. FerretDB logs nobody in by
itself: it connects to PostgreSQL with the login and password of the client, once for all clients with both.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace

from pymongo.errors import PyMongoError

from tenantry_operator.engines.base import Credentials, Desired, LoginLimits, Mark, Migration, Stale
from tenantry_operator.engines.halfway import Unfinished
from tenantry_operator.engines.mongodb import ferretsql
from tenantry_operator.engines.mongodb.accounts import Database
from tenantry_operator.engines.mongodb.errors import is_of_server, translate
from tenantry_operator.engines.mongodb.ferretcatalog import (
    FerretCatalog,
    Rights,
    login_settings,
)
from tenantry_operator.engines.mongodb.ferretserver import FerretServer, send, translated
from tenantry_operator.engines.mongodb.ferretsingle import end_holders, mark_of_role
from tenantry_operator.engines.path import Applied
from tenantry_operator.engines.postgres import sessions
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.migrations import read_ledger, render_ledger
from tenantry_operator.engines.postgres.scram import store
from tenantry_operator.engines.postgres.statements import Script
from tenantry_operator.engines.postgres.unfinished import read_unfinished, render_finished, write_unfinished
from tenantry_operator.errors import Stalled
from tenantry_operator.faults import reached

_ATTEMPTS = 4
_COMPACTING = 300.0
"""Seconds for the largest collection."""


class FerretAccounts(FerretServer):
    """The logins and rights of tenants on FerretDB."""

    async def create_login(self, desired: Desired, credentials: Credentials) -> None:
        """Makes a login that acts as the owner, or as the role that reads and deletes only."""
        group = self.group(desired)
        role = group.read_only if desired.read_only else group.owner
        script = ferretsql.render_login(
            desired, group, await store(credentials), role=role, settings=login_settings(desired, role)
        )
        async with self.use(self.where(desired)) as connection:
            await send(connection, script)

    async def set_password(self, desired: Desired, credentials: Credentials) -> None:
        """Sets a password. FerretDB's sessions with the old one would go on: they are ended."""
        script = ferretsql.render_password(desired, await store(credentials))
        async with self.use(self.where(desired)) as connection:
            await send(connection, script)
            await sessions.end_sessions(connection, [credentials.login], self.where(desired))

    async def enable(self, desired: Desired, login: str) -> None:
        """Lets a login in again."""
        async with self.use(self.where(desired)) as connection:
            await send(connection, ferretsql.render_can_login([login], allowed=True))

    async def refuse(self, desired: Desired, logins: Collection[str]) -> None:
        """Refuses logins."""
        async with self.use(self.where(desired)) as connection:
            await send(connection, ferretsql.render_can_login(logins, allowed=False))

    async def end_sessions(self, desired: Desired, logins: Collection[str]) -> None:
        """Ends FerretDB's sessions of logins."""
        async with self.use(self.where(desired)) as connection:
            await sessions.end_sessions(connection, list(logins), self.where(desired))

    async def retire(self, desired: Desired, login: str) -> None:
        """Refuses a login, ends its sessions and drops it."""
        await self.refuse(desired, [login])
        await self.end_sessions(desired, [login])
        reached("sessions-ended")
        rights = await self.prepare(desired)
        script = ferretsql.render_retire(login, self.group(desired).owner, own=not rights.superuser)
        async with self.use(self.where(desired)) as connection:
            await send(connection, script)

    async def mend(self, desired: Desired, *, read_only: bool, logins: Collection[str]) -> None:
        """Gives roles, schema and FerretDB's table the rights they should have."""
        group, where = self.group(desired), self.where(desired)
        rights = await self.prepare(desired)
        async with self.lock(desired):
            catalog = await self.observe_one(desired)
            schema = catalog.schemas.get(desired.names.database)
            if schema is None or not schema.metadata:
                raise Stale(f"{where} is gone")
            script = ferretsql.render_mend(
                desired, group, catalog, schema, read_only=read_only, own=not rights.superuser
            )
            async with self.use(where) as connection:
                await send(connection, script)
                if group.migrator in catalog.roles.roles:
                    await self._drop_migrator(desired, connection, rights)
                await sessions.end_sessions(connection, list(logins), where)

    async def set_read_only(self, desired: Desired, logins: Collection[str], *, read_only: bool) -> None:
        """Has logins act as another role; who is in acts as the old one until the session ends."""
        script = ferretsql.render_act_as(desired, self.group(desired), logins, read_only=read_only)
        async with self.use(self.where(desired)) as connection:
            await send(connection, script)
            reached("role-changed")
            await sessions.end_sessions(connection, list(logins), self.where(desired))

    async def compact(self, desired: Desired) -> None:
        """Rewrites the collections: PostgreSQL keeps room for rows to come otherwise, and none come."""
        async with self.confined(desired, _COMPACTING) as database:
            with translated(self.where(desired)):
                for name in await database.list_collection_names():
                    await database.command({"compact": name, "force": True})
        # PostgreSQL does not count it as a write, and the size is another one now.
        self.measure_again(desired)

    async def drop_data(self, desired: Desired) -> None:
        """Drops the database through FerretDB, which would otherwise go on knowing it."""
        catalog = await self.observe_one(desired)
        if not await self._is_ours(desired, catalog):
            return
        await self._let_go(desired, catalog)
        with translated(self.where(desired)):
            async with self.clients.admin() as client:
                await client[desired.names.database].command("dropDatabase")
        reached("database-dropped")
        catalog = await self.observe_one(desired)
        if await self._is_ours(desired, catalog):
            # FerretDB never knew it: it was not built to the end.
            script = Script().format(
                "DROP SCHEMA {name} CASCADE", name=ferretsql.identifier(desired.names.database)
            )
            async with self.use(self.where(desired)) as connection:
                await send(connection, script)

    async def _let_go(self, desired: Desired, catalog: FerretCatalog) -> None:
        """Ends the sessions that hold anything in the schema, which could not be dropped while they do.

        All tenants may read what collections there are, and one that goes to PostgreSQL itself could do so in a
        transaction that it does not end. From now on it may no longer.
        """
        schema, where = catalog.schemas[desired.names.database], self.where(desired)
        group = self.group(desired)
        async with self.use(where) as connection:
            if schema.metadata:
                await send(connection, ferretsql.render_close(desired, group))
            reached("database-closed")
            await end_holders(connection, schema.name, group.connect, where)

    async def _is_ours(self, desired: Desired, catalog: FerretCatalog) -> bool:
        schema = catalog.schemas.get(desired.names.database)
        if schema is None:
            return False
        mark = Mark.decode(schema.mark)
        if mark is None or not mark.same_owner(desired.mark):
            raise Stale(f"{self.where(desired)} is not the tenant's any more")
        return True

    async def drop_rest(self, desired: Desired) -> None:
        """Drops roles and lines, in one transaction."""
        rights, group = await self.prepare(desired), self.group(desired)
        catalog = await self.observe_one(desired)
        names = []
        for name in (*desired.names.logins, group.migrator, group.read_only, group.owner):
            role = catalog.roles.roles.get(name)
            mark = Mark.decode(role.mark) if role is not None else None
            if mark is not None and mark.same_owner(desired.mark):
                names.append(name)
        async with self.use(self.where(desired)) as connection:
            await sessions.end_sessions(connection, [*desired.names.logins, group.migrator], self.where(desired))
            await send(connection, ferretsql.render_drop(desired, names, own=not rights.superuser))
        self._locks.pop(desired.names.owner, None)

    @asynccontextmanager
    async def confined(self, desired: Desired, longest: float) -> AsyncIterator[Database]:
        """The tenant's database as a login sees it that acts as its owner, and is gone afterwards."""
        group, where = self.group(desired), self.where(desired)
        rights = await self.prepare(desired)
        # FerretDB keeps what belongs to a login and its password for as long as it runs, so the password of a
        # tenant's is always the same; that the login is there for moments only is what protects it.
        password = hmac.digest(self.secret, f"tenantry {group.migrator}".encode(), hashlib.sha256).hex()
        credentials = Credentials(group.migrator, password)
        unlimited = replace(desired, limits=LoginLimits())
        settings = {"role": group.owner, "statement_timeout": f"{max(1, round(longest * 1000))}ms"}
        async with self.lock(desired):
            async with self.use(where) as connection:
                await self._drop_migrator(desired, connection, rights)
                stored = await store(credentials)
                await send(
                    connection,
                    ferretsql.render_login(unlimited, group, stored, role=group.owner, settings=settings),
                )
            reached("migrator-made")
            try:
                async with self.clients.login(credentials, desired.names.database, longest) as client:
                    database = client[desired.names.database]
                    await _renew(database, where)
                    yield database
            finally:
                async with self.use(where) as connection:
                    await self._end_migrator(desired, connection, rights)

    async def _drop_migrator(self, desired: Desired, connection: Connection, rights: Rights) -> None:
        group, where = self.group(desired), self.where(desired)
        there, comment = await mark_of_role(connection, group.migrator)
        if not there:
            return
        mark = Mark.decode(comment)
        if mark is None or not mark.same_owner(desired.mark):
            raise Stalled("NameTaken", f"{where}: role {group.migrator} was not made by Tenantry: rename it")
        await self._end_migrator(desired, connection, rights)

    async def _end_migrator(self, desired: Desired, connection: Connection, rights: Rights) -> None:
        group, where = self.group(desired), self.where(desired)
        await send(connection, ferretsql.render_can_login([group.migrator], allowed=False))
        await sessions.end_sessions(connection, [group.migrator], where)
        await send(connection, ferretsql.render_retire(group.migrator, group.owner, own=not rights.superuser))

    async def ledger(self, desired: Desired) -> tuple[Applied, ...]:
        """What was applied."""
        async with self.use(self.where(desired)) as connection:
            return await read_ledger(connection, desired.names.database)

    async def unfinished(self, desired: Desired) -> Unfinished | None:
        """What was begun and did not end."""
        async with self.use(self.where(desired)) as connection:
            found = await read_unfinished(connection, desired.names.database)
        if found is None:
            return None
        return Unfinished(found.version, found.migration, found.undo, found.statement)

    async def begin(self, desired: Desired, migration: Migration, command: int, mark: Mark | None) -> None:
        """Notes that a command is about to be run."""
        async with self.use(self.where(desired)) as connection:
            await write_unfinished(connection, desired.names.database, migration, command)
            if mark is not None:
                # Seen from outside from now on: whoever finds it knows that there is something to be ended.
                await send(connection, ferretsql.render_marks(desired, self.group(desired), mark))

    async def finish(self, desired: Desired, migration: Migration | None, mark: Mark) -> None:
        """Notes it in one transaction."""
        script = Script()
        if migration is not None and desired.chain is not None:
            script.add(render_ledger(desired.names.database, desired.chain, (migration,)))
            script.add(render_finished(desired.names.database))
        script.add(ferretsql.render_marks(desired, self.group(desired), mark))
        async with self.use(self.where(desired)) as connection:
            await send(connection, script)


async def _renew(database: Database, where: str) -> None:
    """Until FerretDB has a session of the login that works: one that was ended is only noticed when it is used."""
    for attempt in range(_ATTEMPTS):
        try:
            await database.command("dbStats")
        except PyMongoError as error:
            if attempt == _ATTEMPTS - 1 or not is_of_server(error):
                raise translate(error, where) from None
            await asyncio.sleep(0.05 * 2**attempt)
        else:
            return
