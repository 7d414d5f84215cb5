"""``migrate_schemas`` of django-tenants with nothing to do: the reference of a rollout that changes nothing.

The project is benchmarks/django_tenants. Its packages are no dependencies of Tenantry: they go into an
environment of their own below .local/cache, made when it is first needed. Executors and their settings:
https://django-tenants.readthedocs.io/en/latest/use.html
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from benchmarks.environment import say
from benchmarks.peers import Server
from benchmarks.references.psql import connect, new_database, run_psql, settle, variables
from benchmarks.workload import named
from tenantry_local.paths import CHECKOUT, remove_tree
from tenantry_local.postgres import binaries

PROJECT = Path(__file__).resolve().parents[1] / "django_tenants"
REQUIREMENTS = PROJECT / "requirements.txt"
NOTHING = "No migrations to apply."
TABLES = 21
"""The project's twenty, and Django's ledger."""
_DATABASE = "django"


@dataclass(frozen=True, slots=True)
class Way:
    """How migrate_schemas is called."""

    executor: str
    processes: int = 1
    """``TENANT_MULTIPROCESSING_MAX_PROCESSES``."""
    chunks: int = 1
    """``TENANT_MULTIPROCESSING_CHUNKS``: schemas that a process is given at a time."""
    pooled: bool = False
    """Django keeps its connection in a pool, rather than connect anew for every schema."""

    def __str__(self) -> str:
        several = f", {self.processes} processes, {self.chunks} schemas at a time"
        return self.executor + (several if self.executor == "multiprocessing" else "") + ", pool" * self.pooled


STANDARD = Way("standard")
TRIED_ON = 100
"""Tenants of the database on which the ways are tried: the time of a tenant grows with their number."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """How long migrate_schemas took, several times."""

    way: Way
    tenants: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds, from the start of the command to its end."""
        return statistics.median(self.seconds)

    def data(self) -> dict[str, Any]:
        """All figures, for machines."""
        return {
            "executor": self.way.executor,
            "processes": self.way.processes,
            "chunks": self.way.chunks,
            "pooled": self.way.pooled,
            "tenants": self.tenants,
            "seconds": [round(value, 2) for value in self.seconds],
            "median": round(self.median, 2),
        }


class Project:
    """The Django project on a database whose schemas are all migrated."""

    def __init__(self, server: Server, database: str, schemas: Sequence[str]) -> None:
        self.schemas = schemas
        self._server = server
        self._python = interpreter()
        self._variables = variables(server, database)

    def migrate(self, way: Way, *options: str, environment: dict[str, str] | None = None) -> str:
        """Runs migrate_schemas; returns what it says.

        :raises RuntimeError: when it fails.
        """
        command = [str(self._python), "manage.py", "migrate_schemas", f"--executor={way.executor}", *options]
        settings = {
            "BENCHMARK_PROCESSES": str(way.processes),
            "BENCHMARK_CHUNKS": str(way.chunks),
            "BENCHMARK_POOL": "yes" if way.pooled else "",
        }
        # Not among psql's variables: Django has its own.
        base = {name: value for name, value in self._variables.items() if name != "PGOPTIONS"}
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env={**base, **settings, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"migrate_schemas ({way}) failed: {said[-2000:].strip()}")
        return said

    def time(self, way: Way) -> float:
        """How long migrate_schemas takes, in seconds, saying and checking as little as it can.

        :raises RuntimeError: when it fails, or was not at every schema.
        """
        with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
            visited = Path(folder) / "visited"
            visited.touch()
            settle(self._server)
            started = time.monotonic()
            self.migrate(way, "--verbosity=0", "--skip-checks", environment={"BENCHMARK_VISITED": str(visited)})
            seconds = time.monotonic() - started
            found = sorted(visited.read_text(encoding="utf-8").split())
        if found != sorted(["public", *self.schemas]):
            raise RuntimeError(f"migrate_schemas ({way}) was at {len(found)} of {len(self.schemas) + 1} schemas")
        say(f"migrate_schemas, {way}: {seconds:.1f} s")
        return seconds

    def has_nothing_to_do(self) -> bool:
        """Whether migrate_schemas says of every schema that there is nothing to do."""
        return self.migrate(STANDARD).count(NOTHING) == len(self.schemas) + 1


