"""What every benchmark needs around it: a cluster of its own, words about progress, a place for results."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tenantry_local.cluster import Cluster
from tenantry_local.paths import CHECKOUT, remove_tree
from tenantry_local.postgres import fsync_setting
from tenantry_local.processes import command_line

RESULTS = Path(__file__).resolve().parent / "results"
_CLUSTERS = Path(os.environ.get("TENANTRY_BENCH_DIR") or CHECKOUT / ".local").resolve()
_TELL_EVERY = 5.0


def say(text: str) -> None:
    """Tells people what is being done; results alone go to standard output."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


class Progress:
    """Says how far something is: all the time on a terminal, every few seconds elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._started = time.monotonic()
        self._told = self._started
        self._live = sys.stderr.isatty()

    def at(self, done: int) -> None:
        """``done`` of the total are done."""
        now = time.monotonic()
        if done < self._total and now - self._told < (0.2 if self._live else _TELL_EVERY):
            return
        self._told = now
        rate = done / max(now - self._started, 1e-6)
        line = f"{self._what}: {done:,} of {self._total:,}, {rate:.0f} a second"
        if self._live:
            sys.stderr.write(f"\r\033[K{line}" + ("\n" if done >= self._total else ""))
            sys.stderr.flush()
        else:
            say(line)


@contextmanager
def bench_cluster(name: str, *, keep: bool = False) -> Iterator[Cluster]:
    """A cluster with the operator, removed at the end.

    Its folder is below ``.local``, or ``TENANTRY_BENCH_DIR``.

    :param keep: leave the folder, with its logs and data, but nothing running.
    """
    _remove_leftovers()
    folder = _CLUSTERS / f"bench-{name}-{os.getpid()}"
    cluster = Cluster(folder)
    try:
        say(f"starting a cluster in {folder}")
        cluster.up(api=False)
        yield cluster
    finally:
        say("stopping the cluster" if keep else "removing the cluster")
        cluster.down()
        if not keep:
            cluster.clean()
            remove_tree(folder)


def _remove_leftovers() -> None:
    """Removes the clusters of benchmarks that were killed."""
    for folder in _CLUSTERS.glob("bench-*-*"):
        owner = folder.name.rpartition("-")[2]
        if owner.isdigit() and int(owner) != os.getpid() and "benchmarks" not in command_line(int(owner)):
            say(f"removing what an earlier run left in {folder}")
            Cluster(folder).clean()
            remove_tree(folder)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a result: a figure and what it is compared with."""

    what: str
    figure: str
    reference: str = ""
    ratio: str = ""
    target: str = ""


@dataclass(slots=True)
class Result:
    """What a benchmark found."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    """All figures, for machines."""
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, figure: str, reference: str = "", ratio: str = "", target: str = "") -> None:
        """Adds a line to the table."""
        self.rows.append(Row(what, figure, reference, ratio, target))


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was before."""
    load = os.getloadavg()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "fsync": fsync_setting(),
        "filesystem": _filesystem(_CLUSTERS),
        "load": [round(value, 2) for value in load],
    }


def _filesystem(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown file system"
    mounts = sorted((Path(line.split()[1]), line.split()[2]) for line in lines)
    return [kind for where, kind in mounts if folder.is_relative_to(where)][-1]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def save(result: Result, before: dict[str, Any]) -> Path:
    """Writes a result as JSON; returns where."""
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}-{result.name}.json"
    path.write_text(json.dumps(as_json(result, before), indent=2) + "\n", encoding="utf-8")
    return path


def as_json(result: Result, before: dict[str, Any]) -> dict[str, Any]:
    """A result with the machine it was measured on."""
    return {
        "benchmark": result.name,
        "machine": before,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "figures": result.data,
        "notes": result.notes,
    }


def show(result: Result, before: dict[str, Any]) -> None:
    """Prints a result for people."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title=result.title, title_justify="left")
    for heading in ("what", "figure", "reference", "ratio", "target"):
        table.add_column(heading, overflow="fold")
    for row in result.rows:
        table.add_row(row.what, row.figure, row.reference, row.ratio, row.target)
    console.print(table)
    facts = (
        f"{before['cpus']} CPUs ({before['processor']}), fsync={before['fsync']}, {before['filesystem']}, "
        f"load before {before['load'][0]}, {before['date']}"
    )
    for line in (facts, *result.notes):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
