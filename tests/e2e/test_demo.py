"""``make demo``: what it prints was tried, and it works again after it was run, or interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from rich.console import Console

from tenantry_local import demo
from tenantry_local.cluster import Cluster
from tenantry_local.errors import LocalError
from tenantry_local.tenants import observe_tenants
from tests.conftest import running


@pytest.fixture(scope="module")
def own(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with running("demo", request) as started:
        yield started


def test_it_shows_tenants_isolation_and_suspension(own: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(own) == 0
    text = capsys.readouterr().out
    for line in ("acme", "Database", "globex", "Schema", "initech", "Row"):
        assert line in text
    assert "permission denied for database" in text
    assert "permission denied for schema" in text
    assert "acme suspended: login refused" in text
    assert "acme resumed: login works" in text
    assert 'POST /api/v3/tenants {"id": "demo"' in text
    assert '"slug":"demo"' in text
    assert "GET /tenant-management/v1/tenants/demo" in text
    assert "password" not in text


def test_it_works_again_after_it_was_interrupted(own: Cluster) -> None:
    patch = json.dumps({"spec": {"state": "Suspended"}})
    own.kubectl("patch", "tenant", "acme", "-n", "shop", "--type=merge", "-p", patch)
    own.kill_operator()
    assert demo.run(own) == 0


def test_it_ends_with_an_error_when_a_neighbours_data_can_be_read(own: Cluster) -> None:
    login = sql.Identifier(own.kubectl.secret("shop", "initech-main-db")["username"])
    database = own.kubectl.secret("shop", "globex-main-db")["database"]
    with psycopg.connect(own.admin_dsn(database)) as connection:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA globex TO {}").format(login))
        connection.execute(sql.SQL("GRANT SELECT ON globex.users TO {}").format(login))
    with pytest.raises(LocalError, match="initech was not refused"):
        demo._show_isolation(own, Console(), observe_tenants(own.kubectl, "shop"))
