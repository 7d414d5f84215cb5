"""What a cluster remembers, and the files it writes for people."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tenantry_local import devenv
from tenantry_local.errors import LocalError
from tenantry_local.paths import Paths, remove_tree, write_private
from tenantry_local.postgres import Postgres
from tenantry_local.processes import Processes
from tenantry_local.state import PORTS, State


def nothing_runs(_: str) -> bool:
    return False


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


def test_ports_are_remembered(file: Path) -> None:
    state = State(file)
    state.assign_ports(["a", "b"], running=nothing_runs)
    again = State(file)
    again.assign_ports(["a", "b"], running=nothing_runs)
    assert (state.port("a"), state.port("b")) == (again.port("a"), again.port("b"))
    assert state.port("a") != state.port("b")
    assert {state.port("a"), state.port("b")} <= set(PORTS)


def test_a_port_that_was_taken_is_replaced_unless_its_server_has_it(file: Path) -> None:
    state = State(file)
    state.assign_ports(["a"], running=nothing_runs)
    before = state.port("a")
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", before))
        taker.listen()
        state.assign_ports(["a"], running=lambda _: True)
        assert state.port("a") == before
        state.assign_ports(["a"], running=nothing_runs)
        assert state.port("a") != before


def test_a_port_nobody_was_given_is_an_error(file: Path) -> None:
    with pytest.raises(LocalError, match="make up"):
        State(file).port("postgres")


def test_secrets_are_random_remembered_and_private(file: Path) -> None:
    state = State(file)
    assert len(state.secret("a")) >= 43
    assert state.secret("a") != state.secret("b")
    assert State(file).secret("a") == state.secret("a")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"ports": {}}', '{"ports": {"a": "x"}, "secrets": {}}'])
def test_a_damaged_file_is_an_error_that_says_what_to_do(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(LocalError, match="make clean"):
        State(file)


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENANTRY_LOCAL_DIR", "here")
    assert Paths.default().home == tmp_path / "here"
    monkeypatch.delenv("TENANTRY_LOCAL_DIR")
    assert Paths.default().home.name == ".local"


def test_folders_with_secrets_are_private(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "cluster")
    paths.create()
    for folder in (paths.pki, paths.logs, paths.pids):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert paths.home.stat().st_mode & 0o066 == 0, "others may pass through at most"


def test_a_private_file_is_private_even_where_an_open_one_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_removing_a_link_removes_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "inside").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(target)
    remove_tree(link)
    assert not target.exists()
    assert not link.is_symlink()
    remove_tree(link)


def test_a_shell_sources_the_environment_file(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "a folder")
    paths.create()
    state = State(paths.state)
    state.assign_ports(["api", "postgres"], running=nothing_runs)
    postgres = Postgres(paths, state, Processes(paths))
    devenv.write(paths, state, postgres)
    assert paths.dev_env.stat().st_mode & 0o777 == 0o600
    names = list(devenv.variables(paths, state, postgres))
    assert names == [
        "KUBECONFIG",
        "TENANTRY_API_URL",
        "TENANTRY_ADMIN_EMAIL",
        "TENANTRY_ADMIN_PASSWORD",
        "TENANTRY_ADMIN_TOKEN",
        "TENANTRY_JWT_SECRET",
        "DATABASE_ADMIN_URL",
    ]
    script = 'set -a; . "$1"; set +a; env'
    shell = subprocess.run(
        ["sh", "-c", script, "sh", str(paths.dev_env)], capture_output=True, text=True, check=True, env={}
    )
    seen = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert {name: seen[name] for name in names} == devenv.variables(paths, state, postgres)
