"""The queue between watches and reconciles, after the pattern of Kubernetes' own controllers.

A key that is added many times is reconciled once; a key is never reconciled twice at the same time; one
that is added while it is being reconciled is reconciled again after. Failures come back with exponential
backoff and jitter. Waiting costs a heap entry, not a task.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY = 0.25
_LONGEST_DELAY = 300.0


def backoff(failures: int, *, first: float = _FIRST_DELAY, longest: float = _LONGEST_DELAY) -> float:
    """Seconds to wait after so many failures in a row: doubling, with jitter of half to all of it."""
    delay = min(longest, first * 2.0 ** min(failures - 1, 30))
    return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class WorkQueue(Generic[K]):
    """Keys to reconcile.

    :param reconcile: called with a key; returns the seconds after which to look again, or None. What it
        raises is logged by the caller's own wrapper; the key comes back with backoff.
    """

    def __init__(self, reconcile: Callable[[K], Awaitable[float | None]]) -> None:
        self._reconcile = reconcile
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = itertools.count()
        self._timer = asyncio.Event()
        self._slots: asyncio.Queue[None] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._queued) + len(self._active)

    def add(self, key: K) -> None:
        """Reconcile soon. A wait for this key is over."""
        self._due.pop(key, None)
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._slots.put_nowait(None)

    def add_after(self, key: K, delay: float) -> None:
        """Reconcile in ``delay`` seconds, or sooner when something else asks for it."""
        due = time.monotonic() + delay
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        heapq.heappush(self._heap, (due, next(self._count), key))
        self._timer.set()

    def forget(self, key: K) -> None:
        """The key's object is gone: drop what is remembered of it."""
        self._failures.pop(key, None)
        self._due.pop(key, None)

    async def run(self, workers: int) -> None:
        """Works until cancelled, on so many keys at a time."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick(), name="workqueue timer")
            for number in range(workers):
                group.create_task(self._work(), name=f"workqueue worker {number}")

    async def _tick(self) -> None:
        while True:
            self._timer.clear()
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                due, _, key = heapq.heappop(self._heap)
                # An entry that was replaced by an earlier one, or made void, stays in the heap until due.
                if self._due.get(key) == due:
                    self.add(key)
            timeout = self._heap[0][0] - now if self._heap else None
            try:
                await asyncio.wait_for(self._timer.wait(), timeout)
            except TimeoutError:
                continue

    async def _work(self) -> None:
        while True:
            await self._slots.get()
            key = self._ready.popleft()
            self._queued.discard(key)
            self._active.add(key)
            failed = False
            delay: float | None = None
            try:
                delay = await self._reconcile(key)
            except Exception:  # the reconcile's wrapper has logged it; the queue must go on
                failed = True
            finally:
                self._active.discard(key)
            if failed:
                self._failures[key] = self._failures.get(key, 0) + 1
                delay = backoff(self._failures[key])
            else:
                self._failures.pop(key, None)
            if key in self._again:
                self._again.discard(key)
                if failed:
                    self.add_after(key, delay or 0)
                else:
                    self.add(key)
                    continue
            if delay is not None:
                self.add_after(key, delay)
