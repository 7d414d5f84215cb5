"""Between versions: back again, over other branches, and what cannot be in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tenantry_operator import faults
from tenantry_operator.engines.base import Chain, Desired, Isolation, Migration, Pace, Presence
from tenantry_operator.engines.postgres import untransacted
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.tenants.naming import scratch_names
from tests.integration.postgres.conftest import Blueprint

ALL = pytest.mark.parametrize("isolation", [Isolation.SCHEMA, Isolation.DATABASE, Isolation.ROW])

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, tenant_id text NOT NULL DEFAULT tenantry.tenant_id())"
ITEMS_OF_ALL = "CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text)"
VIEW = "CREATE VIEW v WITH (security_invoker) AS SELECT more FROM items"
INDEX = "CREATE INDEX CONCURRENTLY by_tenant ON items (tenant_id)"


def start(blueprint: Callable[..., Any], isolation: Isolation) -> Blueprint:
    made: Blueprint = blueprint(isolation, ITEMS_OF_ALL if isolation is Isolation.ROW else ITEMS)
    return made


def extend(shop: Blueprint, version: str, *steps: Migration) -> Chain:
    known = shop.chain
    shop.chain = Chain.of(known.blueprint, version, [*known.migrations, *steps], [*known.versions, version])
    return shop.chain


def indexes(shop: Blueprint, desired: Desired) -> dict[str, bool]:
    with shop.server.superuser(desired.names.database) as session:
        rows = session.execute(
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE c.relnamespace = to_regnamespace(%s)",
            (desired.names.schema or "public",),
        ).fetchall()
    return {name: valid for name, valid in rows if not name.endswith("_pkey")}


def ledger(shop: Blueprint, desired: Desired) -> list[str]:
    with shop.server.superuser(desired.names.database) as session:
        rows = session.execute(
            "SELECT version || '/' || migration FROM tenantry.ledger WHERE schema = %s ORDER BY position",
            (desired.names.schema or "public",),
        ).fetchall()
    return [row[0] for row in rows]


def migrators(shop: Blueprint) -> list[str]:
    with shop.server.superuser() as session:
        rows = session.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE '%%\\_\\_migrator'").fetchall()
    return [row[0] for row in rows]


@ALL
async def test_going_back_undoes_the_last_first_and_keeps_the_rest(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, isolation)
    old = shop.chain
    new = extend(
        shop,
        "1.1",
        Migration("1.1", "more", "ALTER TABLE items ADD more text", rollback="ALTER TABLE items DROP more"),
        # Only the last one can be undone first: it holds on to the column.
        Migration(
            "1.1",
            "view",
            "CREATE VIEW v WITH (security_invoker) AS SELECT more FROM items",
            rollback="DROP VIEW v",
        ),
    )
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute(
            "INSERT INTO items DEFAULT VALUES" if isolation is Isolation.ROW else "INSERT INTO items VALUES (1)"
        )
    back = replace(acme, chain=old, installed=new)
    assert await shop.bring(back) == ["migrate"]
    assert ledger(shop, acme) == ["1.0/m0"]
    state = await shop.state(back)
    assert (state.version, state.digest, state.target) == ("1.0", old.digest, None)
    with shop.login(acme) as session:
        assert session.execute("SELECT count(*) FROM items").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.execute("SELECT more FROM items")
    assert await shop.bring(acme) == ["migrate"]
    assert ledger(shop, acme) == ["1.0/m0", "1.1/more", "1.1/view"]
    assert await shop.is_settled(acme)


@ALL
async def test_another_branch_is_reached_over_where_they_part(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, isolation)
    old = shop.chain
    one = extend(
        shop, "1.1", Migration("1.1", "a", "ALTER TABLE items ADD a int", rollback="ALTER TABLE items DROP a")
    )
    acme = await shop.make()
    shop.chain = old
    other = extend(shop, "1.1-fix", Migration("1.1-fix", "b", "ALTER TABLE items ADD b int"))
    await shop.bring(replace(acme, chain=other, installed=one))
    assert ledger(shop, acme) == ["1.0/m0", "1.1-fix/b"]
    with shop.login(acme) as session:
        session.execute("SELECT b FROM items")


@ALL
async def test_without_a_rollback_there_is_no_way_back_and_nothing_happens(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, isolation)
    old = shop.chain
    new = extend(
        shop,
        "1.1",
        Migration("1.1", "a", "ALTER TABLE items ADD a int"),
        Migration("1.1", "b", "ALTER TABLE items ADD b int", rollback="ALTER TABLE items DROP b"),
    )
    acme = await shop.make()
    with pytest.raises(Stalled, match=r"RollbackMissing.*migration a of version 1.1"):
        await shop.bring(replace(acme, chain=old, installed=new))
    assert ledger(shop, acme) == ["1.0/m0", "1.1/a", "1.1/b"]
    assert await shop.is_settled(acme)


@ALL
async def test_an_index_is_built_outside_of_a_transaction(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, isolation)
    old = shop.chain
    acme = await shop.make()
    new = extend(
        shop,
        "1.1",
        Migration("1.1", "column", "ALTER TABLE items ADD more text", rollback="ALTER TABLE items DROP more"),
        Migration("1.1", "index", INDEX, False, "DROP INDEX CONCURRENTLY by_tenant"),
        Migration("1.1", "after", "ALTER TABLE items ADD last text", rollback="ALTER TABLE items DROP last"),
    )
    assert await shop.bring(shop.desired()) == ["migrate"]
    assert indexes(shop, acme)["by_tenant"] is True
    assert ledger(shop, acme) == ["1.0/m0", "1.1/column", "1.1/index", "1.1/after"]
    assert migrators(shop) == []
    assert await shop.is_settled(shop.desired())
    await shop.bring(replace(acme, chain=old, installed=new))
    assert "by_tenant" not in indexes(shop, acme)
    assert ledger(shop, acme) == ["1.0/m0"]


@ALL
async def test_a_new_tenant_gets_what_cannot_be_in_a_transaction(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, isolation)
    extend(
        shop,
        "1.1",
        Migration("1.1", "index", INDEX, transactional=False),
        Migration("1.1", "after", "ALTER TABLE items ADD last text"),
    )
    acme = await shop.make()
    assert indexes(shop, acme)["by_tenant"] is True
    assert ledger(shop, acme) == ["1.0/m0", "1.1/index", "1.1/after"]
    assert (await shop.state(acme)).version == "1.1"
    assert await shop.is_settled(acme)


class Crash(BaseException):
    """What a test ends the work with: nothing catches it."""


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], bool]:
    """Ends the work at a point of a migration outside of a transaction; tells whether it got there."""
    seen = 0

    def reached(point: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            raise Crash(point)

    monkeypatch.setattr(untransacted, "reached", reached)
    return lambda: seen >= number


@ALL
@pytest.mark.parametrize("back", [False, True])
async def test_a_crash_at_any_point_is_taken_up_where_it_was(
    isolation: Isolation, back: bool, blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = start(blueprint, isolation)
    old = shop.chain
    acme = await shop.make()
    new = extend(
        shop,
        "1.1",
        Migration("1.1", "first", "ALTER TABLE items ADD more text", rollback="ALTER TABLE items DROP more"),
        Migration(
            "1.1",
            "indexes",
            f"{INDEX};\nCREATE INDEX CONCURRENTLY by_more ON items (more);",
            False,
            "DROP INDEX CONCURRENTLY by_more; DROP INDEX CONCURRENTLY by_tenant",
        ),
    )
    forward = replace(acme, chain=new, installed=old)
    backward = replace(acme, chain=old, installed=new)
    if back:
        await shop.bring(forward)
    way = backward if back else forward
    number = 0
    while True:
        number += 1
        happened = crash_at(monkeypatch, number)
        try:
            await shop.bring(way)
        except Crash:
            state = await shop.state(way)
            assert state.target == ("1.0" if back else "1.1")
        if not happened():
            break
        # What an operator that starts again does with the same thing in view.
        monkeypatch.setattr(untransacted, "reached", lambda point: None)
        await shop.bring(way)
        wanted = {} if back else {"by_tenant": True, "by_more": True}
        assert {k: v for k, v in indexes(shop, acme).items() if k in ("by_tenant", "by_more")} == wanted
        assert ledger(shop, acme) == (["1.0/m0"] if back else ["1.0/m0", "1.1/first", "1.1/indexes"])
        assert migrators(shop) == []
        assert await shop.is_settled(way)
        await shop.bring(forward if back else backward)
    assert number > 6


async def test_what_is_half_done_can_be_undone(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    new = extend(
        shop,
        "1.1",
        Migration(
            "1.1",
            "indexes",
            f"{INDEX}; CREATE INDEX CONCURRENTLY broken ON items (missing)",
            False,
            "DROP INDEX CONCURRENTLY IF EXISTS broken; DROP INDEX CONCURRENTLY IF EXISTS by_tenant",
        ),
    )
    with pytest.raises(
        Stalled, match=r"MigrationFailed.*migration indexes of version 1.1.*line 1.*42703.*goes on"
    ):
        await shop.bring(replace(acme, chain=new, installed=old))
    state = await shop.state(acme)
    assert (state.version, state.target) == ("1.0", "1.1")
    assert "by_tenant" in indexes(shop, acme)
    await shop.bring(replace(acme, chain=old, installed=new))
    assert "by_tenant" not in indexes(shop, acme)
    assert await shop.is_settled(acme)


async def test_an_index_that_was_left_invalid_is_built_again(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (id, tenant_id) VALUES (1, 'x'), (2, 'x')")
    new = extend(
        shop,
        "1.1",
        Migration(
            "1.1", "unique", "CREATE UNIQUE INDEX CONCURRENTLY one ON items (tenant_id)", transactional=False
        ),
    )
    way = replace(acme, chain=new, installed=old)
    with pytest.raises(Stalled, match=r"MigrationFailed.*23505"):
        await shop.bring(way)
    assert indexes(shop, acme) == {"one": False}
    with shop.login(acme) as session:
        session.execute("DELETE FROM items WHERE id = 2")
    await shop.bring(way)
    assert indexes(shop, acme) == {"one": True}


async def test_what_collides_outside_of_a_transaction_is_not_taken_for_done(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    with shop.server.superuser(acme.names.database) as session:
        session.execute(f'CREATE INDEX by_tenant ON "{acme.names.schema}".items (id)')
    new = extend(shop, "1.1", Migration("1.1", "index", INDEX, transactional=False))
    with pytest.raises(Stalled, match=r"MigrationFailed.*42P07"):
        await shop.bring(replace(acme, chain=new, installed=old))


@pytest.mark.parametrize(
    "attack",
    [
        "SET SESSION AUTHORIZATION tenantry_admin",
        "SET ROLE tenantry_admin",
        "RESET ROLE; CREATE ROLE evil",
        "CREATE DATABASE evil",
        "DELETE FROM tenantry.ledger",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    ],
)
async def test_sql_outside_of_a_transaction_has_the_owners_rights_alone(
    attack: str, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    await shop.make("globex")
    new = extend(shop, "1.1", Migration("1.1", "evil", attack, transactional=False))
    with pytest.raises(Stalled, match=r"MigrationFailed.*42501"):
        await shop.bring(replace(acme, chain=new, installed=old))
    assert migrators(shop) == []


async def test_a_neighbours_tables_are_out_of_reach_there_too(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    globex = await shop.make("globex")
    text = f'RESET ROLE; SELECT * FROM "{globex.names.schema}".items'
    new = extend(shop, "1.1", Migration("1.1", "evil", text, transactional=False))
    with pytest.raises(Stalled, match=r"MigrationFailed.*42501"):
        await shop.bring(replace(acme, chain=new, installed=old))


async def test_a_lock_is_waited_for_as_long_as_the_rollout_says(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    acme = await shop.make()
    shop.edition("1.1", "ALTER TABLE items ADD more text", "ALTER TABLE items ADD last text")
    loop = asyncio.get_running_loop()
    with shop.login(acme, autocommit=False) as session:
        session.execute("SELECT * FROM items")
        for lock_timeout in (0.1, 1.5):
            since = loop.time()
            with pytest.raises(Retryable, match=r"MigrationBlocked.*55P03"):
                await shop.bring(shop.desired(pace=Pace(lock_timeout, 30)))
            assert lock_timeout <= loop.time() - since < lock_timeout + 5


async def test_a_migration_takes_no_longer_than_it_may(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    await shop.make()
    shop.edition("1.1", "SELECT pg_sleep(20)")
    with pytest.raises(Retryable, match=r"MigrationBlocked.*57014"):
        await shop.bring(shop.desired(pace=Pace(1, 0.5)))


@ALL
async def test_who_is_suspended_is_migrated_in_place(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, isolation)
    acme = await shop.make()
    await shop.bring(replace(acme, presence=Presence.REFUSED, login=None, chain=None))
    shop.edition("1.1", "ALTER TABLE items ADD more text")
    assert await shop.bring(shop.desired(presence=Presence.REFUSED, login=None)) == ["migrate"]
    state = await shop.state(shop.desired(presence=Presence.REFUSED, login=None))
    assert state.version == "1.1"
    assert not any(login.enabled for login in state.logins)


async def test_a_tenant_goes_with_a_login_that_a_crash_left(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    acme = await shop.make()
    new = extend(shop, "1.1", Migration("1.1", "index", INDEX, transactional=False))

    async def not_dropped(self: object, desired: Desired) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(untransacted.Untransacted, "drop_login", not_dropped)
        await shop.bring(replace(acme, chain=new, installed=old))
    assert len(migrators(shop)) == 1
    await shop.bring(replace(acme, chain=None, presence=Presence.ABSENT))
    assert migrators(shop) == []


def scratch(shop: Blueprint) -> Desired:
    names = scratch_names(f"shop/{shop.name}")
    return shop.desired(
        tenant="", tenant_id="scratch", entry="scratch", isolation=Isolation.DATABASE, names=names, login=None
    )


def left(server: Any) -> list[Any]:
    with server.superuser() as session:
        return [
            *session.execute("SELECT datname FROM pg_database WHERE datname LIKE '%%scratch%%'").fetchall(),
            *session.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE '%%scratch%%'").fetchall(),
        ]


async def test_a_dry_run_goes_there_and_back_and_leaves_nothing(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    new = extend(
        shop,
        "1.1",
        Migration("1.1", "more", "ALTER TABLE items ADD more text", rollback="ALTER TABLE items DROP more"),
        Migration("1.1", "index", INDEX, False, "DROP INDEX CONCURRENTLY by_tenant"),
    )
    await shop.engine.rehearse(scratch(shop), [old, new, old])
    assert left(shop.server) == []


@pytest.mark.parametrize(
    ("sql", "rollback", "words"),
    [
        ("SELECT 1;\nALTER TABLE nothing ADD x int", None, r"MigrationFailed.*migration more .*line 2.*42P01"),
        ("ALTER TABLE items ADD more text", "ALTER TABLE items DROP mroe", r"rollback of migration more .*42703"),
    ],
)
async def test_a_dry_run_tells_what_would_fail_and_leaves_nothing(
    sql: str, rollback: str | None, words: str, blueprint: Callable[..., Any]
) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    old = shop.chain
    new = extend(shop, "1.1", Migration("1.1", "more", sql, rollback=rollback))
    with pytest.raises(Stalled, match=words):
        await shop.engine.rehearse(scratch(shop), [old, new, old])
    assert left(shop.server) == []


async def test_a_dry_run_clears_away_what_a_crash_left(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, Isolation.SCHEMA)
    await shop.bring(scratch(shop))
    assert left(shop.server) != []
    await shop.engine.rehearse(scratch(shop), [shop.chain])
    assert left(shop.server) == []


def test_the_points_of_a_crash_are_those_of_the_operator() -> None:
    assert untransacted.reached is faults.reached
