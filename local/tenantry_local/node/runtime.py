"""Starts, watches and ends the processes of containers, through the shim that outlives the node."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenantry_local.errors import LocalError
from tenantry_local.processes import start_time

SHIM = Path(__file__).with_name("shim.py")
_REFILL = 3.0
"""Seconds after which there is a shim ready again."""
START = 20.0
"""Seconds within which a shim says that its process started."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A process as it is to be run."""

    argv: tuple[str, ...]
    """The first is the path of a program."""
    env: Mapping[str, str]
    cwd: Path
    log: Path
    uid: int | None
    gid: int | None
    """The system user; None: the caller's."""
    signal: int = signal.SIGTERM
    """What asks it to stop."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process that runs."""

    pid: int
    start: str
    shim: int
    shim_start: str
    signal: int
    at: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A process that has ended."""

    code: int
    """0 to 255; 128 and the signal's number after a signal."""
    error: str
    """Why it could not even be started; else empty."""
    started: str
    at: str


def read(folder: Path) -> Running | Exited | None:
    """What the container in this folder does; None when it was never started."""
    started = _load(folder / "started.json")
    if started:
        running = Running(
            int(started["pid"]),
            started["start"],
            int(started["shim"]),
            started["shimStart"],
            int(started["signal"]),
            started["at"],
        )
        if start_time(running.shim) == running.shim_start:
            return running
    ended = _load(folder / "exit.json")
    if ended:
        return Exited(int(ended["code"]), ended["error"], ended["started"], ended["at"])
    if started:  # the shim was killed, or the machine was switched off
        return Exited(137, "", started["at"], started["at"])
    return None


async def start(folder: Path, launch: Launch) -> None:
    """Starts a process; when it returns, its record is written.

    :raises LocalError: when the process of this folder runs already, or the shim does not start.
    """
    await _until_unlocked(folder)
    for name in ("started.json", "exit.json"):
        (folder / name).unlink(missing_ok=True)
    description = {
        "folder": str(folder),
        "argv": launch.argv,
        "env": dict(launch.env),
        "cwd": str(launch.cwd),
        "log": str(launch.log),
        "uid": launch.uid,
        "gid": launch.gid,
        "signal": int(launch.signal),
    }
    shim = _spare.take()
    deadline = time.monotonic() + START
    try:
        if shim.stdin is not None:
            with shim.stdin:
                shim.stdin.write(json.dumps(description).encode())
        while read(folder) is None:
            if shim.poll() is not None and read(folder) is None:
                said = shim.stderr.read().decode(errors="replace").strip() if shim.stderr else ""
                raise LocalError(f"the container's keeper ended with {shim.returncode}: {said[-300:]}")
            if time.monotonic() > deadline:
                shim.kill()
                raise LocalError(f"the container's process did not start within {START:.0f} s")
            await asyncio.sleep(0.01)
    finally:
        if shim.stderr:
            shim.stderr.close()
        # From here on it is watched by its id, as one that an earlier node started.
        shim.returncode = 0


class _Spare:
    """A shim that waits for what it is to run: an interpreter takes longer to start than most servers' clients."""

    def __init__(self) -> None:
        self._shim: subprocess.Popen[bytes] | None = None
        self._kept = False

    def keep(self) -> None:
        """From now on there is one; it ends with this process."""
        self._kept = True
        if self._shim is None:
            self._shim = self._start()

    def take(self) -> subprocess.Popen[bytes]:
        """The shim, else a new one."""
        shim, self._shim = self._shim, None
        if self._kept:
            # Later: what is started now has all processors to itself.
            asyncio.get_running_loop().call_later(_REFILL, self.keep)
        if shim is not None and shim.poll() is None:
            return shim
        if shim is not None:  # somebody killed it
            shim.communicate()
        return self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(SHIM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )


_spare = _Spare()


def keep_spare() -> None:
    """Has a shim ready whenever a container is to be started, until this process ends."""
    _spare.keep()


async def wait(folder: Path) -> Exited:
    """Waits until the process of this folder has ended.

    :raises LocalError: when it was never started.
    """
    while True:
        found = read(folder)
        if isinstance(found, Exited):
            return found
        if found is None:
            raise LocalError(f"nothing was started in {folder}")
        await _gone(found.shim, found.shim_start)


def send(folder: Path, number: int | None = None) -> bool:
    """Signals the main process, by default with its own stop signal; returns whether there is one."""
    found = read(folder)
    if not isinstance(found, Running):
        return False
    try:
        descriptor = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return True  # ended; the shim is about to
    try:
        if start_time(found.pid) == found.start:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number if number is not None else found.signal)
    finally:
        os.close(descriptor)
    return True


async def stop(folder: Path, grace: float) -> None:
    """Asks the process to stop, and kills it when ``grace`` seconds are over."""
    if not send(folder):
        return
    try:
        await asyncio.wait_for(wait(folder), max(grace, 0.01))
    except TimeoutError:
        send(folder, signal.SIGKILL)
        await wait(folder)


def end_all(folders: Iterable[Path], *, grace: float = 15) -> int:
    """Ends the processes of all these containers, after their node has ended; returns how many ran.

    :param grace: seconds to stop in; then they are killed.
    :raises LocalError: when one does not even end when it is killed.
    """
    running = [folder for folder in folders if send(folder)]
    for number, seconds in ((None, grace), (signal.SIGKILL, 10.0)):
        left = [folder for folder in running if isinstance(read(folder), Running)]
        if number is not None:
            for folder in left:
                send(folder, number)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = [folder for folder in left if isinstance(read(folder), Running)]
    if left:
        raise LocalError(f"processes of these containers do not end: {', '.join(map(str, left))}")
    return len(running)


async def _until_unlocked(folder: Path) -> None:
    """Waits for the shim of an earlier process, which holds the lock until it has written how that ended."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(200):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(0.02)
            else:
                return
    finally:
        os.close(descriptor)
    raise LocalError(f"the process of {folder} runs already")


async def _gone(pid: int, start: str) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        if start_time(pid) == start:
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


def _load(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value
