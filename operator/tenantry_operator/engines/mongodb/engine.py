"""MongoDB as a database engine: observe, plan, apply."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from pymongo.errors import PyMongoError

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Deviation,
    Stale,
    Step,
    Structure,
    UsageRow,
)
from tenantry_operator.engines.mongodb.accounts import Accounts
from tenantry_operator.engines.mongodb.clients import Clients, ClientSettings
from tenantry_operator.engines.mongodb.errors import is_of_server, translate
from tenantry_operator.engines.mongodb.ferretdb import FerretAccounts
from tenantry_operator.engines.mongodb.migrations import migrate
from tenantry_operator.engines.mongodb.mongod import MongodAccounts
from tenantry_operator.engines.mongodb.plan import MongoStep, plan
from tenantry_operator.engines.mongodb.state import MongoState
from tenantry_operator.engines.mongodb.structures import compare, read_structure
from tenantry_operator.engines.mongodb.usage import count
from tenantry_operator.engines.mongodb.view import View
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.rehearsal import Rehearsals
from tenantry_operator.errors import Retryable
from tenantry_operator.faults import reached

_log = structlog.get_logger(__name__)

Handler = Callable[[Desired, MongoStep, Credentials | None], Awaitable[None]]


_COMPACT_AGAIN = 50.0
"""Seconds; less than passes until who is over its quota is looked at again although nothing changed."""


@dataclass(frozen=True, slots=True)
class _Compacted:
    """When a database was compacted last, and how long it is left alone unless something is written."""

    writes: int | None
    at: float
    pause: float


class MongoEngine:
    """One MongoDB server, or one FerretDB with the PostgreSQL behind it."""

    def __init__(
        self,
        access: Access,
        *,
        installation: str,
        settings: ConnectionSettings | None = None,
    ) -> None:
        settings = settings or ConnectionSettings()
        self._installation = installation
        self._clients = Clients(
            access,
            ClientSettings(
                concurrency=settings.concurrency,
                connect_timeout=settings.connect_timeout,
                command_timeout=settings.statement_timeout,
                idle=settings.idle,
                failures=settings.failures,
                pause=settings.pause,
                longest_pause=settings.longest_pause,
            ),
        )
        self._accounts: Accounts = (
            MongodAccounts(self._clients, installation)
            if access.backend is None
            else FerretAccounts(access, self._clients, installation, settings)
        )
        self._state: MongoState | None = None
        self._rehearsals = Rehearsals(installation, DatabaseEngine.MONGODB, self._settle)
        self._compacted: dict[str, _Compacted] = {}
        self._handlers: dict[str, Handler] = {
            "create-database": self._create_database,
            "create-login": self._create_login,
            "set-password": self._set_password,
            "enable-login": self._enable_login,
            "mend": self._mend,
            "migrate": self._migrate,
            "refuse-writes": self._refuse_writes,
            "allow-writes": self._allow_writes,
            "vacuum": self._vacuum,
            "retire-login": self._retire_login,
            "refuse-logins": self._refuse_logins,
            "end-sessions": self._end_sessions,
            "drop-database": self._drop_database,
            "drop-rest": self._drop_rest,
        }

    async def observe(self) -> MongoState:
        """Takes a snapshot of the whole server."""
        taken_at = time.monotonic()
        try:
            state = MongoState(taken_at, await self._accounts.observe())
        except Stale as stale:
            raise Retryable("ServerChanging", str(stale)) from None
        self._state = state
        return state

    async def observe_one(self, desired: Desired) -> DatabaseState:
        """Looks at one tenant database, fresh."""
        try:
            return (await self._accounts.observe_one(desired)).find(desired).state()
        except Stale as stale:
            raise Retryable("ServerChanging", str(stale)) from None

    def plan(
        self, desired: Desired, state: DatabaseState, credentials: Credentials | None
    ) -> tuple[MongoStep, ...]:
        """The steps from ``state`` to ``desired``. Pure."""
        return plan(desired, state, credentials)

    async def apply(self, desired: Desired, steps: Sequence[Step], credentials: Credentials | None) -> None:
        """Executes steps in order.

        :raises Stale: when the server is not as the plan assumed.
        """
        for step in steps:
            if not isinstance(step, MongoStep):
                raise TypeError(f"not a step of this engine: {step!r}")
            try:
                await self._handlers[step.name](desired, step, credentials)
            except PyMongoError as error:
                raise translate(error, self._where(desired)) from None
            reached(step.name)

    def _where(self, desired: Desired) -> str:
        return f"database {desired.names.database} on {self._accounts.server}"

    async def _create_database(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.create(desired)

    async def _create_login(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.create_login(desired, _given(credentials))

    async def _set_password(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.set_password(desired, _given(credentials))

    async def _enable_login(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.enable(desired, step.login or "")

    async def _mend(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        view = await self._view(desired)
        await self._accounts.mend(desired, read_only=view.read_only, logins=view.logins)

    async def _migrate(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await migrate(self._accounts, desired)

    async def _refuse_writes(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._set_read_only(desired, read_only=True)

    async def _allow_writes(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._set_read_only(desired, read_only=False)

    async def _set_read_only(self, desired: Desired, *, read_only: bool) -> None:
        view = await self._view(desired)
        await self._accounts.set_read_only(desired, view.logins, read_only=read_only)

    async def _vacuum(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        """Gives back what was deleted, when something was written or deleted since the last time.

        It is done again after a while, ever more seldom: what an old transaction could still see was kept.
        """
        name, now = desired.names.database, time.monotonic()
        writes = (await self.observe_one(desired)).writes
        last = self._compacted.get(name)
        pause = _COMPACT_AGAIN
        if last is not None and last.writes == writes:
            if now - last.at < last.pause:
                return
            pause = 2 * last.pause
        await self._accounts.compact(desired)
        self._compacted[name] = _Compacted(writes, now, pause)

    async def _retire_login(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        login = step.login or ""
        if login in (await self._view(desired)).logins:
            await self._accounts.retire(desired, login)

    async def _refuse_logins(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.refuse(desired, (await self._view(desired)).logins)

    async def _end_sessions(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.end_sessions(desired, (await self._view(desired)).logins)

    async def _drop_database(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        self._compacted.pop(desired.names.database, None)
        await self._accounts.drop_data(desired)

    async def _drop_rest(self, desired: Desired, step: MongoStep, credentials: Credentials | None) -> None:
        await self._accounts.drop_rest(desired)

    async def _view(self, desired: Desired) -> View:
        """What is the tenant's own, looked at again just before it is worked on.

        :raises Stale: when something of it is somebody else's by now.
        """
        state = await self.observe_one(desired)
        if not isinstance(state.detail, View):
            raise Stale(f"{state.conflict} is not the tenant's any more")
        return state.detail

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> Mapping[str, Structure]:
        """Makes a scratch database, brings it along chains one after the other, and drops it."""
        return await self._rehearsals.run(desired, chains, self.structure)

    async def structure(self, desired: Desired) -> Structure | None:
        """Collections, their options and validators, and indexes."""
        try:
            async with self._clients.admin() as client:
                return await read_structure(client[desired.names.database])
        except PyMongoError as error:
            if is_of_server(error):
                _log.info("a structure was not read", where=self._where(desired), error=str(error))
                return None
            raise translate(error, self._where(desired)) from None

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        """What differs."""
        return compare(expected, found)

    async def keep_templates(self, chains: Mapping[str, Chain]) -> None:
        """Drops the scratch copies that a crash left: there are no templates."""
        if self._state is not None:
            await self._rehearsals.clear(mark for _, mark in self._state.catalog.marks())

    async def _settle(self, desired: Desired) -> None:
        await self.apply(desired, self.plan(desired, await self.observe_one(desired), None), None)

    async def usage(self, desired: Desired, queries: Mapping[str, str]) -> Mapping[str, tuple[UsageRow, ...]]:
        """Runs usage queries read-only, within the tenant's data only."""
        return await count(self._accounts, desired, queries)

    async def close(self) -> None:
        """Closes all connections."""
        await self._accounts.close()
        await self._clients.close()


def _given(credentials: Credentials | None) -> Credentials:
    if credentials is None:
        raise ValueError("a login cannot be made, nor its password set, without credentials")
    return credentials
