"""What the demo and the command line say, without a cluster."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path

import psycopg
import pytest

from tenantry_local.__main__ import main
from tenantry_local.demo import _attempts
from tenantry_local.errors import LocalError
from tenantry_local.postgres import fsync_setting, reaches, system_user
from tenantry_local.tenants import TenantView, server_message, wait_for_tenants

ROOT = Path(__file__).resolve().parents[2]


def tenant(**changes: object) -> dict[str, object]:
    status = {
        "observedGeneration": 2,
        "phase": "Ready",
        "conditions": [{"type": "Ready", "status": "True", "message": "fine"}],
        "databases": [
            {"name": "main", "isolation": "Schema", "database": "shop", "schema": "acme", "secret": "s"}
        ],
    }
    metadata = {"name": "acme", "generation": 2}
    return {"metadata": metadata, "spec": {"state": "Active"}, "status": status | changes}


class FakeKubectl:
    def __init__(self, *items: dict[str, object]) -> None:
        self.items = list(items)

    def get(self, *_: str) -> dict[str, object]:
        return {"items": self.items}


def test_a_ready_tenant() -> None:
    view = TenantView.of(tenant())
    assert (view.ready, view.phase, view.database, view.schema) == (True, "Ready", "shop", "acme")


def test_a_status_of_an_older_generation_is_not_ready() -> None:
    assert not TenantView.of(tenant(observedGeneration=1)).ready


def test_a_tenant_nobody_looked_at_yet() -> None:
    view = TenantView.of({"metadata": {"name": "new", "generation": 1}, "spec": {}})
    assert (view.ready, view.phase, view.state, view.database) == (False, "Waiting", "Active", "")


def test_what_stalls_a_tenant_is_told_rather_than_that_it_is_not_ready() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "message": "not ready"},
        {"type": "Stalled", "status": "True", "message": "bad SQL in add-orders"},
    ]
    assert TenantView.of(tenant(conditions=conditions)).message == "bad SQL in add-orders"


def test_waiting_returns_the_tenants_that_are_as_wanted() -> None:
    found = wait_for_tenants(FakeKubectl(tenant()), "shop", lambda view: view.ready)  # type: ignore[arg-type]
    assert [view.name for view in found] == ["acme"]


@pytest.mark.parametrize("items", [[], [tenant(phase="Failed", conditions=[])]])
def test_waiting_ends_with_what_is_missing(items: list[dict[str, object]]) -> None:
    with pytest.raises(LocalError, match="not there yet"):
        wait_for_tenants(FakeKubectl(*items), "shop", lambda view: view.ready, timeout=0)  # type: ignore[arg-type]


def test_every_tenant_tries_to_reach_every_other(monkeypatch) -> None:
    def view(name: str, database: str, schema: str) -> TenantView:
        base = TenantView.of(tenant())
        changed = {"name": name, "database": database, "schema": schema}
        return TenantView(**{field: getattr(base, field) for field in base.__slots__} | changed)

    monkeypatch.setattr("tenantry_local.demo.try_login", lambda uri: uri)
    monkeypatch.setattr("tenantry_local.demo.try_statement", lambda uri, statement: statement.as_string())
    acme, globex, initech = (
        view("acme", "own", ""),
        view("globex", "shop", "globex"),
        view("initech", "shop", "shop"),
    )
    every = [acme, globex, initech]
    assert [a.refusal for a in _attempts(acme, "postgresql://u:p@h:1/own", every)] == [
        "postgresql://u:p@h:1/shop",
    ]
    assert [a.refusal for a in _attempts(globex, "postgresql://u:p@h:1/shop", every)] == [
        "postgresql://u:p@h:1/own",
        'SELECT * FROM "shop".users',
    ]


def test_a_servers_refusal_is_told_without_address_and_login() -> None:
    text = (
        'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  '
        'role "x" is not permitted to log in'
    )
    assert server_message(psycopg.OperationalError(text)) == 'role "x" is not permitted to log in'


@pytest.mark.parametrize("arguments", [[], ["fly"], ["restart", "nobody"], ["status", "-o", "yaml"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.fixture
def folder(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TENANTRY_LOCAL_DIR", str(tmp_path / "cluster"))
    return tmp_path / "cluster"


def test_status_of_a_cluster_that_was_never_started(folder: Path, capsys) -> None:
    assert main(["status"]) == 1
    assert "postgres                 not running" in capsys.readouterr().out
    assert main(["status", "-o", "json"]) == 1
    value = json.loads(capsys.readouterr().out)
    assert value["running"] is False
    assert value["folder"] == str(folder)
    assert {process["name"] for process in value["processes"]} >= {"etcd", "postgres", "operator"}


def test_down_of_a_cluster_that_was_never_started_does_nothing(folder: Path) -> None:
    assert main(["down"]) == 0
    assert not folder.exists()


def test_logs_of_a_cluster_that_was_never_started(folder: Path, capsys) -> None:
    assert main(["logs", "postgres"]) == 1
    assert "make up" in capsys.readouterr().err


def test_clean_of_a_cluster_that_was_never_started(folder: Path) -> None:
    assert main(["clean"]) == 0


def test_durability_is_given_up_only_by_name(monkeypatch) -> None:
    monkeypatch.delenv("TENANTRY_FSYNC", raising=False)
    assert fsync_setting() == "on"
    monkeypatch.setenv("TENANTRY_FSYNC", "off")
    assert fsync_setting() == "off"
    monkeypatch.setenv("TENANTRY_FSYNC", "no")
    with pytest.raises(LocalError, match="TENANTRY_FSYNC"):
        fsync_setting()


def test_postgresql_never_runs_as_root(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert system_user() is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("TENANTRY_POSTGRES_USER", "root")
    with pytest.raises(LocalError, match="unprivileged account root"):
        system_user()
    monkeypatch.setenv("TENANTRY_POSTGRES_USER", "nobody")
    assert system_user() == "nobody"


def test_a_user_reaches_what_every_folder_lets_through(tmp_path: Path) -> None:
    nobody = "nobody"
    if pwd.getpwnam(nobody).pw_uid == os.geteuid():
        pytest.fail("run the tests as another user than nobody")
    folder = tmp_path / "inner"
    folder.mkdir(mode=0o755)
    tmp_path.chmod(0o700)
    assert not reaches(nobody, folder)
    assert reaches(nobody, Path("/"))


def test_every_command_of_the_makefile_explains_itself() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert set(phony[1].split()) == explained


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-runtime.lock"])
def test_lock_files_pin_by_hash_and_name_no_host(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    pins = re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)) > 20


def test_the_operators_folder_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would shadow the standard library's operator"
