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

import aiomysql
import pymysql
from pymysql.constants import CLIENT

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Credentials
from tenantry_operator.engines.breaker import Breaker
from tenantry_operator.engines.mysql.errno import answered, connect_error, describe
from tenantry_operator.engines.mysql.privileges import of_grants, sees_all
from tenantry_operator.engines.mysql.sql import SQL_MODE, literal
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

Row = tuple[Any, ...]
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
_SSL_ERROR = 2026
_LOST = 2013
_TURN = 500
"""Rows that are looked at in one go."""
_GRACE = 5.0
"""Seconds that an answer may be late, after the server itself should have given up."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Times are in seconds."""

    concurrency: int = 4
    """Connections at a time."""
    connect_timeout: float = 5.0
    statement_timeout: float = 300.0
    lock_timeout: float = 5.0
    idle: float = 60.0
    """An unused connection is closed after this time."""
    probe_after: float = 1.0
    """A connection that was unused for so long is tried before it is relied on."""
    failures: int = 3
    """After so many failed attempts to connect, the server is left alone for a while."""
    pause: float = 1.0
    """How long it is left alone at first; doubled with every further failure."""
    longest_pause: float = 30.0


class NoAnswer(pymysql.err.OperationalError):  # type: ignore[misc]  # nor is this
    """A statement did not come to its end in time; the server may be at it still."""


class Connection(aiomysql.Connection):  # type: ignore[misc]  # the driver is not typed
    """A session. One statement at a time: several in one text are refused by the server."""

    def __init__(self, *, encrypted: bool, timeout: float, **parameters: Any) -> None:
        super().__init__(**parameters)
        self.rights: frozenset[str] = frozenset()
        """The administrator's on the whole server when the session began: it keeps them, and gets no others."""
        self._encrypted = encrypted
        self._timeout = timeout

    async def open(self, within: float) -> None:
        """Connects and logs in."""
        await asyncio.wait_for(self._connect(), within)

    async def run(self, statement: str, *, within: float | None = None) -> list[Row]:
        """Executes a statement; the rows of its last result.

        :param within: seconds after which the connection is given up; None: as the settings say.
        """
        rows: list[Row] = []
        try:
            async with asyncio.timeout((within or self._timeout) + _GRACE):
                await self.query(statement)
                rows = self._rows()
                while self._result is not None and self._result.has_next:
                    await self.next_result()
                    rows = self._rows() or rows
        except TimeoutError:
            self.close()
            raise NoAnswer(_LOST, "no answer in time") from None
        except (RuntimeError, OSError) as error:
            # Of the driver: a file of ours was asked for, or the socket is gone.
            self.close()
            raise pymysql.err.OperationalError(_LOST, str(error)) from None
        return rows

    async def granted(self) -> frozenset[str]:
        """What the account may do on the whole server, for sessions that begin now."""
        return of_grants(str(row[0]) for row in await self.run("SHOW GRANTS"))

    @property
    def warnings(self) -> int:
        """How many warnings came with the last result."""
        return int(self._result.warning_count or 0) if self._result is not None else 0

    def columns(self) -> list[str]:
        """The names of the columns of the last result."""
        result = self._result
        return [str(field[0]) for field in result.description] if result is not None and result.description else []

    def _rows(self) -> list[Row]:
        result = self._result
        return list(result.rows) if result is not None and result.rows else []

    async def _request_authentication(self) -> None:
        self.client_flag &= ~(CLIENT.MULTI_STATEMENTS | CLIENT.LOCAL_FILES)
        if self._encrypted and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(_SSL_ERROR, "the server does not encrypt, and sslmode asks for it")
        if not self.server_capabilities & CLIENT.SSL:
            # MySQL, other than MariaDB, refuses who says that he can.
            self.client_flag &= ~CLIENT.SSL
        await super()._request_authentication()


async def unhurried(rows: Sequence[Row]) -> AsyncIterator[Row]:
    """Rows of a long result, letting others have a turn now and then."""
    for number, row in enumerate(rows, 1):
        if number % _TURN == 0:
            await asyncio.sleep(0)
        yield row


@dataclass(slots=True)
class _Idle:
    connection: Connection
    since: float


