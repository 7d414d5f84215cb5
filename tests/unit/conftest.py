"""Fixtures of the unit tests: ``api`` stands in for an API server, ``cli`` runs the command line against it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry_operator.cli import units
from tests.unit.cli_standin import NOW, Cli, Standin, write_kubeconfig


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setattr(units, "now", lambda: NOW)
    return Cli(capsys)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    server, ready = Standin(), threading.Event()
    thread = threading.Thread(target=server.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield server
    server.stop()
    thread.join(10)
    assert not thread.is_alive()
