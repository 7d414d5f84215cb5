"""Executes the steps of plans: what each of them does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from tenantry_operator.engines.base import Credentials, Desired, Isolation, Mark, Stale
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis import keyspace
from tenantry_operator.engines.redis.acl import User, hash_of, parse_one, render
from tenantry_operator.engines.redis.catalog import MARKS, UNFINISHED, Facts, known_facts, ledger_of
from tenantry_operator.engines.redis.connections import Connections, Session
from tenantry_operator.engines.redis.keyspace import KeySpace
from tenantry_operator.engines.redis.migrate import migrate
from tenantry_operator.engines.redis.plan import RedisStep
from tenantry_operator.engines.redis.saving import Saver
from tenantry_operator.engines.redis.state import is_ours
from tenantry_operator.errors import Stalled
from tenantry_operator.faults import reached

Handler = Callable[[Session, Desired, RedisStep, Credentials | None], Awaitable[None]]

_CLAIM = """
if redis.call('HSETNX', ARGV[1], ARGV[2], ARGV[3]) == 0 then
  return 0
end
redis.call('DEL', ARGV[4])
redis.call('HDEL', ARGV[5], ARGV[2])
return 1
"""
_FORGET = """
if redis.call('HGET', ARGV[1], ARGV[2]) == ARGV[3] then
  redis.call('DEL', ARGV[4])
  redis.call('HDEL', ARGV[5], ARGV[2])
  redis.call('HDEL', ARGV[1], ARGV[2])
