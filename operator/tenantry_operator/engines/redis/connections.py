"""Connections to one server: bounded, reused, and failing fast while the server is away."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio.connection import Connection as PlainConnection

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.breaker import Breaker
from tenantry_operator.engines.redis.errors import connect_error, refused

Command = Sequence[str | int | bytes]
FAILURES = (exceptions.RedisError, OSError, TimeoutError)
"""What a connection or an answer may raise."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Times are in seconds."""

    concurrency: int = 4
    """Connections at a time."""
    connect_timeout: float = 5.0
    timeout: float = 60.0
    """To wait for an answer."""
    idle: float = 60.0
    """An unused connection is closed after this time."""
    probe_after: float = 1.0
    """A connection that was unused for so long is tried before it is relied on."""
    failures: int = 3
    """After so many failed attempts to connect, the server is left alone for a while."""
    pause: float = 1.0
    """How long it is left alone at first; doubled with every further failure."""
    longest_pause: float = 30.0


class Session:
    """One connection, for one user at a time. Nothing is ever sent twice."""

    def __init__(self, connection: PlainConnection) -> None:
        self._connection = connection

    async def call(self, *arguments: str | int | bytes) -> Any:
        """The answer to one command.

        :raises redis.exceptions.RedisError: also for an error that is the answer.
        """
        await self._connection.send_command(*arguments)
        return await self._connection.read_response()

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands that are sent together; those that are errors stand among them."""
        if not commands:
            return []
        await self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [await self._answer() for _ in commands]

    async def all(self, commands: Sequence[Command]) -> list[Any]:
        """Like :meth:`pipeline`, but the first error is raised, after all were answered."""
        answers = await self.pipeline(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands between which no other client's come; errors stand among them."""
        return done_of(await self.pipeline([("MULTI",), *commands, ("EXEC",)]))

    async def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(*FAILURES):
            await self._connection.disconnect(nowait=True)

    async def usable(self, *, ask: bool) -> bool:
        """Whether it still is: the server has not ended it, nor sent what nobody asked for.

        :param ask: whether the server is asked, too: it may be gone without a word.
        """
        for _ in range(2):
            await asyncio.sleep(0)  # the event loop takes in what came, and the turn after it is ours
        with contextlib.suppress(*FAILURES):
            if await self._connection.can_read():
                return False
            return not ask or await self.call("PING") == "PONG"
        return False

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except exceptions.ConnectionError:
            raise
        except (exceptions.ResponseError, exceptions.NoPermissionError) as error:
            return error


def done_of(answers: Sequence[Any]) -> list[Any]:
    """What a transaction did.

    :param answers: to MULTI, to its commands, and to EXEC.
    :raises redis.exceptions.RedisError: when it was not done.
    """
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return list(answers[-1])


class _Encrypted(PlainConnection):
    def __init__(self, context: ssl.SSLContext, options: dict[str, Any]) -> None:
        super().__init__(**options)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


class Connections:
    """The administrator's connections to one server."""

    def __init__(self, access: Access, settings: ConnectionSettings) -> None:
        self.server = f"{access.host}:{access.port}"
        self.admin = access.username
        self._access = access
        self._settings = settings
        self._semaphore = asyncio.Semaphore(settings.concurrency)
        self._idle: list[tuple[Session, float]] = []
        self._breaker = Breaker(settings.failures, settings.pause, settings.longest_pause)
        self._context = _context(access)
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Session]:
        """A connection for the duration of the block, waiting for a free place.

        :raises Retryable: ServerUnreachable.
        :raises Stalled: AdminLoginRefused.
        """
        async with self._semaphore:
            session = await self._take()
            try:
                yield session
            except BaseException:
                # An answer may be on its way that nobody waits for any more.
                await session.close()
                raise
            if self._closed:
                await session.close()
            else:
                self._idle.append((session, time.monotonic()))
                await self._close_idle()

    async def close(self) -> None:
        """Closes all unused connections; those in use are closed when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for session, _ in idle:
            await session.close()

    async def _close_idle(self) -> None:
        now = time.monotonic()
        while self._idle and now - self._idle[0][1] > self._settings.idle:
            session, _ = self._idle.pop(0)
            await session.close()

    async def _take(self) -> Session:
        while self._idle:
            session, since = self._idle.pop()
            if await session.usable(ask=time.monotonic() - since > self._settings.probe_after):
                return session
            await session.close()
        return await self._connect()

    async def _connect(self) -> Session:
        self._breaker.check(time.monotonic())
        try:
            connection = await self._connection()
            await connection.connect()  # type: ignore[no-untyped-call]
        except FAILURES as error:
            translated = connect_error(error, self.server)
            if refused(error):
                self._breaker.succeeded()
            else:
                self._breaker.failed(time.monotonic(), translated.message)
            raise translated from None
        self._breaker.succeeded()
        return Session(connection)

    async def _connection(self) -> PlainConnection:
        options: dict[str, Any] = {
            "host": self._access.host,
            "port": self._access.port,
            "username": self._access.username,
            "password": self._access.password,
            "socket_connect_timeout": self._settings.connect_timeout,
            "socket_timeout": self._settings.timeout,
            "socket_keepalive": True,
            "decode_responses": True,
            # What is no text stays what it is, on its way there and back.
            "encoding_errors": "surrogateescape",
            "protocol": 2,
            "client_name": "tenantry",
            "driver_info": None,
        }
        encrypted = self._access.sslmode != "disable"
        if self._access.sslmode == "prefer":
            encrypted = not await self._speaks_plainly()
        if not encrypted:
            return PlainConnection(**options)
        return _Encrypted(self._context, options)

    async def _speaks_plainly(self) -> bool:
        """Whether the server answers without encryption; nothing secret is sent to find out."""
        wait = self._settings.connect_timeout
        async with asyncio.timeout(wait):
            reader, writer = await asyncio.open_connection(self._access.host, self._access.port)
            answer = b""
            try:
                writer.write(b"PING\r\n")
                with contextlib.suppress(ConnectionError):  # how one that expects a handshake may answer
                    answer = await reader.read(1)
            finally:
                writer.close()
        return answer in (b"+", b"-")


def _context(access: Access) -> ssl.SSLContext:
    """How connections are encrypted, in libpq's words: ``require`` with an authority verifies, too."""
    given = dict(access.certificates)
    authority = given.get("ca.crt")
    verify = access.sslmode in ("verify-ca", "verify-full") or (access.sslmode == "require" and authority)
    context = ssl.create_default_context(cadata=authority) if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = access.sslmode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if "tls.crt" in given and "tls.key" in given:
        # Python takes a certificate of one's own from files only.
        with tempfile.TemporaryDirectory(prefix="tenantry-") as folder:
            certificate, key = Path(folder) / "tls.crt", Path(folder) / "tls.key"
            for path, text in ((certificate, given["tls.crt"]), (key, given["tls.key"])):
                path.touch(mode=0o600)
                path.write_text(text, encoding="ascii")
            context.load_cert_chain(certificate, key)
    return context
