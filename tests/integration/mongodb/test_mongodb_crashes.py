"""The operator dies after any step of any transition, or does not hear the answer: it comes to the same end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect

from tenantry_operator.engines.base import Credentials, Migration, Presence
from tenantry_operator.engines.mongodb import engine as engine_module
from tenantry_operator.engines.mongodb import ferretdb as ferretdb_module
from tenantry_operator.engines.mongodb import ferretserver as server_module
from tenantry_operator.engines.mongodb import migrations as migrations_module
from tenantry_operator.errors import Retryable
from tests.integration.crashpoints import CrashPoints, crash_everywhere, watch
from tests.integration.engines.mongodb_harness import Harness

from .conftest import PASSWORD

ITEMS = '[{"create": "items"}, {"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}]'
MORE = Migration(
    "2.0",
    "more",
    '[{"create": "orders"},'
    ' {"insert": "orders", "documents": [{"_id": 1, "n": 1}, {"_id": 2, "n": 1}]},'
    ' {"update": "orders", "updates": [{"q": {"_id": 1}, "u": {"$set": {"n": 2}}}]},'
    ' {"dropIndexes": "items", "index": "sku"},'
    ' {"create": "gone"}, {"drop": "gone"}]',
    rollback='[{"drop": "orders"}, {"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}]',
)


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> CrashPoints:
    return watch(monkeypatch, engine_module, ferretdb_module, server_module, migrations_module)


async def test_making(points: CrashPoints, harness: Harness, blueprint: Callable[..., Any]) -> None:
    async def prepare() -> Any:
        return blueprint(ITEMS)

    async def transition(shop: Any) -> None:
        desired = shop.desired()
        state = await shop.engine.observe_one(desired)
        known = any(login.name == desired.login for login in state.logins)
        await shop.bring(desired, None if known else Credentials(desired.names.login_a, PASSWORD))

    async def check(shop: Any) -> None:
        assert await shop.is_settled(shop.desired())
        client = await shop.client(shop.desired())
        await client.put("a", "1")
        assert await client.database.list_collection_names() == ["items"]
        assert set(await client.database["items"].index_information()) == {"_id_", "sku"}

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert {"schema-created", "database-founded", "create-login", "command-done"} <= set(passed)


async def test_migrating_and_back(points: CrashPoints, harness: Harness, blueprint: Callable[..., Any]) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        shop.first = shop.chain
        shop.second = shop.edition("2.0", MORE)
        return shop

    async def forward(shop: Any) -> None:
        await shop.bring(replace(shop.desired(), chain=shop.second, installed=shop.first))

    async def is_forward(shop: Any) -> None:
        assert await shop.is_settled(replace(shop.desired(), chain=shop.second))
        client = await shop.client(shop.desired())
        rows = [row async for row in client.database["orders"].find().sort("_id")]
        assert rows == [{"_id": 1, "n": 2}, {"_id": 2, "n": 1}]
        assert sorted(await client.database.list_collection_names()) == ["items", "orders"]
        assert set(await client.database["items"].index_information()) == {"_id_"}

    async def prepare_back() -> Any:
        shop = await prepare()
        await forward(shop)
        return shop

    async def back(shop: Any) -> None:
        await shop.bring(replace(shop.desired(), chain=shop.first, installed=shop.second))

    async def is_back(shop: Any) -> None:
        assert await shop.is_settled(replace(shop.desired(), chain=shop.first))
        client = await shop.client(shop.desired())
        assert await client.database.list_collection_names() == ["items"]
        assert set(await client.database["items"].index_information()) == {"_id_", "sku"}

    assert "command-begun" in await crash_everywhere(points, harness.engine, prepare, forward, is_forward)
    assert "command-begun" in await crash_everywhere(points, harness.engine, prepare_back, back, is_back)


async def test_away_and_rotation(points: CrashPoints, harness: Harness, blueprint: Callable[..., Any]) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        shop.made = await shop.make()
        return shop

    async def rotate(shop: Any) -> None:
        rotated = replace(shop.made, login=shop.made.names.login_b, retired=(shop.made.names.login_a,))
        state = await shop.engine.observe_one(rotated)
        known = any(login.name == rotated.login for login in state.logins)
        await shop.bring(rotated, None if known else Credentials(rotated.names.login_b, PASSWORD))

    async def is_rotated(shop: Any) -> None:
        rotated = replace(shop.made, login=shop.made.names.login_b)
        assert await shop.is_settled(rotated)
        assert [login.name for login in (await shop.state(rotated)).logins] == [rotated.login]
        assert await (await shop.client(rotated)).get("a") is None

    async def delete(shop: Any) -> None:
        await shop.bring(replace(shop.made, presence=Presence.ABSENT, login=None, chain=None))

    async def is_gone(shop: Any) -> None:
        assert await harness.leftovers(shop.made) == []

    async def limit(shop: Any) -> None:
        await shop.bring(replace(shop.made, read_only=True))

    async def is_limited(shop: Any) -> None:
        state = await shop.state(replace(shop.made, read_only=True))
        assert state.drift == ()
        assert state.detail.read_only

    await crash_everywhere(points, harness.engine, prepare, rotate, is_rotated)
    await crash_everywhere(points, harness.engine, prepare, delete, is_gone)
    await crash_everywhere(points, harness.engine, prepare, limit, is_limited)


@contextmanager
def lost_answers(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[str]]:
    """The answer to the command of that number is lost, though it was done."""
    command = AsyncDatabase.command
    seen: list[str] = []

    async def answer(self: Any, document: Any, *values: Any, **options: Any) -> Any:
        name = document if isinstance(document, str) else next(iter(document))
        result = await command(self, document, *values, **options)
        if name not in ("hello", "buildInfo", "dbStats"):
            seen.append(name)
            if len(seen) == number:
                raise AutoReconnect("the answer was lost")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(AsyncDatabase, "command", answer)
        yield seen


async def test_an_answer_that_is_lost(
    harness: Harness, blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 0
    while True:
        number += 1
        shop = _own_engine(blueprint(ITEMS), harness)
        shop.first = shop.chain
        shop.second = shop.edition("2.0", MORE)
        desired = shop.desired(chain=shop.second)
        lost = False
        with lost_answers(monkeypatch, number) as seen:
            try:
                await shop.bring(desired, Credentials(desired.names.login_a, PASSWORD))
            except Retryable:
                lost = True
        if lost:
            state = await shop.engine.observe_one(desired)
            known = any(login.name == desired.login for login in state.logins)
            await shop.bring(desired, None if known else Credentials(desired.names.login_a, PASSWORD))
        assert await shop.is_settled(desired)
        client = await shop.client(desired)
        rows = [row async for row in client.database["orders"].find().sort("_id")]
        assert rows == [{"_id": 1, "n": 2}, {"_id": 2, "n": 1}]
        assert sorted(await client.database.list_collection_names()) == ["items", "orders"]
        await shop.engine.close()
        if not lost:
            assert len(seen) < number
            assert number > len(seen) > 8
            return


async def test_a_ferretdb_that_is_away(harness: Harness, blueprint: Callable[..., Any]) -> None:
    shop = _own_engine(blueprint(ITEMS), harness)
    desired = await shop.make()
    harness.stop_ferretdb()
    try:
        with pytest.raises(Retryable, match="ServerUnreachable"):
            await shop.engine.observe()
    finally:
        harness.start_ferretdb()
    assert await shop.is_settled(desired)
    await shop.engine.close()


def _own_engine(shop: Any, harness: Harness) -> Any:
    """With an engine of its own, which a crash takes with it."""
    shop.engine = harness.engine()
    return shop
