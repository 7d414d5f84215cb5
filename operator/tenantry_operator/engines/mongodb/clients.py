"""Clients of one server: the administrator's, kept open, and those of confined logins for a moment."""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import ConnectionFailure, PyMongoError, ServerSelectionTimeoutError

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Credentials
from tenantry_operator.engines.breaker import Breaker
from tenantry_operator.engines.mongodb.errors import is_of_server, refused_login, translate

Client = AsyncMongoClient[dict[str, Any]]

_TRIED_AGAIN = 900.0
"""Seconds after which it is tried again who is let in."""
_WRONG = "a-password-that-nobody-has"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Times are in seconds."""

    concurrency: int = 4
    """Connections of the administrator at a time."""
    confined: int = 2
    """Confined logins at a time: they hold the connections of theirs while a command runs for long."""
    connect_timeout: float = 5.0
    command_timeout: float = 300.0
    idle: float = 60.0
    """An unused connection is closed after this time."""
    probe_after: float = 1.0
    """Connections that were unused for so long are tried before they are relied on."""
    failures: int = 3
    """After so many failed attempts, the server is left alone for a while."""
    pause: float = 1.0
    """How long it is left alone at first; doubled with every further failure."""
    longest_pause: float = 30.0


class Clients:
    """How one server is reached."""

    def __init__(self, access: Access, settings: ClientSettings) -> None:
        self.settings = settings
        self.server = f"{access.host}:{access.port}"
        self.ferretdb = access.backend is not None
        # FerretDB passes logins on: its administrator is that of the PostgreSQL behind it.
        known = access if access.backend is None else access.backend
        self.administrator = Credentials(known.username, known.password)
        self._doors: tuple[str, ...] = ()
        self._tried = -math.inf
        self._access = access
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._client: Client | None = None
        self._used = 0.0
        self._few = asyncio.Semaphore(settings.confined)
        self._breaker = Breaker(settings.failures, settings.pause, settings.longest_pause)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Client]:
        """The administrator's client for the duration of the block; failing fast while the server is away.

        :raises Retryable: ServerUnreachable.
        """
        self._breaker.check(time.monotonic())
        if self._client is None:
            self._client = self._make(self.administrator, self._source, self.settings.command_timeout)
        try:
            await self._probe(self._client)
            yield self._client
        except PyMongoError as error:
            if is_of_server(error):
                translated = translate(error, f"server {self.server}")
                self._breaker.failed(time.monotonic(), getattr(translated, "message", str(translated)))
            elif refused_login(error):
                self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        self._used = time.monotonic()

    async def _probe(self, client: Client) -> None:
        """After a rest, finds out whether connections are still good: those to a server that restarted are not."""
        if time.monotonic() - self._used < self.settings.probe_after:
            return
        try:
            await client.admin.command("hello")
        except ServerSelectionTimeoutError:
            raise
        except ConnectionFailure:
            # The driver closed them all, and connects anew.
            return

    @asynccontextmanager
    async def login(self, credentials: Credentials, source: str, longest: float) -> AsyncIterator[Client]:
        """A client of another login than the administrator's, which is not kept.

        :param source: the database that knows the login.
        :param longest: seconds that one command may take.
        """
        async with self._few:
            client = self._make(credentials, source, longest)
            try:
                yield client
            finally:
                await client.close()

    @property
    def _source(self) -> str:
        return "$external" if self.ferretdb else "admin"

    async def open_doors(self) -> tuple[str, ...]:
        """What lets in who should not be, with what closes it; tried now and then."""
        if time.monotonic() - self._tried < _TRIED_AGAIN:
            return self._doors
        doors = []
        if await self._enters(None):
            doors.append(
                "who does not log in is let in: give FerretDB a --postgresql-url without a user"
                if self.ferretdb
                else "who does not log in is let in: set security.authorization to enabled"
            )
        if self.ferretdb and await self._enters(Credentials(self.administrator.login, _WRONG)):
            doors.append(
                "any password is taken: let pg_hba.conf of the PostgreSQL behind FerretDB ask for scram-sha-256"
            )
        self._doors, self._tried = tuple(doors), time.monotonic()
        return self._doors

    async def _enters(self, credentials: Credentials | None) -> bool:
        client = self._make(credentials, self._source, self.settings.connect_timeout)
        try:
            await client.admin.command("listDatabases", nameOnly=True)
        except PyMongoError:
            return False
        finally:
            await client.close()
        return True

    def _make(self, credentials: Credentials | None, source: str, longest: float) -> Client:
        settings = self.settings
        login: dict[str, Any] = (
            {}
            if credentials is None
            else {
                "username": credentials.login,
                "password": credentials.password,
                "authSource": source,
                "authMechanism": "PLAIN" if self.ferretdb else "SCRAM-SHA-256",
            }
        )
        return AsyncMongoClient(
            host=self._access.host,
            port=self._access.port,
            directConnection=True,
            appname="tenantry",
            maxPoolSize=settings.concurrency,
            maxIdleTimeMS=round(settings.idle * 1000),
            serverSelectionTimeoutMS=round(settings.connect_timeout * 1000),
            connectTimeoutMS=round(settings.connect_timeout * 1000),
            socketTimeoutMS=round(longest * 1000),
            retryWrites=False,
            retryReads=False,
            **login,
            **self._encryption(),
        )

    def _encryption(self) -> dict[str, Any]:
        """MongoDB has no encryption when possible: ``prefer`` is none, unless there is an authority to trust."""
        certificates = dict(self._access.certificates)
        mode = self._access.sslmode
        if mode == "disable" or (mode == "prefer" and "ca.crt" not in certificates):
            return {"tls": False}
        options: dict[str, Any] = {"tls": True}
        if certificates:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="tenantry-")
            folder = Path(self._folder.name)
            if "ca.crt" in certificates:
                options["tlsCAFile"] = _write(folder / "ca.crt", certificates["ca.crt"])
            if "tls.crt" in certificates and "tls.key" in certificates:
                both = f"{certificates['tls.crt'].rstrip()}\n{certificates['tls.key']}"
                options["tlsCertificateKeyFile"] = _write(folder / "tls.pem", both)
        if mode in ("prefer", "require"):
            options["tlsAllowInvalidCertificates"] = True
        elif mode == "verify-ca":
            options["tlsAllowInvalidHostnames"] = True
        return options

    async def close(self) -> None:
        """Closes all connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _write(path: Path, pem: str) -> str:
    path.touch(mode=0o600)
    path.write_text(pem, encoding="ascii")
    return str(path)
