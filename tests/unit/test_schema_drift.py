"""Which tenants are said to drift, what is accepted, and what is known of versions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry_operator.blueprints import expectations
from tenantry_operator.blueprints.expectations import Expectations
from tenantry_operator.cache import Store
from tenantry_operator.engines.base import (
    Chain,
    DatabaseState,
    Desired,
    Deviation,
    Isolation,
    Migration,
    Names,
    Ownership,
    Presence,
    Structure,
)
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.instances.servers import Server
from tenantry_operator.tenants import schemadrift
from tenantry_operator.tenants.deviations import acknowledge, describe, is_unaccepted
from tenantry_operator.tenants.outcome import Outcome, Seen

Object = dict[str, Any]
CHAIN = Chain.of("ns/shop", "1.0", [Migration("1.0", "m", "CREATE TABLE t (id int)")])
ASIS = Structure("asis", {"table t": "1"})
OTHER = Structure("other", {"table t": "1", "table extra": "2"})
ORDER = Structure("order", {"table t": "1"})
DESIRED = Desired(
    installation="i",
    tenant="ns/acme",
    tenant_id="acme",
    entry="shop",
    isolation=Isolation.SCHEMA,
    names=Names("shop", "acme", "o", "a", "b"),
    blueprint="ns/shop",
    presence=Presence.LIVE,
    chain=CHAIN,
)
STATE = DatabaseState(Ownership.OURS, exists=True, version="1.0", digest=CHAIN.digest, structure="asis")


class Engine:
    """Stands in for an engine: a real one is in tests/integration/postgres/test_postgres_structures.py."""

    def __init__(self) -> None:
        self.copies = 0
        self.found: Structure | None = OTHER
        self.trouble: Exception | None = None

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> dict[str, Structure]:
        self.copies += 1
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        return {chains[-1].digest: ASIS}

    async def structure(self, desired: Desired) -> Structure | None:
        return self.found

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        lines = tuple(sorted(f"{name}: added" for name in found.objects.keys() - expected.objects.keys()))
        return Deviation(lines, "+".join(lines))


class World:
    """One blueprint version, one server."""

    def __init__(self, version: str = "18.1") -> None:
        self.engine = Engine()
        self.versions = Store(blueprint=lambda obj: ("ns/shop",))
        self.versions.put(
            {
                "metadata": {"namespace": "ns", "name": "shop-1.0", "uid": "v", "resourceVersion": "1"},
                "spec": {"blueprint": "shop", "version": "1.0"},
            }
        )
        self.writes = 0
        self.server = self.serve("pool", version)
        self.begin()

    def serve(self, name: str, version: str) -> Server:
        snapshot = SimpleNamespace(report=SimpleNamespace(version=version))
        access = SimpleNamespace(engine="PostgreSQL")
        made = SimpleNamespace(name=name, key=("ns", name), engine=self.engine, access=access, snapshot=snapshot)
        return cast(Server, made)

    def begin(self) -> None:
        """The operator starts."""
        self.expectations = Expectations("i", cast(Any, self), self.versions, self.write)
        servers = SimpleNamespace(peek=lambda key: self.server)
        self.context = cast(Any, SimpleNamespace(expectations=self.expectations, servers=servers))

    async def chain(self, blueprint: str, version: str) -> Chain:
        return CHAIN

    async def write(self, obj: Object, status: Object) -> Object:
        self.writes += 1
        self.versions.put(
            {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(9 + self.writes)}, "status": status}
        )
        return obj

    @property
    def kept(self) -> list[Object]:
        found = self.versions.all("blueprint", "ns/shop")[0]
        return list((found.get("status") or {}).get("structures") or [])

    async def learn(self, server: Server | None = None) -> None:
        await self.expectations.learn(server or self.server, "ns/shop", "1.0", CHAIN.digest)

    async def judge(self, record: Object, structure: str | None = "asis", **desired: Any) -> Object:
        seen = Seen(("ns", "pool"), replace(DESIRED, **desired), replace(STATE, structure=structure), None)
        outcome = Outcome("shop", {"name": "shop", **record}, seen=seen)
        await schemadrift.judge(self.context, outcome)
        assert outcome.record is not None
        return outcome.record

    def is_news(self, record: Object, structure: str | None, **desired: Any) -> bool:
        state = replace(STATE, structure=structure)
        return schemadrift.is_news(self.context, self.server, record, replace(DESIRED, **desired), state)


async def test_a_version_is_copied_once_and_then_known_from_its_status() -> None:
    world = World()
    assert world.expectations.known(world.server, "ns/shop", CHAIN.digest) is None
    await asyncio.gather(*(world.learn() for _ in range(5)))
    assert (world.engine.copies, world.writes) == (1, 1)
    assert world.kept == [{"server": "PostgreSQL 18", "digest": CHAIN.digest, "fingerprint": "asis"}]
    world.begin()
    await world.learn()
    assert (world.engine.copies, world.writes) == (1, 1)
    expected = world.expectations.known(world.server, "ns/shop", CHAIN.digest)
    assert expected is not None
    assert expected.fingerprints == {"asis"}


async def test_each_major_version_of_a_server_has_its_own_copy() -> None:
    world = World()
    await world.learn()
    await world.learn(world.serve("other", "18.4"))
    assert world.engine.copies == 1
    await world.learn(world.serve("old", "16.9"))
    assert world.engine.copies == 2
    assert [kept["server"] for kept in world.kept] == ["PostgreSQL 16", "PostgreSQL 18"]


async def test_a_copy_that_cannot_be_made_is_told_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.engine.trouble = Stalled("MigrationFailed", "no such function")
    for _ in range(3):
        await world.learn()
    assert world.engine.copies == 1
    assert world.kept == [{"server": "PostgreSQL 18", "digest": CHAIN.digest, "message": "no such function"}]
    assert not world.is_news({}, "other")
    monkeypatch.setattr(expectations, "_AGAIN", -1.0)
    world.engine.trouble = None
    await world.learn()
    assert world.kept == [{"server": "PostgreSQL 18", "digest": CHAIN.digest, "fingerprint": "asis"}]


async def test_a_server_that_is_away_says_nothing_about_a_version() -> None:
    world = World()
    world.engine.trouble = Retryable("ServerUnreachable", "gone")
    with pytest.raises(Retryable):
        await world.learn()
    assert world.expectations.known(world.server, "ns/shop", CHAIN.digest) is None
    assert world.kept == []


async def test_a_version_that_was_edited_is_no_example() -> None:
    world = World()
    await world.expectations.learn(world.server, "ns/shop", "1.0", "another digest")
    assert (world.engine.copies, world.writes) == (0, 0)


async def test_who_is_as_the_version_is_costs_nothing() -> None:
    world = World()
    await world.learn()
    assert not world.is_news({}, "asis")
    assert await world.judge({}) == {"name": "shop"}
    assert world.engine.copies == 1


async def test_what_differs_is_named_once() -> None:
    world = World()
    await world.learn()
    assert world.is_news({}, "other")
    record = await world.judge({}, "other")
    drift = record["schemaDrift"]
    assert drift["since"]
    assert {**drift, "since": ""} == {
        "objects": ["table extra: added"],
        "count": 1,
        "since": "",
        "digest": "table extra: added",
        "fingerprint": "other",
    }
    assert describe({**record, "version": "1.0"}) == "database shop differs from version 1.0: table extra: added"
    assert not world.is_news(record, "other")
    # Another change is news, and keeps the time; the way back as well.
    assert world.is_news(record, "third")
    world.engine.found = replace(OTHER, fingerprint="third")
    again = await world.judge(record, "third")
    assert (again["schemaDrift"]["since"], again["schemaDrift"]["fingerprint"]) == (drift["since"], "third")
    assert world.is_news(record, "asis")
    assert await world.judge({**record, "acknowledgedSchema": "x"}, "asis") == {"name": "shop"}


async def test_a_reconcile_does_not_wait_for_a_copy() -> None:
    world = World()
    await world.learn()
    world.begin()
    await world.learn()  # from the status: the fingerprint alone
    assert await world.judge({}, "other") == {"name": "shop"}
    assert world.engine.copies == 1
    assert world.is_news({}, "other"), "it is looked at again"
    (asked,) = world.expectations.asked(world.server)
    await world.expectations.structure(world.server, *asked)
    assert world.expectations.asked(world.server) == []
    assert (await world.judge({}, "other"))["schemaDrift"]["objects"] == ["table extra: added"]
    assert world.engine.copies == 2


async def test_what_does_not_matter_is_read_once() -> None:
    world = World()
    await world.learn()
    world.engine.found = ORDER
    assert world.is_news({}, "order")
    assert await world.judge({}, "order") == {"name": "shop"}
    assert not world.is_news({}, "order")


async def test_what_is_not_known_is_left_as_it_is() -> None:
    world = World()
    told = {"schemaDrift": {"fingerprint": "other", "digest": "d", "objects": []}}
    assert not world.is_news({}, "other"), "nobody knows the version yet"
    await world.learn()
    assert not world.is_news(told, None)
    assert (await world.judge(told, None))["schemaDrift"] == told["schemaDrift"]
    world.engine.found = None
    assert "schemaDrift" not in await world.judge({}, "other")


@pytest.mark.parametrize("desired", [{"ddl": True}, {"isolation": Isolation.ROW}])
async def test_who_may_differ_is_not_compared(desired: Object) -> None:
    world = World()
    await world.learn()
    told = {"schemaDrift": {"fingerprint": "other"}, "acknowledgedSchema": "x"}
    assert not world.is_news({}, "other", **desired)
    assert await world.judge(told, "other", **desired) == {"name": "shop"}


def tenant(annotation: str | None = None, handled: str | None = None) -> Object:
    return {
        "metadata": {"annotations": {"tenantry.dev/acknowledge": annotation} if annotation else {}},
        "status": {"handled": {"acknowledge": handled} if handled else {}},
    }


DRIFT = {"name": "shop", "schemaDrift": {"digest": "d", "objects": ["a: added"], "count": 1}}


@pytest.mark.parametrize(
    ("obj", "record", "unaccepted"),
    [
        (tenant(), {}, False),
        (tenant(), DRIFT, True),
        (tenant("v1"), DRIFT, False),
        (tenant("v1", "v1"), DRIFT, True),
        (tenant("v1", "v1"), {**DRIFT, "acknowledgedSchema": "d"}, False),
        (tenant("v1", "v1"), {**DRIFT, "acknowledgedSchema": "older"}, True),
        (tenant("v2", "v1"), {**DRIFT, "acknowledgedSchema": "older"}, False),
    ],
)
def test_what_somebody_acknowledged_is_accepted(obj: Object, record: Object, unaccepted: bool) -> None:
    assert is_unaccepted(obj, record) is unaccepted


def test_only_what_the_status_told_of_is_accepted() -> None:
    known = {"shop": DRIFT}
    record = {"name": "shop", "schemaDrift": {"digest": "seen only now"}}
    acknowledge(tenant("v1"), known, record)
    assert record["acknowledgedSchema"] == "d"
    untouched: Object = {"name": "shop", "schemaDrift": {"digest": "d"}}
    acknowledge(tenant("v1", "v1"), known, untouched)
    acknowledge(tenant(), known, untouched)
    acknowledge(tenant("v1"), {}, untouched)
    assert "acknowledgedSchema" not in untouched


def test_many_differences_are_counted() -> None:
    drift = {"objects": [f"table t{number}: added" for number in range(9)], "count": 40}
    text = describe({"name": "shop", "version": "1.0", "schemaDrift": drift})
    assert text.endswith("table t4: added and 35 more")
