"""The facade serves its health check, with the settings of its environment."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from pydantic import ValidationError

from tenantry_api.settings import Settings


@contextmanager
def serving() -> Iterator[str]:
    """The URL of ``python -m tenantry_api`` on a free port."""
    env = {**os.environ, "TENANTRY_API_PORT": "0", "TENANTRY_API_LOG_LEVEL": "INFO"}
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
        process.communicate(timeout=10)


def test_healthz_and_nothing_else() -> None:
    with serving() as url:
        with urlopen(f"{url}/healthz", timeout=10) as answer:
            assert answer.status == 200
            assert json.load(answer) == {"status": "ok"}
            assert answer.headers["server"] is None
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
