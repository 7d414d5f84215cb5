"""Whether the watches are alive: what they brought is compared with a listing now and then.

kopf reconnects when a stream is silent; this notices what it cannot, and mends the one thing that a watch
that was lost for long leaves out: objects that were deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from tenantry_operator import telemetry
from tenantry_operator.cache import Key, Store, key_of, version_of
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import KubeClient, NotFound, Resource
from tenantry_operator.operator import Kind

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_INTERVAL = 120.0
_GRACE = 20.0
_DEAD_AFTER = 60.0


class Audit:
    """Compares the cache with the API server.

    :param namespaces: where objects of a kind are looked for; None: everywhere.
    """

    def __init__(
        self, kube: KubeClient, kinds: Iterable[Kind], namespaces: Callable[[Resource], list[str | None]]
    ) -> None:
        self._kube = kube
        self._kinds = tuple(kinds)
        self._namespaces = namespaces
        self._behind: dict[str, float] = {}

    def dead(self) -> list[str]:
        """The kinds whose watch has been behind for too long."""
        now = time.monotonic()
        return [kind for kind, since in self._behind.items() if now - since > _DEAD_AFTER]

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL if not self._behind else _GRACE)
            for kind in self._kinds:
                try:
                    await self._audit(kind)
                except ReconcileError as error:
                    _log.info("a watch was not audited", kind=kind.resource.kind, error=str(error))

    async def _audit(self, kind: Kind) -> None:
        resource, store = kind.resource, kind.store
        before = {key: obj for key in store.keys() if (obj := store.get(key)) is not None}  # noqa: SIM118
        listed = await self._list(kind)
        await asyncio.sleep(_GRACE)
        behind = [key for key, version in listed.items() if self._missed(store, key, version)]
        for key, obj in before.items():
            if key not in listed and store.get(key) is obj and await self._vanished(resource, key):
                _log.warning("a deletion was missed by the watch", kind=resource.kind, object="/".join(key))
                kind.deleted(obj)
        now = time.monotonic()
        if behind:
            since = self._behind.setdefault(resource.kind, now)
            _log.warning("a watch is behind", kind=resource.kind, objects=len(behind), seconds=round(now - since))
        else:
            self._behind.pop(resource.kind, None)
        telemetry.watch_age.labels(resource.kind).set(now - self._behind.get(resource.kind, now))

    def _missed(self, store: Store, key: Key, version: int) -> bool:
        known = store.get(key)
        return known is None or version_of(known) < version

    async def _list(self, kind: Kind) -> dict[Key, int]:
        found: dict[Key, int] = {}
        for namespace in self._namespaces(kind.resource):
            for item in await self._kube.list_metadata(kind.resource, namespace, selector=kind.selector):
                found[key_of(item)] = version_of(item)
        return found

    async def _vanished(self, resource: Resource, key: Key) -> bool:
        try:
            await self._kube.get(resource, key[0] or None, key[1])
        except NotFound:
            return True
        return False
