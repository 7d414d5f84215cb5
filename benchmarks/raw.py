"""The rival: the SQL that the operator sends, without Kubernetes, by psql processes in parallel.

What the operator really sends is taken from the server's log, for two tenants. The first becomes the
template; that it yields just what was sent for the second proves it right. Every psql sends each
transaction as one message, as the operator does, and gets verifiers made in advance, so that it computes
nothing. How many there are is what is fastest here.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.measure import Phase, Statement, StatementLog, phase
from benchmarks.workload import SPACE, Kube, tenants
from tenantry_crds.common import Isolation
from tenantry_local.cluster import Cluster
from tenantry_local.postgres import ADMIN, binaries
from tenantry_operator.engines.postgres.connections import Connections, ConnectionSettings
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.lexer import split
from tenantry_operator.instances.servers import Access
from tenantry_operator.tenants.naming import names_for

_VERIFIER = re.compile(r"SCRAM-SHA-256\$4096:[A-Za-z0-9+/=]{24}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}")
_VERIFIER_HERE = "<verifier>"
_FINGERPRINT = re.compile(r'"fingerprint":"[0-9a-f]{16}"')
_FINGERPRINT_HERE = '"fingerprint":"<fingerprint>"'
_WARM = ("warmup00", "warmup01", "warmup02")
"""The first makes what tenants share; the other two are logged."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages to one database."""

    database: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """What is sent for a tenant."""

    installation: str
    isolation: Isolation
    blueprint: str
    tenant: str
    """The name that stands for others."""
    segments: tuple[Segment, ...]
    observing: int
    """How many statements that only look were sent in that time, which are left out."""

    def fill(self, tenant: str) -> tuple[Segment, ...]:
        """What is sent for another tenant."""
        here, there = (f'"{self._steward(name)}"' for name in (self.tenant, tenant))

        def filled(text: str) -> str:
            return text.replace(here, there).replace(self.tenant, tenant)

        return tuple(
            Segment(filled(segment.database), tuple(filled(message) for message in segment.messages))
            for segment in self.segments
        )

    def _steward(self, tenant: str) -> str:
        names = names_for(self.isolation, self.blueprint, tenant, self.blueprint, namespace=SPACE)
        return Installation(self.installation).steward(names.owner)

    @property
    def size(self) -> int:
        """Characters that are sent for a tenant."""
        return sum(len(message) for segment in self.segments for message in segment.messages)


async def capture(kube: Kube, cluster: Cluster, blueprint: str, isolation: str) -> Template:
    """Has the operator provision a few tenants of a blueprint, and takes down what it sends.

    :raises RuntimeError: when the template does not yield what was sent for another tenant.
    """
    await kube.provision(tenants([f"{_WARM[0]}-{blueprint}"], blueprint, isolation), f"first of {blueprint}")
    names = [f"{warm}-{blueprint}" for warm in _WARM[1:]]
    sent = []
    for name in names:
        with StatementLog(cluster) as log:
            await kube.provision(tenants([name], blueprint, isolation), f"what is sent for {name}")
            time.sleep(0.2)
            sent.append(log.read())
    installation = cluster.kubectl.get("namespace", "kube-system")["metadata"]["uid"]
    segments, observing = _of_tenant(sent[0], names[0])
    template = Template(installation, Isolation(isolation), blueprint, names[0], segments, observing)
    expected = _of_tenant(sent[1], names[1])[0]
    if template.fill(names[1]) != expected:
        raise RuntimeError(
            f"what the operator sends for {names[1]} is not what the template made from {names[0]} says:\n"
            f"{expected}\n--- template ---\n{template.fill(names[1])}"
        )
    return template


def _of_tenant(statements: Sequence[Statement], tenant: str) -> tuple[tuple[Segment, ...], int]:
    """What was sent to change something for a tenant, and how many other statements there were."""
    segments: list[tuple[str, list[str]]] = []
    session, others = 0, 0
    for statement in statements:
        of_session = statement.text == "DISCARD ALL" and statement.session == session
        if not statement.simple or not (tenant in statement.text or of_session):
            others += 1
            continue
        session = statement.session
        if not segments or segments[-1][0] != statement.database:
            segments.append((statement.database, []))
        text = _VERIFIER.sub(_VERIFIER_HERE, statement.text)
        segments[-1][1].append(_FINGERPRINT.sub(_FINGERPRINT_HERE, text))
    return tuple(Segment(database, tuple(texts)) for database, texts in segments), others


def _verifier() -> str:
    def random(count: int) -> str:
        return base64.b64encode(secrets.token_bytes(count)).decode()

    return f"SCRAM-SHA-256$4096:{random(16)}${random(32)}:{random(32)}"


