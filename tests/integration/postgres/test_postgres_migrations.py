"""Blueprint versions reach the data; their mistakes are told with line and SQLSTATE, and harm nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Chain, Isolation, Migration
from tenantry_operator.errors import Retryable, Stalled

ITEMS = "CREATE TABLE items (id int, tenant_id text NOT NULL DEFAULT tenantry.tenant_id())"
ANY = (Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE)
ALL = pytest.mark.parametrize("isolation", ANY)


@ALL
async def test_a_new_version_reaches_the_data(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    shop.edition("1.1", "ALTER TABLE items ADD more text", "CREATE TABLE other (tenant_id text NOT NULL)")
    newer = shop.desired()
    assert await shop.bring(newer) == ["migrate"]
    assert (await shop.state(newer)).version == "1.1"
    assert await shop.is_settled(newer)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (more) VALUES ('x')")
        session.execute("SELECT * FROM other")
    with shop.server.superuser(acme.names.database) as connection:
        ledger = connection.execute("SELECT version, migration FROM tenantry.ledger ORDER BY position").fetchall()
    assert ledger == [("1.0", "m0"), ("1.1", "m0"), ("1.1", "m1")]


@ALL
async def test_a_version_without_migrations_is_only_written_down(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    await shop.make()
    shop.edition("1.1")
    assert await shop.bring(shop.desired()) == ["migrate"]
    assert await shop.is_settled(shop.desired())


BROKEN = [
    (
        "CREATE TABLE a (id int);\n\nCREATE TABLE b (id nosuchtype);",
        3,
        "42704",
        'type "nosuchtype" does not exist',
    ),
    ("SELECT 1;\nSELECT\n  1 +;\n", 3, "42601", "syntax error"),
    (
        "CREATE TABLE a (id int);\n-- a comment; with a semicolon\nINSERT INTO a VALUES ('x');",
        3,
        "22P02",
        "invalid",
    ),
    ("CREATE TABLE a (id int);\n\n\nCREATE TABLE a (id int);", 4, "42P07", "already exists"),
    ("DO $$\nBEGIN\n  RAISE EXCEPTION 'my own';\nEND $$;", 1, "P0001", "my own"),
    ("CREATE TABLE a (id int);\nRESET ROLE;", 2, "42501", "role"),
    ("CREATE TABLE a (id int);\nSET SESSION AUTHORIZATION postgres;", 2, "42501", "session_authorization"),
    ("SELECT set_config('role', 'none', false)", 1, "42501", "role"),
    ("CREATE TABLE a (id int);\nCOMMIT;\nDROP TABLE a;", 2, "0A000", "transaction"),
    ("SELECT 1;\nCREATE ROLE mine;", 2, "42501", "permission denied"),
    ("SELECT 1;\nCREATE DATABASE mine;", 2, "25001", "CREATE DATABASE"),
    ("CREATE SCHEMA elsewhere", 1, "42501", "permission denied"),
    ("SELECT 1;\nDELETE FROM tenantry.ledger", 2, "42501", "permission denied"),
    (
        "DO $$ DECLARE f regproc; BEGIN\n"
        "  FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace AND pronargs = 1 LOOP\n"
        "    EXECUTE format('SELECT %s(''DROP SCHEMA public'')', f);\n"
        "  END LOOP; END $$",
        1,
        "42501",
        "permission denied for function",
    ),
    ("SELECT 1;\nVACUUM", 2, "25001", "VACUUM"),
    (
        "CREATE TABLE a (id int PRIMARY KEY);\n"
        "CREATE TABLE b (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\n"
        "INSERT INTO b VALUES (1);",
        None,
        "23503",
        "foreign key",
    ),
]


@pytest.mark.parametrize(("text", "line", "sqlstate", "words"), BROKEN)
async def test_broken_sql_is_told_with_its_line(
    text: str, line: int | None, sqlstate: str, words: str, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS, text)
    with pytest.raises(Stalled) as caught:
        await shop.make()
    assert caught.value.reason == "MigrationFailed"
    message = caught.value.message
    assert f"migration m1 of version 1.0 of blueprint shop/{shop.name} failed" in message
    assert (f"line {line}:" in message) if line else ("deferred to its end" in message)
    assert f"[SQLSTATE {sqlstate}]" in message
    assert words in message
    assert (await shop.state(shop.desired())).exists is False
    shop.chain = Chain.of(shop.chain.blueprint, "1.0", shop.chain.migrations[:1])
    await shop.make()
    assert await shop.is_settled(shop.desired())


@ALL
async def test_a_failed_migration_leaves_everything_as_it_was(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    shop.edition("1.1", "ALTER TABLE items ADD more text", "SELECT 1;\nSELECT nosuchcolumn FROM items")
    with pytest.raises(Stalled, match=r"MigrationFailed.*migration m1 of version 1.1 .* failed, line 2:.*42703"):
        await shop.bring(shop.desired())
    assert (await shop.state(shop.desired())).version == "1.0"
    with shop.login(acme) as session:
        session.execute("INSERT INTO items VALUES (1)")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            session.execute("SELECT more FROM items")


@ALL
async def test_an_edited_migration_is_refused(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS, "CREATE TABLE b (tenant_id text NOT NULL)")
    await shop.make()
    edited = Migration("1.0", "m1", "CREATE TABLE c (tenant_id text NOT NULL)")
    shop.chain = Chain.of(shop.chain.blueprint, "1.0", [shop.chain.migrations[0], edited])
    with pytest.raises(Stalled, match=r"MigrationEdited.*m1 of version 1.0.*was edited"):
        await shop.bring(shop.desired())
    shop.chain = Chain.of(shop.chain.blueprint, "1.0", [replace(edited, name="first")])
    with pytest.raises(Stalled, match=r"MigrationEdited.*reordered or renamed"):
        await shop.bring(shop.desired())


@ALL
async def test_going_back_without_knowing_how_is_refused(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    old = shop.chain
    shop.edition("1.1", "ALTER TABLE items ADD more text")
    await shop.make()
    shop.chain = old
    with pytest.raises(Stalled, match="NewerVersion"):
        await shop.bring(shop.desired())


@ALL
async def test_a_locked_table_is_tried_again_later(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    shop.edition("1.1", "ALTER TABLE items ADD more text")
    with shop.login(acme, autocommit=False) as session:
        session.execute("SELECT * FROM items")
        with pytest.raises(Retryable, match=r"MigrationBlocked.*55P03"):
            await shop.bring(shop.desired())
    assert await shop.bring(shop.desired()) == ["migrate"]


@ALL
async def test_what_is_deferred_does_not_run_as_the_administrator(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    """Triggers and cursors that wait for COMMIT would be run by whoever commits."""
    shop = blueprint(
        isolation,
        "CREATE TABLE seen (who text, tenant_id text DEFAULT coalesce(tenantry.tenant_id(), 'nobody'));"
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO seen VALUES (current_user); RETURN NULL; END';"
        "CREATE FUNCTION look() RETURNS text LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO seen VALUES (current_user); RETURN ''''; END';"
        "CREATE TABLE bait (id int, tenant_id text DEFAULT coalesce(tenantry.tenant_id(), 'nobody'));"
        "CREATE CONSTRAINT TRIGGER spy AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION spy();"
        "INSERT INTO bait VALUES (1);"
        "DECLARE held CURSOR WITH HOLD FOR SELECT look()",
    )
    acme = await shop.make()
    with shop.server.superuser(acme.names.database) as connection:
        schema = acme.names.schema or "public"
        who = connection.execute(f"SELECT DISTINCT who FROM {schema}.seen").fetchall()
    assert who == [(acme.names.owner,)]


async def test_deferred_constraints_work_in_every_migration_of_a_chain(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        Isolation.SCHEMA,
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO b VALUES (1); INSERT INTO a VALUES (1)",
        "INSERT INTO b VALUES (2); INSERT INTO a VALUES (2)",
        "ALTER TABLE a ADD more text",
        "CREATE TABLE c (id int REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO c VALUES (3); INSERT INTO a VALUES (3)",
    )
    assert await shop.is_settled(await shop.make())


async def test_a_session_is_clean_for_the_next_tenant(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        Isolation.SCHEMA,
        ITEMS,
        "CREATE TEMPORARY TABLE items (x int); CREATE TEMPORARY TABLE pg_class AS SELECT 1 AS x;"
        "SET statement_timeout = 1; SET search_path = nowhere; SET row_security = off;"
        "SET standard_conforming_strings = off; PREPARE p AS SELECT 1; SELECT pg_advisory_lock(1)",
    )
    for number in range(4):
        made = await shop.make(f"t{number}")
        assert await shop.is_settled(made)
        with shop.login(made) as session:
            session.execute("INSERT INTO items VALUES (1)")


@ALL
async def test_seeds_belong_to_the_tenant(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS, "INSERT INTO items VALUES (1)")
    if isolation is Isolation.ROW:
        with pytest.raises(Stalled, match=r"MigrationFailed.*tenant_id.*not-null"):
            await shop.make()
        return
    acme = await shop.make()
    with shop.login(acme) as session:
        assert session.execute("SELECT id, tenant_id FROM items").fetchall() == [(1, "acme")]


@ALL
async def test_many_tenants_at_once(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    await asyncio.gather(*(shop.make(f"t{number}") for number in range(8)))
    shop.edition("1.1", "ALTER TABLE items ADD more text")
    await asyncio.gather(*(shop.bring(shop.desired(f"t{number}")) for number in range(8)))
    for number in range(8):
        desired = shop.desired(f"t{number}")
        assert await shop.is_settled(desired)
        with shop.login(desired) as session:
            session.execute("INSERT INTO items (more) VALUES ('x')")


@ALL
async def test_a_session_that_is_ended_is_no_fault_of_the_migration(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    await shop.make()
    shop.edition("1.1", "SELECT pg_sleep(30)")
    work = asyncio.create_task(shop.bring(shop.desired()))
    with shop.server.superuser() as session:
        ended: list[Any] = []
        while not ended and not work.done():
            await asyncio.sleep(0.05)
            ended = session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            ).fetchall()
    with pytest.raises(Retryable, match=r"ServerUnreachable.*57P01"):
        await work
