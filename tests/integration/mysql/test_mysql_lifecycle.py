"""Making, suspending, resuming, removing, rotating, and keeping off what is somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from tenantry_operator.engines.base import Credentials, Isolation, LoginLimits, Ownership, Presence
from tenantry_operator.errors import Stalled
from tests.integration.engines.harness import PASSWORD
from tests.integration.engines.mysql_harness import Harness

ITEMS = "CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"
OTHER_PASSWORD = "another-password"


async def test_a_tenant_gets_a_database_that_works(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = shop.desired()
    steps = await shop.bring(acme, Credentials(acme.names.login_a, PASSWORD))
    assert steps == ["create-database", "migrate", "create-login"]
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('first')")
        session.execute("SELECT name FROM items")
        assert session.fetchall() == (("first",),)
        state = await shop.state(acme)
    assert (state.ownership, state.exists, state.version, state.target) == (Ownership.OURS, True, "1.0", None)
    assert [(login.name, login.enabled) for login in state.logins] == [(acme.names.login_a, True)]
    assert state.connections == 1
    assert (state.bytes or 0) >= 65536
    assert await shop.is_settled(acme)


async def test_a_refused_tenant_is_thrown_out_and_comes_back(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.login(acme) as session, shop.login(globex) as neighbour:
        session.execute("INSERT INTO items (name) VALUES ('kept')")
        refused = shop.desired(presence=Presence.REFUSED, login=None)
        assert await shop.bring(refused) == ["refuse-logins", "end-sessions"]
        with pytest.raises(pymysql.MySQLError):
            session.execute("SELECT 1")
        neighbour.execute("SELECT 1")
    with pytest.raises(pymysql.MySQLError, match="locked"), shop.login(acme):
        pass
    assert await shop.bring(refused) == []
    # The password is the same, and nobody had to know it.
    assert await shop.bring(acme) == ["enable-login"]
    with shop.login(acme) as session:
        session.execute("SELECT name FROM items")
        assert session.fetchall() == (("kept",),)
    assert await shop.is_settled(acme)


@pytest.mark.parametrize("presence", [Presence.REFUSED, Presence.ABSENT])
async def test_nothing_is_made_to_be_refused_or_absent(presence: Presence, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    assert await shop.bring(shop.desired(presence=presence, login=None, chain=None)) == []
    assert (await shop.state(shop.desired())).ownership is Ownership.FREE


async def test_what_is_removed_is_gone(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    await shop.engine.usage(acme, {"items": "SELECT COUNT(*) AS count FROM items"})
    assert len(await harness.leftovers(acme)) > 5
    with shop.login(acme) as session:
        session.execute("SELECT 1")
        steps = await shop.bring(shop.desired(presence=Presence.ABSENT, login=None, chain=None))
        assert steps == ["refuse-logins", "end-sessions", "drop-database", "drop-accounts"]
    assert await harness.leftovers(acme) == []
    assert await shop.is_settled(globex)
    again = await shop.make("acme")
    assert await shop.is_settled(again)


async def test_two_logins_take_turns(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    a, b = acme.names.logins
    second = replace(acme, login=b)
    assert await shop.bring(second, Credentials(b, OTHER_PASSWORD)) == ["create-login"]
    with shop.login(acme, a) as old, shop.login(acme, b, OTHER_PASSWORD) as new:
        assert await shop.bring(replace(second, retired=(a,))) == ["retire-login"]
        with pytest.raises(pymysql.MySQLError):
            old.execute("SELECT 1")
        new.execute("SELECT 1")
    with pytest.raises(pymysql.MySQLError), shop.login(acme, a):
        pass
    state = await shop.state(second)
    assert [login.name for login in state.logins] == [b]
    assert state.logins[0].fingerprint == Credentials(b, OTHER_PASSWORD).fingerprint
    assert await shop.is_settled(second)


async def test_a_new_password_works_and_the_old_one_does_not(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    assert await shop.bring(acme, Credentials(acme.names.login_a, OTHER_PASSWORD)) == ["set-password"]
    with shop.login(acme, password=OTHER_PASSWORD) as session:
        session.execute("SELECT 1")
    with pytest.raises(pymysql.MySQLError, match="Access denied"), shop.login(acme):
        pass


async def test_a_password_that_the_tenant_changed_is_noticed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    assert (await shop.state(acme)).logins[0].fingerprint == Credentials("", PASSWORD).fingerprint
    with shop.login(acme) as session:
        session.execute(f"SET PASSWORD = {shop.server.password('mine')}")
    assert (await shop.state(acme)).logins[0].fingerprint == "unknown"
    await shop.bring(acme, Credentials(acme.names.login_a, PASSWORD))
    assert (await shop.state(acme)).logins[0].fingerprint == Credentials("", PASSWORD).fingerprint


async def test_a_retired_login_stays_as_the_definer_of_what_it_made(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make(ddl=True)
    a, b = acme.names.logins
    with shop.login(acme) as session:
        session.execute("CREATE VIEW names AS SELECT name FROM items")
    second = replace(acme, login=b)
    await shop.bring(second, Credentials(b, OTHER_PASSWORD))
    await shop.bring(replace(second, retired=(a,)))
    state = await shop.state(second)
    assert [login.name for login in state.logins] == [b]
    assert await shop.is_settled(replace(second, retired=(a,)))
    with pytest.raises(pymysql.MySQLError), shop.login(acme, a):
        pass
    with shop.login(second, b, OTHER_PASSWORD) as session:
        session.execute("SELECT * FROM names")
    # Its turn comes again.
    await shop.bring(acme, Credentials(a, PASSWORD))
    assert {login.name for login in (await shop.state(acme)).logins} == {a, b}
    with shop.login(acme, a) as session:
        session.execute("SELECT * FROM names")


async def test_strangers_are_left_alone(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = shop.desired()
    shop.server.query(f"CREATE DATABASE `{acme.names.database}`")
    state = await shop.state(acme)
    assert (state.ownership, state.conflict) == (Ownership.STRANGER, f"database {acme.names.database}")
    with pytest.raises(Stalled, match="NameTaken"):
        await shop.bring(acme)
    absent = shop.desired(presence=Presence.ABSENT, login=None, chain=None)
    with pytest.raises(Stalled, match="NameTaken"):
        await shop.bring(absent)
    globex = shop.desired("globex")
    shop.server.query(f"CREATE USER '{globex.names.login_b}'@'localhost'")
    assert (await shop.state(globex)).ownership is Ownership.STRANGER


async def test_marks_tell_tenants_and_installations_apart(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    other = replace(acme, tenant="elsewhere/acme")
    assert (await shop.state(other)).ownership is Ownership.OTHER_TENANT
    foreign = replace(acme, installation="foreign")
    assert (await shop.state(foreign)).ownership is Ownership.STRANGER
    snapshot = await shop.engine.observe()
    found = snapshot.belongings("shop/acme")
    mine = [(one.isolation, one.database, one.schema) for one in found if one.mark.blueprint == acme.blueprint]
    assert mine == [(Isolation.DATABASE, acme.names.database, None)]
    assert acme.blueprint in snapshot.blueprints()
    assert "shop/acme" in snapshot.tenants()


async def test_a_lost_database_is_not_made_again_in_silence(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.server.query(f"DROP DATABASE `{acme.names.database}`")
    assert not (await shop.state(acme)).exists
    with pytest.raises(Stalled, match="DataLost"):
        await shop.bring(acme)
    await shop.bring(replace(acme, recreate=True))
    with shop.login(acme) as session:
        session.execute("SELECT COUNT(*) FROM items")
        assert session.fetchall() == ((0,),)
    assert await shop.is_settled(acme)


async def test_limits_hold(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make(limits=LoginLimits(connections=2, statement_timeout_ms=200))
    with shop.login(acme) as session, shop.login(acme):
        with pytest.raises(pymysql.MySQLError, match="max_user_connections"), shop.login(acme):
            pass
        if not shop.server.mysql:
            with pytest.raises(pymysql.MySQLError, match="max_statement_time"):
                session.execute("SELECT SLEEP(5)")
    more = replace(acme, limits=LoginLimits(connections=3))
    assert await shop.bring(more) == ["mend-accounts"]
    assert await shop.is_settled(more)
    with shop.login(acme), shop.login(acme), shop.login(acme) as session:
        session.execute("SELECT SLEEP(0.3)")


async def test_over_its_quota_a_tenant_reads_and_deletes(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS, "CREATE PROCEDURE put() INSERT INTO items (name) VALUES ('by routine')")
    acme = await shop.make()
    full = replace(acme, read_only=True)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('one'), ('two')")
        session.execute("CALL put()")
        assert await shop.bring(full) == ["refuse-writes", "vacuum"]
        with pytest.raises(pymysql.MySQLError):
            session.execute("INSERT INTO items (name) VALUES ('three')")
    assert (await shop.state(full)).drift == ()
    with shop.login(acme) as session:
        for statement in (
            "INSERT INTO items (name) VALUES ('three')",
            "UPDATE items SET name = REPEAT('x', 50)",
            "REPLACE INTO items (id, name) VALUES (1, 'x')",
            "CALL put()",
        ):
            with pytest.raises(pymysql.MySQLError, match="denied"):
                session.execute(statement)
        session.execute("DELETE FROM items WHERE name = 'one'")
        session.execute("SELECT name FROM items ORDER BY id")
        assert session.fetchall() == (("two",), ("by routine",))
    assert await shop.bring(acme) == ["allow-writes"]
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('three')")
    assert await shop.is_settled(acme)
