"""psql in parallel, and the server it works on."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import environment
from benchmarks.environment import say
from benchmarks.peers import Server
from tenantry_local.cluster import Cluster
from tenantry_local.paths import remove_tree
from tenantry_local.postgres import binaries


@contextmanager
def server_alone() -> Iterator[Server]:
    """The PostgreSQL of the one-machine cluster with the same settings, but nothing else of the cluster.

    It is removed at the end. Its folder is below ``.local``, or ``TENANTRY_BENCH_DIR``.
    """
    folder = environment._CLUSTERS / f"bench-references-{os.getpid()}"
    cluster = Cluster(folder)
    try:
        say(f"starting PostgreSQL in {folder}")
        cluster.start_postgres()
        yield Server.of(cluster)
    finally:
        say("removing PostgreSQL")
        cluster.clean()
        remove_tree(folder)


def variables(server: Server, database: str) -> dict[str, str]:
    """libpq's variables for a session of the superuser
    (https://www.postgresql.org/docs/18/libpq-envars.html)."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": os.environ.get("HOME", "/"),
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
        "PGDATABASE": database,
        "PGCLIENTENCODING": "UTF8",
        "PGOPTIONS": "-c client_min_messages=warning",
    }


def run_psql(server: Server, database: str, scripts: Sequence[str], *, one_transaction: bool = False) -> float:
    """Runs a psql for each script, all at the same time.

    :param one_transaction: each script is one transaction; else each statement, unless the script says otherwise.
    :returns: seconds from the start of the first to the end of the last.
    :raises RuntimeError: when a psql fails; the others are ended.
    """
    command = [str(binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull]
    if one_transaction:
        command.append("-1")
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
        files = [Path(folder) / f"{number}.sql" for number in range(len(scripts))]
        for file, script in zip(files, scripts, strict=True):
            file.write_text(script, encoding="utf-8")
        started = time.monotonic()
        try:
            for file in files:
                running.append(
                    subprocess.Popen(
                        [*command, "-f", str(file)],
                        env=variables(server, database),
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.PIPE,
                    )
                )
            said = [process.communicate()[1] for process in running]
            seconds = time.monotonic() - started
        finally:
            for process in running:
                process.kill()
                process.wait()
    for process, text in zip(running, said, strict=True):
        if process.returncode:
            raise RuntimeError(
                f"psql failed in the database {database}: {text.decode(errors='replace')[-2000:].strip()}"
            )
    return seconds


def connect(server: Server, database: str = "postgres") -> psycopg.Connection[Any]:
    """A session of the superuser, without transactions of its own."""
    return psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname=database,
        autocommit=True,
    )


def settle(server: Server) -> None:
    """Writes a checkpoint, so that nothing that was done before is paid for by what is measured next."""
    with connect(server) as connection:
        connection.execute("CHECKPOINT")


@contextmanager
def new_database(server: Server, name: str) -> Iterator[str]:
    """A database of that name, dropped at the end. One that was left there is dropped first."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with connect(server) as connection:
        connection.execute(drop)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            connection.execute(drop)
