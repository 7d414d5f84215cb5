"""A tenant's login attacks its neighbour and the operator on FerretDB.

What FerretDB 1 cannot close: who is logged in sees the names of all databases and collections, how their
indexes are defined and how large they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from tenantry_operator.engines.base import Ownership, Presence
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.errors import Stalled
from tests.integration.engines.harness import Refused
from tests.integration.engines.mongodb_harness import DATABASE, Harness, refusals

from .conftest import PASSWORD

ITEMS = '[{"create": "items"}, {"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}]'


async def test_a_neighbour_is_out_of_reach(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    own, theirs = await shop.client(acme), await shop.client(globex)
    await own.put("a", "1")
    await theirs.put("secret", "2")
    for name, attack in (await harness.attacks(own, globex)).items():
        try:
            found = await attack()
        except Refused:
            continue
        assert not found, name
    assert await theirs.get("secret") == "2"
    assert await theirs.database["items"].count_documents({}) == 1
    assert set(await theirs.database["items"].index_information()) == {"_id_", "sku"}
    assert await own.get("a") == "1"
    assert await shop.is_settled(acme)
    assert await shop.is_settled(globex)


async def test_a_cursor_of_another_is_of_no_use(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    own, theirs = await shop.client(acme), await shop.client(globex)
    await theirs.database["items"].insert_many([{"_id": n} for n in range(50)])
    answer = await theirs.database.command({"find": "items", "filter": {}, "batchSize": 2})
    cursor = answer["cursor"]["id"]
    assert cursor
    stolen = own.client[globex.names.database]
    with pytest.raises(OperationFailure):
        await stolen.command({"getMore": cursor, "collection": "items"})


async def test_who_does_not_log_in_reaches_nothing(blueprint: Callable[..., Any], harness: Harness) -> None:
    desired = await blueprint(ITEMS).make()
    async with AsyncMongoClient("127.0.0.1", harness.port) as client:
        for attempt in (
            client.list_database_names,
            lambda: client[desired.names.database]["items"].find_one({}),
            lambda: client[desired.names.database]["items"].insert_one({"_id": 1}),
        ):
            with pytest.raises(OperationFailure):
                await attempt()


async def test_a_tenant_that_goes_to_postgresql_itself(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    theirs = await shop.client(globex)
    await theirs.put("secret", "2")
    mine, other = acme.names, globex.names
    with psycopg.connect(
        host="127.0.0.1",
        port=harness.backend_port,
        user=mine.login_a,
        password=PASSWORD,
        dbname=DATABASE,
        autocommit=True,
    ) as session:
        tables = session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename LIKE 'items%%'", (other.database,)
        ).fetchone()
        assert tables is not None
        for statement in (
            f'SELECT * FROM "{other.database}"."{tables[0]}"',
            f'CREATE TABLE "{other.database}".evil (x int)',
            f'DELETE FROM "{other.database}"._ferretdb_database_metadata',
            f'SET ROLE "{other.owner}"',
            f'SET ROLE "{harness.access().username}"',
            "SELECT * FROM tenantry.ledger",
            "CREATE SCHEMA evil",
            "CREATE TABLE public.evil (x int)",
            "CREATE TEMPORARY TABLE evil (x int)",
            f'DROP SCHEMA "{mine.database}" CASCADE',
            f'ALTER ROLE "{mine.login_a}" CONNECTION LIMIT 1000',
            f"COMMENT ON ROLE \"{mine.owner}\" IS 'mine'",
            f"COMMENT ON SCHEMA \"{mine.database}\" IS 'mine'",
        ):
            with pytest.raises(psycopg.Error):
                session.execute(statement.encode())
    assert await theirs.get("secret") == "2"


async def test_a_tenant_that_holds_what_all_may_read_does_not_keep_another_from_going(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with psycopg.connect(
        host="127.0.0.1",
        port=harness.backend_port,
        user=acme.names.login_a,
        password=PASSWORD,
        dbname=DATABASE,
    ) as session:
        # In a transaction that does not end.
        session.execute(f'SELECT * FROM "{globex.names.database}"._ferretdb_database_metadata'.encode())
        absent = replace(globex, presence=Presence.ABSENT, login=None, chain=None)
        async with asyncio.timeout(30):
            await shop.bring(absent)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert await harness.leftovers(globex) == []
    assert await shop.is_settled(acme)


async def test_a_quota_cannot_be_got_around_in_postgresql(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    await shop.bring(replace(desired, read_only=True))
    names = desired.names
    with psycopg.connect(
        host="127.0.0.1",
        port=harness.backend_port,
        user=names.login_a,
        password=PASSWORD,
        dbname=DATABASE,
        autocommit=True,
    ) as session:
        for statement in (
            f'SET ROLE "{names.owner}"',
            f'GRANT "{names.owner}" TO "{names.login_a}"',
            f'CREATE TABLE "{names.database}".more (x int)',
            f'RESET ROLE; CREATE TABLE "{names.database}".more (x int)',
        ):
            with pytest.raises(psycopg.Error):
                session.execute(statement.encode())


async def test_suspended_tenants_see_nothing_in_postgresql(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    await shop.bring(replace(desired, presence=Presence.REFUSED, login=None, chain=None))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1",
            port=harness.backend_port,
            user=desired.names.login_a,
            password=PASSWORD,
            dbname=DATABASE,
        )


async def test_a_restart_hides_nothing_from_whoever_does_not_come_first(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    """FerretDB reads what there is once, with the rights of its first login."""
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    await (await shop.client(acme)).put("a", "1")
    await (await shop.client(globex)).put("g", "2")
    harness.stop_ferretdb()
    await asyncio.sleep(1.1)
    harness.start_ferretdb()
    first, second = await shop.client(globex), await shop.client(acme)
    assert await first.get("g") == "2"
    assert await second.get("a") == "1"
    await second.put("b", "2")
    assert await shop.is_settled(acme)


async def test_strangers_are_left_alone(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = shop.desired("stranger")
    async with harness.admin() as client:
        await client[desired.names.database]["items"].insert_one({"_id": "theirs"})
        state = await shop.state(desired)
        assert state.ownership is Ownership.STRANGER
        assert desired.names.database in (state.conflict or "")
        for wanted in (desired, replace(desired, presence=Presence.ABSENT, login=None)):
            with pytest.raises(Stalled, match="NameTaken"):
                shop.engine.plan(wanted, state, None)
        found = await client[desired.names.database]["items"].find_one({})
        assert found is not None
        await client.drop_database(desired.names.database)


async def test_a_role_of_a_stranger_is_left_alone(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = shop.desired("named")
    with harness.superuser() as connection:
        connection.execute(f'CREATE ROLE "{desired.names.login_b}"')
    assert (await shop.state(desired)).ownership is Ownership.STRANGER
    with harness.superuser() as connection:
        connection.execute(f'DROP ROLE "{desired.names.login_b}"')


async def test_tenants_of_others(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    assert (await shop.state(replace(desired, tenant="shop/another"))).ownership is Ownership.OTHER_TENANT
    assert (await shop.state(replace(desired, installation="elsewhere"))).ownership is Ownership.STRANGER
    elsewhere: MongoEngine = harness.engine("elsewhere")
    try:
        snapshot = await elsewhere.observe()
        assert snapshot.tenants() == {}.keys()
    finally:
        await elsewhere.close()


async def test_usage_queries_cannot_write_or_reach_elsewhere(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    await (await shop.client(acme)).put("a", "1")
    for query in (
        '{"insert": "items", "documents": [{"_id": 1}]}',
        '{"dropDatabase": 1}',
        '{"aggregate": "items", "pipeline": [{"$out": "evil"}]}',
        '{"aggregate": "items", "pipeline": [{"$merge": {"into": "evil"}}]}',
        '{"aggregate": "items", "pipeline": [{"$lookup": {"from": "x", "as": "y"}}]}',
        '{"aggregate": "items", "pipeline": [{"$unionWith": "x"}]}',
        '{"aggregate": 1, "pipeline": [{"$currentOp": {}}]}',
        '{"aggregate": "items", "pipeline": [{"$match": {"$where": "while(1){}"}}]}',
        f'{{"count": "items", "$db": "{globex.names.database}"}}',
        '{"count": "_ferretdb_database_metadata"}',
        '{"count": "system.users"}',
        "[]",
        "nonsense",
    ):
        with pytest.raises(Stalled, match="UsageQueryFailed"):
            await shop.engine.usage(acme, {"things": query})
    assert (await shop.engine.usage(acme, {"things": '{"count": "items"}'}))["things"][0].count == 1


async def test_refusals_are_known(blueprint: Callable[..., Any]) -> None:
    """The tests' own sight: what is allowed is not taken for a refusal."""
    shop = blueprint(ITEMS)
    client = await shop.client(await shop.make())
    with pytest.raises(OperationFailure), refusals():
        await client.database.command("no such command")
