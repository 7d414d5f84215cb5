"""Suspending, resuming, removing, rotating, and keeping off what is somebody else's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Credentials, Isolation, Ownership, Presence, Stale
from tenantry_operator.errors import Stalled
from tenantry_operator.tenants.naming import names_for

ITEMS = """
CREATE TABLE items (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),
  name text,
  parent bigint,
  UNIQUE (tenant_id, id),
  FOREIGN KEY (tenant_id, parent) REFERENCES items (tenant_id, id)
)
"""
ALL = pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])
OTHER_PASSWORD = "another-password"


def fill(shop: Any, desired: Any) -> None:
    with shop.login(desired) as session:
        session.execute("INSERT INTO items (name) VALUES ('kept')")
        session.execute("INSERT INTO items (parent) SELECT id FROM items")


def count(shop: Any, desired: Any, login: str | None = None, **options: Any) -> int:
    with shop.login(desired, login, **options) as session:
        row = session.execute("SELECT count(*) FROM items").fetchone()
        assert row is not None
        return int(row[0])


@ALL
async def test_a_refused_tenant_is_thrown_out_and_comes_back(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    fill(shop, acme)
    with shop.login(acme) as session, shop.login(globex) as neighbour:
        refused = shop.desired("acme", presence=Presence.REFUSED, login=None)
        assert await shop.bring(refused) == ["refuse-logins", "end-sessions"]
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        neighbour.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        count(shop, acme)
    assert await shop.bring(refused) == []
    assert await shop.bring(acme) == ["enable-login"]
    assert count(shop, acme) == 2
    assert await shop.is_settled(acme)


@ALL
@pytest.mark.parametrize("presence", [Presence.REFUSED, Presence.ABSENT])
async def test_nothing_is_made_to_be_refused_or_absent(
    isolation: Isolation, presence: Presence, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    assert await shop.bring(shop.desired(presence=presence, login=None, chain=None)) == []
    assert (await shop.state(shop.desired())).ownership is Ownership.FREE


def leftovers(shop: Any, tenant: str) -> list[str]:
    """Everything on the server that is called after a tenant."""
    names = shop.desired(tenant).names
    with shop.server.superuser() as connection:
        found = connection.execute(
            "SELECT rolname::text FROM pg_roles WHERE rolname ~ %(own)s "
            "UNION ALL SELECT datname FROM pg_database WHERE datname ~ %(own)s",
            {"own": f"__{tenant}(__|$)" if shop.isolation is Isolation.ROW else f"^{shop.name}__{tenant}(__|$)"},
        ).fetchall()
    left = [name for (name,) in found if name.startswith(shop.name)]
    if names.schema is not None:
        with shop.server.superuser(names.database) as connection:
            for query in (
                "SELECT nspname FROM pg_namespace WHERE nspname = %s",
                "SELECT login FROM tenantry.logins WHERE tenant_id = %s",
                "SELECT schema FROM tenantry.ledger WHERE schema = %s",
            ):
                left += [name for (name,) in connection.execute(query, (tenant,)).fetchall()]
            left += [
                str(oid) for (oid,) in connection.execute("SELECT oid FROM pg_largeobject_metadata").fetchall()
            ]
    return left


@ALL
async def test_an_absent_tenant_leaves_nothing(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    fill(shop, acme)
    fill(shop, globex)
    with shop.login(acme) as session:
        session.execute("SELECT lo_from_bytea(0, 'large')")
        gone = shop.desired("acme", presence=Presence.ABSENT, login=None)
        await shop.bring(gone)
    assert leftovers(shop, "acme") == []
    assert await shop.bring(gone) == []
    assert (await shop.state(gone)).exists is False
    assert count(shop, globex) == 2
    assert await shop.is_settled(globex)
    await shop.make("acme")
    assert count(shop, acme) == 0


async def test_row_removal_goes_round_cycles_and_triggers(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        Isolation.ROW,
        ITEMS,
        "CREATE TABLE boxes (tenant_id text NOT NULL DEFAULT tenantry.tenant_id(), id int, item bigint,"
        " PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, item) REFERENCES items (tenant_id, id));"
        "ALTER TABLE items ADD box int, ADD FOREIGN KEY (tenant_id, box) REFERENCES boxes (tenant_id, id);"
        "CREATE TABLE audit (line text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "'BEGIN INSERT INTO audit VALUES (TG_OP || current_user); RETURN OLD; END';"
        "CREATE TRIGGER note AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION note()",
    )
    acme, globex = await shop.make("acme"), await shop.make("globex")
    for tenant in (acme, globex):
        fill(shop, tenant)
        with shop.login(tenant) as session:
            session.execute("INSERT INTO boxes (id, item) SELECT 1, min(id) FROM items")
            session.execute("UPDATE items SET box = 1")
    await shop.bring(shop.desired("acme", presence=Presence.ABSENT, login=None))
    with shop.server.superuser(shop.name) as connection:
        for table, left in (("items", 2), ("boxes", 1), ("audit", 0)):
            row = connection.execute(f"SELECT count(*) FROM {shop.name}.{table}").fetchone()
            assert row == (left,), table


async def test_row_removal_that_a_trigger_forbids_is_reported(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        Isolation.ROW,
        ITEMS,
        "CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not allowed''; END';"
        "CREATE TRIGGER never BEFORE DELETE ON items FOR EACH ROW EXECUTE FUNCTION never()",
    )
    acme = await shop.make()
    fill(shop, acme)
    with pytest.raises(Stalled, match=r"RemovalFailed.*not allowed"):
        await shop.bring(shop.desired(presence=Presence.ABSENT, login=None))
    assert (await shop.state(acme)).exists


@ALL
async def test_rotation_keeps_both_logins_until_one_is_retired(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    fill(shop, acme)
    with shop.login(acme) as session:
        row = session.execute("SELECT lo_from_bytea(0, 'mine')").fetchone()
        assert row is not None
    rotated = shop.desired(login=acme.names.login_b)
    new = Credentials(acme.names.login_b, OTHER_PASSWORD)
    assert await shop.bring(rotated, new) == ["create-login"]
    assert await shop.is_settled(rotated)
    assert count(shop, acme, acme.names.login_a) == 2
    assert count(shop, acme, acme.names.login_b, password=OTHER_PASSWORD) == 2
    with shop.login(acme, acme.names.login_a) as session:
        retiring = replace(rotated, retired=(acme.names.login_a,))
        assert await shop.bring(retiring) == ["retire-login"]
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert [login.name for login in (await shop.state(rotated)).logins] == [acme.names.login_b]
    with shop.login(acme, acme.names.login_b, password=OTHER_PASSWORD) as session:
        assert session.execute("SELECT lo_get(%s)", row).fetchone() == (b"mine",)
        session.execute("INSERT INTO items (name) VALUES ('again')")
    assert await shop.bring(retiring) == []
    back = shop.desired(login=acme.names.login_a, retired=(acme.names.login_b,))
    assert await shop.bring(back, Credentials(acme.names.login_a, "third")) == ["create-login", "retire-login"]
    assert count(shop, acme, acme.names.login_a, password="third") == 3


@ALL
async def test_a_password_can_be_set_anew(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    assert await shop.bring(acme, Credentials(acme.names.login_a, OTHER_PASSWORD)) == ["set-password"]
    assert count(shop, acme, password=OTHER_PASSWORD) == 0
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        count(shop, acme)


@ALL
async def test_no_password_reaches_the_servers_log(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    password = uuid.uuid4().hex
    acme = shop.desired()
    await shop.bring(acme, Credentials(acme.names.login_a, password))
    await shop.bring(acme, Credentials(acme.names.login_a, password + "2"))
    log = (shop.server.folder / "log").read_text()
    assert acme.names.login_a in log, "the server logs statements, or this test shows nothing"
    assert password not in log


STRANGERS = [
    (Isolation.DATABASE, "database", "CREATE DATABASE {database}"),
    (Isolation.DATABASE, "role", "CREATE ROLE {owner}"),
    (Isolation.DATABASE, "role", "CREATE ROLE {login} LOGIN"),
    (Isolation.SCHEMA, "database", "CREATE DATABASE {database}"),
    (Isolation.SCHEMA, "role", "CREATE ROLE {owner}"),
    (Isolation.SCHEMA, "role", "CREATE ROLE {login}"),
    (Isolation.ROW, "database", "CREATE DATABASE {database}"),
    (Isolation.ROW, "role", "CREATE ROLE {owner}"),
    (Isolation.ROW, "role", "CREATE ROLE {login}"),
]


@pytest.mark.parametrize(("isolation", "kind", "statement"), STRANGERS)
async def test_what_a_stranger_made_is_left_alone(
    isolation: Isolation, kind: str, statement: str, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = shop.desired()
    names = {"database": acme.names.database, "owner": acme.names.owner, "login": acme.names.login_a}
    with shop.server.superuser() as connection:
        connection.execute(statement.format(**names))
    state = await shop.state(acme)
    assert state.ownership is Ownership.STRANGER
    assert (state.conflict or "").startswith(kind)
    for presence in Presence:
        wanted = replace(acme, presence=presence)
        with pytest.raises(Stalled, match="NameTaken"):
            shop.engine.plan(wanted, state, Credentials(acme.names.login_a, "x"))
    with shop.server.superuser() as connection:
        catalog, column = ("pg_database", "datname") if kind == "database" else ("pg_roles", "rolname")
        row = connection.execute(
            f"SELECT count(*) FROM {catalog} WHERE {column} = ANY (%s)", (list(names.values()),)
        ).fetchone()
        assert row == (1,)


async def test_a_strangers_schema_is_left_alone(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    await shop.make("globex")
    acme = shop.desired()
    credentials = Credentials(acme.names.login_a, "x")
    steps = shop.engine.plan(acme, await shop.state(acme), credentials)
    with shop.server.superuser(shop.name) as connection:
        connection.execute("CREATE SCHEMA acme CREATE TABLE precious (id int)")
    # Planned before the stranger came: the transaction fails as a whole, and the next look tells why.
    with pytest.raises(Stale, match="exists already"):
        await shop.engine.apply(acme, steps, credentials)
    state = await shop.state(acme)
    assert (state.ownership, state.conflict) == (Ownership.STRANGER, f"schema acme of database {shop.name}")
    assert leftovers(shop, "acme") == ["acme"]


@ALL
async def test_another_tenant_of_the_same_name_gets_a_longer_one(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    fill(shop, acme)
    other = replace(acme, tenant="market/acme", blueprint=f"market/{shop.name}")
    state = await shop.state(other)
    assert state.ownership is Ownership.OTHER_TENANT
    names = names_for(isolation, shop.name, "acme", "main", namespace="market", disambiguate=True)
    other = replace(other, names=names, login=names.login_a)
    await shop.bring(other, Credentials(names.login_a, "x"))
    assert count(shop, other, password="x") == 0
    assert await shop.is_settled(other)
    assert count(shop, acme) == 2


@ALL
async def test_a_tenant_made_again_finds_what_it_left(isolation: Isolation, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    fill(shop, acme)
    await shop.bring(shop.desired(presence=Presence.REFUSED, login=None))
    snapshot = await shop.engine.observe()
    found = next(b for b in snapshot.belongings(acme.tenant) if b.mark.blueprint == acme.blueprint)
    assert (found.isolation, found.database, found.schema) == (isolation, acme.names.database, acme.names.schema)
    assert acme.tenant in snapshot.tenants()
    assert await shop.bring(acme, Credentials(acme.names.login_a, "x")) == ["set-password", "enable-login"]
    assert count(shop, acme, password="x") == 2


@pytest.mark.parametrize(
    ("isolation", "statement"),
    [
        (Isolation.DATABASE, "DROP DATABASE {database} WITH (FORCE)"),
        (Isolation.SCHEMA, "DROP SCHEMA {schema} CASCADE"),
        (Isolation.SCHEMA, "DROP DATABASE {database} WITH (FORCE)"),
        (Isolation.ROW, "DROP SCHEMA {schema} CASCADE"),
    ],
)
async def test_lost_data_is_not_made_anew_unless_asked(
    isolation: Isolation, statement: str, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(isolation, ITEMS)
    acme = await shop.make()
    inside = "SCHEMA" in statement
    with shop.server.superuser(acme.names.database if inside else "postgres") as connection:
        connection.execute(statement.format(database=acme.names.database, schema=acme.names.schema))
    with pytest.raises(Stalled, match="DataLost"):
        await shop.bring(acme)
    again = replace(acme, recreate=True)
    await shop.bring(again)
    await shop.bring(acme)
    assert count(shop, acme) == 0
    assert await shop.is_settled(acme)


async def test_shared_tables_made_anew_for_one_tenant_are_not_anothers_in_silence(
    blueprint: Callable[..., Any],
) -> None:
    shop = blueprint(Isolation.ROW, ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.server.superuser(acme.names.database) as connection:
        connection.execute(f"DROP SCHEMA {acme.names.schema} CASCADE")
    await shop.bring(replace(acme, recreate=True))
    assert (await shop.state(acme)).exists
    assert not (await shop.state(globex)).exists
    with shop.login(globex) as session:
        assert session.execute("SELECT count(*) FROM items").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("INSERT INTO items (name) VALUES ('nobody knows whose')")
    assert await shop.bring(replace(globex, recreate=True)) == ["register-tenant"]
    assert await shop.is_settled(globex)
