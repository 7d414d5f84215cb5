"""Usage queries count a tenant's own rows, and can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tenantry_operator.engines.base import Isolation, UsageRow
from tenantry_operator.engines.postgres import usage
from tenantry_operator.errors import Stalled

USERS = """
CREATE TABLE users (role text, created_at timestamptz DEFAULT now(), tenant_id text DEFAULT tenantry.tenant_id());
CREATE FUNCTION everybody() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM users'
"""
ALL = pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])


@pytest.fixture(params=[Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])
async def shop(request: pytest.FixtureRequest, blueprint: Callable[..., Any]) -> Any:
    made = blueprint(request.param, USERS)
    for tenant, rows in (("acme", 2), ("globex", 3)):
        desired = await made.make(tenant)
        with made.login(desired) as session:
            session.execute("INSERT INTO users (role) SELECT 'ADMIN' FROM generate_series(1, %s)", (rows,))
            session.execute("INSERT INTO users (role, created_at) VALUES (NULL, '2026-01-02 03:04:05Z')")
    return made


async def test_a_tenants_own_rows_are_counted(shop: Any) -> None:
    counted = await shop.engine.usage(
        shop.desired(),
        {
            "users": "SELECT role AS label, count(*) AS count, max(created_at) AS latest FROM users "
            "GROUP BY role ORDER BY role;",
            "total": "SELECT everybody() AS count -- a comment",
        },
    )
    admin, nobody = counted["users"]
    assert (admin.label, admin.count) == ("ADMIN", 2)
    assert (nobody.label, nobody.count) == ("", 1)
    assert (nobody.latest or "").startswith("2026-01-02T03:04:05")
    assert counted["total"] == (UsageRow("", 3),)
    assert await shop.is_settled(shop.desired())


@pytest.mark.parametrize(
    "query",
    [
        "SELECT set_config('role', 'none', false) AS label, 1 AS count",
        "SELECT set_config('role', 'tenantry_admin', true) AS label, 1 AS count",
        "SELECT set_config('session_authorization', 'postgres', true) AS label, 1 AS count",
        "SELECT 1 AS count) AS x; DELETE FROM users; SELECT * FROM (SELECT 1 AS count",
        "SELECT 1 AS count; DROP TABLE users",
        "DELETE FROM users RETURNING 1 AS count",
        "WITH gone AS (DELETE FROM users RETURNING 1) SELECT count(*) AS count FROM gone",
        "SELECT tenant_id AS label, 1 AS count FROM tenantry.logins",
        "SELECT rolpassword AS label, 1 AS count FROM pg_authid",
        "SELECT nextval('pg_class') AS count",
        "SELECT 'x' AS label",
        "SELECT 'many' AS count",
        "SELECT nosuchcolumn AS count FROM users",
        "SELECT",
        "",
        "SELECT n AS label, 1 AS count FROM generate_series(1, 2000) AS n",
    ],
)
async def test_a_query_that_does_anything_else_is_refused(query: str, shop: Any) -> None:
    with pytest.raises(Stalled, match=r"UsageQueryFailed.*usage query of users"):
        await shop.engine.usage(shop.desired(), {"users": query})
    with shop.login(shop.desired()) as session:
        assert session.execute("SELECT count(*) FROM users").fetchone() == (3,)


async def test_a_slow_query_is_ended(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "TIMEOUT", 0.3)
    with pytest.raises(Stalled, match="took longer than"):
        await shop.engine.usage(
            shop.desired(),
            {"users": "SELECT set_config('statement_timeout', '0', false), pg_sleep(60), 1 AS count"},
        )


async def test_a_tenants_function_does_not_act_as_the_administrator(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.SCHEMA, USERS)
    acme = await shop.make(ddl=True)
    with shop.login(acme) as session:
        session.execute(
            "CREATE OR REPLACE FUNCTION everybody() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN"
            "  PERFORM set_config('role', 'none', false); RETURN 1; END $$"
        )
        session.execute("CREATE FUNCTION whoami() RETURNS text LANGUAGE sql AS 'SELECT current_user::text'")
    with pytest.raises(Stalled, match="role"):
        await shop.engine.usage(acme, {"users": "SELECT everybody() AS count"})
    counted = await shop.engine.usage(acme, {"users": "SELECT whoami() AS label, 1 AS count"})
    assert counted["users"] == (UsageRow(acme.names.owner, 1),)
