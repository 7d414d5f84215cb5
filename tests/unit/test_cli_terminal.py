"""The command line as a process: on a terminal it draws and gives the cursor back; in a pipe it does neither."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.unit.cli_standin import Standin, rollout

PROGRAM = [sys.executable, "-m", "tenantry_operator.cli"]
WATCH = ["rollout", "status", "shop-1.1", "--watch"]
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
LIMIT = 60.0


class Terminal:
    """A command on a terminal of its own, 100 columns wide."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._screen, ours = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        environment.pop("NO_COLOR", None)
        environment.update(variables)
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=ours, stdout=ours, stderr=ours, env=environment, start_new_session=True
        )
        os.close(ours)
        self.text = ""

    def read(self, until: Callable[[str], bool] = lambda _: False) -> str:
        """What was drawn so far, once that is enough or the command has ended."""
        end = time.monotonic() + LIMIT
        while not until(self.text) and time.monotonic() < end:
            if not select.select([self._screen], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(self._screen, 65536)
            except OSError:  # the other side is closed
                break
            self.text += piece.decode()
        return self.text

    def close(self) -> int:
        """Reads the rest; the exit code."""
        self.read()
        os.close(self._screen)
        return self.process.wait(LIMIT)


def test_a_terminal_shows_bars_and_has_its_cursor_at_the_end(api: Standin) -> None:
    async def end() -> None:
        await asyncio.sleep(0.6)
        api.put("rollouts", rollout("Completed", completed=10, running=0, progress=100))

    api.put("rollouts", rollout())
    api.acts.append(end)
    terminal = Terminal(*WATCH)
    code = terminal.close()
    assert code == 0
    assert "━━━━" in terminal.text
    assert "canary" in terminal.text
    assert "10/10" in terminal.text
    assert terminal.text.rindex(SHOW) > terminal.text.rindex(HIDE)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_terminal_has_its_cursor_back(api: Standin, number: signal.Signals, expected: int) -> None:
    api.put("rollouts", rollout())
    terminal = Terminal(*WATCH)
    terminal.read(lambda text: "━━━━" in text)
    terminal.process.send_signal(number)
    code = terminal.close()
    assert code == expected
    assert terminal.text.rindex(SHOW) > terminal.text.rindex(HIDE)
    assert "Traceback" not in terminal.text


def test_the_question_of_cancel_can_be_interrupted(api: Standin) -> None:
    api.put("rollouts", rollout())
    terminal = Terminal("rollout", "cancel", "shop-1.1")
    terminal.read(lambda text: "[y/N]" in text)
    time.sleep(0.5)  # Python takes no notice of a signal in the moment between the question and the reading
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 130
    assert "Traceback" not in terminal.text
    assert api.paths("DELETE") == []


def test_a_terminal_shows_tables_in_colour(api: Standin) -> None:
    api.put("rollouts", rollout("Failed"))
    terminal = Terminal("rollout", "list")
    assert terminal.close() == 0
    assert "\x1b[31mFailed" in terminal.text


def test_a_terminal_without_colours_is_respected(api: Standin) -> None:
    api.put("rollouts", rollout("Failed"))
    terminal = Terminal("rollout", "list", NO_COLOR="1")
    assert terminal.close() == 0
    assert "Failed" in terminal.text
    assert "\x1b[3" not in terminal.text


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(api: Standin) -> None:
    api.put("rollouts", rollout("Completed"))
    terminal = Terminal(*WATCH, TERM="dumb")
    assert terminal.close() == 0
    assert terminal.text.endswith("Completed, wave default: 3/10 completed, 4 running\r\n")
    assert "\x1b" not in terminal.text


def test_a_pipe_gets_each_line_as_it_comes_and_no_escape_codes(api: Standin) -> None:
    api.put("rollouts", rollout())
    process = subprocess.Popen(
        [*PROGRAM, *WATCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT)
    assert first.endswith("Running, wave default: 3/10 completed, 4 running\n")
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_has_enough_is_no_trouble(api: Standin) -> None:
    for number in range(300):
        api.put("tenants", {"metadata": {"name": f"t{number}", "namespace": "shop"}, "spec": {"x": "y" * 500}})
    # Python without buffers takes what was written in part for the whole.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*PROGRAM, "tenants", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == "{"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(LIMIT) == 1
