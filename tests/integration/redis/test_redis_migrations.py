"""Migrations of commands: all or nothing, within the prefix, noted down with what they did."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Isolation, Migration, Presence
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import Stalled
from tests.integration.redis.conftest import ITEMS, Shop, migration

FLAGS = migration("2", "flags", [["SADD", "{prefix}flags", "a", 1, 2.5]], [["DEL", "{prefix}flags"]])


def _ledger(shop: Shop, database: str) -> list[str]:
    with shop.server.admin() as admin:
        lines = [json.loads(line) for line in admin.lrange(f"tenantry:ledger:{database}", 0, -1)]
    assert all(line["at"] for line in lines)
    return [f"{line['version']}/{line['name']}" for line in lines]


def _data(shop: Shop, database: str) -> dict[str, Any]:
    """All keys of a tenant, with what is in them."""
    readers = {
        "string": lambda admin, key: admin.get(key),
        "hash": lambda admin, key: admin.hgetall(key),
        "set": lambda admin, key: admin.smembers(key),
        "list": lambda admin, key: admin.lrange(key, 0, -1),
        "zset": lambda admin, key: admin.zrange(key, 0, -1, withscores=True),
        "stream": lambda admin, key: admin.xrange(key),
    }
    with shop.server.admin() as admin:
        keys = admin.keys(f"{database}:*")
        return {key: (readers[admin.type(key)](admin, key), admin.expiretime(key)) for key in keys}


async def test_forwards_and_backwards(shop: Shop) -> None:
    desired = await shop.make()
    database = desired.names.database
    second = shop.at("2", ITEMS, FLAGS)
    ahead = replace(desired, chain=second, installed=shop.chain)
    assert await shop.bring(ahead) == ["migrate"]
    assert _ledger(shop, database) == ["1/items", "2/flags"]
    state = await shop.state(ahead)
    assert (state.version, state.digest, state.target) == ("2", second.digest, None)
    with shop.server.admin() as admin:
        assert admin.smembers(f"{database}:flags") == {"a", "1", "2.5"}
    back = replace(desired, installed=second)
    assert await shop.bring(back) == ["migrate"]
    assert _ledger(shop, database) == ["1/items"]
    with shop.server.admin() as admin:
        assert not admin.exists(f"{database}:flags")
    assert await shop.is_settled(desired)


async def test_who_is_suspended_is_migrated_in_place(shop: Shop) -> None:
    desired = await shop.make()
    refused = replace(desired, presence=Presence.REFUSED, login=None, chain=shop.at("2", ITEMS, FLAGS))
    assert await shop.bring(refused) == ["refuse-logins", "end-sessions", "migrate"]
    assert (await shop.state(refused)).version == "2"
    assert not (await shop.state(refused)).logins[0].enabled


@pytest.mark.parametrize("last", [["LPUSH", "{prefix}items", "x"], ["INCR", "{prefix}text"]])
async def test_what_fails_half_way_changes_nothing(shop: Shop, last: list[str]) -> None:
    desired = await shop.make()
    database = desired.names.database
    with shop.server.admin() as admin:
        admin.set(f"{database}:text", "no number", ex=1000)
        admin.xadd(f"{database}:events", {"a": "1"})
        admin.xgroup_create(f"{database}:events", "g", id="0")
        admin.xreadgroup("g", "me", {f"{database}:events": ">"})
        admin.zadd(f"{database}:ranks", {"a": 1})
        pending = admin.xpending(f"{database}:events", "g")
        data = _data(shop, database)
        wrong = migration(
            "2",
            "wrong",
            [
                ["HSET", "{prefix}items", "made", "no", "more", "yes"],
                ["DEL", "{prefix}text"],
                ["SET", "{prefix}new", "1"],
                ["XDEL", "{prefix}events", "1-1"],
                ["DEL", "{prefix}events"],
                ["ZINCRBY", "{prefix}ranks", 5, "a"],
                ["RENAME", "{prefix}ranks", "{prefix}other"],
                *([["SET", "{prefix}text", "no number"]] if last[0] == "INCR" else []),
                last,
                ["SET", "{prefix}late", "1"],
            ],
        )
        chain = shop.at("2", ITEMS, FLAGS, wrong)
        with pytest.raises(Stalled) as caught:
            await shop.bring(replace(desired, chain=chain))
        assert caught.value.reason == "MigrationFailed"
        for words in ("migration wrong of version 2", f"shop/{shop.name}", f"({last[0]})", database, "command "):
            assert words in caught.value.message
        assert _data(shop, database) == data
        assert admin.xpending(f"{database}:events", "g") == pending
        assert admin.zscore(f"{database}:ranks", "a") == 1
        assert admin.ttl(f"{database}:text") > 900
    assert _ledger(shop, database) == ["1/items"]
    state = await shop.state(desired)
    assert (state.version, state.target) == ("1", None)
    assert await shop.is_settled(desired)


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("{", "is not JSON"),
        ({"a": 1}, "is not an array"),
        (["SET"], "it is not an array of words"),
        ([[]], "it is not an array of words"),
        ([["SET", "{prefix}a", None]], "texts or numbers"),
        ([["SET", "{prefix}a", True]], "texts or numbers"),
        ([["SET", "{prefix}a", "\ud800"]], "half a character"),
        ([["SADD", "{prefix}a", *["x"] * 5000]], "more than 4000 words"),
        ([["SET", "{prefix}a"]], "wrong number of arguments"),
        ([["SET", "items", "1"]], "no permissions to access the 'items' key"),
        ([["SET", "{prefix}a", "1"], ["GET", "other:a"]], "command 2 .GET.*no permissions"),
        ([["HSET", "tenantry:marks", "a", "b"]], "no permissions"),
        ([["RENAME", "{prefix}items", "other:x"]], "no permissions"),
        ([["EVAL", "return 1", "0"]], "EVAL is not a command"),
        ([["eval", "return 1", "0"]], "EVAL is not a command"),
        ([["FLUSHALL"]], "FLUSHALL is not a command"),
        ([["EXEC"]], "EXEC is not a command"),
        ([["RESET"]], "RESET is not a command"),
        ([["AUTH", "default", "x"]], "AUTH is not a command"),
        ([["SELECT", "1"]], "SELECT is not a command"),
        ([["ACL", "SETUSER", "default", "on"]], "ACL is not a command"),
        ([["ACL|SETUSER", "default", "on"]], "is not a command"),
        ([["SORT", "{prefix}a", "BY", "x", "GET", "other:*"]], "SORT is not a command"),
        ([["COPY", "{prefix}items", "{prefix}x", "DB", "1"]], "COPY is not a command"),
        ([["PFMERGE", "other:x"]], "PFMERGE is not a command"),
        ([["SUBSCRIBE", "{prefix}x"]], "SUBSCRIBE is not a command"),
        ([["NONSENSE", "{prefix}x"]], "NONSENSE is not a command"),
        ([["ZUNIONSTORE", "{prefix}x", "7", "other:a"]], "(?i)invalid|syntax|failed"),
        ([["SET", "{prefix}a\r\nFLUSHALL", "1"], ["LPUSH", "{prefix}items", "1"]], "WRONGTYPE"),
    ],
)
async def test_what_is_no_migration_is_refused_before_anything_runs(shop: Shop, commands: Any, words: str) -> None:
    desired = await shop.make()
    data = _data(shop, desired.names.database)
    text = commands if isinstance(commands, str) else json.dumps(commands)
    chain = shop.at("2", ITEMS, Migration("2", "bad", text))
    with pytest.raises(Stalled, match=words) as caught:
        await shop.bring(replace(desired, chain=chain))
    assert caught.value.reason == "MigrationFailed"
    assert "bad" in caught.value.message
    assert _data(shop, desired.names.database) == data
    with shop.server.admin() as admin:
        assert "tenantry:check" not in admin.acl_users()
        assert set(admin.hkeys("tenantry:marks")) == {desired.names.database}


async def test_a_migration_sees_its_own_tenant_alone(shop: Shop) -> None:
    acme, other = await shop.make("acme"), await shop.make("other")
    await shop.bring(replace(acme, chain=shop.at("2", ITEMS, FLAGS)))
    assert (await shop.state(other)).version == "1"
    with shop.server.admin() as admin:
        assert not admin.exists(f"{other.names.database}:flags")


async def test_what_was_applied_is_not_edited(shop: Shop) -> None:
    desired = await shop.make()
    edited = shop.at("1", migration("1", "items", [["HSET", "{prefix}items", "made", "no"]]))
    with pytest.raises(Stalled, match="MigrationEdited"):
        await shop.bring(replace(desired, chain=edited))
    await shop.bring(
        replace(desired, chain=shop.at("2", ITEMS, migration("2", "more", [["SET", "{prefix}a", "1"]])))
    )
    with pytest.raises(Stalled, match="NewerVersion"):
        await shop.bring(desired)
    ahead = shop.at("2", ITEMS, migration("2", "more", [["SET", "{prefix}a", "1"]]))
    with pytest.raises(Stalled, match="RollbackMissing"):
        await shop.bring(replace(desired, installed=ahead))


async def test_a_ledger_that_was_changed_by_hand_is_for_a_person_to_mend(shop: Shop) -> None:
    desired = await shop.make()
    database = desired.names.database
    ahead = replace(desired, chain=shop.at("2", ITEMS, FLAGS))
    with shop.server.admin() as admin:
        for text in ("nonsense", "[1, 2]", "{}"):
            admin.hset("tenantry:unfinished", database, text)
            with pytest.raises(Stalled, match="LedgerUnreadable"):
                await shop.bring(ahead)
        admin.hdel("tenantry:unfinished", database)
        for text in ("nonsense", "[]", '{"version": "1"}'):
            admin.rpush(f"tenantry:ledger:{database}", text)
            with pytest.raises(Stalled, match="LedgerUnreadable"):
                await shop.bring(ahead)
            admin.rpop(f"tenantry:ledger:{database}")
    assert await shop.bring(ahead) == ["migrate"]


LOOSE = [["INCR", "{prefix}n"], ["INCR", "{prefix}n"], ["LPUSH", "{prefix}n", "1"], ["INCR", "{prefix}n"]]


async def test_outside_of_a_transaction_each_command_runs_once(shop: Shop) -> None:
    desired = await shop.make()
    database = desired.names.database
    undo = [["DEL", "{prefix}n"]]
    chain = shop.at("2", ITEMS, FLAGS, migration("2", "loose", LOOSE, undo, transactional=False))
    ahead = replace(desired, chain=chain, installed=shop.chain)
    for _ in range(2):
        with pytest.raises(Stalled, match=r"migration loose .* command 3 .LPUSH.: WRONGTYPE"):
            await shop.bring(ahead)
        state = await shop.state(ahead)
        assert (state.version, state.target) == ("1", "2")
        assert _ledger(shop, database) == ["1/items", "2/flags"]
        with shop.server.admin() as admin:
            assert admin.get(f"{database}:n") == "2"
    # What was run is not to be edited; what comes after may be.
    edited = shop.at(
        "2", ITEMS, FLAGS, migration("2", "loose", [["INCR", "{prefix}m"], *LOOSE[1:]], transactional=False)
    )
    with pytest.raises(Stalled, match=r"MigrationEdited.*half done"):
        await shop.bring(replace(ahead, chain=edited))
    mended = [*LOOSE[:2], ["INCR", "{prefix}n"], LOOSE[3]]
    better = shop.at("2", ITEMS, FLAGS, migration("2", "loose", mended, undo, transactional=False))
    await shop.bring(replace(ahead, chain=better))
    with shop.server.admin() as admin:
        assert admin.get(f"{database}:n") == "4"
        assert admin.hlen("tenantry:unfinished") == 0
    assert await shop.is_settled(replace(ahead, chain=better))


async def test_what_is_half_done_is_undone_on_the_way_back(shop: Shop) -> None:
    desired = await shop.make()
    database = desired.names.database
    undo = [["DEL", "{prefix}n"], ["SET", "{prefix}undone", "1"]]
    chain = shop.at("2", ITEMS, FLAGS, migration("2", "loose", LOOSE, undo, transactional=False))
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.bring(replace(desired, chain=chain, installed=shop.chain))
    state = await shop.state(desired)
    assert (state.version, state.target) == ("1", "2")
    with pytest.raises(Stalled, match="NewerVersion"):
        await shop.bring(desired)
    assert await shop.bring(replace(desired, installed=chain)) == ["migrate"]
    assert _ledger(shop, database) == ["1/items"]
    with shop.server.admin() as admin:
        assert admin.get(f"{database}:undone") == "1"
        assert not admin.exists(f"{database}:n", f"{database}:flags")
    assert await shop.is_settled(desired)


async def test_a_rehearsal_tries_chains_and_leaves_nothing(shop: Shop) -> None:
    copy = scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.REDIS)
    assert copy.isolation is Isolation.DATABASE
    second = shop.at("2", ITEMS, FLAGS)
    assert await shop.engine.rehearse(copy, [shop.chain, second, shop.chain]) == {}
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.engine.rehearse(copy, [second, shop.at("3", ITEMS, FLAGS, migration("3", "x", [["GET", "y"]]))])
    with shop.server.admin() as admin:
        assert admin.keys("*") == []
    # One that a crash left goes with the next sweep.
    await shop.bring(replace(copy, chain=second))
    await shop.engine.observe()
    await shop.engine.keep_templates({})
    with shop.server.admin() as admin:
        assert admin.keys("*") == []
    assert await shop.engine.structure(copy) is None


async def test_usage_is_counted_with_the_tenants_rights(shop: Shop) -> None:
    desired = await shop.make()
    with shop.server.admin() as admin:
        admin.sadd(f"{desired.names.database}:users", "a", "b", "c")
        admin.set(f"{desired.names.database}:calls", "42")
    queries = {
        "users": '["SCARD", "{prefix}users"]',
        "calls": '["GET", "{prefix}calls"]',
        "none": '["GET", "{prefix}nothing"]',
    }
    rows = await shop.engine.usage(desired, queries)
    assert {name: [(row.label, row.count) for row in found] for name, found in rows.items()} == {
        "users": [("", 3)],
        "calls": [("", 42)],
        "none": [("", 0)],
    }
    for query, words in (
        ("SELECT 1", "Expecting value"),
        ("[]", "not an array of words"),
        ('["SCARD", "other:users"]', "no permissions"),
        ('["HLEN", "tenantry:marks"]', "no permissions"),
        ('["DEL", "{prefix}users"]', "DEL is not a command"),
        ('["DBSIZE"]', "DBSIZE is not a command"),
        ('["SMEMBERS", "{prefix}users"]', "no whole number"),
        ('["LLEN", "{prefix}users"]', "WRONGTYPE"),
    ):
        with pytest.raises(Stalled, match=words) as caught:
            await shop.engine.usage(desired, {"users": query})
        assert caught.value.reason == "UsageQueryFailed"
        assert "users" in caught.value.message
    with shop.server.admin() as admin:
        assert admin.scard(f"{desired.names.database}:users") == 3
