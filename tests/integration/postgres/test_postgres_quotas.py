"""Limits on logins, and on what a tenant stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Credentials, Isolation, LoginLimits
from tests.integration.postgres.test_postgres_lifecycle import ALL, ITEMS, OTHER_PASSWORD, fill


@ALL
async def test_limits_are_the_databases_to_enforce(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    limits = LoginLimits(connections=1, statement_timeout_ms=1500, temp_files_bytes=1 << 20)
    acme = await shop.make(limits=limits)
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        assert session.execute("SHOW statement_timeout").fetchone() == ("1500ms",)
        assert session.execute("SHOW temp_file_limit").fetchone() == ("1MB",)
        with pytest.raises(psycopg.OperationalError, match="too many connections"), shop.login(acme):
            pass
    fewer = shop.desired(limits=LoginLimits(connections=2))
    assert await shop.bring(fewer) == ["mend-roles"]
    assert await shop.is_settled(fewer)
    with shop.login(acme) as session:
        assert session.execute("SHOW statement_timeout").fetchone() == ("0",)


@ALL
async def test_over_its_storage_quota_a_tenant_reads_and_deletes(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make(), await shop.make("globex")
    fill(shop, acme)
    over = shop.desired(read_only=True)
    vacuum = [] if isolation is Isolation.ROW else ["vacuum"]
    assert await shop.bring(over) == ["refuse-writes", *vacuum]
    assert await shop.bring(over) == vacuum
    assert (await shop.state(over)).drift == ()
    with shop.login(acme) as session:
        for statement in ("INSERT INTO items (name) VALUES ('x')", "UPDATE items SET name = 'x'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        assert session.execute("SELECT count(*) FROM items").fetchone() == (2,)
        session.execute("DELETE FROM items")
        if isolation is not Isolation.ROW:
            session.execute("TRUNCATE items CASCADE")
    shop.edition("1.1", "CREATE TABLE more (name text, tenant_id text NOT NULL DEFAULT tenantry.tenant_id())")
    over = shop.desired(read_only=True)
    await shop.bring(over)
    with shop.login(acme) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("INSERT INTO more VALUES ('x')")
    if isolation is not Isolation.ROW:
        await shop.bring(shop.desired("globex"))
    with shop.login(globex) as session:
        session.execute("INSERT INTO more VALUES ('x')")
    below = shop.desired()
    assert await shop.bring(below) == ["allow-writes"]
    assert await shop.is_settled(below)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")
        session.execute("INSERT INTO more VALUES ('x')")


@ALL
async def test_a_login_made_while_writing_is_refused_is_refused_too(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    await shop.bring(shop.desired(read_only=True))
    rotated = shop.desired(read_only=True, login=acme.names.login_b)
    await shop.bring(rotated, Credentials(acme.names.login_b, OTHER_PASSWORD))
    assert (await shop.state(rotated)).drift == ()
    login = shop.login(acme, acme.names.login_b, password=OTHER_PASSWORD)
    with login as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("INSERT INTO items (name) VALUES ('x')")


@pytest.mark.parametrize("isolation", [Isolation.SCHEMA, Isolation.DATABASE])
async def test_deleting_makes_room(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, "CREATE TABLE items (id int, text text); CREATE INDEX ON items (id)")
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("INSERT INTO items SELECT n, repeat('x', 200) FROM generate_series(1, 20000) AS n")
    over = shop.desired(read_only=True)
    await shop.bring(over)
    before = (await shop.state(over)).bytes
    with shop.login(acme) as session:
        # Every page keeps some rows, so that none can be given back without moving them.
        session.execute("DELETE FROM items WHERE id % 10 <> 0")
    await shop.bring(over)
    after = (await shop.state(over)).bytes
    assert before is not None
    assert after is not None
    assert before - after > 3_500_000
    with shop.login(acme) as session:
        assert session.execute("SELECT count(*), min(length(text)) FROM items").fetchone() == (2000, 200)
    assert await shop.bring(acme) == ["allow-writes"]
    assert await shop.is_settled(acme)
