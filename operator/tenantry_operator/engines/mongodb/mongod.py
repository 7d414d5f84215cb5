"""The flavour MongoDB: logins are users of the tenant's database, with a role on it alone.

Marks and the ledger are in a database of the operator's, one document a tenant database, so that both change
at once. MongoDB cannot lock a user: a refused one has no roles, and may come from no address that there is;
its password stays.

Written from the documentation: tests run it against a stand-in only.

Source: MongoDB manual, "User Management Commands", "Authentication Restrictions", "killAllSessions".
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from pymongo.errors import DuplicateKeyError, OperationFailure

from tenantry_operator.engines.base import Credentials, Desired, Mark, Migration, Stale
from tenantry_operator.engines.halfway import Unfinished
from tenantry_operator.engines.mongodb.accounts import Database
from tenantry_operator.engines.mongodb.clients import Client
from tenantry_operator.engines.mongodb.errors import USER_NOT_FOUND
from tenantry_operator.engines.mongodb.mongodcatalog import (
    MARKS,
    NOWHERE,
    OWN,
    REMOVER,
    custom_data,
    mark_of,
    roles_of,
)
from tenantry_operator.engines.mongodb.mongodserver import Document, MongodServer
from tenantry_operator.engines.path import Applied
from tenantry_operator.errors import Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import migrator_of

_ROLE_EXISTS = 51002


class MongodAccounts(MongodServer):
    """The logins and rights of tenants on a MongoDB server."""

    async def create(self, desired: Desired) -> None:
        """The mark, then the role; MongoDB makes a database with its first collection."""
        name, mark = desired.names.database, desired.mark.encode()
        fresh = {"mark": mark, "made": False, "held": False, "ledger": [], "unfinished": None}
        async with self.use(self.where(desired)) as client:
            row = await client[OWN][MARKS].find_one({"_id": name})
            found = Mark.decode(row.get("mark")) if row is not None else None
            if row is not None and (found is None or not found.same_owner(desired.mark)):
                raise Stale(f"{self.where(desired)} is not the tenant's any more")
            if row is None:
                try:
                    await client[OWN][MARKS].insert_one({"_id": name, **fresh})
                except DuplicateKeyError:
                    raise Stale(f"{self.where(desired)} was made by another") from None
            elif row.get("made"):
                # Lost, and made anew: what was applied is gone with it.
                await client[OWN][MARKS].update_one({"_id": name, "mark": row["mark"]}, {"$set": fresh})
            reached("mark-written")
            privilege = {"resource": {"db": name, "collection": ""}, "actions": ["remove"]}
            try:
                await client[name].command("createRole", REMOVER, privileges=[privilege], roles=[])
            except OperationFailure as error:
                if error.code != _ROLE_EXISTS:
                    raise
            reached("role-made")
            await client[OWN][MARKS].update_one({"_id": name}, {"$set": {"made": True}})

    async def create_login(self, desired: Desired, credentials: Credentials) -> None:
        """Makes a user of the tenant's database."""
        name = desired.names.database
        mark = replace(desired.mark, fingerprint=credentials.fingerprint)
        async with self.use(self.where(desired)) as client:
            await client[name].command(
                "createUser",
                credentials.login,
                pwd=credentials.password,
                roles=roles_of(name, read_only=desired.read_only),
                customData=custom_data(mark, refused=False),
                mechanisms=["SCRAM-SHA-256"],
            )

    async def set_password(self, desired: Desired, credentials: Credentials) -> None:
        """Sets a password; who is in with the old one is sent out."""
        mark = replace(desired.mark, fingerprint=credentials.fingerprint)
        async with self.use(self.where(desired)) as client:
            user = await self._user(client, desired, credentials.login)
            refused_now = bool((user.get("customData") or {}).get("refused"))
            await client[desired.names.database].command(
                "updateUser",
                credentials.login,
                pwd=credentials.password,
                customData=custom_data(mark, refused=refused_now),
                mechanisms=["SCRAM-SHA-256"],
            )
        await self.end_sessions(desired, [credentials.login])

    async def _user(self, client: Client, desired: Desired, login: str) -> Document:
        """A user that is the tenant's own.

        :raises Stale: when it is gone, or somebody else's.
        """
        answer = await client[desired.names.database].command("usersInfo", login)
        users: list[Document] = answer["users"]
        mark = mark_of(users[0]) if users else None
        if mark is None or not mark.same_owner(desired.mark):
            raise Stale(f"user {login} of {self.where(desired)} is not the tenant's")
        return users[0]

    async def _change(
        self, desired: Desired, login: str, *, refuse: bool | None, read_only: bool | None = None
    ) -> None:
        """Sets roles and where a login may come from. :param refuse: None: as it is."""
        name = desired.names.database
        async with self.use(self.where(desired)) as client:
            user = await self._user(client, desired, login)
            mark = mark_of(user) or desired.mark
            now = bool((user.get("customData") or {}).get("refused")) if refuse is None else refuse
            limited = desired.read_only if read_only is None else read_only
            await client[name].command(
                "updateUser",
                login,
                roles=[] if now else roles_of(name, read_only=limited),
                authenticationRestrictions=NOWHERE if now else [],
                customData=custom_data(mark, refused=now),
            )

    async def enable(self, desired: Desired, login: str) -> None:
        """Gives a user its roles back."""
        await self._change(desired, login, refuse=False)

    async def refuse(self, desired: Desired, logins: Collection[str]) -> None:
        """Takes all roles away, and where it may come from."""
        for login in logins:
            await self._change(desired, login, refuse=True)

    async def end_sessions(self, desired: Desired, logins: Collection[str]) -> None:
        """Kills what logins have open: cursors, transactions, operations. Connections stay, and may do nothing."""
        users = [{"user": login, "db": desired.names.database} for login in logins]
        if users:
            async with self.use(self.where(desired)) as client:
                await client.admin.command("killAllSessions", users)

    async def retire(self, desired: Desired, login: str) -> None:
        """Drops a user, and what it has open."""
        await self.refuse(desired, [login])
        await self.end_sessions(desired, [login])
        async with self.use(self.where(desired)) as client:
            await self._drop_user(client, desired.names.database, login)

    async def _drop_user(self, client: Client, database: str, login: str) -> None:
        try:
            await client[database].command("dropUser", login)
        except OperationFailure as error:
            if error.code != USER_NOT_FOUND:
                raise

    async def mend(self, desired: Desired, *, read_only: bool, logins: Collection[str]) -> None:
        """Gives logins the roles they should have, and drops what a migration left."""
        for login in logins:
            await self._change(desired, login, refuse=None, read_only=read_only)
        await self._drop_migrator(desired)

    async def set_read_only(self, desired: Desired, logins: Collection[str], *, read_only: bool) -> None:
        """Exchanges the roles; they apply at once, also to who is in."""
        for login in logins:
            await self._change(desired, login, refuse=None, read_only=read_only)

    async def compact(self, desired: Desired) -> None:
        """Nothing: what counts is what is stored, and it shrinks by itself."""

    async def drop_data(self, desired: Desired) -> None:
        """Drops the database and the role in it."""
        name = desired.names.database
        async with self.use(self.where(desired)) as client:
            row = await client[OWN][MARKS].find_one({"_id": name})
            mark = Mark.decode(row.get("mark")) if row is not None else None
            if row is None:
                return
            if mark is None or not mark.same_owner(desired.mark):
                raise Stale(f"{self.where(desired)} is not the tenant's any more")
            await client[name].command("dropDatabase")
            reached("database-dropped")
            await client[name].command("dropAllRolesFromDatabase")
            await client[OWN][MARKS].update_one({"_id": name, "mark": row["mark"]}, {"$set": {"made": False}})

    async def drop_rest(self, desired: Desired) -> None:
        """Drops the tenant's users, and last the mark with the ledger."""
        name = desired.names.database
        async with self.use(self.where(desired)) as client:
            users = (await self.users(client, name)).get(name, {})
            for login, user in users.items():
                mark = mark_of(user)
                if mark is not None and mark.same_owner(desired.mark):
                    await self._drop_user(client, name, login)
            reached("users-dropped")
            row = await client[OWN][MARKS].find_one({"_id": name}, {"mark": 1})
            mark = Mark.decode(row.get("mark")) if row is not None else None
            if row is not None and mark is not None and mark.same_owner(desired.mark):
                await client[OWN][MARKS].delete_one({"_id": name, "mark": row["mark"]})

    @asynccontextmanager
    async def confined(self, desired: Desired, longest: float) -> AsyncIterator[Database]:
        """The tenant's database as a user of it with readWrite and dbAdmin, which is gone afterwards."""
        name, login = desired.names.database, migrator_of(desired.names.owner)
        credentials = Credentials(login, secrets.token_urlsafe(32))
        await self._drop_migrator(desired)
        async with self.use(self.where(desired)) as client:
            await client[name].command(
                "createUser",
                login,
                pwd=credentials.password,
                roles=[{"role": "readWrite", "db": name}, {"role": "dbAdmin", "db": name}],
                customData=custom_data(replace(desired.mark, fingerprint=credentials.fingerprint), refused=False),
                mechanisms=["SCRAM-SHA-256"],
            )
        reached("migrator-made")
        try:
            async with self.clients.login(credentials, name, longest) as confined:
                yield confined[name]
        finally:
            await self._drop_migrator(desired)

    async def _drop_migrator(self, desired: Desired) -> None:
        name, login = desired.names.database, migrator_of(desired.names.owner)
        async with self.use(self.where(desired)) as client:
            user = (await self.users(client, name)).get(name, {}).get(login)
            if user is None:
                return
            mark = mark_of(user)
            if mark is None or not mark.same_owner(desired.mark):
                raise Stalled(
                    "NameTaken", f"{self.where(desired)}: user {login} was not made by Tenantry: rename it"
                )
            await self._drop_user(client, name, login)
        await self.end_sessions(desired, [login])

    async def _kept(self, desired: Desired) -> Document:
        async with self.use(self.where(desired)) as client:
            row = await client[OWN][MARKS].find_one({"_id": desired.names.database})
        if row is None:
            raise Stale(f"{self.where(desired)} is gone")
        return row

    async def ledger(self, desired: Desired) -> tuple[Applied, ...]:
        """What was applied."""
        lines = (await self._kept(desired)).get("ledger") or []
        return tuple(Applied(line["version"], line["migration"], line["checksum"]) for line in lines)

    async def unfinished(self, desired: Desired) -> Unfinished | None:
        """What was begun and did not end."""
        found = (await self._kept(desired)).get("unfinished")
        if not found:
            return None
        return Unfinished(found["version"], found["migration"], bool(found["undo"]), int(found["command"]))

    async def begin(self, desired: Desired, migration: Migration, command: int, mark: Mark | None) -> None:
        """Notes that a command is about to be run."""
        begun = {
            "version": migration.version,
            "migration": migration.name,
            "undo": migration.undo,
            "command": command,
        }
        change: Document = {"unfinished": begun}
        if mark is not None:
            change["mark"] = mark.encode()
        await self._update(desired, {"$set": change})

    async def finish(self, desired: Desired, migration: Migration | None, mark: Mark) -> None:
        """Notes it, all at once."""
        async with self.use(self.where(desired)) as client:
            held = desired.names.database in await self.databases(client)
        change: Document = {"$set": {"mark": mark.encode(), "held": held}}
        if migration is not None:
            change["$set"]["unfinished"] = None
            line = {"version": migration.version, "migration": migration.name}
            if migration.undo:
                change["$pull"] = {"ledger": line}
            else:
                change["$push"] = {"ledger": {**line, "checksum": migration.checksum, "at": datetime.now(UTC)}}
        await self._update(desired, change)

    async def _update(self, desired: Desired, change: Document) -> None:
        async with self.use(self.where(desired)) as client:
            result = await client[OWN][MARKS].update_one({"_id": desired.names.database}, change)
        if not result.matched_count:
            raise Stale(f"{self.where(desired)} is gone")

    async def close(self) -> None:
        """Nothing: the clients are the engine's."""
