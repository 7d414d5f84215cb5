"""The operator dies after any step, and answers get lost: what was left is taken up and brought to an end."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis import exceptions

from tenantry_operator.engines.base import Desired, Ownership, Presence
from tenantry_operator.engines.redis import engine as engine_module
from tenantry_operator.engines.redis import execute as execute_module
from tenantry_operator.engines.redis import migrate as migrate_module
from tenantry_operator.engines.redis.connections import Session
from tenantry_operator.engines.redis.engine import RedisEngine
from tenantry_operator.errors import Retryable
from tests.integration.crashpoints import Crash, CrashPoints, watch
from tests.integration.redis.conftest import INSTALLATION, ITEMS, SETTINGS, Shop, clean, migration


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> CrashPoints:
    return watch(monkeypatch, engine_module, execute_module, migrate_module)


class Answers:
    """Loses the answer that is asked for: the server did what it was told, and nobody hears of it."""

    def __init__(self) -> None:
        self.heard = 0
        self.at: int | None = None

    def __call__(self) -> None:
        self.heard += 1
        if self.at is not None and self.heard > self.at:
            raise exceptions.ConnectionError("the answer got lost")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    for name in ("call", "pipeline"):
        original: Callable[..., Awaitable[Any]] = getattr(Session, name)

        async def heard(self: Session, *words: Any, original: Callable[..., Awaitable[Any]] = original) -> Any:
            answer = await original(self, *words)
            made()
            return answer

        monkeypatch.setattr(Session, name, heard)
    return made


COUNTED = migration(
    "2",
    "counted",
    [["INCR", "{prefix}n"], ["RPUSH", "{prefix}l", "1"]],
    [["DECR", "{prefix}n"], ["DEL", "{prefix}l"]],
)
LOOSE = migration("2", "loose", [["INCR", "{prefix}m"]] * 3, [["DECR", "{prefix}m"]] * 3, transactional=False)
LAST = migration("2", "last", [["INCR", "{prefix}n"]], [["DECR", "{prefix}n"]])


class Transitions:
    """What a tenant goes through, with what is true after each."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.first = shop.chain
        self.second = shop.at("2", ITEMS, COUNTED, LOOSE, LAST)
        self.plain = shop.desired()

    async def start(self, kind: str) -> None:
        clean(self.shop.server)
        if kind != "make":
            await self.shop.make()
        if kind == "resume":
            await self.shop.bring(replace(self.plain, presence=Presence.REFUSED))
        if kind == "back":
            await self.shop.bring(replace(self.plain, chain=self.second, installed=self.first))

    def goal(self, kind: str) -> Desired:
        names = self.plain.names
        return {
            "make": replace(self.plain, chain=self.second),
            "migrate": replace(self.plain, chain=self.second, installed=self.first),
            "back": replace(self.plain, installed=self.second),
            "suspend": replace(self.plain, presence=Presence.REFUSED),
            "resume": self.plain,
            "rotate": replace(self.plain, login=names.login_b, retired=(names.login_a,)),
            "remove": replace(self.plain, presence=Presence.ABSENT),
        }[kind]

    async def run(self, kind: str, engine: RedisEngine) -> None:
        """As the reconciler does: credentials while the login is missing, or has another password."""
        wanted = self.goal(kind)
        state = await engine.observe_one(wanted)
        given = None
        if wanted.presence is Presence.LIVE:
            known = self.shop.credentials(wanted)
            if known.fingerprint not in [login.fingerprint for login in state.logins if login.name == known.login]:
                given = known
        await self.shop.bring(wanted, given, engine)

    async def check(self, kind: str) -> None:
        wanted = self.goal(kind)
        assert await self.shop.is_settled(wanted)
        state = await self.shop.state(wanted)
        with self.shop.server.admin() as admin:
            if kind == "remove":
                assert state.ownership is Ownership.FREE
                assert admin.keys("*") == []
                assert set(admin.acl_users()) == {"default", self.shop.server.access.username}
                return
            assert "tenantry:check" not in admin.acl_users()
            database = wanted.names.database
            lines = [json.loads(line)["name"] for line in admin.lrange(f"tenantry:ledger:{database}", 0, -1)]
            ahead = kind in ("make", "migrate")
            assert lines == (["items", "counted", "loose", "last"] if ahead else ["items"])
            if ahead or kind == "back":
                found = (admin.get(f"{database}:n"), admin.get(f"{database}:m"), admin.llen(f"{database}:l"))
                assert found == (("2", "3", 1) if ahead else ("0", "0", 0))
            assert admin.hlen("tenantry:unfinished") == 0
        if wanted.presence is Presence.LIVE:
            client = self.shop.client(wanted)
            assert await client.get("made") == "yes"
            await client.close()
        else:
            assert [login.enabled for login in state.logins] == [False]


KINDS = ("make", "migrate", "back", "suspend", "resume", "rotate", "remove")
FEWEST = {"make": 8, "migrate": 5, "back": 5, "suspend": 3, "resume": 2, "rotate": 3, "remove": 4}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_crash_at_any_point_is_survived(shop: Shop, points: CrashPoints, kind: str) -> None:
    transitions, died, number = Transitions(shop), [], 0
    while True:
        points.at = None
        await transitions.start(kind)
        points.passed, points.at = [], number
        crashed = RedisEngine(shop.server.access, installation=INSTALLATION, settings=SETTINGS)
        try:
            await transitions.run(kind, crashed)
        except Crash as crash:
            died.append(str(crash))
            points.at = None
            await transitions.run(kind, shop.engine)
            await transitions.check(kind)
            number += 1
        else:
            await transitions.check(kind)
            break
        finally:
            await crashed.close()
    assert len(died) >= FEWEST[kind], died


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_got_lost_is_survived(shop: Shop, answers: Answers, kind: str) -> None:
    transitions, number = Transitions(shop), 0
    while True:
        answers.at = None
        await transitions.start(kind)
        answers.heard, answers.at = 0, number
        unlucky = RedisEngine(shop.server.access, installation=INSTALLATION, settings=SETTINGS)
        try:
            await transitions.run(kind, unlucky)
        except Retryable:
            answers.at = None
            await transitions.run(kind, shop.engine)
            await transitions.check(kind)
            number += 1
        else:
            answers.at = None
            await transitions.check(kind)
            break
        finally:
            await unlucky.close()
    assert number >= FEWEST[kind]
