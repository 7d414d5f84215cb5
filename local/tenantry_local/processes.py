"""Starts, watches and stops the cluster's processes.

Every process runs in a session of its own, so that it outlives the command that started it and no
Ctrl-C reaches it. What was started is recorded as process id *and* start time: a number that the
system gave to another process meanwhile is never signalled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenantry_local.errors import LocalError
from tenantry_local.paths import Paths, write_private

LOG_LIMIT = 50 * 2**20
"""Bytes after which a log is put aside at the next start."""
LINE_LIMIT = 1000
"""Characters of a log's line that an error message shows."""
POLL = 0.05
"""Seconds between two looks at a process."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started by this interpreter. They are reaped here, or they would stay as zombies."""


@dataclass(frozen=True, slots=True)
class Program:
    """A server program as it is to be run."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment but for what :func:`base_environment` gives to every process."""
    user: str | None = None
    """The system user to run as; None: the caller's."""
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    """What asks the program to stop, from gentle to urgent; SIGKILL follows."""
    depends: str = ""
    """A digest of files that are read at the start: other content means it must be started anew."""

    @property
    def fingerprint(self) -> str:
        """Differs when a running process is not what this value describes."""
        value = [self.argv, sorted(self.env.items()), self.user, self.depends]
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Record:
    """A process that was started."""

    pid: int
    started: str
    fingerprint: str
    signals: tuple[int, ...]


class Processes:
    """The processes of one cluster, by name."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._log_starts: dict[str, int] = {}
        """Where in its log the output of a process begins that was started here."""

    def pid(self, name: str) -> int | None:
        """The id of the running process of that name; None when it does not run."""
        record = self._record(name)
        return record.pid if record else None

    def is_current(self, program: Program) -> bool:
        """Whether the program runs, with just these arguments and this environment."""
        record = self._record(program.name)
        return record is not None and record.fingerprint == program.fingerprint

    def start(self, program: Program) -> int:
        """Starts the program in the background unless it runs as described; returns its process id.

        A process that runs with other arguments is stopped first.
        """
        if self.is_current(program):
            pid = self.pid(program.name)
            if pid is not None:
                return pid
        self.stop(program.name)
        log = self._paths.log(program.name)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        account = pwd.getpwnam(program.user) if program.user else None
        with os.fdopen(descriptor, "ab") as output:
            self._log_starts[program.name] = log.stat().st_size
            try:
                process = subprocess.Popen(
                    program.argv,
                    env=base_environment() | dict(program.env),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    umask=0o077,
                    user=account.pw_uid if account else None,
                    group=account.pw_gid if account else None,
                    extra_groups=[] if account else None,
                )
            except OSError as error:
                raise LocalError(f"{program.name} cannot be started: {error}") from error
        _children[process.pid] = process
        record = Record(process.pid, start_time(process.pid) or "", program.fingerprint, program.signals)
        value = {
            "pid": record.pid,
            "started": record.started,
            "fingerprint": record.fingerprint,
            "signals": [int(number) for number in record.signals],
        }
        write_private(self._file(program.name), json.dumps(value) + "\n")
        return process.pid

    def wait(self, name: str, ready: Callable[[], bool], *, timeout: float) -> None:
        """Waits until ``ready`` answers True.

        :param timeout: seconds.
        :raises LocalError: when the process ends or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self.pid(name) is None:
                raise LocalError(f"{name} ended while it was starting.{self.log_tail(name)}")
            if ready():
                return
            if time.monotonic() > deadline:
                raise LocalError(f"{name} was not ready within {timeout:.0f} s.{self.log_tail(name)}")
            time.sleep(POLL)

    def stop(self, name: str, *, timeout: float = 15) -> bool:
        """Stops a process: its own signals first, SIGKILL when it does not listen.

        :param timeout: seconds to wait after each signal.
        :returns: whether it was running.
        """
        record = self._record(name)
        if record:
            for number in (*record.signals, signal.SIGKILL):
                self._signal(record, number)
                if _wait_gone(record, timeout):
                    break
            else:
                raise LocalError(f"{name} (process {record.pid}) does not end, not even by SIGKILL")
        self._file(name).unlink(missing_ok=True)
        return record is not None

    def kill(self, name: str) -> bool:
        """Kills a process with SIGKILL, as a lost machine would; returns whether it was running."""
        record = self._record(name)
        if record:
            self._signal(record, signal.SIGKILL)
            _wait_gone(record, 10)
        return record is not None

    def log_tail(self, name: str, lines: int = 25) -> str:
        """The end of a process's log, as the last part of an error message."""
        log = self._paths.log(name)
        if not log.exists():
            return ""
        with log.open("rb") as file:
            file.seek(max(self._log_starts.get(name, 0), log.stat().st_size - 65536))
            text = file.read().decode(errors="replace").splitlines()[-lines:]
        return f" The end of {log}:\n" + "\n".join(f"  {line[:LINE_LIMIT]}" for line in text)

    def _file(self, name: str) -> Path:
        return self._paths.pids / f"{name}.json"

    def _record(self, name: str) -> Record | None:
        """What was started under that name, if it still runs."""
        try:
            value = json.loads(self._file(name).read_text(encoding="utf-8"))
            record = Record(int(value["pid"]), value["started"], value["fingerprint"], tuple(value["signals"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if _is_running(record) else None

    @staticmethod
    def _signal(record: Record, number: int) -> None:
        if _is_running(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, number)


def start_time(pid: int) -> str | None:
    """When a process started, as a text to compare; None when there is no such process (or a zombie).

    On Linux the boot's id and the start in clock ticks (proc(5)); elsewhere what ``ps`` says.
    """
    started = _start_time(pid)
    child = _children.get(pid)
    if started is None and child is not None and child.poll() is not None:
        del _children[pid]
    return started


def _start_time(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        # While other threads end, the first one is a zombie already; the ports are in use until all are gone.
        return None if fields[0] in "ZX" and threads <= 1 else f"{boot}/{fields[19]}"
    result = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = result.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def command_line(pid: int) -> str:
    """The arguments of a process; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        if Path("/proc/self/cmdline").exists() or not shutil.which("ps"):
            return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def base_environment() -> dict[str, str]:
    """What every process gets from the caller's environment: nothing that configures another cluster."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
    result = {name: os.environ[name] for name in kept if name in os.environ}
    if "PYTHONPATH" in os.environ:  # relative to the caller's folder, not to the process's
        folders = os.environ["PYTHONPATH"].split(os.pathsep)
        result["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    return result


def digest_of(*texts: str | bytes) -> str:
    """A digest for :attr:`Program.depends`."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() if isinstance(text, str) else text)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def run(argv: Sequence[str], *, user: str | None = None, stdin: str | None = None, timeout: float = 120) -> str:
    """Runs a short command; returns what it printed.

    :raises LocalError: when it fails, with what it said.
    """
    account = pwd.getpwnam(user) if user else None
    result = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=base_environment(),
        timeout=timeout,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    if result.returncode:
        raise LocalError(f"`{' '.join(argv[:3])} ...` failed:\n{(result.stderr or result.stdout).strip()}")
    return result.stdout


def _is_running(record: Record) -> bool:
    return record.started != "" and start_time(record.pid) == record.started


def _wait_gone(record: Record, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while _is_running(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL / 2)
    return True
