"""The rival of a dedicated server: initdb, start and psql by hand, with the settings of the operator's pods."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.measure import Statement
from benchmarks.raw import environment, message
from tenantry_crds.common import DatabaseEngine
from tenantry_local.cluster import Cluster
from tenantry_local.paths import remove_tree
from tenantry_local.postgres import binaries, fsync_setting, private_folder, programs_for, system_user
from tenantry_local.processes import base_environment, run
from tenantry_operator.engines.access import Access
from tenantry_operator.instances import postgres_admin
from tenantry_operator.instances.manifests import postgres

_LONGEST = 60.0
_INITDB = (
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
    "--auth=scram-sha-256",
    "--data-checksums",
)
"""As the node's image does it, and POSTGRES_INITDB_ARGS of the pod."""


@dataclass(frozen=True, slots=True)
class Made:
    """Seconds that each part took."""

    initdb: float
    start: float
    """Until it answers a query."""
    administrator: float
    tenant: float

    @property
    def total(self) -> float:
        """Seconds altogether."""
        return self.initdb + self.start + self.administrator + self.tenant


def script(statements: Sequence[Statement]) -> str:
    """What psql is to send: the same messages to the same databases, in the same order.

    Statements that only look, which have parameters or begin with SELECT, are left out.
    """
    text, current = [], ""
    for statement in statements:
        if not statement.simple or statement.text.lstrip().upper().startswith(("SELECT", "SHOW", "WITH")):
            continue
        if statement.database != current:
            text.append(f'\\connect "{statement.database}"\n')
            current = statement.database
        text.append(message(statement.text))
    return "".join(text)


async def make(cluster: Cluster, sql: str, username: str) -> Made:
    """A server from nothing to a tenant's database; it is stopped and removed again.

    :param sql: of the tenant, for psql.
    :param username: of the administrator, who runs it.
    """
    user = system_user()
    home = private_folder(cluster.paths.home / "by-hand", user)
    folder = Path(tempfile.mkdtemp(dir=home))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    try:
        return await _make(folder, user, sql, username)
    finally:
        remove_tree(folder)


async def _make(folder: Path, user: str | None, sql: str, username: str) -> Made:
    programs, password = programs_for(user), "superuser-by-hand"
    secret, settings = folder / "password", folder / "postgresql.conf"
    secret.write_text(f"{password}\n", encoding="utf-8")
    settings.write_text(postgres.SETTINGS, encoding="utf-8")
    for file in (secret, settings):
        file.chmod(0o644)  # below a folder that nobody else can enter
    data, port = folder / "pgdata", _free_port()
    began = time.monotonic()
    account = f"--username={postgres.SUPERUSER}"
    run([str(programs / "initdb"), f"--pgdata={data}", account, f"--pwfile={secret}", *_INITDB], user=user)
    made = time.monotonic()
    options = {
        "config_file": settings,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "port": port,
        "fsync": fsync_setting(),
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    entry = pwd.getpwnam(user) if user else None
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(data), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=base_environment(),
        user=entry.pw_uid if entry else None,
        group=entry.pw_gid if entry else None,
        extra_groups=[] if entry else None,
    )
    try:
        _await(f"postgresql://{postgres.SUPERUSER}:{password}@127.0.0.1:{port}/postgres")
        up = time.monotonic()
        access = Access(DatabaseEngine.POSTGRESQL, "127.0.0.1", port, username, "administrator-by-hand")
        await postgres_admin.make(access, password, "the server by hand")
        administered = time.monotonic()
        _psql(access, sql)
        return Made(made - began, up - made, administered - up, time.monotonic() - administered)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(dsn: str) -> None:
    deadline = time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
            return
        time.sleep(0.02)
    raise RuntimeError(f"a server that was started by hand did not answer within {_LONGEST:g} s")


def _psql(access: Access, sql: str) -> None:
    done = subprocess.run(
        [str(binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        env=environment(access),
    )
    if done.returncode:
        raise RuntimeError(f"psql failed: {done.stderr[-2000:]}")


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
