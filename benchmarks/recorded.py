"""What engines send to their servers, taken down in this process, and sent again by plain clients.

Only what changes something is taken down, as in :mod:`benchmarks.raw`: with its names and verifiers, so that it
can be sent once more when it was undone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pymongo.monitoring
from psycopg import sql
from pymongo import AsyncMongoClient

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.mysql.connections import Connection as MySqlConnection
from tenantry_operator.engines.mysql.connections import Connections as MySqlConnections
from tenantry_operator.engines.mysql.connections import ConnectionSettings as MySqlSettings
from tenantry_operator.engines.postgres.connections import Connections, ConnectionSettings
from tenantry_operator.engines.redis.connections import Command, Session
from tenantry_operator.engines.redis.connections import Connections as RedisConnections
from tenantry_operator.engines.redis.connections import ConnectionSettings as RedisSettings

PARALLEL = 4
"""Connections: what the operator has to a server."""
_LOOKS = ("SELECT", "SHOW", "WITH", "TABLE", "VALUES", "SET STATEMENT")
_REDIS_CHANGES = frozenset({"ACL SETUSER", "ACL DELUSER", "ACL SAVE", "CONFIG REWRITE"})
_REDIS_LOOKS = frozenset(
    {
        "HGET",
        "HGETALL",
        "INFO",
        "LRANGE",
        "PING",
        "SCAN",
        "DBSIZE",
        "EXISTS",
        "TYPE",
        "ACL",
        "CLIENT",
        "MEMORY",
        "CONFIG",
    }
)
_MONGO_CHANGES = frozenset({"create", "createIndexes", "drop", "dropDatabase", "insert", "update", "delete"})
_OF_THE_DRIVER = frozenset({"lsid", "$db", "$clusterTime", "$readPreference", "txnNumber"})


@dataclass(frozen=True, slots=True)
class Sent:
    """One message."""

    kind: DatabaseEngine
    """The protocol: FerretDB's PostgreSQL gets messages of its own."""
    database: str
    body: Any
    """A query and its parameters, a statement, a list of commands, or a command."""


@dataclass(slots=True)
class Tenant:
    """What was sent for a tenant."""

    changes: list[Sent] = field(default_factory=list)
    looks: int = 0

    def add(self, kind: DatabaseEngine, database: str, body: Any, *, changes: bool) -> None:
        """Takes a message down, or counts it."""
        if changes:
            self.changes.append(Sent(kind, database, body))
        else:
            self.looks += 1


_current: ContextVar[Tenant | None] = ContextVar("tenant", default=None)


@contextmanager
def taken_down(tenant: Tenant) -> Iterator[None]:
    """What this task sends meanwhile is sent for the tenant."""
    token = _current.set(tenant)
    try:
        yield
    finally:
        _current.reset(token)


class _Listener(pymongo.monitoring.CommandListener):
    def started(self, event: Any) -> None:
        tenant = _current.get()
        if tenant is not None and event.command_name not in {"hello", "saslStart"}:
            command = {name: value for name, value in event.command.items() if name not in _OF_THE_DRIVER}
            changes = event.command_name in _MONGO_CHANGES
            tenant.add(DatabaseEngine.MONGODB, event.database_name, command, changes=changes)

    def succeeded(self, event: Any) -> None:
        """Nothing to do."""

    def failed(self, event: Any) -> None:
        """Nothing to do."""


