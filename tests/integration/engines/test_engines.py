"""What every engine promises, on a real server of each, under each isolation it has."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenantry_crds.common import Isolation
from tenantry_operator.engines.base import (
    Credentials,
    DatabaseState,
    Desired,
    Engine,
    LoginLimits,
    Mark,
    Ownership,
    Presence,
    Stale,
)
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.tenants.naming import names_for
from tests.integration.engines.harness import ISOLATIONS, PASSWORD, Harness, Refused
from tests.integration.engines.mongodb_harness import Harness as MongoHarness
from tests.integration.engines.mysql_harness import Harness as MySqlHarness
from tests.integration.engines.postgres_harness import PostgresHarness
from tests.integration.engines.redis_harness import Harness as RedisHarness

HARNESSES: tuple[type[Any], ...] = (PostgresHarness, MySqlHarness, MongoHarness, RedisHarness)
CASES = [(made, isolation) for made in HARNESSES for isolation in ISOLATIONS[made.kind]]
OWN = [(made, isolation) for made, isolation in CASES if isolation is not Isolation.ROW]
"""Where a tenant has tables of its own, which can vanish."""
OTHER_PASSWORD = PASSWORD[::-1]

_AGAIN_AND_AGAIN = {"vacuum"}
"""What is done as long as a tenant is over its quota."""

_servers: dict[type[Any], Harness] = {}
_numbers = iter(range(1, 1000))


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    for harness in _servers.values():
        harness.stop()
    _servers.clear()


def _id(case: tuple[type[Any], Isolation]) -> str:
    return f"{case[0].name}-{case[1]}"


@pytest.fixture(params=CASES, ids=_id)
def case(request: pytest.FixtureRequest) -> tuple[Harness, Isolation]:
    """A server, and the isolation."""
    made, isolation = request.param
    if made not in _servers:
        harness = made()
        # Servers run as another user, who must be able to pass.
        folder = Path(tempfile.mkdtemp(prefix=f"tenantry-{made.name}-", dir="/tmp"))
        folder.chmod(0o755)
        harness.start(folder)
        _servers[made] = harness
    return _servers[made], isolation


class Tenants:
    """Tenants on one server, driven as the operator does."""

    def __init__(self, harness: Harness, engine: Engine, isolation: Isolation) -> None:
        self.harness = harness
        self.engine = engine
        self.isolation = isolation

    def desired(self, tenant: str, **changes: Any) -> Desired:
        chain = self.harness.chain(1)
        names = names_for(
            self.isolation, chain.blueprint, tenant, "main", namespace="shop", engine=self.harness.kind
        )
        wanted = Desired(
            installation="test",
            tenant=f"shop/{tenant}",
            tenant_id=tenant,
            entry="main",
            isolation=self.isolation,
            names=names,
            blueprint=chain.blueprint,
            presence=Presence.LIVE,
            chain=chain,
            login=names.login_a,
        )
        return replace(wanted, **changes)

    async def bring(self, desired: Desired, credentials: Credentials | None = None) -> list[str]:
        """Observes, plans and applies until nothing is left; the names of the steps."""
        done: list[str] = []
        for _ in range(6):
            state = await self.engine.observe_one(desired)
            steps = self.engine.plan(desired, state, None if done and credentials is None else credentials)
            if {step.name for step in steps} <= _AGAIN_AND_AGAIN:
                return done
            try:
                await self.engine.apply(desired, steps, credentials)
            except Stale:
                continue
            done += [step.name for step in steps]
            credentials = None
        raise AssertionError(f"it does not settle: {done}")

    async def make(self, tenant: str, **changes: Any) -> Desired:
        desired = self.desired(tenant, **changes)
        await self.bring(desired, Credentials(desired.names.login_a, PASSWORD))
        return desired

    async def snapshot(self, desired: Desired) -> DatabaseState:
        return (await self.engine.observe()).database(desired)

    async def settled(self, desired: Desired) -> bool:
        """Whether a fresh snapshot and a single look both say that nothing is left to do."""
        states = (await self.snapshot(desired), await self.engine.observe_one(desired))
        assert [state.drift for state in states] == [(), ()]
        return all(self.engine.plan(desired, state, None) == () for state in states)

    async def refused(self, desired: Desired, login: str, password: str = PASSWORD) -> bool:
        try:
            client = await self.harness.client(desired, login, password)
        except Refused:
            return True
        await client.close()
        return False


@pytest.fixture
async def tenants(case: tuple[Harness, Isolation]) -> AsyncIterator[Tenants]:
    harness, isolation = case
    engine = harness.engine()
    try:
        yield Tenants(harness, engine, isolation)
    finally:
        await engine.close()


@pytest.fixture
def fresh(case: tuple[Harness, Isolation]) -> Callable[[], str]:
    """Names of tenants."""
    return lambda: f"t_{next(_numbers)}"


async def test_a_tenant_is_provisioned_and_its_login_works(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    await client.put("a", "1")
    assert await client.get("a") == "1"
    assert await client.get("b") is None
    await client.close()
    state = await tenants.snapshot(desired)
    assert (state.ownership, state.exists, state.version) == (Ownership.OURS, True, "1")
    assert [(login.name, login.enabled) for login in state.logins] == [(desired.names.login_a, True)]
    assert state.logins[0].fingerprint == Credentials("", PASSWORD).fingerprint
    assert await tenants.settled(desired)
    assert await tenants.refused(desired, desired.names.login_a, OTHER_PASSWORD)


async def test_nothing_is_done_where_nothing_changed(tenants: Tenants, fresh: Callable[[], str]) -> None:
    made = [await tenants.make(fresh()) for _ in range(3)]
    snapshot = await tenants.engine.observe()
    assert [tenants.engine.plan(desired, snapshot.database(desired), None) for desired in made] == [()] * 3
    assert {desired.tenant for desired in made} <= set(snapshot.tenants())
    found = snapshot.belongings(made[0].tenant)
    assert [(each.mark.tenant, each.database, each.schema) for each in found] == [
        (made[0].tenant, made[0].names.database, made[0].names.schema)
    ]
    assert snapshot.report.version
    assert snapshot.report.connections >= 1


async def test_a_login_reaches_nothing_of_anothers(tenants: Tenants, fresh: Callable[[], str]) -> None:
    mine, other = await tenants.make(fresh()), await tenants.make(fresh())
    theirs = await tenants.harness.client(other, other.names.login_a, PASSWORD)
    await theirs.put("key", "secret of the other")
    own = await tenants.harness.client(mine, mine.names.login_a, PASSWORD)
    assert await own.get("key") is None
    tried = await tenants.harness.attacks(own, other)
    assert len(tried) >= 5
    for name, attack in tried.items():
        try:
            found = await attack()
        except Refused:
            continue
        assert not found, f"a tenant can {name}: {found!r}"
    assert await theirs.get("key") == "secret of the other"
    assert not await tenants.refused(other, other.names.login_a)
    await own.close()
    await theirs.close()
    assert await tenants.settled(other)


async def test_migrations_go_forward_and_back(tenants: Tenants, fresh: Callable[[], str]) -> None:
    if tenants.isolation is Isolation.ROW:
        return await _shared_tables_go_forward(tenants, fresh)
    desired = await tenants.make(fresh())
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    await client.put("a", "1")
    assert not await client.has_version_2()
    one, two, three = (tenants.harness.chain(number) for number in (1, 2, 3))
    await tenants.bring(replace(desired, chain=two, installed=one))
    assert await client.has_version_2()
    assert (await tenants.snapshot(desired)).version == "2"
    with pytest.raises(Stalled) as failed:
        await tenants.bring(replace(desired, chain=three, installed=two))
    assert three.migrations[-1].name in failed.value.message
    await tenants.bring(replace(desired, chain=two, installed=three))
    assert (await tenants.snapshot(desired)).version == "2"
    await tenants.bring(replace(desired, chain=one, installed=two))
    assert not await client.has_version_2()
    assert await client.get("a") == "1"
    assert await tenants.settled(desired)
    await client.close()


async def _shared_tables_go_forward(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh(), chain=tenants.harness.chain(1))
    assert (await tenants.snapshot(desired)).version == "1"


async def test_suspending_ends_sessions_and_resuming_keeps_the_password(
    tenants: Tenants, fresh: Callable[[], str]
) -> None:
    desired = await tenants.make(fresh())
    login = desired.names.login_a
    client = await tenants.harness.client(desired, login, PASSWORD)
    await client.put("a", "1")
    started = time.monotonic()
    await tenants.bring(replace(desired, presence=Presence.REFUSED, login=None, chain=None))
    assert await tenants.refused(desired, login)
    with pytest.raises(Refused):
        await client.get("a")
    assert time.monotonic() - started < 10
    await client.close()
    state = await tenants.snapshot(desired)
    assert [each.enabled for each in state.logins] == [False]
    assert state.exists
    await tenants.bring(desired)
    again = await tenants.harness.client(desired, login, PASSWORD)
    assert await again.get("a") == "1"
    await again.close()
    assert await tenants.settled(desired)


async def test_rotation_never_leaves_anybody_out(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    names = desired.names
    old = await tenants.harness.client(desired, names.login_a, PASSWORD)
    await old.put("a", "1")
    turned = replace(desired, login=names.login_b)
    await tenants.bring(turned, Credentials(names.login_b, OTHER_PASSWORD))
    new = await tenants.harness.client(desired, names.login_b, OTHER_PASSWORD)
    assert await old.get("a") == await new.get("a") == "1"
    await new.put("b", "2")
    assert await old.get("b") == "2"
    await tenants.bring(replace(turned, retired=(names.login_a,)))
    assert await tenants.refused(desired, names.login_a)
    with pytest.raises(Refused):
        await old.get("a")
    await old.close()
    assert await new.get("b") == "2"
    await new.close()
    assert await tenants.settled(replace(turned, retired=()))


async def test_over_its_storage_quota_a_tenant_reads_and_deletes(
    tenants: Tenants, fresh: Callable[[], str]
) -> None:
    desired = await tenants.make(fresh())
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    await client.put("a", "1")
    await client.put("b", "2")
    await client.close()
    await tenants.bring(replace(desired, read_only=True))
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    with pytest.raises(Refused):
        await client.put("c", "3")
    assert await client.get("a") == "1"
    await client.delete("a")
    assert await client.get("a") is None
    await client.close()
    await tenants.bring(desired)
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    await client.put("c", "3")
    assert await client.get("c") == "3"
    await client.close()
    assert await tenants.settled(desired)


async def test_limits_are_set_and_taken_back(tenants: Tenants, fresh: Callable[[], str]) -> None:
    limited = await tenants.make(fresh(), limits=LoginLimits(connections=2, statement_timeout_ms=30_000))
    assert await tenants.settled(limited)
    unlimited = replace(limited, limits=LoginLimits())
    await tenants.bring(unlimited)
    assert await tenants.settled(unlimited)


async def test_what_others_changed_is_found_and_mended(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    word = await tenants.harness.break_something(desired)
    state = await tenants.snapshot(desired)
    assert any(word in drift for drift in state.drift), state.drift
    await tenants.bring(desired)
    assert await tenants.settled(desired)


@pytest.mark.parametrize("case", OWN, indirect=True, ids=_id)
async def test_data_that_vanished_is_seen(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    await tenants.harness.lose_data(desired)
    state = await tenants.snapshot(desired)
    assert not state.exists


async def test_usage_is_measured(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    for number in range(20):
        await client.put(f"key-{number}", "x" * 1000)
    state = await tenants.engine.observe_one(desired)
    for _ in range(20):
        if (state.bytes or 0) > 0 and state.connections:
            break
        await tenants.engine.observe()
        state = await tenants.engine.observe_one(desired)
    assert (state.bytes or 0) > 0
    assert state.connections >= 1
    await client.close()


async def test_nothing_is_left_of_a_tenant_that_goes(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired, other = await tenants.make(fresh()), await tenants.make(fresh())
    client = await tenants.harness.client(desired, desired.names.login_a, PASSWORD)
    await client.put("a", "1")
    assert await tenants.harness.leftovers(desired) != []
    await tenants.bring(replace(desired, presence=Presence.ABSENT, login=None, chain=None))
    assert await tenants.harness.leftovers(desired) == []
    assert desired.tenant not in (await tenants.engine.observe()).tenants()
    assert await tenants.refused(desired, desired.names.login_a)
    assert await tenants.settled(other)
    await client.close()


async def test_what_another_installation_made_is_left_alone(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    stranger = tenants.harness.engine("another")
    try:
        state = await stranger.observe_one(replace(desired, installation="another"))
        assert state.ownership is Ownership.STRANGER
        assert state.conflict
        snapshot = await stranger.observe()
        assert snapshot.database(replace(desired, installation="another")).ownership is Ownership.STRANGER
        marks = [each.mark.installation for each in snapshot.belongings(desired.tenant)]
        assert "another" not in marks
    finally:
        await stranger.close()
    state = await tenants.engine.observe_one(replace(desired, tenant="elsewhere/other"))
    assert state.ownership is Ownership.OTHER_TENANT


async def test_a_crash_after_any_step_is_made_up_for(tenants: Tenants, fresh: Callable[[], str]) -> None:
    """Each step alone, then everything looked at and planned afresh by another engine."""
    desired = tenants.desired(fresh())
    made = Credentials(desired.names.login_a, PASSWORD)
    steps = 0
    for wanted, credentials in (
        (desired, made),
        (replace(desired, presence=Presence.REFUSED, login=None, chain=None), None),
        (desired, None),
        (replace(desired, presence=Presence.ABSENT, login=None, chain=None), None),
    ):
        before: list[str] = []
        length = 1
        while True:
            engine = tenants.harness.engine()
            try:
                state = await engine.observe_one(wanted)
                known = any(each.name == made.login for each in state.logins)
                given = credentials if not known else None
                planned = engine.plan(wanted, state, given)
                if not planned:
                    break
                names = [step.name for step in planned]
                # A step that leaves the plan as it was is followed by the next one.
                length = length + 1 if names == before else 1
                before = names
                await engine.apply(wanted, planned[:length], given)
                steps += 1
                assert steps < 60, [step.name for step in planned]
            finally:
                await engine.close()
        if wanted is desired:
            assert not await tenants.refused(desired, made.login)
    assert await tenants.harness.leftovers(desired) == []


async def test_a_server_that_is_away_is_waited_for(tenants: Tenants, fresh: Callable[[], str]) -> None:
    desired = await tenants.make(fresh())
    tenants.harness.stop_server()
    try:
        with pytest.raises(Retryable):
            await tenants.engine.observe()
    finally:
        tenants.harness.start_server()
    deadline = time.monotonic() + 20
    while True:
        try:
            state = await tenants.snapshot(desired)
            settled = await tenants.settled(desired)
            break
        except Retryable:  # connections from before are found to be gone when they are used
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert state.exists
    assert settled


def test_marks_say_whose_they_are() -> None:
    mark = Mark("test", "shop/acme", "main", "shop/contract", version="1")
    assert Mark.decode(mark.encode()) == mark
