"""The facade starts before the cluster answers, and says so; settings come from the environment."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import aiohttp
import pytest
from pydantic import ValidationError

from tenantry_api.__main__ import serve
from tenantry_api.cache import Cache
from tenantry_api.settings import Settings
from tenantry_operator.kube import KubeClient
from tests.unit.cli_standin import write_kubeconfig


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The URL of ``python -m tenantry_api`` on a free port. Nobody is where its kubeconfig says."""
    write_kubeconfig(folder / "config", "http://127.0.0.1:9")
    env = {
        **os.environ,
        "KUBECONFIG": str(folder / "config"),
        "TENANTRY_API_PORT": "0",
        "TENANTRY_API_LOG_LEVEL": "INFO",
    }
    process = subprocess.Popen([sys.executable, "-m", "tenantry_api"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            found = re.search(r"running on (http://127\.0\.0\.1:\d+)", line)
            if found:
                yield found[1]
                break
        else:
            pytest.fail("it ended at once:\n" + "".join(log))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_healthz_while_the_cluster_is_away(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        with urlopen(f"{url}/healthz", timeout=10) as answer:
            assert answer.status == 200
            assert json.load(answer) == {"status": "ok"}
            assert answer.headers["server"] is None
        with pytest.raises(HTTPError) as loading:
            urlopen(f"{url}/readyz", timeout=10)
        assert (loading.value.code, json.load(loading.value)) == (503, {"status": "loading"})
        loading.value.close()
        for path in ("/", "/docs", "/openapi.json"):
            with pytest.raises(HTTPError) as refused:
                urlopen(f"{url}{path}", timeout=10)
            refused.value.close()
            assert refused.value.code == 404


def test_listens_on_loopback_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TENANTRY_API_")]:
        monkeypatch.delenv(name)
    assert Settings() == Settings(host="127.0.0.1", port=8000, log_level="INFO")


def test_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANTRY_API_PORT", "65536")
    with pytest.raises(ValidationError, match="port"):
        Settings()


async def test_a_facade_that_follows_the_cluster_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(*_: Any) -> None:
        return

    async def connect() -> KubeClient:
        return KubeClient(aiohttp.ClientSession(), "http://127.0.0.1:9", None)

    monkeypatch.setattr(KubeClient, "connect", connect)
    monkeypatch.setattr(Cache, "load", at_once)
    monkeypatch.setattr(Cache, "watch", at_once)
    assert await asyncio.wait_for(serve(Settings(port=0)), 20) == 1
