"""What people change by hand is found by the set-based look, and put right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Isolation
from tenantry_operator.tenants.naming import connect_group_of, group_of

ITEMS = """
CREATE TABLE items (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),
  name text
);
CREATE SEQUENCE numbers;
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM items'
"""
ANY = (Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE)
OWN = (Isolation.SCHEMA, Isolation.DATABASE)
CHANGES = [
    ("ALTER ROLE {login} CONNECTION LIMIT 7", ANY),
    ("ALTER ROLE {login} VALID UNTIL 'yesterday'", ANY),
    ("ALTER ROLE {login} NOINHERIT", ANY),
    ("ALTER ROLE {login} RESET ALL", (Isolation.ROW, Isolation.SCHEMA)),
    ("ALTER ROLE {login} SET statement_timeout = '1h'", ANY),
    ("ALTER ROLE {login} SET search_path = elsewhere", ANY),
    ("ALTER ROLE {owner} LOGIN", OWN),
    ("REVOKE CONNECT ON DATABASE {database} FROM {connect}", ANY),
    ("GRANT CONNECT ON DATABASE {database} TO PUBLIC", ANY),
    ("GRANT ALL ON DATABASE {database} TO {stranger}", ANY),
    ("REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {group}", ANY),
    ("REVOKE DELETE ON {schema}.items FROM {group}", ANY),
    ("REVOKE USAGE ON SCHEMA {schema} FROM {group}", OWN),
    ("REVOKE ALL ON SEQUENCE {schema}.numbers FROM {group}", OWN),
    ("REVOKE EXECUTE ON FUNCTION {schema}.total() FROM {group}", OWN),
    ("GRANT SELECT ON {schema}.items TO {stranger}", ANY),
    ("GRANT USAGE ON SCHEMA {schema} TO {stranger}", OWN),
    ("GRANT USAGE ON SCHEMA {schema} TO PUBLIC", OWN),
    ("GRANT EXECUTE ON FUNCTION {schema}.total() TO PUBLIC", OWN),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON TABLES FROM {group}", OWN),
    ("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO {stranger}", OWN),
    ("DELETE FROM tenantry.logins WHERE login = '{login}'", OWN),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", (Isolation.ROW, Isolation.SCHEMA)),
    ("ALTER TABLE {schema}.items DISABLE ROW LEVEL SECURITY", (Isolation.ROW,)),
    ("ALTER TABLE {schema}.items NO FORCE ROW LEVEL SECURITY", (Isolation.ROW,)),
    ("DROP POLICY tenantry_tenant ON {schema}.items", (Isolation.ROW,)),
    ("ALTER POLICY tenantry_tenant ON {schema}.items USING (true)", (Isolation.ROW,)),
    ("ALTER POLICY tenantry_owner ON {schema}.items TO {stranger}", (Isolation.ROW,)),
]


@pytest.mark.parametrize(
    ("change", "isolation"),
    [(change, isolation) for change, isolations in CHANGES for isolation in isolations],
)
async def test_a_change_by_hand_is_found_and_mended(
    change: str, isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    names = acme.names
    words = {
        "login": names.login_a,
        "owner": names.owner,
        "group": group_of(names.owner),
        "database": names.database,
        "connect": connect_group_of(names.database) if names.schema else group_of(names.owner),
        "schema": names.schema or "public",
        "stranger": f"{shop.name}_stranger",
    }
    with shop.server.superuser(names.database) as connection:
        connection.execute(f"CREATE ROLE {words['stranger']}")
        connection.execute(change.format(**words))
    state = await shop.state(acme)
    assert state.drift, "it was not found"
    steps = await shop.bring(acme)
    assert steps
    assert all(step.startswith("mend-") for step in steps)
    assert await shop.is_settled(acme)
    assert await shop.is_settled(globex)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")
        session.execute("DELETE FROM items")
        assert session.execute("SELECT total(), nextval('numbers')").fetchone() == (0, 1)


async def test_a_database_is_looked_into_again_when_a_grant_in_it_changed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.DATABASE, ITEMS)
    acme = await shop.make()
    group = group_of(acme.names.owner)

    async def looks() -> int:
        """How often a sweep connects to the tenant's database, of five."""
        before = sessions()
        for _ in range(5):
            assert await shop.is_settled(acme)
        return sessions() - before

    def sessions() -> int:
        with shop.server.superuser() as connection:
            query = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
            return int(connection.execute(query, (acme.names.database,)).fetchone()[0])

    await asyncio.sleep(1.5)  # the server counts what a session did when it ends, a moment later
    await looks()
    assert await looks() == 0
    with shop.server.superuser(acme.names.database) as connection:
        connection.execute(f"REVOKE DELETE ON items FROM {group}")
    deadline = time.monotonic() + 20
    while not (await shop.state(acme)).drift:
        assert time.monotonic() < deadline, "it was not found"
        await asyncio.sleep(0.2)
    await shop.bring(acme)
    with shop.login(acme) as session:
        session.execute("DELETE FROM items")


@pytest.mark.parametrize("isolation", OWN)
async def test_a_missing_group_is_made_anew(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    group = group_of(acme.names.owner)
    with shop.server.superuser(acme.names.database) as connection:
        connection.execute(f"DROP OWNED BY {group}; DROP ROLE {group}")
    assert any("is gone" in words for words in (await shop.state(acme)).drift)
    await shop.bring(acme)
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")


@pytest.mark.parametrize("isolation", ANY)
async def test_memberships_given_by_hand_are_reported(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.server.superuser() as connection:
        connection.execute(f"GRANT {globex.names.login_a} TO {acme.names.login_a}")
    (words,) = (await shop.state(acme)).drift
    assert "only that role or a superuser can revoke it" in words
    assert shop.engine.plan(acme, await shop.state(acme), None) == (), "nothing that could be tried helps"


@pytest.mark.parametrize("isolation", ANY)
async def test_an_attribute_that_only_a_superuser_takes_away_is_reported(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    with shop.server.superuser() as connection:
        connection.execute(f"ALTER ROLE {acme.names.login_a} BYPASSRLS")
    (words,) = (await shop.state(acme)).drift
    assert "BYPASSRLS" in words


@pytest.mark.parametrize("isolation", ANY)
async def test_a_login_dropped_by_hand_is_seen_to_be_missing(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    with shop.server.superuser(acme.names.database) as connection:
        connection.execute(f"DROP OWNED BY {acme.names.login_a}; DROP ROLE {acme.names.login_a}")
    assert (await shop.state(acme)).logins == ()
    await shop.make()
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")


async def test_the_number_of_queries_does_not_depend_on_the_tenants(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[object] = []
    execute = psycopg.AsyncCursor.execute

    async def counting(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        executed.append(query)
        return await execute(self, query, *arguments, **options)

    shops = [blueprint(isolation, ITEMS) for isolation in ANY]
    for shop in shops:
        await shop.make("t0")
    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counting)
    await shops[0].engine.observe()
    before = len(executed)
    monkeypatch.undo()
    for shop in shops:
        for number in range(1, 5):
            await shop.make(f"t{number}")
    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counting)
    executed.clear()
    await shops[0].engine.observe()
    # A connection that was idle for a while is tried first.
    assert abs(len(executed) - before) <= 3
