"""Processes of containers: they outlive the node, are never doubled, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry_local.errors import LocalError
from tenantry_local.node import runtime
from tenantry_local.node.runtime import Exited, Launch, Running
from tenantry_local.processes import start_time


def launch(folder: Path, text: str, number: int = signal.SIGTERM) -> Launch:
    env = {"PATH": os.environ["PATH"], "WORD": "secret"}
    return Launch(("/bin/sh", "-c", text), env, folder, folder / "log", None, None, number)


async def started(folder: Path, text: str, number: int = signal.SIGTERM) -> Running:
    await runtime.start(folder, launch(folder, text, number))
    found = runtime.read(folder)
    assert isinstance(found, Running)
    return found


async def until_said(folder: Path, word: str) -> None:
    async with asyncio.timeout(60):
        while not (folder / "log").exists() or word not in (folder / "log").read_text():
            await asyncio.sleep(0.02)


async def test_how_a_process_ended_is_written_down(tmp_path: Path) -> None:
    assert runtime.read(tmp_path) is None
    await runtime.start(tmp_path, launch(tmp_path, "echo said; exit 3"))
    ended = await asyncio.wait_for(runtime.wait(tmp_path), 60)
    assert (ended.code, ended.error) == (3, "")
    assert runtime.read(tmp_path) == ended
    assert (tmp_path / "log").read_text() == "said\n"


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    missing = Launch(("no-such-program",), {}, tmp_path, tmp_path / "log", None, None)
    await runtime.start(tmp_path, missing)
    ended = await asyncio.wait_for(runtime.wait(tmp_path), 60)
    assert ended.code == 128
    assert "no-such-program" in ended.error


async def test_bytes_of_secrets_reach_the_process_and_null_bytes_are_refused(tmp_path: Path) -> None:
    odd, never = tmp_path / "odd", tmp_path / "never"
    odd.mkdir()
    never.mkdir()
    value = b"\xff\xc3".decode(errors="surrogateescape")
    await runtime.start(odd, replace(launch(odd, 'printf %s "$ODD"'), env={"ODD": value}))
    assert (await asyncio.wait_for(runtime.wait(odd), 60)).code == 0
    assert (odd / "log").read_bytes() == b"\xff\xc3"
    await runtime.start(never, replace(launch(never, "true"), env={"ODD": "a\0secret"}))
    ended = await asyncio.wait_for(runtime.wait(never), 60)
    assert (ended.code, ended.error) == (128, "embedded null byte")


async def test_a_process_gets_its_own_signal_then_the_last_one(tmp_path: Path) -> None:
    gentle, deaf = tmp_path / "gentle", tmp_path / "deaf"
    gentle.mkdir()
    deaf.mkdir()
    await started(gentle, "trap 'exit 7' INT; echo up; while :; do sleep 0.05; done", signal.SIGINT)
    await started(deaf, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    await until_said(gentle, "up")
    await until_said(deaf, "up")
    await asyncio.gather(runtime.stop(gentle, 10), runtime.stop(deaf, 0.2))
    codes = [found.code for found in map(runtime.read, (gentle, deaf)) if isinstance(found, Exited)]
    assert codes == [7, 137]


async def test_a_second_process_is_never_started_beside_the_first(tmp_path: Path) -> None:
    running = await started(tmp_path, "exec sleep 100")
    (tmp_path / "started.json").rename(tmp_path / "lost.json")  # whatever becomes of its record
    with pytest.raises(LocalError, match="runs already"):
        await runtime.start(tmp_path, launch(tmp_path, "exec sleep 100"))
    (tmp_path / "lost.json").rename(tmp_path / "started.json")
    assert runtime.read(tmp_path) == running
    await runtime.stop(tmp_path, 5)


async def test_what_a_process_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    await started(tmp_path, "setsid sleep 100 & echo $!; sleep 0.2")
    await until_said(tmp_path, "\n")
    child = int((tmp_path / "log").read_text())
    assert start_time(child) is not None
    await asyncio.wait_for(runtime.wait(tmp_path), 60)
    assert start_time(child) is None


async def test_a_process_ends_with_its_keeper(tmp_path: Path) -> None:
    running = await started(tmp_path, "exec sleep 100")
    os.kill(running.shim, signal.SIGKILL)
    ended = await asyncio.wait_for(runtime.wait(tmp_path), 60)
    assert ended.code == 137
    deadline = time.monotonic() + 60
    while start_time(running.pid) == running.start:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_number_that_is_another_process_now_is_left_alone(tmp_path: Path) -> None:
    own = os.getpid()
    record = {"pid": own, "start": "other/1", "shim": own, "shimStart": "other/1", "signal": 9, "at": ""}
    (tmp_path / "started.json").write_text(json.dumps(record))
    assert isinstance(runtime.read(tmp_path), Exited)
    assert not runtime.send(tmp_path)
    (tmp_path / "started.json").write_text(json.dumps({**record, "shimStart": start_time(own)}))
    assert runtime.send(tmp_path)  # the keeper lives, the process does not: nobody is signalled


async def test_all_are_ended_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    for folder in folders[:2]:
        await started(folder, "exec sleep 100")
    assert runtime.end_all(folders, grace=5) == 2
    assert [isinstance(runtime.read(folder), Exited) for folder in folders] == [True, True, False]
    assert runtime.end_all(folders) == 0


async def test_records_hold_no_environment(tmp_path: Path) -> None:
    await runtime.start(tmp_path, launch(tmp_path, "true"))
    await asyncio.wait_for(runtime.wait(tmp_path), 60)
    assert not any("secret" in path.read_text() for path in tmp_path.iterdir() if path.is_file())
