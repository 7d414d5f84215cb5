"""Claims, on an API server in memory: who gets a Lease, how it goes from one request to the next."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tenantry_api import claims
from tenantry_api.claims import Claims, Held
from tenantry_api.lines import Lines
from tenantry_api.problems import Unavailable
from tenantry_operator.kube import Conflict, NotFound, Resource

Object = dict[str, Any]


class Server:
    """Keeps Leases, as the API server does."""

    def __init__(self) -> None:
        self.leases: dict[str, Object] = {}
        self.made = 0
        self.asked = 0
        self._uids = itertools.count(1)

    async def request(self, method: str, path: str, body: Object, **_: Any) -> Object:
        await asyncio.sleep(0)
        self.asked += 1
        name = body["metadata"]["name"]
        if name in self.leases:
            raise Conflict(409, "AlreadyExists", f"POST: {name}")
        self.made += 1
        self.leases[name] = {**body, "metadata": {**body["metadata"], "uid": str(next(self._uids))}}
        return self.leases[name]

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        await asyncio.sleep(0)
        self.asked += 1
        if name not in self.leases:
            raise NotFound(404, "NotFound", f"GET: {name}")
        return self.leases[name]

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> None:
        await asyncio.sleep(0)
        if name in self.leases and self.leases[name]["metadata"]["uid"] == uid:
            del self.leases[name]


def replica(server: Server) -> Claims:
    return Claims(server, "default")  # type: ignore[arg-type]  # the part of it that is used


def never() -> bool:
    return False


class Trace:
    """Who has it."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.inside = 0

    async def take(self, claims: Claims, who: str, *, seconds: float = 0.0, lingers: float = 0.0) -> None:
        async with claims.hold("it", settled=never, lingers=lingers):
            self.inside += 1
            assert self.inside == 1, "two have it"
            self.order.append(who)
            await asyncio.sleep(seconds)
            self.inside -= 1


async def test_who_waits_here_gets_it_handed_on_in_the_order_of_coming() -> None:
    server, trace = Server(), Trace()
    one = replica(server)
    await asyncio.gather(*(trace.take(one, str(number)) for number in range(50)))
    assert trace.order == [str(number) for number in range(50)]
    assert server.made == 1
    assert server.asked < 10
    await eventually(lambda: not server.leases)


async def eventually(test: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not test():
            await asyncio.sleep(0.01)


async def test_no_replica_waits_for_all_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_TURN", 0.05)
    server, trace = Server(), Trace()
    one, other = replica(server), replica(server)
    ours = [trace.take(one, "one", seconds=0.01) for _ in range(40)]
    theirs = [trace.take(other, "other", seconds=0.01) for _ in range(40)]
    await asyncio.gather(*ours, *theirs)
    assert trace.order.count("one") == trace.order.count("other") == 40
    turns = len(list(itertools.groupby(trace.order)))
    assert turns >= 4


async def test_one_that_lingers_is_for_the_same_replica_at_once_and_for_others_later() -> None:
    server, trace = Server(), Trace()
    one, other = replica(server), replica(server)
    await trace.take(one, "one", lingers=0.3)
    await trace.take(one, "again", lingers=0.3)
    assert server.made == 1
    assert len(server.leases) == 1
    await trace.take(other, "other")
    assert (server.made, trace.order) == (2, ["one", "again", "other"])
    assert not server.leases


async def test_what_another_says_of_itself_and_what_is_settled_ends_the_wait() -> None:
    server = Server()
    one, other = replica(server), replica(server)
    for second in (one, other):
        async with one.hold("it", "mine", settled=never, lingers=0):
            with pytest.raises(Held) as caught:
                async with second.hold("it", "another", settled=never):
                    raise AssertionError
            assert caught.value.content == "mine"
            with pytest.raises(Held):
                async with second.hold("it", "mine", settled=lambda: True):
                    raise AssertionError


@pytest.mark.parametrize("here", [True, False])
async def test_who_waits_too_long_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch, *, here: bool) -> None:
    monkeypatch.setattr(claims, "_PATIENCE", 0.05)
    server = Server()
    one = replica(server)
    second = one if here else replica(server)
    async with one.hold("it", settled=never, lingers=0):
        for _ in range(2):
            with pytest.raises(Unavailable):
                async with second.hold("it", settled=never):
                    raise AssertionError
    async with second.hold("it", settled=never, lingers=0):
        pass
    assert not server.leases


async def test_a_request_that_takes_too_long_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_LONGEST", 0.05)
    server = Server()
    with pytest.raises(Unavailable):
        async with replica(server).hold("it", settled=never):
            await asyncio.sleep(10)
    assert not server.leases


async def test_a_failure_lets_the_next_one_go_on() -> None:
    server, trace = Server(), Trace()
    one = replica(server)

    async def fail() -> None:
        async with one.hold("it", settled=never):
            await asyncio.sleep(0.01)
            raise KeyError

    results = await asyncio.gather(fail(), trace.take(one, "next"), return_exceptions=True)
    assert isinstance(results[0], KeyError)
    assert (results[1], trace.order) == (None, ["next"])
    await eventually(lambda: not server.leases)


async def test_who_is_handed_one_and_is_gone_leaves_nothing_behind() -> None:
    server, trace = Server(), Trace()
    one = replica(server)
    async with one.hold("it", settled=never, lingers=0):
        waiting = asyncio.create_task(trace.take(one, "gone"))
        await asyncio.sleep(0.01)
        waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert trace.order == []
    await trace.take(replica(server), "other")
    await eventually(lambda: not server.leases)


async def test_a_line_is_forgotten_with_the_last_who_stood_in_it() -> None:
    lines = Lines()
    async with lines.turn("it", 1):
        assert lines.waiting("it") == 1
        with pytest.raises(Unavailable):
            async with lines.turn("it", 0.01):
                raise AssertionError
    assert lines.waiting("it") == 0
    assert not lines._lines
