"""Reading meters: processor time, memory, requests to the API server, statements to PostgreSQL.

Processor time and memory come from proc(5); on systems without /proc they read 0.
"""

from __future__ import annotations

import os
import re
import resource
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tenantry_local.cluster import PROCESSES, Cluster
from tenantry_local.postgres import ADMIN, SETTINGS

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
WRITES = ("APPLY", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT")

BENCHMARK = "benchmark"
COMMANDS = "psql, kubectl"
OTHERS = "others"


def _tree_seconds() -> dict[int, float]:
    """Seconds of processor time of every process, its living descendants and its ended children included."""
    own: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(folder.name)
        # utime, stime, and those of waited-for children: a server process of a session that has ended.
        own[pid] = sum(int(value) for value in fields[11:15]) / _TICKS
        children[int(fields[1])].append(pid)

    def total(pid: int) -> float:
        return own.get(pid, 0.0) + sum(total(child) for child in children.get(pid, ()))

    return {pid: total(pid) for pid in own}


def _machine_seconds() -> float:
    try:
        fields = (_PROC / "stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, hard, soft = (int(value) for value in fields[:7])
    return (user + nice + system + hard + soft) / _TICKS


def cpu_seconds(cluster: Cluster) -> dict[str, float]:
    """Processor seconds so far: of the cluster's processes, of commands, of this program, of the machine."""
    trees = _tree_seconds()
    found = {name: trees.get(pid, 0.0) for name, pid in cluster.status().items() if pid is not None}
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    found[COMMANDS] = waited.ru_utime + waited.ru_stime
    found[BENCHMARK] = time.process_time()
    found["machine"] = _machine_seconds()
    return found


@dataclass(slots=True)
class Phase:
    """Something that was measured."""

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """Processor seconds by process. ``others``: what the rest of the machine used; when it is much, the
    figures say little."""

    def cpu_each(self, count: int) -> dict[str, float]:
        """Milliseconds of processor time per item."""
        return {name: round(value * 1000 / max(count, 1), 2) for name, value in self.cpu.items()}

    def describe(self, count: int) -> str:
        """Milliseconds per item, in words."""
        each = self.cpu_each(count)
        return ", ".join(f"{name} {each[name]:.1f}" for name in _order(each) if each[name] >= 0.05)


def _order(values: dict[str, float]) -> list[str]:
    names = [*PROCESSES, COMMANDS, BENCHMARK, OTHERS]
    return [name for name in names if name in values]


@contextmanager
def phase(cluster: Cluster) -> Iterator[Phase]:
    """Measures time and processor time of the block."""
    measured = Phase()
    before = cpu_seconds(cluster)
    started = time.monotonic()
    try:
        yield measured
    finally:
        measured.seconds = time.monotonic() - started
        after = cpu_seconds(cluster)
        used = {name: after[name] - before.get(name, 0.0) for name in after}
        machine = used.pop("machine")
        measured.cpu = {name: round(max(value, 0.0), 2) for name, value in used.items()}
        measured.cpu[OTHERS] = round(max(machine - sum(used.values()), 0.0), 2)


def memory(pid: int) -> dict[str, int]:
    """Bytes a process has in memory: now, and at most so far."""
    found = {}
    try:
        text = (_PROC / str(pid) / "status").read_text(encoding="utf-8")
    except OSError:
        return {"rss": 0, "peak": 0}
    for line in text.splitlines():
        for word, name in (("VmRSS:", "rss"), ("VmHWM:", "peak")):
            if line.startswith(word):
                found[name] = int(line.split()[1]) * 1024
    return found


def operator_metrics(cluster: Cluster) -> dict[str, float]:
    """The operator's metrics by their full name with labels; empty while it does not answer."""
    try:
        with urllib.request.urlopen(cluster.metrics_url, timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return _parse(text)


def _parse(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def total(metrics: dict[str, float], name: str, **labels: str) -> float:
    """The sum of a metric over all labels but the given ones."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for full, value in metrics.items()
        if full.partition("{")[0] == name and all(label in full for label in wanted)
    )


_LABEL = re.compile(r'(\w+)="([^"]*)"')


def api_requests(cluster: Cluster) -> Counter[tuple[str, str]]:
    """The requests that the API server has answered, by verb and ``resource/subresource``."""
    found: Counter[tuple[str, str]] = Counter()
    for full, value in _parse(cluster.kubectl("get", "--raw", "/metrics")).items():
        if full.startswith("apiserver_request_total{"):
            labels = dict(_LABEL.findall(full))
            sub = labels.get("subresource")
            found[labels["verb"], labels.get("resource", "") + (f"/{sub}" if sub else "")] += int(value)
    return found


def difference(before: Counter[tuple[str, str]], after: Counter[tuple[str, str]]) -> dict[str, int]:
    """The requests in between, as ``VERB resource``."""
    return {
        f"{verb} {name}": n - before[verb, name]
        for (verb, name), n in sorted(after.items())
        if n > before[verb, name]
    }


def writes(requests: dict[str, int]) -> dict[str, int]:
    """Those requests that write, but for the Lease by which an operator says that it lives, and the token
    that it was started with."""
    return {
        name: count
        for name, count in requests.items()
        if name.split(" ")[0] in WRITES
        and name.split(" ")[1] not in ("leases", "serviceaccounts/token", "subjectaccessreviews", "tokenreviews")
    }


def revision(cluster: Cluster) -> int:
    """etcd's revision: every write of any object raises it by one."""
    listed = cluster.kubectl("get", "--raw", "/api/v1/namespaces?limit=1")
    match = re.search(r'"metadata":\{"resourceVersion":"(\d+)"', listed)
    return int(match.group(1)) if match else 0


@dataclass(frozen=True, slots=True)
class Statement:
    """What the operator's login sent to PostgreSQL."""

    session: int
    database: str
    simple: bool
    """Sent as one message of possibly many statements, rather than prepared with parameters."""
    text: str


_LINE = re.compile(
    r"^\S+ \S+ \S+ \[(?P<pid>\d+)\] (?:(?P<user>[^\s@]+)@(?P<database>\S+) )?(?P<level>[A-Z]+):  (?P<rest>.*)$"
)
_SENT = re.compile(r"^(?:(?P<simple>statement)|execute [^:]*): (?P<text>.*)$", re.DOTALL)


class StatementLog:
    """The statements that the operator's login sends while the block lasts, from the server's own log.

    :param log, dsn: of another server than the cluster's: its log, and its superuser's URL.
    """

    def __init__(self, cluster: Cluster, *, log: Path | None = None, dsn: str | None = None) -> None:
        self._dsn = dsn or cluster.admin_dsn()
        self._log = log or cluster.paths.log("postgres")
        self._offset = 0

    def __enter__(self) -> StatementLog:
        self._set(f"ALTER SYSTEM SET log_line_prefix = '{SETTINGS['log_line_prefix']}'")
        self._set("ALTER SYSTEM SET log_statement = 'all'")
        self._offset = self._log.stat().st_size
        return self

    def __exit__(self, *_: object) -> None:
        self._set("ALTER SYSTEM RESET log_statement")

    def _set(self, statement: str) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(statement.encode())
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)  # sessions read the configuration again when they are next idle

    def read(self) -> list[Statement]:
        """What was sent so far, in order."""
        with self._log.open("rb") as file:
            file.seek(self._offset)
            lines = file.read().decode(errors="replace").split("\n")
        records: list[list[str]] = []
        for line in lines:
            # A line break within a record is followed by a tab.
            if line.startswith("\t") and records:
                records[-1].append(line[1:])
            else:
                records.append([line])
        return [found for record in records if (found := _statement(record)) is not None]


def _statement(record: list[str]) -> Statement | None:
    match = _LINE.match(record[0])
    if match is None or match["user"] != ADMIN or match["level"] != "LOG":
        return None
    sent = _SENT.match("\n".join([match["rest"], *record[1:]]))
    if sent is None:
        return None
    return Statement(int(match["pid"]), match["database"], sent["simple"] is not None, sent["text"])
