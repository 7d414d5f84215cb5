"""The queue between watches and reconciles."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tenantry_operator.workqueue import WorkQueue, backoff

Reconcile = Callable[[str], Awaitable[float | None]]


@contextlib.asynccontextmanager
async def running(reconcile: Reconcile, workers: int = 4) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(reconcile)
    task = asyncio.create_task(queue.run(workers))
    try:
        yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_key_added_many_times_is_reconciled_once() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        seen.append(key)

    async with running(reconcile) as queue:
        for _ in range(10):
            queue.add("a")
        await asyncio.sleep(0.02)
    assert seen == ["a"]


async def test_a_key_is_never_reconciled_twice_at_a_time_and_nothing_is_missed() -> None:
    active = 0
    seen = 0

    async def reconcile(_: str) -> None:
        nonlocal active, seen
        active += 1
        assert active == 1
        seen += 1
        await asyncio.sleep(0.02)
        active -= 1

    async with running(reconcile) as queue:
        queue.add("a")
        await asyncio.sleep(0.005)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(0.08)
    assert seen == 2


async def test_different_keys_are_reconciled_at_the_same_time_up_to_the_number_of_workers() -> None:
    active = most = 0

    async def reconcile(_: str) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.01)
        active -= 1

    async with running(reconcile, workers=3) as queue:
        for key in "abcdefgh":
            queue.add(key)
        await asyncio.sleep(0.1)
        assert len(queue) == 0
    assert most == 3


async def test_a_failure_comes_back_with_backoff_and_success_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenantry_operator.workqueue._FIRST_DELAY", 0.01)
    attempts = 0

    async def reconcile(_: str) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ValueError("not yet")

    async with running(reconcile) as queue:
        queue.add("a")
        for _ in range(200):
            await asyncio.sleep(0.02)
            if attempts >= 3:
                break
        await asyncio.sleep(0.1)
    assert attempts == 3


async def test_a_key_looked_at_again_later_comes_sooner_when_something_asks() -> None:
    seen = 0

    async def reconcile(_: str) -> float | None:
        nonlocal seen
        seen += 1
        return 60.0

    async with running(reconcile) as queue:
        queue.add("a")
        await asyncio.sleep(0.01)
        queue.add("a")
        await asyncio.sleep(0.01)
    assert seen == 2


async def test_the_delay_a_reconcile_returns_is_kept() -> None:
    seen = 0

    async def reconcile(_: str) -> float | None:
        nonlocal seen
        seen += 1
        return 0.02 if seen == 1 else None

    async with running(reconcile) as queue:
        queue.add("a")
        await asyncio.sleep(0.005)
        assert seen == 1
        await asyncio.sleep(0.06)
    assert seen == 2


def test_backoff_doubles_with_jitter_and_is_bounded() -> None:
    for failures in range(1, 40):
        longest = min(300.0, 0.25 * 2 ** (failures - 1))
        assert longest / 2 <= backoff(failures) <= longest
