"""Migrations on FerretDB: versions forth and back, failures in between, and what is allowed in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Chain, Migration, Presence
from tenantry_operator.engines.mongodb.commands import parse
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import Stalled
from tests.integration.engines.mongodb_harness import Harness

ITEMS = '[{"create": "items"}, {"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}]'
ORDERS = Migration(
    "2.0",
    "orders",
    '[{"create": "orders"},'
    ' {"insert": "orders", "documents": [{"_id": 1, "at": {"$date": "2026-01-01T00:00:00Z"}}]}]',
    rollback='[{"drop": "orders"}]',
)


async def test_forward_and_back(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    client = await shop.client(desired)
    await client.put("a", "1")
    second = shop.edition("2.0", ORDERS)
    assert await shop.bring(replace(desired, chain=second, installed=first)) == ["migrate"]
    state = await shop.state(replace(desired, chain=second))
    assert (state.version, state.target) == ("2.0", None)
    assert await client.has_version_2()
    found = await client.database["orders"].find_one({"_id": 1})
    assert found["at"].year == 2026
    assert await shop.bring(replace(desired, chain=first, installed=second)) == ["migrate"]
    assert not await client.has_version_2()
    assert await client.get("a") == "1"
    assert await shop.is_settled(replace(desired, chain=first))
    assert await shop.bring(replace(desired, chain=second, installed=first)) == ["migrate"]
    assert await client.has_version_2()


async def test_what_fails_goes_on_where_it_was(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    broken = Migration(
        "2.0",
        "two",
        '[{"create": "orders"}, {"insert": "orders", "documents": [{"_id": 1}]},'
        ' {"dropIndexes": "items", "index": "there-is-none"}, {"create": "last"}]',
        rollback='[{"drop": "last"}, {"drop": "orders"}]',
    )
    second = shop.edition("2.0", broken)
    with pytest.raises(Stalled, match=r"migration two of version 2.0.*command 3 \(dropIndexes items\)") as caught:
        await shop.bring(replace(desired, chain=second, installed=first))
    assert caught.value.reason == "MigrationFailed"
    assert "registry.go" not in caught.value.message
    state = await shop.state(replace(desired, chain=second))
    assert (state.version, state.target) == ("1.0", "2.0")
    client = await shop.client(desired)
    assert await client.has_version_2()
    # It is mended: the first two commands are not repeated.
    await client.database["orders"].delete_many({})
    mended = Chain.of(
        first.blueprint,
        "2.0",
        [*first.migrations, replace(broken, text=broken.text.replace("there-is-none", "sku"))],
    )
    assert await shop.bring(replace(desired, chain=mended, installed=first)) == ["migrate"]
    assert await client.database["orders"].count_documents({}) == 0
    assert "last" in await client.database.list_collection_names()
    assert await shop.is_settled(replace(desired, chain=mended))


async def test_what_is_half_done_is_undone_on_the_way_back(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    broken = Migration(
        "2.0",
        "two",
        '[{"create": "orders"}, {"dropIndexes": "items", "index": "there-is-none"}]',
        rollback='[{"drop": "orders"}]',
    )
    second = shop.edition("2.0", broken)
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.bring(replace(desired, chain=second, installed=first))
    assert await shop.bring(replace(desired, chain=first, installed=second)) == ["migrate"]
    client = await shop.client(desired)
    assert not await client.has_version_2()
    assert await shop.is_settled(replace(desired, chain=first))


async def test_an_edited_migration_is_noticed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    edited = Chain.of(shop.chain.blueprint, "1.0", [Migration("1.0", "m0", '[{"create": "other"}]')])
    with pytest.raises(Stalled, match="MigrationEdited"):
        await shop.bring(replace(desired, chain=edited))


async def test_no_way_back_without_a_rollback(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    second = shop.edition("2.0", replace(ORDERS, rollback=None))
    await shop.bring(replace(desired, chain=second, installed=first))
    with pytest.raises(Stalled, match="RollbackMissing"):
        await shop.bring(replace(desired, chain=first, installed=second))


async def test_who_is_suspended_is_migrated(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    refused = replace(desired, presence=Presence.REFUSED, login=None)
    await shop.bring(refused)
    second = shop.edition("2.0", ORDERS)
    assert await shop.bring(replace(refused, chain=second, installed=first)) == ["migrate"]
    assert await shop.is_settled(replace(refused, chain=second))


async def test_who_may_not_write_is_migrated(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    await shop.bring(replace(desired, read_only=True))
    second = shop.edition("2.0", ORDERS)
    await shop.bring(replace(desired, read_only=True, chain=second, installed=first))
    client = await shop.client(desired)
    assert await client.database["orders"].count_documents({}) == 1


async def test_all_kinds_of_commands(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        ITEMS,
        '[{"insert": "items", "documents": [{"_id": 1, "n": 1}, {"_id": 2, "n": 2}]},'
        ' {"update": "items", "updates": [{"q": {"_id": 1}, "u": {"$set": {"n": 10}}, "multi": true}]},'
        ' {"delete": "items", "deletes": [{"q": {"_id": 2}, "limit": 1}]},'
        ' {"dropIndexes": "items", "index": "sku"},'
        ' {"create": "gone"}, {"drop": "gone"}]',
    )
    desired = await shop.make()
    client = await shop.client(desired)
    assert [row async for row in client.database["items"].find()] == [{"_id": 1, "n": 10}]
    assert set(await client.database["items"].index_information()) == {"_id_"}
    assert await client.database.list_collection_names() == ["items"]


async def test_an_insert_that_cannot_be_is_a_failure(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS, '[{"insert": "items", "documents": [{"_id": 1}, {"_id": 1}]}]')
    with pytest.raises(Stalled, match=r"MigrationFailed.*E11000"):
        await shop.make()


async def test_what_ferretdb_does_not_know_is_a_failure(blueprint: Callable[..., Any]) -> None:
    shop = blueprint('[{"create": "items", "validator": {"sku": {"$type": "string"}}}]')
    with pytest.raises(Stalled, match=r"MigrationFailed.*validator"):
        await shop.make()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "is not JSON"),
        ('{"create": "items"}', "not a list"),
        ("[1]", "is not a document"),
        ("[{}]", "is not a document"),
        ('[{"dropDatabase": 1}]', "is dropDatabase"),
        ('[{"createUser": "x", "pwd": "y", "roles": ["root"]}]', "is createUser"),
        ('[{"renameCollection": "a.b", "to": "c.d"}]', "is renameCollection"),
        ('[{"eval": "1"}]', "is eval"),
        ('[{"create": 1}]', "does not name a collection"),
        ('[{"create": "system.users"}]', "does not name a collection"),
        ('[{"drop": "_ferretdb_database_metadata"}]', "does not name a collection"),
        ('[{"create": "x", "$db": "other"}]', r"has \$db"),
        ('[{"create": "x", "viewOn": "y", "pipeline": []}]', "has viewOn"),
        ('[{"insert": "x", "documents": [{"a": 1}]}]', "_id"),
        ('[{"insert": "x"}]', "_id"),
        ('[{"update": "x", "updates": [{"q": {}, "u": {"$inc": {"n": 1}}}]}]', "could not be repeated"),
        ('[{"update": "x", "updates": [{"q": {}, "u": [{"$set": {"n": 1}}]}]}]', "could not be repeated"),
        ('[{"delete": "x", "deletes": [{"q": {"$where": "1"}, "limit": 0}]}]', "code to run"),
    ],
)
def test_what_is_not_allowed(text: str, words: str) -> None:
    with pytest.raises(Stalled, match=words):
        parse(Migration("1", "bad", text))


async def test_nothing_is_run_of_a_chain_with_a_command_that_is_not_allowed(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS, '[{"dropDatabase": 1}]')
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.make()
    state = await shop.state(shop.desired())
    assert (state.version, state.target) == (None, None)
    async with harness.admin() as client:
        assert await client[shop.desired().names.database].list_collection_names() == []


async def test_a_rehearsal_leaves_nothing_and_tells_the_structure(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    first = shop.chain
    second = shop.edition("2.0", ORDERS)
    copy = scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.MONGODB)
    found = await shop.engine.rehearse(copy, [first, second, first])
    assert set(found) == {first.digest, second.digest}
    assert await harness.leftovers(copy) == []
    structure = await shop.engine.structure(desired)
    assert structure is not None
    assert structure.fingerprint == found[first.digest].fingerprint
    assert shop.engine.compare(found[first.digest], structure).lines == ()
    client = await shop.client(desired)
    await client.database["items"].create_index("extra")
    await client.database["items"].drop_index("sku")
    changed = await shop.engine.structure(desired)
    deviation = shop.engine.compare(found[first.digest], changed)
    assert deviation.lines == ("index items.extra_1: not expected", "index items.sku: missing")
    assert deviation.digest


async def test_a_rehearsal_fails_like_a_tenants_migration(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS, '[{"dropIndexes": "items", "index": "there-is-none"}]')
    copy = scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.MONGODB)
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.engine.rehearse(copy, [shop.chain])
    assert await harness.leftovers(copy) == []


async def test_scratch_copies_that_a_crash_left_are_dropped(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    copy = replace(scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.MONGODB), chain=shop.chain)
    await shop.bring(copy)
    assert await harness.leftovers(copy) != []
    await shop.engine.observe()
    await shop.engine.keep_templates({})
    assert await harness.leftovers(copy) == []


async def test_usage(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.database["items"].insert_many([{"_id": n, "kind": "ab"[n % 2]} for n in range(300)])
    counted = await shop.engine.usage(
        desired,
        {
            "all": '{"count": "items"}',
            "some": '{"count": "items", "query": {"kind": "a"}}',
            "kinds": '{"aggregate": "items", "pipeline": [{"$group": {"_id": "$kind", "count": {"$sum": 1}}}]}',
            "none": '{"count": "missing"}',
        },
    )
    assert [(row.label, row.count) for row in counted["all"]] == [("", 300)]
    assert [(row.label, row.count) for row in counted["some"]] == [("", 150)]
    assert sorted((row.label, row.count) for row in counted["kinds"]) == [("a", 150), ("b", 150)]
    assert [(row.label, row.count) for row in counted["none"]] == [("", 0)]
    many = '{"aggregate": "items", "pipeline": [{"$group": {"_id": "$_id", "count": {"$sum": 1}}}]}'
    assert len((await shop.engine.usage(desired, {"many": many}))["many"]) == 300
    for bad in (
        '{"aggregate": "items", "pipeline": [{"$group": {"_id": "$kind"}}]}',
        '{"aggregate": "items", "pipeline": [{"$nonsense": 1}]}',
    ):
        with pytest.raises(Stalled, match="UsageQueryFailed"):
            await shop.engine.usage(desired, {"bad": bad})
    assert await shop.is_settled(desired)
