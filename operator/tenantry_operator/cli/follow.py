"""Following one object through its changes, whatever becomes of the connection.

A watch tells of changes at once. It is renewed every half minute, and between two watches the object is read: so
a watch that is refused, too old (410), cut off, or open but silent costs time and never the truth.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from tenantry_operator.cli.cluster import Cluster
from tenantry_operator.kube import ApiError, NotFound, Resource

Object = dict[str, Any]

WATCH = 30
"""Seconds after which a watch is renewed."""
POLL = 2.0
"""Seconds between two looks where watching does not work."""
GIVE_UP = 300.0
"""Seconds without any answer of the API server after which following ends: it may be restarting."""
_FIRST_PAUSE = 0.1
_REFUSED = (403, 405)


@dataclass(frozen=True, slots=True)
class Update:
    """What is known now."""

    obj: Object | None
    """None: it was deleted."""
    silence: str = ""
    """Why this may be out of date: the API server does not answer."""


class _Gone(Exception):
    """The object was deleted."""


class _Follower:
    def __init__(self, cluster: Cluster, resource: Resource, obj: Object) -> None:
        self._cluster = cluster
        self._resource = resource
        self._uid = obj["metadata"].get("uid")
        self._name: str = obj["metadata"]["name"]
        self.obj = obj
        self._failures = 0
        self._watches = True

    async def watched(self) -> AsyncGenerator[Update]:
        """The changes that one watch tells of; what ends it is counted, not raised."""
        if not self._watches:
            self._failures = max(1, self._failures)
            return
        begun, told = time.monotonic(), False
        try:
            version = self.obj["metadata"].get("resourceVersion") or ""
            events = self._cluster.watch(self._resource, self._name, version, WATCH)
            async with aclosing(events):
                async for kind, obj in events:
                    told = True
                    if self._take(None if kind == "DELETED" else obj):
                        yield Update(self.obj)
        except ApiError as error:
            self._watches = error.status not in _REFUSED
            self._failures += 1
            return
        # One that ends at once and told nothing, as behind some proxies, is as good as none.
        self._failures = 0 if told or time.monotonic() - begun > 1.0 else self._failures + 1

    async def look(self) -> bool:
        """Reads the object, after a pause if watching has just failed. True when it has changed."""
        if self._failures:
            pause = POLL if not self._watches else min(POLL, _FIRST_PAUSE * 2**self._failures)
            await asyncio.sleep(pause)
        try:
            return self._take(await self._cluster.get(self._resource, self._cluster.namespace, self._name))
        except NotFound:
            raise _Gone from None

    def _take(self, obj: Object | None) -> bool:
        # One of the same name that was made anew is another one.
        if obj is None or obj["metadata"].get("uid") != self._uid:
            raise _Gone
        changed = bool(obj["metadata"].get("resourceVersion") != self.obj["metadata"].get("resourceVersion"))
        self.obj = obj
        return changed


async def follow(cluster: Cluster, resource: Resource, obj: Object) -> AsyncGenerator[Update]:
    """The object as it is, then each change; ends after its deletion.

    :raises ApiError: when the API server refuses to show the object, or has not answered for :data:`GIVE_UP`.
    """
    follower = _Follower(cluster, resource, obj)
    silent_since: float | None = None
    yield Update(obj)
    try:
        while True:
            async with aclosing(follower.watched()) as updates:
                async for update in updates:
                    silent_since = None
                    yield update
            try:
                changed = await follower.look()
            except ApiError as error:
                passing = error.status == 0 or error.status >= 500 or error.status == 429
                silent_since = silent_since or time.monotonic()
                if not passing or time.monotonic() - silent_since > GIVE_UP:
                    raise
                yield Update(follower.obj, silence=str(error.__cause__ or error.message) or "no answer in time")
                continue
            if changed or silent_since is not None:
                yield Update(follower.obj)
            silent_since = None
    except _Gone:
        yield Update(None)