class Connections:
    """The administrator's connections to one server: at most ``concurrency`` are in use at a time."""

    def __init__(self, access: Access, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.server = f"{access.host}:{access.port}"
        self.admin = access.username
        self._access = access
        self._semaphore = asyncio.Semaphore(settings.concurrency)
        self._sessions = asyncio.Semaphore(settings.concurrency)
        self._idle: list[_Idle] = []
        self._granted: frozenset[str] | None = None
        self._breaker = Breaker(settings.failures, settings.pause, settings.longest_pause)
        self._ssl: ssl.SSLContext | None = None
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """A connection for the duration of the block, waiting for a free place.

        :raises Retryable: ServerUnreachable.
        :raises Stalled: AdminLoginRefused.
        """
        async with self._semaphore:
            connection = await self._take()
            try:
                yield connection
            except BaseException:
                # Whatever happened to it, nobody else is to inherit it.
                connection.close()
                raise
            if self._closed or connection.get_transaction_status() or not self._is_good(connection):
                await _discard(connection)
            else:
                await self._give_back(connection)

    @asynccontextmanager
    async def session(
        self, database: str, credentials: Credentials, *, variables: Mapping[str, int | float], within: float
    ) -> AsyncIterator[Connection]:
        """A session of another login than the administrator's, which is not kept.

        There may be as many as connections of the administrator's, beside them.

        :param variables: of the session.
        :param within: seconds for a statement.
        :raises Retryable: LoginRefused, ServerUnreachable.
        :raises Stale: when there is no such database.
        """
        async with self._sessions:
            connection = self._make(credentials.login, credentials.password, database, within)
            try:
                await connection.open(self.settings.connect_timeout)
                if variables:
                    values = ", ".join(f"{name} = {value}" for name, value in variables.items())
                    await connection.run(f"SET SESSION {values}")
            except (pymysql.MySQLError, OSError, RuntimeError) as error:
                connection.close()
                translated = connect_error(error, self.server)
                if isinstance(translated, Stalled) and answered(error):
                    raise Retryable(
                        "LoginRefused",
                        f"server {self.server} refuses the operator's account {credentials.login}: "
                        f"{describe(error)}. If that goes on, see what the condition Hardened says",
                    ) from None
                raise translated from None
            try:
                yield connection
            finally:
                connection.close()

    def granted(self, rights: frozenset[str]) -> None:
        """The administrator has these rights on the whole server now: sessions that lack some, or have more, are
        not used again."""
        self._granted = rights

    def _is_good(self, connection: Connection) -> bool:
        """Whether a session may be used again.

        One that does not see the sessions of others would take it that there are none, long after its
        administrator was given the right.
        """
        known = self._granted is None or self._granted == connection.rights
        return not connection.closed and known and sees_all(connection.rights)

    async def close(self) -> None:
        """Closes all unused connections; those in use are closed when they come back."""
        self._closed = True
        while self._idle:
            await _discard(self._idle.pop().connection)

    async def _take(self) -> Connection:
        now = time.monotonic()
        while self._idle:
            candidate = self._idle.pop()
            if not self._is_good(candidate.connection):
                await _discard(candidate.connection)
                continue
            if now - candidate.since > self.settings.probe_after and not await _answers(candidate.connection):
                candidate.connection.close()
                continue
            return candidate.connection
        return await self._connect()

    async def _give_back(self, connection: Connection) -> None:
        now = time.monotonic()
        self._idle.append(_Idle(connection, now))
        while self._idle and now - self._idle[0].since > self.settings.idle:
            await _discard(self._idle.pop(0).connection)

    async def _connect(self) -> Connection:
        self._breaker.check(time.monotonic())
        settings = self.settings
        connection = self._make(self._access.username, self._access.password, None, settings.statement_timeout)
        patience = max(1, round(settings.lock_timeout))
        variables = (
            f"SET SESSION sql_mode = {literal(SQL_MODE)}, lock_wait_timeout = {patience}, "
            # Anything longer that GROUP_CONCAT makes would be cut, in silence.
            f"innodb_lock_wait_timeout = {patience}, group_concat_max_len = 1048576"
        )
        try:
            await connection.open(settings.connect_timeout)
            await connection.run(variables)
            connection.rights = await connection.granted()
        except (pymysql.MySQLError, OSError, RuntimeError) as error:
            connection.close()
            translated = connect_error(error, self.server)
            if answered(error):
                self._breaker.succeeded()
            else:
                message = translated.message if isinstance(translated, ReconcileError) else str(translated)
                self._breaker.failed(time.monotonic(), message)
            raise translated from None
        self._breaker.succeeded()
        return connection

    def _make(self, user: str, password: str, database: str | None, timeout: float) -> Connection:
        return Connection(
            encrypted=self._access.sslmode in _ENCRYPTED,
            timeout=timeout,
            host=self._access.host,
            port=self._access.port,
            user=user,
            # The driver takes it for latin1, and sends it as that.
            password=password.encode().decode("latin1"),
            db=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=self.settings.connect_timeout,
            local_infile=False,
            program_name="tenantry",
            ssl=self._context(),
        )

    def _context(self) -> ssl.SSLContext | None:
        """sslmode in libpq's words: only ``verify-ca`` and ``verify-full`` look at the server's certificate."""
        mode = self._access.sslmode
        if mode == "disable":
            return None
        if self._ssl is None:
            self._ssl = _context(mode, dict(self._access.certificates))
        return self._ssl


def _context(mode: str, certificates: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=certificates.get("ca.crt"))
        context.check_hostname = mode == "verify-full"
        if mode not in ("verify-ca", "verify-full"):
            context.verify_mode = ssl.CERT_NONE
        if "tls.crt" in certificates and "tls.key" in certificates:
            # The standard library reads them from files only.
            with tempfile.TemporaryDirectory(prefix="tenantry-") as folder:
                paths: list[str] = []
                for part in ("tls.crt", "tls.key"):
                    path = Path(folder) / part
                    path.touch(mode=0o600)
                    path.write_text(certificates[part], encoding="ascii")
                    paths.append(str(path))
                context.load_cert_chain(paths[0], paths[1])
    except (ssl.SSLError, ValueError, OSError):
        raise Stalled(
            "SecretInvalid",
            "the adminSecret's ca.crt, tls.crt or tls.key is not a certificate or key in PEM: mend it",
        ) from None
    return context


async def _discard(connection: Connection) -> None:
    with contextlib.suppress(pymysql.MySQLError, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(1):
            await connection.ensure_closed()
    connection.close()


async def _answers(connection: Connection) -> bool:
    if connection.closed:
        return False
    try:
        await connection.run("SELECT 1", within=1)
    except pymysql.MySQLError:
        return False
    return True
