"""The processes of the one-machine cluster: started once, found again, never mistaken for another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry_local.errors import LocalError
from tenantry_local.paths import Paths
from tenantry_local.processes import Processes, Program, base_environment, command_line, run, start_time

SLEEP = "import time; print('started', flush=True); time.sleep(60)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


def program(code: str = SLEEP, *, name: str = "server", **changes: object) -> Program:
    return Program(name, (sys.executable, "-c", code), **changes)  # type: ignore[arg-type]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths(tmp_path / "cluster")
    paths.create()
    return paths


@pytest.fixture
def processes(paths: Paths) -> Iterator[Processes]:
    processes = Processes(paths)
    yield processes
    processes.kill("server")


def wait_for_line(paths: Paths, line: str) -> None:
    deadline = time.monotonic() + 10
    while line not in paths.log("server").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_started_process_runs_in_a_session_of_its_own(processes: Processes) -> None:
    pid = processes.start(program())
    assert processes.pid("server") == pid
    assert os.getsid(pid) == pid != os.getsid(0)


def test_starting_again_keeps_the_process(processes: Processes) -> None:
    assert processes.start(program()) == processes.start(program())


def test_other_arguments_or_environment_replace_the_process(processes: Processes) -> None:
    first = processes.start(program())
    second = processes.start(program(env={"A": "1"}))
    third = processes.start(program(env={"A": "1"}, depends="other"))
    assert len({first, second, third}) == 3
    assert start_time(first) is None
    assert start_time(second) is None


def test_another_interpreter_finds_the_process_by_its_record(processes: Processes, paths: Paths) -> None:
    pid = processes.start(program())
    code = (
        "import sys; from pathlib import Path; from tenantry_local.paths import Paths; "
        "from tenantry_local.processes import Processes; "
        "print(Processes(Paths(Path(sys.argv[1]))).pid('server'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(paths.home)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(pid)


def test_stopping_ends_the_process_and_says_so(processes: Processes) -> None:
    pid = processes.start(program())
    assert processes.stop("server") is True
    assert start_time(pid) is None
    assert processes.stop("server") is False


def test_a_process_that_ignores_its_signal_is_killed(processes: Processes, paths: Paths) -> None:
    pid = processes.start(program(DEAF))
    wait_for_line(paths, "started")
    assert processes.stop("server", timeout=0.3) is True
    assert start_time(pid) is None


def test_a_program_names_the_signals_that_stop_it(processes: Processes, paths: Paths) -> None:
    quits = "import signal; signal.signal(signal.SIGQUIT, lambda *_: exit('asked to quit')); "
    pid = processes.start(program(quits + DEAF, signals=(signal.SIGTERM, signal.SIGQUIT)))
    wait_for_line(paths, "started")
    processes.stop("server", timeout=2)
    assert start_time(pid) is None
    wait_for_line(paths, "asked to quit")


def test_a_reused_process_id_is_never_signalled(processes: Processes, paths: Paths) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        record = {"pid": stranger.pid, "started": "some-boot/12345", "fingerprint": "x", "signals": [15]}
        (paths.pids / "server.json").write_text(json.dumps(record))
        assert processes.pid("server") is None
        assert processes.stop("server") is False
        assert processes.kill("server") is False
        assert stranger.poll() is None
        stranger.kill()


def test_a_killed_process_counts_as_gone_though_nobody_waited_for_it(processes: Processes) -> None:
    pid = processes.start(program())
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.pid("server") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert processes.start(program()) != pid


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": "", "fingerprint": ""}'])
def test_a_damaged_record_is_no_process(processes: Processes, paths: Paths, text: str) -> None:
    (paths.pids / "server.json").write_text(text)
    assert processes.pid("server") is None


def test_waiting_ends_with_the_log_of_a_process_that_ended(processes: Processes) -> None:
    processes.start(program("print('no such port'); raise SystemExit(3)"))
    with pytest.raises(LocalError, match=r"server ended while it was starting[\s\S]*no such port"):
        processes.wait("server", lambda: False, timeout=10)


def test_an_error_shows_no_log_of_an_earlier_start(processes: Processes) -> None:
    for word in ("first", "second"):
        processes.start(program(f"print('the {word} start')"))
        with pytest.raises(LocalError, match=f"the {word} start") as caught:
            processes.wait("server", lambda: False, timeout=10)
    assert "the first start" not in str(caught.value)


def test_waiting_ends_with_the_log_when_time_is_over(processes: Processes, paths: Paths) -> None:
    processes.start(program())
    wait_for_line(paths, "started")
    with pytest.raises(LocalError, match=r"not ready within 0 s[\s\S]*started"):
        processes.wait("server", lambda: False, timeout=0.1)


def test_waiting_returns_when_it_is_ready(processes: Processes) -> None:
    processes.start(program())
    answers = iter([False, False, True])
    processes.wait("server", lambda: next(answers), timeout=10)


def test_a_program_that_is_not_there_is_an_error(processes: Processes) -> None:
    with pytest.raises(LocalError, match="server cannot be started"):
        processes.start(Program("server", ("/nowhere/program",)))


def test_logs_and_records_are_private(processes: Processes, paths: Paths) -> None:
    processes.start(program())
    assert paths.log("server").stat().st_mode & 0o777 == 0o600
    assert (paths.pids / "server.json").stat().st_mode & 0o777 == 0o600


def test_the_callers_environment_stays_outside(processes: Processes, paths: Paths, monkeypatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somebody/elses")
    monkeypatch.setenv("TENANTRY_LOG_LEVEL", "DEBUG")
    processes.start(program("import os; print(sorted(os.environ)); print('end', flush=True)", env={"OWN": "1"}))
    wait_for_line(paths, "end")
    log = paths.log("server").read_text()
    assert "'OWN'" in log
    assert "'PATH'" in log
    assert "KUBECONFIG" not in log
    assert "TENANTRY" not in log


def test_the_search_path_of_modules_is_made_absolute(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["operator", "/abs"]))
    assert base_environment()["PYTHONPATH"] == os.pathsep.join([str(tmp_path / "operator"), "/abs"])


def test_a_failing_command_says_what_it_said() -> None:
    with pytest.raises(LocalError, match="it is broken"):
        run([sys.executable, "-c", "import sys; sys.exit('it is broken')"])


def test_the_command_line_of_a_process() -> None:
    assert sys.executable in command_line(os.getpid()) or "python" in command_line(os.getpid())
    assert command_line(2**22 + 1) == ""