@contextmanager
def recorder() -> Iterator[None]:
    """Taking down works within the block."""
    execute, run = psycopg.AsyncCursor.execute, MySqlConnection.run
    call, pipeline = Session.call, Session.pipeline

    async def executed(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        tenant = _current.get()
        if tenant is not None:
            changes = not _text(query).lstrip().upper().startswith(_LOOKS)
            tenant.add(DatabaseEngine.POSTGRESQL, self.connection.info.dbname, (query, params), changes=changes)
        return await execute(self, query, params, **options)

    async def ran(self: Any, statement: str, **options: Any) -> Any:
        tenant = _current.get()
        if tenant is not None:
            changes = not statement.lstrip().upper().startswith(_LOOKS)
            tenant.add(DatabaseEngine.MYSQL, self.db or "", statement, changes=changes)
        return await run(self, statement, **options)

    async def called(self: Any, *arguments: Any) -> Any:
        of_redis([arguments])
        return await call(self, *arguments)

    async def piped(self: Any, commands: Sequence[Command]) -> Any:
        of_redis(commands)
        return await pipeline(self, commands)

    # The driver's and the engines' own methods: what is sent through them is all there is.
    patched = (
        (psycopg.AsyncCursor, "execute", executed, execute),
        (MySqlConnection, "run", ran, run),
        (Session, "call", called, call),
        (Session, "pipeline", piped, pipeline),
    )
    for owner, name, new, _ in patched:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, _, old in patched:
            setattr(owner, name, old)


def of_redis(commands: Sequence[Command]) -> None:
    """Takes down commands that are sent together."""
    tenant = _current.get()
    if tenant is None:
        return
    words = [(str(command[0]), f"{command[0]} {command[1] if len(command) > 1 else ''}") for command in commands]
    dry = any(both == "ACL DRYRUN" for _, both in words)
    changes = not dry and any(both in _REDIS_CHANGES or verb not in _REDIS_LOOKS for verb, both in words)
    tenant.add(DatabaseEngine.REDIS, "", [tuple(command) for command in commands], changes=changes)


def _text(query: Any) -> str:
    if isinstance(query, sql.Composable):
        return query.as_string()
    return query.decode() if isinstance(query, bytes) else str(query)


def listen() -> None:
    """Takes down what is sent to MongoDB, by clients that are made from now on."""
    pymongo.monitoring.register(_Listener())


class Clients:
    """One connection of each kind that is needed, for one message at a time."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._backend = access.backend or access
        self._stack = contextlib.AsyncExitStack()
        self._sql: dict[str, psycopg.AsyncConnection[Any]] = {}
        self._other: Any = None

    @classmethod
    @asynccontextmanager
    async def open(cls, access: Access) -> AsyncIterator[Clients]:
        """Clients of a server, closed at the end of the block."""
        clients = cls(access)
        async with clients._stack:
            yield clients

    async def send(self, sent: Sent) -> None:
        """Sends a message and waits for the answer."""
        match sent.kind:
            case DatabaseEngine.POSTGRESQL:
                await (await self._postgres(sent.database)).execute(*sent.body)
            case DatabaseEngine.MYSQL:
                await self._mysql(sent)
            case DatabaseEngine.REDIS:
                if self._other is None:
                    pool = RedisConnections(self._access, RedisSettings())
                    self._other = await self._stack.enter_async_context(pool.use())
                    self._stack.push_async_callback(pool.close)
                await self._other.pipeline(sent.body)
            case DatabaseEngine.MONGODB:
                if self._other is None:
                    self._other = await self._stack.enter_async_context(mongo(self._access))
                await self._other[sent.database].command(sent.body)

    async def done(self) -> None:
        """A tenant is done: connections to its own databases are not needed any more."""
        for database in [name for name in self._sql if name != (self._backend.database or "postgres")]:
            await self._sql.pop(database).close()

    async def _postgres(self, database: str) -> psycopg.AsyncConnection[Any]:
        if database not in self._sql:
            parameters = Connections(self._backend, ConnectionSettings())._parameters(database)
            connection = await psycopg.AsyncConnection.connect(**parameters)
            self._sql[database] = connection
            self._stack.push_async_callback(connection.close)
        return self._sql[database]

    async def _mysql(self, sent: Sent) -> None:
        if self._other is None:
            pool = MySqlConnections(self._access, MySqlSettings())
            self._stack.push_async_callback(pool.close)
            self._other = await self._stack.enter_async_context(pool.use())
        if sent.database:
            await self._other.select_db(sent.database)
        await self._other.run(sent.body)


@asynccontextmanager
async def mongo(access: Access) -> AsyncIterator[Any]:
    """The administrator's client of FerretDB."""
    client: AsyncMongoClient[Any] = AsyncMongoClient(
        host=access.host,
        port=access.port,
        username=access.username,
        password=access.password,
        authSource="$external",
        authMechanism="PLAIN",
        directConnection=True,
        retryWrites=False,
    )
    try:
        yield client
    finally:
        await client.close()


async def replay(access: Access, tenants: Sequence[Tenant]) -> None:
    """Sends everything again, for one tenant after the other over each of the connections."""
    todo = iter(tenants)

    async def work() -> None:
        async with Clients.open(access) as clients:
            for tenant in todo:
                for sent in tenant.changes:
                    await clients.send(sent)
                await clients.done()

    await asyncio.gather(*(work() for _ in range(PARALLEL)))
