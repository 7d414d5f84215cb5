"""A tenant's database on FerretDB from its making to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry_operator.engines.base import Credentials, Ownership, Presence, fingerprint
from tenantry_operator.engines.mongodb import engine as mongo_engine
from tenantry_operator.errors import Stalled
from tests.integration.engines.harness import Refused
from tests.integration.engines.mongodb_harness import Harness, refusals

from .conftest import PASSWORD

ITEMS = '[{"create": "items"}, {"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}]'


async def test_a_database_is_made_and_its_login_works(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = shop.desired()
    assert (await shop.state(desired)).ownership is Ownership.FREE
    steps = await shop.bring(desired, Credentials(desired.names.login_a, PASSWORD))
    assert steps == ["create-database", "create-login", "migrate"]
    state = await shop.state(desired)
    assert (state.version, state.digest, state.target) == ("1.0", shop.chain.digest, None)
    assert state.exists
    assert state.bytes
    assert [login.fingerprint for login in state.logins] == [fingerprint(PASSWORD)]
    assert await shop.is_settled(desired)
    client = await shop.client(desired)
    await client.put("a", "1")
    assert await client.get("a") == "1"
    await client.database["new"].insert_one({"_id": 1})
    await client.database["new"].create_index("x")
    await client.database.drop_collection("new")
    assert await shop.is_settled(desired)


async def test_a_wrong_password_is_refused(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    with pytest.raises(Refused):
        await shop.client(desired, password="another")


async def test_suspended_and_resumed_with_the_same_password(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.put("a", "1")
    refused = replace(desired, presence=Presence.REFUSED, login=None, chain=None)
    assert await shop.bring(refused) == ["refuse-logins", "end-sessions"]
    with pytest.raises(Refused):
        await client.get("a")
    with pytest.raises(Refused):
        await client.put("b", "2")
    with pytest.raises(Refused):
        await shop.client(desired)
    assert await shop.is_settled(refused)
    assert await shop.bring(desired) == ["enable-login"]
    again = await shop.client(desired)
    assert await again.get("a") == "1"
    assert await client.get("a") == "1"


async def test_rotation(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    old = await shop.client(desired)
    await old.put("a", "1")
    await old.database["grown"].insert_one({"_id": 1})
    rotated = replace(desired, login=desired.names.login_b)
    assert await shop.bring(rotated, Credentials(rotated.names.login_b, "second")) == ["create-login"]
    new = await shop.client(rotated, password="second")
    assert await new.get("a") == "1"
    assert await old.get("a") == "1"
    await new.database["grown"].create_index("x")
    retired = replace(rotated, retired=(desired.names.login_a,))
    assert await shop.bring(retired) == ["retire-login"]
    with pytest.raises(Refused):
        await old.get("a")
    with pytest.raises(Refused):
        await shop.client(desired)
    assert await new.get("a") == "1"
    assert await shop.is_settled(retired)


async def test_a_new_password_ends_what_the_old_one_has_open(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    assert await shop.bring(desired, Credentials(desired.names.login_a, "changed")) == ["set-password"]
    with pytest.raises(Refused):
        await client.get("a")
    with pytest.raises(Refused):
        await client.get("a")
    again = await shop.client(desired, password="changed")
    assert await again.get("a") is None
    assert (await shop.state(desired)).logins[0].fingerprint == fingerprint("changed")


async def test_a_quota_refuses_writes_and_lets_delete(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.put("a", "1" * 1000)
    await client.put("b", "2")
    full = replace(desired, read_only=True)
    assert await shop.bring(full) == ["refuse-writes", "vacuum"]
    full_client = await shop.client(desired)
    assert await full_client.get("b") == "2"
    with pytest.raises(Refused):
        await full_client.put("c", "3")
    with pytest.raises(Refused):
        await full_client.put("b", "3")
    with pytest.raises(Refused), refusals():
        await full_client.database["new"].insert_one({"_id": 1})
    await full_client.delete("a")
    assert await full_client.get("a") is None
    state = await shop.state(full)
    assert state.drift == ()
    assert [step.name for step in shop.engine.plan(full, state, None)] == ["vacuum"]
    assert await shop.bring(desired) == ["allow-writes"]
    again = await shop.client(desired)
    await again.put("c", "3")
    assert await again.get("c") == "3"
    assert await shop.is_settled(desired)


async def test_room_that_was_deleted_is_given_back(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.database["items"].insert_many([{"_id": n, "text": f"{n} " * 500} for n in range(1500)])
    before = (await shop.engine.observe_one(desired)).bytes
    full = replace(desired, read_only=True)
    await shop.bring(full)
    reader = await shop.client(desired)
    await reader.database["items"].delete_many({})
    assert before is not None
    deadline = time.monotonic() + 15
    # PostgreSQL's statistics, which say that there is something to compact, come a second or so late.
    while ((await shop.engine.observe_one(desired)).bytes or 0) > before / 2:
        assert time.monotonic() < deadline
        await shop.engine.observe()
        assert await shop.bring(full) == ["vacuum"]
        await asyncio.sleep(0.3)
    # PostgreSQL counts no write, and yet the size is another one.
    seen = (await shop.engine.observe()).database(full).bytes
    assert seen is not None
    assert seen < before / 2


async def test_room_that_an_old_transaction_kept_is_given_back_later(
    blueprint: Callable[..., Any], harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_engine, "_COMPACT_AGAIN", 1.0)
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.database["items"].insert_many([{"_id": n, "text": f"{n} " * 500} for n in range(1500)])
    before = (await shop.engine.observe_one(desired)).bytes
    assert before is not None
    full = replace(desired, read_only=True)
    await shop.bring(full)
    reader = await shop.client(desired)
    with harness.superuser() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM pg_class")
        await reader.database["items"].delete_many({})
        deadline = time.monotonic() + 20
        while ((await shop.engine.observe_one(desired)).writes or 0) < 3000:  # statistics come late
            assert time.monotonic() < deadline
            await asyncio.sleep(0.3)
        await shop.bring(full)
        assert ((await shop.engine.observe_one(desired)).bytes or 0) > before / 2
    deadline = time.monotonic() + 20
    while ((await shop.engine.observe_one(desired)).bytes or 0) > before / 2:
        assert time.monotonic() < deadline
        await shop.bring(full)
        await asyncio.sleep(0.5)


async def test_nothing_is_left_of_who_is_deleted(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.put("a", "1")
    assert await harness.leftovers(desired) != []
    absent = replace(desired, presence=Presence.ABSENT, login=None, chain=None)
    assert await shop.bring(absent) == ["refuse-logins", "end-sessions", "drop-database", "drop-rest"]
    assert await harness.leftovers(desired) == []
    assert await shop.bring(absent) == []
    # FerretDB does not ask its PostgreSQL about databases that it knows nothing of.
    assert await client.get("a") is None
    with pytest.raises(Refused):
        await client.put("a", "1")
    again = await shop.make()
    fresh = await shop.client(again)
    assert await fresh.get("a") is None


async def test_lost_data_is_noticed_and_made_anew_when_asked(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    client = await shop.client(desired)
    await client.put("a", "1")
    await harness.lose_data(desired)
    state = await shop.state(desired)
    assert not state.exists
    assert state.ownership is Ownership.OURS
    with pytest.raises(Stalled, match="DataLost"):
        shop.engine.plan(desired, state, None)
    assert await shop.bring(replace(desired, recreate=True)) == ["create-database", "migrate"]
    assert await client.get("a") is None
    await client.put("a", "2")
    assert await shop.is_settled(desired)


async def test_a_schema_that_went_behind_ferretdbs_back_is_made_anew(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    with harness.superuser() as connection:
        connection.execute(f'DROP SCHEMA "{desired.names.database}" CASCADE')
    await shop.bring(replace(desired, recreate=True))
    client = await shop.client(desired)
    await client.put("a", "1")
    assert await client.get("a") == "1"


async def test_a_lost_login_is_made_again(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    with harness.superuser() as connection:
        connection.execute(f'DROP ROLE "{desired.names.login_a}"')
    assert (await shop.state(desired)).logins == ()
    assert await shop.bring(desired, Credentials(desired.names.login_a, "third")) == ["create-login"]
    client = await shop.client(desired, password="third")
    assert await client.get("a") is None
