"""What is made for a tenant, and that making it again changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tenantry_operator.engines.base import Isolation, Ownership

ITEMS = (
    "CREATE TABLE items (\n"
    "  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
    "  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),\n"
    "  name text NOT NULL\n"
    ");\n"
    "CREATE VIEW named AS SELECT name FROM items;\n"
    "CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM items'"
)
ALL = pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])


@ALL
async def test_a_tenant_can_use_what_was_made(isolation: Isolation, blueprint: Callable[..., object]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('one'), ('two')")
        session.execute("UPDATE items SET name = 'three' WHERE name = 'two'")
        session.execute("CREATE TEMPORARY TABLE scratch AS SELECT * FROM named")
        assert session.execute("SELECT total(), min(tenant_id) FROM items").fetchone() == (2, "acme")


@ALL
async def test_nothing_is_left_to_do_afterwards(isolation: Isolation, blueprint: Callable[..., object]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    state = await shop.state(acme)
    assert state.drift == ()
    assert shop.engine.plan(acme, state, None) == ()
    assert state.ownership is Ownership.OURS
    assert (state.exists, state.version) == (True, "1.0")
    assert [login.name for login in state.logins] == [acme.names.login_a]


@ALL
async def test_tenants_of_one_blueprint_do_not_see_each_other(
    isolation: Isolation, blueprint: Callable[..., object]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('of acme')")
    with shop.login(globex) as session:
        assert session.execute("SELECT count(*) FROM items").fetchone() == (0,)
        with pytest.raises(psycopg.Error):
            session.execute("CREATE TABLE mine (id int)")
