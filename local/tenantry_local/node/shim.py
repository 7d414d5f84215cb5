"""Stands between the node and a container's main process, so that the process outlives the node.

A program of its own, with nothing but the standard library: the node starts it with a description of the
process on stdin. It holds a lock while the process lives, writes down when that started and how it ended, and
ends with it whatever it left behind, as the end of a container does.
"""

from __future__ import annotations

import ctypes
import datetime
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOCKED = 75
"""Exit code when the container's process runs already."""
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Runs what stdin describes until it has ended."""
    text = sys.stdin.read()
    if not text:
        return 0  # it was kept ready for a container that never came
    description = json.loads(text)
    folder = Path(description["folder"])
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return LOCKED
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.umask(0o077)
    for name in ("started.json", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    go_read, go_write = os.pipe()
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.close(error_read)
        _become(description, go_read, error_write)
    os.close(go_read)
    os.close(error_write)
    started = {
        "pid": pid,
        "start": start_time(pid),
        "shim": os.getpid(),
        "shimStart": start_time(os.getpid()),
        "signal": description["signal"],
        "at": now(),
    }
    write(folder / "started.json", started)
    os.write(go_write, b"1")
    os.close(go_write)
    with os.fdopen(error_read, encoding="utf-8") as reader:
        error = reader.read()
    code = _wait(pid)
    _end_rest()
    write(
        folder / "exit.json",
        {"code": 128 if error else code, "error": error, "at": now(), "started": started["at"]},
    )
    return 0


def _become(description: dict[str, Any], go: int, error: int) -> NoReturn:
    try:
        if os.read(go, 1) != b"1":
            os._exit(1)  # the parent ended before it wrote down who we are
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(description["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        if description["uid"] is not None:
            os.setgroups([])
            os.setgid(description["gid"])
            os.setuid(description["uid"])
        # After the change of user, which clears it: a process whose keeper is gone is nobody's.
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.chdir(description["cwd"])
        os.execve(description["argv"][0], description["argv"], description["env"])  # noqa: S606
    except (OSError, ValueError) as reason:  # ValueError: a null byte in a word or a variable
        os.write(error, str(reason).encode())
    os._exit(128)


def _wait(pid: int) -> int:
    """Waits for the main process; orphans that came to us meanwhile are reaped. Its exit code, as a shell's."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


def _end_rest() -> None:
    """Kills what the main process left running."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for child in children.read_text(encoding="ascii").split():
            os.kill(int(child), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def start_time(pid: int) -> str:
    """When a process started, as :func:`tenantry_local.processes.start_time` puts it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{fields[19]}"


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(path: Path, value: dict[str, Any]) -> None:
    """Writes a file at once: readers see all of it or nothing."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
