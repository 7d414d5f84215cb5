"""What an engine tells of how tenants' databases look inside, against real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Chain, DatabaseState, Desired, Isolation, Migration, Presence
from tenantry_operator.engines.postgres import structures, untransacted
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.engines.scratch import scratch_copy

from .conftest import INSTALLATION, Blueprint

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL DEFAULT 'none')"
OWN = (Isolation.SCHEMA, Isolation.DATABASE)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "_REST", 0)


def change(shop: Blueprint, desired: Desired, statement: str) -> None:
    """What somebody does by hand."""
    with shop.server.superuser(desired.names.database) as connection:
        connection.execute(f'SET search_path TO "{desired.names.schema or "public"}"')
        connection.execute(statement.encode())


async def seen(shop: Blueprint, desired: Desired) -> DatabaseState:
    return (await shop.engine.observe()).database(desired)


def scratch(shop: Blueprint) -> Desired:
    return scratch_copy(INSTALLATION, f"shop/{shop.name}")


@pytest.mark.parametrize("isolation", OWN)
async def test_a_tenant_looks_like_a_scratch_copy_of_its_version_until_somebody_changes_it(
    blueprint: Any, isolation: Isolation
) -> None:
    shop = blueprint(isolation, ITEMS)
    one, other = await shop.make("one"), await shop.make("other")
    expected = (await shop.engine.rehearse(scratch(shop), [shop.chain]))[shop.chain.digest]
    for desired in (one, other):
        assert (await seen(shop, desired)).structure == expected.fingerprint
    change(shop, one, "ALTER TABLE items ADD extra int; CREATE TABLE more (id int)")
    assert (await seen(shop, one)).structure not in (None, expected.fingerprint)
    assert (await seen(shop, other)).structure == expected.fingerprint
    found = await shop.engine.structure(one)
    assert found is not None
    assert found.fingerprint == (await seen(shop, one)).structure
    deviation = shop.engine.compare(expected, found)
    assert deviation.lines == ("column items.extra: added", "table more: added")
    # The same differences have the same digest, another one moves it, and so does another definition.
    assert shop.engine.compare(expected, found).digest == deviation.digest
    change(shop, one, "ALTER TABLE more ADD other int")
    again = await shop.engine.structure(one)
    assert again is not None
    assert shop.engine.compare(expected, again).lines == deviation.lines
    assert shop.engine.compare(expected, again).digest != deviation.digest


async def test_what_was_changed_and_cannot_be_read_yet_is_not_known(blueprint: Any) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    desired = await shop.make()
    assert (await seen(shop, desired)).structure is not None
    with shop.server.superuser(desired.names.database) as connection:
        connection.execute(f'SET search_path TO "{desired.names.schema}"')
        with connection.transaction():
            connection.execute("ALTER TABLE items ADD extra int")
        with connection.transaction():
            connection.execute("LOCK TABLE items")
            assert (await seen(shop, desired)).structure is None
    assert (await seen(shop, desired)).structure is not None


async def test_a_shared_database_is_not_asked_all_the_time(
    blueprint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    desired = await shop.make()
    monkeypatch.setattr(structures, "_REST", 1_000_000)
    assert (await seen(shop, desired)).structure is not None
    change(shop, desired, "ALTER TABLE items ADD extra int")
    assert (await seen(shop, desired)).structure is None


async def test_fewer_are_read_at_once_when_it_was_too_much(
    blueprint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    wanted = [await shop.make(f"t{number}") for number in range(5)]
    await shop.engine.observe()
    for desired in wanted:
        change(shop, desired, "ALTER TABLE items ADD extra int")
    asked: list[int] = []
    real = structures.read_fingerprints

    async def slow(connection: Any, schemas: Any = None) -> Any:
        asked.append(len(schemas))
        if len(schemas) > 2:
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        return await real(connection, schemas)

    monkeypatch.setattr(structures, "read_fingerprints", slow)
    known = 0
    for _ in range(4):
        snapshot = await shop.engine.observe()
        known = sum(snapshot.database(desired).structure is not None for desired in wanted)
    assert asked == [5, 2, 2, 1]
    assert known == 5


async def test_another_schema_in_a_database_of_ones_own_is_named(blueprint: Any) -> None:
    shop = blueprint(Isolation.DATABASE, ITEMS)
    desired = await shop.make()
    expected = await shop.engine.structure(desired)
    change(shop, desired, "CREATE SCHEMA extra; CREATE TABLE extra.items (id int)")
    found = await shop.engine.structure(desired)
    assert expected is not None
    assert found is not None
    lines = shop.engine.compare(expected, found).lines
    assert "schema extra: added" in lines
    assert "table items in schema extra: added" in lines
    assert "table items: added" not in lines
    assert (await seen(shop, desired)).structure == found.fingerprint


async def test_the_order_of_columns_alone_is_no_difference(blueprint: Any) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    desired = await shop.make()
    expected = await shop.engine.structure(desired)
    change(
        shop,
        desired,
        "ALTER TABLE items DROP id; ALTER TABLE items ADD id int; ALTER TABLE items ADD PRIMARY KEY (id)",
    )
    found = await shop.engine.structure(desired)
    assert expected is not None
    assert found is not None
    assert found.fingerprint != expected.fingerprint
    assert shop.engine.compare(expected, found).lines == ()


async def test_only_versions_that_were_come_to_from_the_start_are_examples(blueprint: Any) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    first = shop.chain
    undone = Migration("1.1", "m", "ALTER TABLE items ADD more int", rollback="ALTER TABLE items DROP more")
    second = Chain.of(first.blueprint, "1.1", [*first.migrations, undone], ["1.0", "1.1"])
    branch = Chain.of(
        first.blueprint,
        "2.0",
        [*first.migrations, Migration("2.0", "n", "CREATE TABLE n (id int)")],
        ["1.0", "2.0"],
    )
    found = await shop.engine.rehearse(scratch(shop), [first, second, branch])
    assert set(found) == {first.digest, second.digest}
    assert shop.engine.compare(found[first.digest], found[second.digest]).lines == ("column items.more: added",)


async def test_what_is_not_there_has_no_structure(engine: PostgresEngine, blueprint: Any) -> None:
    shop = blueprint(Isolation.DATABASE, ITEMS)
    assert await engine.structure(shop.desired("nobody")) is None
    shared = blueprint(Isolation.SCHEMA, ITEMS)
    await shared.make("somebody")
    gone = replace(shared.desired("nobody"), presence=Presence.LIVE)
    assert gone.installation == INSTALLATION
    found = await engine.structure(gone)
    assert found is None or not found.objects


async def test_a_copy_that_a_crash_left_is_dropped_with_the_next_sweep(
    blueprint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(Isolation.SCHEMA, ITEMS)
    slow = Migration("1.1", "m", "CREATE INDEX CONCURRENTLY i ON items (id)", transactional=False)
    chain = Chain.of(shop.chain.blueprint, "1.1", [*shop.chain.migrations, slow])

    class Killed(BaseException):
        pass

    def reached(point: str) -> None:
        if point == "migrator-made":
            raise Killed

    monkeypatch.setattr(untransacted, "reached", reached)
    real = shop.engine.apply

    async def applied(desired: Desired, *rest: Any) -> None:
        if desired.presence is Presence.ABSENT and killed:
            raise Killed
        await real(desired, *rest)

    killed: list[bool] = []
    monkeypatch.setattr(shop.engine, "apply", applied)

    async def structure(desired: Desired) -> None:
        killed.append(True)

    monkeypatch.setattr(shop.engine, "structure", structure)
    with pytest.raises(Killed):
        await shop.engine.rehearse(scratch(shop), [shop.chain, chain])
    monkeypatch.undo()
    name = scratch(shop).names.database
    query = (
        "SELECT rolname FROM pg_roles WHERE rolname LIKE %s "
        "UNION ALL SELECT datname FROM pg_database WHERE datname = %s"
    )
    with shop.server.superuser() as connection:
        assert len(connection.execute(query, (f"{name}%", name)).fetchall()) >= 3
        await shop.engine.observe()
        await shop.engine.keep_templates({})
        assert connection.execute(query, (f"{name}%", name)).fetchall() == []
