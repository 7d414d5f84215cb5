"""New databases as copies of a template: the same as if every migration had been run, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Chain, Desired, Isolation, Migration
from tenantry_operator.engines.postgres import templates
from tenantry_operator.tenants.naming import template_of
from tests.integration.postgres.conftest import Blueprint

TABLES = ";\n".join(
    [
        "CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "tenant_id text DEFAULT tenantry.tenant_id(), body text)",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE VIEW all_items AS SELECT * FROM items",
        "CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM items'",
        "CREATE SCHEMA more",
        "CREATE TABLE more.things (id int REFERENCES items (id))",
        "CREATE SEQUENCE more.numbers",
        "CREATE INDEX by_body ON items (body)",
    ]
)
NOTES = "-- " + "x" * templates.WORTHWHILE


def start(blueprint: Callable[..., Any], *texts: str) -> Blueprint:
    made: Blueprint = blueprint(Isolation.DATABASE, TABLES + "\n" + NOTES, *texts)
    return made


async def keep(shop: Blueprint, chain: Chain | None = None) -> str:
    """Has the template kept, as a sweep does; its name."""
    await shop.engine.observe()
    await shop.engine.keep_templates({f"shop/{shop.name}": chain or shop.chain})
    await shop.engine.observe()
    return template_of(f"shop/{shop.name}", (chain or shop.chain).digest)


def templates_of(shop: Blueprint) -> list[str]:
    with shop.server.superuser() as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s AND NOT datallowconn ORDER BY 1",
            (f"{shop.name}%template",),
        ).fetchall()
    return [row[0] for row in rows]


def dump(shop: Blueprint, desired: Desired) -> list[tuple[Any, ...]]:
    """All that is in a database with owners and rights, without its names."""
    query = """
        SELECT c.relname, c.relkind::text, o.rolname::text, c.relacl::text
        FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        UNION ALL
        SELECT n.nspname, 'n', o.rolname, n.nspacl::text FROM pg_namespace n JOIN pg_roles o ON o.oid = n.nspowner
        UNION ALL
        SELECT p.proname, 'f', o.rolname, p.proacl::text FROM pg_proc p JOIN pg_roles o ON o.oid = p.proowner
        JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
        UNION ALL
        SELECT t.typname, 't', o.rolname, NULL FROM pg_type t JOIN pg_roles o ON o.oid = t.typowner
        JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname IN ('public', 'more')
        UNION ALL
        SELECT d.defaclobjtype::text, 'd', o.rolname, d.defaclacl::text
        FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole
        UNION ALL
        SELECT l.migration || l.checksum, 'l', l.schema, l.version FROM tenantry.ledger l
        UNION ALL
        SELECT l.login, 'r', l.tenant_id, NULL FROM tenantry.logins l
    """
    with shop.server.superuser(desired.names.database) as session:
        rows = session.execute(query).fetchall()

    def plain(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = value.replace(desired.names.owner, "OWNER").replace(desired.tenant_id, "TENANT")
        return "{" + ",".join(sorted(text.strip("{}").split(","))) + "}" if text.startswith("{") else text

    return sorted((tuple(plain(value) for value in row) for row in rows), key=str)


async def test_a_copy_is_what_the_migrations_would_have_made(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint)
    replayed = await shop.make("replayed")
    name = await keep(shop)
    assert templates_of(shop) == [name]
    copied = await shop.make("copied")
    assert dump(shop, copied) == dump(shop, replayed)
    assert await shop.is_settled(copied)
    with shop.login(copied) as session:
        session.execute("INSERT INTO items (body) VALUES ('mine')")
        assert session.execute("SELECT tenant_id, total() FROM all_items").fetchall() == [("copied", 1)]
        session.execute("INSERT INTO more.things SELECT id FROM items; SELECT nextval('more.numbers')")


async def test_it_was_really_a_copy(blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shop = start(blueprint)
    await shop.make("first")
    await keep(shop)

    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("a migration was run")

    monkeypatch.setattr("tenantry_operator.engines.postgres.migrations._render_arguments", none)
    assert await shop.is_settled(await shop.make("second"))


async def test_nobody_gets_into_a_template(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint)
    acme = await shop.make()
    name = await keep(shop)
    with pytest.raises(psycopg.OperationalError), shop.server.login(acme.names.login_a, name):
        pass
    with shop.login(acme) as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f'SET ROLE "{name}"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(f'CREATE DATABASE mine TEMPLATE "{name}"')


async def test_only_the_current_version_has_a_template(blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint)
    await shop.make("first")
    old = await keep(shop)
    shop.edition("1.1", "ALTER TABLE items ADD extra text")
    new = await keep(shop)
    assert templates_of(shop) == [new]
    assert old != new
    second = await shop.make("second")
    with shop.login(second) as session:
        session.execute("SELECT extra FROM items")
    await shop.engine.keep_templates({})
    assert templates_of(shop) == []
    with shop.server.superuser() as session:
        left = session.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE '%%template%%'").fetchall()
    assert left == []


@pytest.mark.parametrize("text", ["INSERT INTO items (body) VALUES (gen_random_uuid()::text)"])
async def test_what_is_different_for_everybody_is_not_copied(text: str, blueprint: Callable[..., Any]) -> None:
    shop = start(blueprint, text)
    await shop.make("first")
    await keep(shop)
    assert templates_of(shop) == []
    bodies = []
    for name in ("second", "third"):
        with shop.login(await shop.make(name)) as session:
            bodies += session.execute("SELECT body FROM items").fetchall()
    assert bodies[0] != bodies[1]


async def test_rows_that_are_the_same_for_everybody_are_copied(blueprint: Callable[..., Any]) -> None:
    text = "CREATE TABLE kinds (name text); INSERT INTO kinds VALUES ('one'), ('two')\n" + NOTES
    shop: Blueprint = blueprint(Isolation.DATABASE, text)
    await shop.make("first")
    name = await keep(shop)
    assert templates_of(shop) == [name]
    with shop.login(await shop.make("second")) as session:
        assert session.execute("SELECT name FROM kinds ORDER BY 1").fetchall() == [("one",), ("two",)]


async def test_a_small_blueprint_has_none(blueprint: Callable[..., Any]) -> None:
    shop: Blueprint = blueprint(Isolation.DATABASE, "CREATE TABLE a (id int)")
    await shop.make()
    await keep(shop)
    assert templates_of(shop) == []


async def test_a_copy_of_an_older_version_is_brought_on(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the operator was killed between the copy and what follows, and the version changed meanwhile."""
    shop = start(blueprint)
    await shop.make("first")
    name = await keep(shop)
    old = shop.chain
    steps = [
        Migration("1.1", "more", "ALTER TABLE items ADD extra text"),
        Migration("1.1", "index", "CREATE INDEX CONCURRENTLY e ON items (extra)", transactional=False),
    ]
    shop.chain = Chain.of(old.blueprint, "1.1", [*old.migrations, *steps], ["1.0", "1.1"])
    once = [name]
    monkeypatch.setattr(templates.Templates, "of", lambda self, desired: once.pop() if once else None)
    acme = await shop.make("acme")
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("SELECT extra FROM items")
    shop.chain = Chain.of(old.blueprint, "2.0", [Migration("2.0", "other", "CREATE TABLE other (id int)")])
    once.append(name)
    other = await shop.make("other")
    with shop.login(other) as session, pytest.raises(psycopg.errors.UndefinedTable):
        session.execute("SELECT FROM items")
