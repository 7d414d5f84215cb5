"""What the flavours differ in: logins, rights, marks and the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from pymongo.asynchronous.database import AsyncDatabase

from tenantry_operator.engines.base import Credentials, Desired, Mark, Migration, ServerReport
from tenantry_operator.engines.halfway import Unfinished
from tenantry_operator.engines.mongodb.view import Found
from tenantry_operator.engines.path import Applied

Database = AsyncDatabase[dict[str, Any]]


class Catalog(Protocol):
    """A snapshot of one server."""

    @property
    def report(self) -> ServerReport: ...

    def find(self, desired: Desired) -> Found:
        """What it says of one tenant database. Pure."""

    def marks(self) -> Sequence[tuple[str, Mark]]:
        """Databases and the marks of all that was made for them, tenants' and scratch copies' alike."""


class Accounts(Protocol):
    """One flavour of server. Everything may be repeated after a crash."""

    server: str
    """Its address, for messages."""

    async def observe(self) -> Catalog:
        """Looks at the whole server with a number of commands that does not grow with the tenants."""

    async def observe_one(self, desired: Desired) -> Catalog:
        """Looks at one tenant's objects, fresh."""

    async def create(self, desired: Desired) -> None:
        """Makes marks, then what carries rights, then the empty database."""

    async def create_login(self, desired: Desired, credentials: Credentials) -> None:
        """Makes a login with its rights. Fails when the name is taken."""

    async def set_password(self, desired: Desired, credentials: Credentials) -> None:
        """Sets a login's password, and ends what goes on with the old one."""

    async def enable(self, desired: Desired, login: str) -> None:
        """Lets a login in again, with the password it had."""

    async def refuse(self, desired: Desired, logins: Collection[str]) -> None:
        """Refuses logins; their passwords are kept."""

    async def end_sessions(self, desired: Desired, logins: Collection[str]) -> None:
        """Ends what refused logins have open, until there is nothing."""

    async def retire(self, desired: Desired, login: str) -> None:
        """Ends a login's sessions and drops it."""

    async def mend(self, desired: Desired, *, read_only: bool, logins: Collection[str]) -> None:
        """Gives all objects the rights and limits they should have."""

    async def set_read_only(self, desired: Desired, logins: Collection[str], *, read_only: bool) -> None:
        """Lets logins read and delete only, or write again."""

    async def compact(self, desired: Desired) -> None:
        """Gives back the room of what was deleted, where the server does not by itself."""

    async def drop_data(self, desired: Desired) -> None:
        """Drops the database, when it is the tenant's."""

    async def drop_rest(self, desired: Desired) -> None:
        """Drops logins, what carries rights, the ledger, and last the marks."""

    def confined(self, desired: Desired, longest: float) -> AbstractAsyncContextManager[Database]:
        """The tenant's database as a login sees it that reaches nothing else, and is gone afterwards.

        :param longest: seconds that one command may take.
        """

    async def ledger(self, desired: Desired) -> tuple[Applied, ...]:
        """What was applied, in that order."""

    async def unfinished(self, desired: Desired) -> Unfinished | None:
        """What was begun and did not end."""

    async def begin(self, desired: Desired, migration: Migration, command: int, mark: Mark | None) -> None:
        """Notes that a command is about to be run.

        :param mark: the mark of the data meanwhile; None: it is there already.
        """

    async def finish(self, desired: Desired, migration: Migration | None, mark: Mark) -> None:
        """Notes a migration as applied or undone, that nothing is half done, and the mark of the data.

        :param migration: None: only the mark.
        """

    async def close(self) -> None:
        """Closes all connections."""
