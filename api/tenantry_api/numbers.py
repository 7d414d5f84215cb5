"""Whole numbers for tenants: clients of some contracts know them by nothing else."""

from __future__ import annotations

import asyncio

from tenantry_api.cache import Cache
from tenantry_api.problems import Unavailable
from tenantry_api.refusals import ATTEMPTS, MANAGER, MERGE_PATCH, problem_of
from tenantry_operator.kube import CONFIGMAPS, ApiError, Conflict, KubeClient, NotFound

COUNTER = "tenantry-numbers"
"""The ConfigMap of a project that holds the next tenant's number."""


class Numbers:
    """Whole numbers of a project, each given once, whoever asks."""

    def __init__(self, kube: KubeClient, cache: Cache, namespace: str) -> None:
        self._kube = kube
        self._cache = cache
        self._namespace = namespace
        self._lock = asyncio.Lock()
        self._asked = 0
        self._given: list[int] = []

    async def take(self) -> int:
        """The next number.

        :raises Problem: when the API server is away.
        """
        self._asked += 1
        async with self._lock:
            if not self._given:
                # Whoever waits meanwhile is served by the same write.
                self._given = await self.reserve(max(1, self._asked))
            self._asked -= 1
            return self._given.pop(0)

    async def reserve(self, count: int) -> list[int]:
        """So many numbers, in order.

        :raises Problem: when the API server is away.
        """
        namespace = self._namespace
        for attempt in range(ATTEMPTS * 4):
            try:
                first = await self._advance(namespace, count)
            except Conflict:
                await asyncio.sleep(0.01 * attempt)
            except ApiError as error:
                raise problem_of(error) from error
            else:
                return list(range(first, first + count))
        raise Unavailable("numbers are given to many others just now; try again", retry_after=1)

    async def _advance(self, namespace: str, count: int) -> int:
        lowest = self._cache.tenants.highest.get(namespace, 0) + 1
        try:
            live = await self._kube.get(CONFIGMAPS, namespace, COUNTER)
        except NotFound:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": COUNTER},
                "data": {"next": str(lowest + count)},
            }
            await self._kube.request("POST", CONFIGMAPS.path(namespace), body, query={"fieldManager": MANAGER})
            return lowest
        text = (live.get("data") or {}).get("next") or "1"
        first = max(lowest, int(text) if text.isdecimal() else 1)
        patch = {
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]},
            "data": {"next": str(first + count)},
        }
        path = CONFIGMAPS.path(namespace, COUNTER)
        query = {"fieldManager": MANAGER}
        await self._kube.request("PATCH", path, patch, content_type=MERGE_PATCH, query=query)
        return first
