"""Connections to one server: bounded, reused, and failing fast while the server is away."""

from __future__ import annotations

import asyncio
import select
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Credentials
from tenantry_operator.engines.breaker import Breaker
from tenantry_operator.engines.postgres.sqlstate import answered, connect_error

Connection = psycopg.AsyncConnection[TupleRow]
PROPAGATION = "citus.enable_ddl_propagation"
"""The setting that has Citus send DDL to its nodes."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Times are in seconds."""

    maintenance_database: str = "postgres"
    """The database to connect to for what concerns the whole server."""
    concurrency: int = 4
    """Connections at a time, over all databases of the server."""
    connect_timeout: int = 5
    statement_timeout: float = 300.0
    lock_timeout: float = 5.0
    idle: float = 60.0
    """An unused connection is closed after this time."""
    uses: int = 16
    """A connection is closed after it was used so often: the server's process keeps in memory what it learns of
    every relation, and of every function that was called, dropped or not."""
    probe_after: float = 1.0
    """A connection that was unused for so long is tried before it is relied on."""
    failures: int = 3
    """After so many failed attempts to connect, the server is left alone for a while."""
    pause: float = 1.0
    """How long it is left alone at first; doubled with every further failure."""
    longest_pause: float = 30.0
    citus: bool = False
    """Whether the server is the coordinator of Citus: see :mod:`tenantry_operator.engines.postgres.citus`."""


@dataclass(slots=True)
class _Idle:
    connection: Connection
    since: float


@dataclass(slots=True)
class _Certificates:
    """Certificates as files, which is how libpq wants them."""

    folder: tempfile.TemporaryDirectory[str] | None = None
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def write(cls, certificates: Sequence[tuple[str, str]]) -> _Certificates:
        options = {"ca.crt": "sslrootcert", "tls.crt": "sslcert", "tls.key": "sslkey"}
        made = cls()
        for name, pem in certificates:
            if name in options:
                if made.folder is None:
                    made.folder = tempfile.TemporaryDirectory(prefix="tenantry-")
                path = Path(made.folder.name) / name
                path.touch(mode=0o600)
                path.write_text(pem, encoding="ascii")
                made.options[options[name]] = str(path)
        return made


class Connections:
    """The administrator's connections to one server.

    At most ``concurrency`` are in use, whichever database they are to. They are kept for reuse by
    database, the one used last first.
    """

    def __init__(self, access: Access, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.server = f"{access.host}:{access.port}"
        self.admin = access.username
        self._access = access
        self._semaphore = asyncio.Semaphore(settings.concurrency)
        self._idle: dict[str, list[_Idle]] = {}
        self._uses: Counter[int] = Counter()
        self._breaker = Breaker(settings.failures, settings.pause, settings.longest_pause)
        self._certificates = _Certificates.write(access.certificates)
        self._closed = False

    @asynccontextmanager
    async def use(self, database: str | None = None, *, keep: bool = True) -> AsyncIterator[Connection]:
        """A connection for the duration of the block, waiting for a free place.

        :param database: None for the maintenance database.
        :param keep: whether it may be kept open afterwards: not for databases that are seldom visited.
        :raises Retryable: ServerUnreachable.
        :raises Stalled: AdminLoginRefused.
        :raises Stale: when there is no such database.
        """
        database = database or self.settings.maintenance_database
        async with self._semaphore:
            connection = await self._take(database)
            try:
                yield connection
            except BaseException:
                # Whatever happened to it, nobody else is to inherit it.
                await self._discard(connection)
                raise
            if keep and not self._closed:
                await self._give_back(database, connection)
            else:
                await self._discard(connection)

    @asynccontextmanager
    async def session(self, database: str, credentials: Credentials) -> AsyncIterator[Connection]:
        """A session of another login than the administrator's, which is not kept.

        It does not count as one of the connections at a time: whoever needs it holds one of those already.
        """
        parameters = self._parameters(database, local=False)
        parameters |= {"user": credentials.login, "password": credentials.password}
        try:
            connection = await psycopg.AsyncConnection.connect(**parameters)
        except psycopg.Error as error:
            raise connect_error(error, self.server, database) from None
        try:
            yield connection
        finally:
            await self._discard(connection)

    async def forget(self, database: str) -> None:
        """Closes unused connections to a database, so that it can be dropped."""
        for idle in self._idle.pop(database, []):
            await self._discard(idle.connection)

    async def close(self) -> None:
        """Closes all unused connections; those in use are closed when they come back."""
        self._closed = True
        for database in list(self._idle):
            await self.forget(database)
        if self._certificates.folder is not None:
            self._certificates.folder.cleanup()

    async def _take(self, database: str) -> Connection:
        idle = self._idle.get(database)
        now = time.monotonic()
        while idle:
            candidate = idle.pop()
            doubtful = now - candidate.since > self.settings.probe_after or _has_news(candidate.connection)
            if doubtful and not await _answers(candidate.connection):
                await self._discard(candidate.connection)
                continue
            return candidate.connection
        return await self._connect(database)

    async def _give_back(self, database: str, connection: Connection) -> None:
        self._uses[id(connection)] += 1
        usable = not connection.closed and connection.info.transaction_status is TransactionStatus.IDLE
        if not usable or self._uses[id(connection)] >= self.settings.uses:
            await self._discard(connection)
            return
        now = time.monotonic()
        self._idle.setdefault(database, []).append(_Idle(connection, now))
        for name, idle in list(self._idle.items()):
            while idle and now - idle[0].since > self.settings.idle:
                await self._discard(idle.pop(0).connection)
            if not idle:
                self._idle.pop(name, None)

    async def _connect(self, database: str) -> Connection:
        self._breaker.check(time.monotonic())
        try:
            connection = await psycopg.AsyncConnection.connect(**self._parameters(database))
        except psycopg.Error as error:
            translated = connect_error(error, self.server, database)
            if answered(error):
                self._breaker.succeeded()
            else:
                self._breaker.failed(time.monotonic(), getattr(translated, "message", str(translated)))
            raise translated from None
        self._breaker.succeeded()
        return connection

    def _parameters(self, database: str, *, local: bool = True) -> dict[str, Any]:
        settings = self.settings
        options = {
            # Relations of a temporary schema would otherwise come before those of pg_catalog.
            "search_path": "pg_catalog,pg_temp",
            "statement_timeout": f"{settings.statement_timeout * 1000:.0f}",
            "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
            "idle_in_transaction_session_timeout": "60000",
            "client_min_messages": "notice",
            "standard_conforming_strings": "on",
            "row_security": "on",
            "default_transaction_isolation": "read\\ committed",
            "createrole_self_grant": "",
        }
        if settings.citus and local:
            options[PROPAGATION] = "off"
        return {
            "host": self._access.host,
            "port": self._access.port,
            "user": self._access.username,
            "password": self._access.password,
            "dbname": database,
            "sslmode": self._access.sslmode,
            **self._certificates.options,
            "gssencmode": "disable",
            "connect_timeout": settings.connect_timeout,
            "application_name": "tenantry",
            "client_encoding": "UTF8",
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30000,
            "autocommit": True,
            "prepare_threshold": None,
        }

    async def _discard(self, connection: Connection) -> None:
        self._uses.pop(id(connection), None)
        await connection.close()


def _has_news(connection: Connection) -> bool:
    """Whether the server sent something unasked: as a rule, that it ended the session."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _answers(connection: Connection) -> bool:
    try:
        await connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return connection.info.transaction_status is TransactionStatus.IDLE