end
"""

_OF_LOGINS = frozenset({"refuse-logins", "drop-logins"})


class Executor:
    """Executes the steps of tenants of one server."""

    def __init__(self, connections: Connections, keys: KeySpace, saver: Saver) -> None:
        self.facts: Facts | None = None
        self._connections = connections
        self._keys = keys
        self._saver = saver
        self._handlers: dict[str, Handler] = {
            "create-database": self._create_database,
            "migrate": self._migrate,
            "create-login": self._write_login,
            "set-password": self._write_login,
            "enable-login": self._write_login,
            "mend-login": self._write_login,
            "refuse-writes": self._write_login,
            "allow-writes": self._write_login,
            "retire-login": self._retire_login,
            "refuse-logins": self._refuse_logins,
            "end-sessions": self._end_sessions,
            "drop-logins": self._drop_logins,
            "drop-database": self._drop_database,
        }

    def where(self, desired: Desired) -> str:
        """A tenant's database in words, for messages."""
        return f"database {desired.names.database} on {self._connections.server}"

    async def execute(self, desired: Desired, step: RedisStep, credentials: Credentials | None) -> None:
        """Executes one step."""
        of_logins = step.login is not None or step.name in _OF_LOGINS
        try:
            async with self._connections.use() as session:
                await self._handlers[step.name](session, desired, step, credentials)
        finally:
            # Told afterwards: a save that others began meanwhile may have come before the change.
            if of_logins:
                self._saver.changed()
        if of_logins:
            await self._saver.save()

    async def _create_database(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        database = desired.names.database
        present, users = await self._look(session, desired, desired.names.logins)
        mark = Mark.decode(present)
        if mark is not None and mark.built:
            return
        if users:
            # They are made once the data is.
            if not desired.recreate:
                raise Stale(f"{self.where(desired)} is gone")
            # What is left of it would stand in the way of starting empty.
            await keyspace.remove(session, database)
            await session.all([("DEL", ledger_of(database)), ("HDEL", UNFINISHED, database)])
        elif present is None and await self._keys.holds(session, database):
            raise Stalled(
                "NameTaken",
                f"{self.where(desired)}: there are keys that begin with {key_prefix(database)} and were not made "
                f"for {desired.tenant}; they are left alone. Rename or remove them, or choose another tenant id",
            )
        if present is None and not await session.call("EVAL", _CLAIM, 0, *self._claim(desired)):
            raise Stale(f"{self.where(desired)} was made meanwhile")

    async def _migrate(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        await migrate(session, await self.known(session), desired, self.where(desired))

    async def _write_login(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        """Leaves a login as it should be: all that is to be set is set at once."""
        name = step.login or ""
        present, users = await self._look(session, desired, [name])
        if present is None:
            raise Stale(f"{self.where(desired)} is gone")
        user = next(iter(users), None)
        given = credentials if credentials is not None and credentials.login == name else None
        password: str | None
        fingerprint: str | None
        if given is not None:
            password, fingerprint = hash_of(given.password), given.fingerprint
        elif user is not None and user.mark is not None:
            password, fingerprint = user.password, user.mark.fingerprint
        else:
            raise Stale(f"{self.where(desired)}: login {name} is gone")
        facts = await self.known(session)
        rights = facts.rights(alone=desired.isolation is Isolation.INSTANCE)
        rules = rights.read_only_rules if desired.read_only else rights.rules
        mark = replace(desired.mark, fingerprint=fingerprint)
        await session.call("ACL", "SETUSER", name, *render(desired.names.database, mark, password, rules))
        reached("login-written")

    async def _retire_login(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        _, users = await self._look(session, desired, [step.login or ""])
        await self._drop(session, users)

    async def _refuse_logins(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        _, users = await self._look(session, desired, desired.names.logins)
        await session.all([("ACL", "SETUSER", user.name, "off") for user in users])
        reached("logins-off")
        await session.all([("CLIENT", "KILL", "USER", user.name) for user in users])

    async def _end_sessions(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        _, users = await self._look(session, desired, desired.names.logins)
        await session.all([("CLIENT", "KILL", "USER", user.name) for user in users])

    async def _drop_logins(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        present, users = await self._look(session, desired, desired.names.logins)
        if users and present is None:
            # Their marks go with the logins, and keys of theirs may be left.
            await session.call("HSETNX", MARKS, desired.names.database, desired.mark.encode())
            reached("claimed-to-drop")
        await self._drop(session, users)
        reached("logins-dropped")

    async def _drop_database(
        self, session: Session, desired: Desired, step: RedisStep, credentials: Credentials | None
    ) -> None:
        database = desired.names.database
        found, _ = await self._look(session, desired, ())
        if found is None:
            return
        await keyspace.remove(session, database)
        reached("keys-removed")
        claim = self._claim(desired)
        await session.call("EVAL", _FORGET, 0, claim[0], claim[1], found, *claim[3:])
        self._keys.removed(database)

    async def _drop(self, session: Session, users: Sequence[User]) -> None:
        """Removes logins. The server ends their sessions."""
        if users:
            await session.call("ACL", "DELUSER", *(user.name for user in users))

    async def _look(
        self, session: Session, desired: Desired, logins: Sequence[str]
    ) -> tuple[str | None, list[User]]:
        """The mark of the database, None when there is none, and logins, as far as they are there.

        :raises Stale: when one of them is somebody else's.
        """
        text: str | None
        text, *answers = await session.all(
            [("HGET", MARKS, desired.names.database), *(("ACL", "GETUSER", login) for login in logins)]
        )
        mark = Mark.decode(text)
        if text is not None and (mark is None or not mark.same_owner(desired.mark)):
            raise Stale(f"{self.where(desired)} is not the tenant's")
        found = [parse_one(login, answer) for login, answer in zip(logins, answers, strict=True)]
        users = [user for user in found if user is not None]
        for user in users:
            if not is_ours(user, desired.mark):
                raise Stale(f"{self.where(desired)}: login {user.name} is not the tenant's")
        return text, users

    def _claim(self, desired: Desired) -> tuple[str, ...]:
        database = desired.names.database
        return (MARKS, database, desired.mark.encode(), ledger_of(database), UNFINISHED)

    async def known(self, session: Session) -> Facts:
        """What the server is."""
        if self.facts is None:
            self.facts = await known_facts(session)
        return self.facts