def message(text: str) -> str:
    """A text as psql sends it in one message: with ``\\;`` between its statements."""
    text = text.replace(_VERIFIER_HERE, _verifier()).replace("<fingerprint>", secrets.token_hex(8))
    return " \\;\n".join(statement.text for statement in split(text)) + ";\n"


@dataclass(frozen=True, slots=True)
class Way:
    """How psql is used."""

    processes: int
    reconnect: int | None = None
    """Connect anew after so many tenants; None: never. A session of PostgreSQL slows down with every
    function that it has run and that was dropped since."""

    def __str__(self) -> str:
        anew = f", a new connection every {self.reconnect} tenants" if self.reconnect else ""
        return f"{self.processes} psql{anew}"


@dataclass(frozen=True, slots=True)
class Run:
    """How long psql took."""

    way: Way
    tenants: int
    phase: Phase

    @property
    def seconds(self) -> float:
        """From the start of the first psql to the end of the last."""
        return self.phase.seconds

    @property
    def rate(self) -> float:
        """Tenants a second."""
        return self.tenants / self.seconds


class Rival:
    """psql against a cluster's PostgreSQL, as the operator's login."""

    def __init__(self, cluster: Cluster, template: Template) -> None:
        self._cluster = cluster
        self._template = template
        self._psql = str(binaries() / "psql")
        self._environment = _environment(cluster)

    def run(self, names: Sequence[str], way: Way) -> Run:
        """Provisions tenants.

        :raises RuntimeError: when a psql fails.
        """
        with tempfile.TemporaryDirectory(prefix="tenantry-bench-") as folder:
            files = []
            for number in range(way.processes):
                file = Path(folder) / f"{number}.sql"
                file.write_text(self._script(names[number :: way.processes], way), encoding="utf-8")
                files.append(file)
            settle(self._cluster)
            with phase(self._cluster) as measured:
                failures = self._run(files)
        if failures:
            raise RuntimeError(f"psql failed: {failures[0].decode(errors='replace')[-2000:]}")
        return Run(way, len(names), measured)

    def _run(self, files: Sequence[Path]) -> list[bytes]:
        """Runs a psql for each file, at the same time; returns what those said that failed."""
        running = [self._start(file) for file in files]
        try:
            said = [process.communicate()[1] for process in running]
        finally:
            for process in running:
                process.kill()
        return [text for process, text in zip(running, said, strict=True) if process.returncode]

    def _script(self, names: Sequence[str], way: Way) -> str:
        """All tenants' first segments, then all second ones: as few changes of database as can be."""
        filled = [self._template.fill(name) for name in names]
        text, current = [], None
        for place in range(len(self._template.segments)):
            for number, segments in enumerate(filled):
                segment = segments[place]
                if segment.database != current or (way.reconnect and number % way.reconnect == 0):
                    text.append(f'\\connect "{segment.database}"\n')
                    current = segment.database
                text += [message(text) for text in segment.messages]
        return "".join(text)

    def _start(self, file: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(file), "-o", os.devnull],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )


def _environment(cluster: Cluster) -> dict[str, str]:
    access = Access("PostgreSQL", "127.0.0.1", cluster.postgres.port, ADMIN, cluster.postgres.admin_password, "")
    return environment(access)


def environment(access: Access) -> dict[str, str]:
    """libpq's variables for a session just like the operator's, but for the notices nobody reads here."""
    parameters = Connections(access, ConnectionSettings())._parameters("postgres")
    variables = {
        "PGHOST": "host",
        "PGPORT": "port",
        "PGUSER": "user",
        "PGPASSWORD": "password",
        "PGDATABASE": "dbname",
        "PGSSLMODE": "sslmode",
        "PGAPPNAME": "application_name",
        "PGCLIENTENCODING": "client_encoding",
        "PGOPTIONS": "options",
    }
    found = {name: str(parameters[parameter]) for name, parameter in variables.items()}
    return {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/"), **found}


def settle(cluster: Cluster) -> None:
    """Writes a checkpoint, so that nothing that was done before is paid for by what is measured next."""
    with psycopg.connect(cluster.admin_dsn(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def relations(cluster: Cluster, database: str) -> int:
    """How many tables of tenants a database has."""
    with suppress(psycopg.OperationalError), psycopg.connect(cluster.admin_dsn(database)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' "
            "AND n.nspname <> ALL ('{pg_catalog,information_schema,tenantry,pg_toast}')"
        ).fetchone()
        return int(row[0]) if row else 0
    return 0
