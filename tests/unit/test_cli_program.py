"""The program around the commands: help, wrong usage, what it imports, what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry_operator.cli import __main__ as program
from tenantry_operator.cli import cluster
from tests.unit.cli_standin import Cli, Standin

COMMANDS = [
    (),
    ("rollout",),
    ("rollout", "list"),
    ("rollout", "status"),
    ("rollout", "pause"),
    ("rollout", "resume"),
    ("rollout", "cancel"),
    ("tenants",),
    ("diff",),
    ("token",),
]


def words(text: str) -> str:
    """What help says, without its colours (there are some in CI) and line ends."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def python(code: str, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_needs_no_cluster(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    result = cli(*command, "--help")
    assert (result.code, result.err) == (0, "")
    assert f"Usage: {' '.join(('tenantry', *command))}" in words(result.out)
    assert f"Example: {' '.join(('tenantry', *command))}" in words(result.out)


@pytest.mark.parametrize("command", [("rollout", "status"), ("diff",), ("rollout", "cancel")], ids=" ".join)
def test_help_tells_the_exit_codes(cli: Cli, command: tuple[str, ...]) -> None:
    assert "Exit codes: 0" in words(cli(*command, "--help").out)


def test_help_is_quick_as_it_imports_nothing_that_only_a_command_needs() -> None:
    code = (
        "import json, sys\n"
        "from tenantry_operator.cli import __main__ as program\n"
        "code = program._run(['--help'], 'tenantry')\n"
        "sys.stderr.write(json.dumps([code, sorted(sys.modules)]))\n"
    )
    result = python(code)
    code, modules = json.loads(result.stderr)
    assert code == 0
    assert "Usage: tenantry" in words(result.stdout)
    heavy = {"kubernetes", "psycopg", "kopf", "rich.live", "aiohttp", "pydantic"}
    assert {name for name in modules if name in heavy} == set()


def test_a_command_in_a_pipe_does_not_import_what_draws(api: Standin) -> None:
    code = (
        "import json, sys\n"
        "from tenantry_operator.cli import __main__ as program\n"
        "code = program._run(['tenants'], 'tenantry')\n"
        "sys.stdout.write(json.dumps([code, sorted(sys.modules)]))\n"
    )
    code, modules = json.loads(python(code).stdout)
    assert code == 0
    assert {"rich.live", "kopf", "psycopg"} & set(modules) == set()


@pytest.mark.parametrize("name", ["typer", "rich"])
def test_a_missing_extra_is_one_line_that_says_what_to_install(name: str) -> None:
    code = (
        "import sys\n"
        f"sys.modules[{name!r}] = None\n"
        "from tenantry_operator.cli.__main__ import main\n"
        "sys.argv = ['tenantry', '--help']\n"
        "main()\n"
    )
    result = python(code)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: the command line needs {name}: pip install 'tenantry[cli]'\n"


@pytest.mark.parametrize(
    ("started_as", "name"),
    [
        ("/usr/bin/tenantry", "tenantry"),
        ("/usr/bin/kubectl-tenantry", "kubectl tenantry"),
        ("C:/bin/kubectl-tenantry.exe", "kubectl tenantry"),
        ("/x/tenantry_operator/cli/__main__.py", "tenantry"),
    ],
)
def test_help_calls_the_program_as_it_was_started(started_as: str, name: str) -> None:
    assert program.program(started_as) == name


def test_as_a_plugin_of_kubectl_it_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert program._run(["rollout", "list", "--help"], "kubectl tenantry") == 0
    assert "Usage: kubectl tenantry rollout list" in words(capsys.readouterr().out)


def test_both_names_are_installed_as_commands(tmp_path: Path) -> None:
    for script in ("tenantry", "kubectl-tenantry"):
        path = Path(sys.executable).parent / script
        result = subprocess.run(
            [path, "diff", "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert result.returncode == 0, result.stderr
        assert f"Usage: {script.replace('-', ' ')} diff" in words(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tenant"], "tenant"),
        (["tenants", "--verson", "1"], "--verson"),
        (["tenants", "-o", "xml"], "xml"),
        (["rollout", "status"], "NAME"),
        (["diff"], "TENANT"),
        (["tenants", "acme"], "acme"),
    ],
)
def test_wrong_usage_is_one_line_that_leads_to_the_help(cli: Cli, arguments: list[str], words: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert words in result.err
    assert re.search(r"see `tenantry[a-z ]* --help`\n$", result.err)


@pytest.mark.parametrize("arguments", [[], ["rollout"]])
def test_no_command_at_all_shows_the_help(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert "Usage: tenantry" in words(result.out + result.err)
    assert "error:" not in result.err


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("this was\nnot foreseen")


def test_a_bug_is_one_line_that_says_how_to_report_it(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENANTRY_DEBUG", raising=False)
    monkeypatch.setattr(cluster.Cluster, "every", broken)
    result = cli("tenants")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: this is a bug, please report it with what TENANTRY_DEBUG=1 shows: "
        "RuntimeError: this was not foreseen\n"
    )


def test_a_bug_shows_its_traceback_to_who_asks(api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_DEBUG", "1")
    monkeypatch.setattr(cluster.Cluster, "every", broken)
    with pytest.raises(RuntimeError, match="not foreseen"):
        cli("tenants")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_for_the_program_even_as_a_plugin(shell: str) -> None:
    code = (
        "import os, sys\n"
        "from tenantry_operator.cli.__main__ import main\n"
        "os.environ['_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION'] = '1'\n"
        f"sys.argv = ['kubectl-tenantry', '--show-completion', {shell!r}]\n"
        "main()\n"
    )
    result = python(code)
    assert (result.returncode, result.stderr) == (0, "")
    assert "_TENANTRY_COMPLETE" in result.stdout
    assert "kubectl" not in result.stdout


def test_commands_are_completed_without_a_cluster() -> None:
    path = Path(sys.executable).parent / "tenantry"
    asked = {"_TENANTRY_COMPLETE": "complete_bash", "COMP_WORDS": "tenantry rollout re", "COMP_CWORD": "2"}
    environment = {**os.environ, **asked, "KUBECONFIG": "/nowhere"}
    result = subprocess.run([path], capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stdout.split()) == (0, ["resume"])
