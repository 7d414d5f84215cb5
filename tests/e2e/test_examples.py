"""The examples, as a user applies them: on the one-machine cluster, and unchanged on any other (``kind``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.support import Api, condition, is_ready, refused, run

pytestmark = [pytest.mark.e2e, pytest.mark.kind]

ROOT = Path(__file__).resolve().parents[2]
SPACE = "shop"
TENANTS = {"acme": "Database", "globex": "Schema", "initech": "Row"}
EXAMPLES = (
    "apply",
    "--server-side",
    "--force-conflicts",
    "--field-manager=tests",
    "-f",
    str(ROOT / "examples/shop"),
)


@pytest.fixture(scope="module")
def api(cluster: Any) -> Iterator[Api]:
    api = Api(cluster)
    api.kubectl(*EXAMPLES)
    for name in TENANTS:
        api.ready(SPACE, name, timeout=120)
    yield api
    for name in TENANTS:
        api.patch("tenant", name, SPACE, {"spec": {"deletionPolicy": "Delete", "state": "Active"}})
        api.delete("tenant", name, SPACE)
        api.gone("tenant", name, SPACE)
    api.delete("namespace", SPACE)


def uri(api: Api, name: str) -> str:
    found: str = api.cluster.tenant_uri(SPACE, f"{name}-main-db")
    return found


@pytest.mark.parametrize("name", TENANTS)
def test_every_tenant_has_the_whole_schema_at_the_current_version(api: Api, name: str) -> None:
    tables = run(
        uri(api, name),
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() "
        "AND table_type = 'BASE TABLE'",
    )
    assert tables[0][0] >= 20
    found = api.get("tenant", name, SPACE) or {}
    record = found["status"]["databases"][0]
    assert (record["version"], record["isolation"], record["phase"]) == ("1.1", TENANTS[name], "Ready")
    assert found["status"]["binding"] == {"name": f"{name}-main-db"}


@pytest.mark.parametrize("name", TENANTS)
def test_every_tenant_works_with_its_own_data(api: Api, name: str) -> None:
    run(
        uri(api, name),
        f"INSERT INTO users (email, name, role) VALUES ('boss@{name}.example', '{name}', 'owner') "
        "ON CONFLICT DO NOTHING",
    )
    emails = [row[0] for row in run(uri(api, name), "SELECT email FROM users")]
    others = [f"boss@{other}.example" for other in TENANTS if other != name]
    assert f"boss@{name}.example" in emails
    assert not set(others) & set(emails)


def test_a_second_apply_writes_nothing(api: Api) -> None:
    # A sweep may write a new size in between, once; an apply that writes does so each time.
    changes = []
    for _ in range(3):
        before = versions(api)
        api.kubectl(*EXAMPLES)
        after = versions(api)
        changes.append({name for name in after if after[name] != before.get(name)})
    assert set() in changes, changes


def versions(api: Api) -> dict[str, str]:
    listed = json.loads(
        api.kubectl(
            "get",
            "tenants,blueprints,blueprintversions,plans,databaseinstances,secrets",
            "-n",
            SPACE,
            "-o",
            "json",
        )
    )["items"]
    assert len(listed) >= 8
    return {f"{o['kind']}/{o['metadata']['name']}": o["metadata"]["resourceVersion"] for o in listed}


@pytest.mark.parametrize("name", TENANTS)
def test_a_tenant_cannot_change_the_schema(api: Api, name: str) -> None:
    for statement in ("CREATE TABLE mine (id int)", "ALTER TABLE users ADD mine int", "DROP TABLE users"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(uri(api, name), statement)


@pytest.mark.parametrize(("name", "other"), list(permutations(TENANTS, 2)))
def test_no_tenant_reaches_another(api: Api, name: str, other: str) -> None:
    mine, theirs = (api.kubectl.secret(SPACE, f"{n}-main-db") for n in (name, other))
    if mine["database"] != theirs["database"]:
        assert refused(uri(api, name).replace(f"/{mine['database']}", f"/{theirs['database']}"))
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(uri(api, name), f'SELECT * FROM "{theirs["schema"]}".users')


@pytest.mark.parametrize("name", TENANTS)
def test_suspend_and_resume(api: Api, name: str) -> None:
    with psycopg.connect(uri(api, name), autocommit=True) as session:
        api.set_state(SPACE, name, "Suspended")
        api.ready(SPACE, name, "Suspended")
        assert refused(uri(api, name))
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    api.set_state(SPACE, name, "Active")
    api.ready(SPACE, name)
    assert run(uri(api, name), "SELECT 1") == [(1,)]


def test_every_kind_reports_kstatus(api: Api) -> None:
    for kind, name, where in (
        ("blueprint", "shop", SPACE),
        ("blueprintversion", "shop-1.1", SPACE),
        ("plan", "pro", None),
        ("tenant", "acme", SPACE),
    ):
        found = api.wait(kind, name, where, lambda obj: obj is not None and is_ready(obj))
        for word in ("Reconciling", "Stalled"):
            assert (condition(found, word) or {}).get("status") == "False"