def measure(server: Server, count: int = 1_000, *, runs: int = 3) -> list[Migrated]:
    """Both executors with nothing to do in ``count`` schemas, ``runs`` times each, taking turns.

    Each is called in several ways on a smaller database first; of each executor the fastest counts.

    :raises RuntimeError: when the packages cannot be installed, or migrate_schemas fails or leaves a schema out.
    """
    seconds: dict[Way, list[float]] = {way: [] for way in _fastest(server, min(count, TRIED_ON))}
    with migrated_project(server, count) as project:
        for _ in range(runs):
            for way, spent in seconds.items():
                spent.append(project.time(way))
    return [Migrated(way, count, tuple(spent)) for way, spent in seconds.items()]


def ways(processors: int | None = None) -> list[Way]:
    """The ways that are tried: with a pool and without; few and many processes, small and large portions.

    A pool with several processes is not among them: they inherit one whose threads they lack, and wait for ever.
    """
    processors = processors or os.cpu_count() or 1
    several = [
        Way("multiprocessing", processes, chunks)
        for processes in sorted({2, processors, 2 * processors})
        for chunks in (2, 25)
    ]
    return [STANDARD, Way("standard", pooled=True), *several]


def _fastest(server: Server, count: int) -> list[Way]:
    """The fastest way of each executor. Each is tried twice, the second time in reverse order."""
    tried = ways()
    spent = dict.fromkeys(tried, 0.0)
    with migrated_project(server, count) as project:
        if not project.has_nothing_to_do():
            raise RuntimeError(
                "migrate_schemas has something to do in schemas that were copied from a migrated one"
            )
        for way in (*tried, *reversed(tried)):
            spent[way] += project.time(way)
    return [
        min((way for way in tried if way.executor == executor), key=lambda way: spent[way])
        for executor in dict.fromkeys(way.executor for way in tried)
    ]


@contextmanager
def migrated_project(server: Server, count: int) -> Iterator[Project]:
    """The project with so many tenants, all of them migrated; its database is dropped at the end.

    Django migrates the public schema and the first tenant. The others are copies of that one by pg_dump and psql.
    """
    schemas = list(named(count))
    with new_database(server, _DATABASE) as database:
        project = Project(server, database, schemas)
        say("Django migrates the first tenant")
        project.migrate(STANDARD, "--shared")
        with connect(server, database) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schemas[0])))
        project.migrate(STANDARD, f"--schema={schemas[0]}")
        say(f"copying it {count - 1:,} times")
        _copy(server, database, schemas)
        with connect(server, database) as connection:
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO public.customers_client (schema_name, name) VALUES (%s, %s)",
                    [(schema, schema) for schema in schemas],
                )
            connection.execute("VACUUM ANALYZE")
        yield project


def _copy(server: Server, database: str, schemas: Sequence[str]) -> None:
    """Copies the first schema, with its rows, to all others."""
    first = schemas[0]
    dump = subprocess.run(
        [str(binaries() / "pg_dump"), f"--schema={first}", "--no-owner", "--no-privileges"],
        env=variables(server, database),
        capture_output=True,
        text=True,
        check=False,
    )
    if dump.returncode:
        raise RuntimeError(f"pg_dump of the schema {first} failed: {dump.stderr[-2000:].strip()}")
    processes = os.cpu_count() or 1
    texts = [
        "".join("\\connect\n" + dump.stdout.replace(first, schema) for schema in schemas[1 + number :: processes])
        for number in range(processes)
    ]
    run_psql(server, database, texts)
    with connect(server, database) as connection:
        made = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = ANY (%s)", [list(schemas)]
        ).fetchone()
    if made is None or made[0] != TABLES * len(schemas):
        raise RuntimeError(f"the copies of the schema {first} have {made} tables instead of {TABLES} each")


def interpreter() -> Path:
    """Python with Django and django-tenants, as benchmarks/django_tenants/requirements.txt pins them.

    :raises RuntimeError: when they cannot be installed.
    """
    cache = Path(os.environ.get("TENANTRY_CACHE") or CHECKOUT / ".local" / "cache")
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"django-tenants-{key}"
    python, complete = folder / "bin" / "python", folder / ".complete"
    if complete.exists():
        return python
    say(f"installing Django and django-tenants into {folder}")
    remove_tree(folder)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), *pip, "--only-binary=:all:", "--requirement", str(REQUIREMENTS)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"Django and django-tenants cannot be installed into {folder}; it needs the network, once: "
                f"{(done.stdout + done.stderr)[-2000:].strip()}"
            )
    complete.touch()
    return python
