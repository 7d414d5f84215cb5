"""Kubernetes Events for what people care about.

Posted in the background and bounded: an Event tells people what happened, it is not a record to rely
on, and a thousand tenants at once must not wait for a thousand Events.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections import OrderedDict
from typing import Any, Literal

import structlog

from tenantry_operator.conditions import timestamp
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import EVENTS, KubeClient

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_WAITING = 500
_PAUSES = {"Warning": 1 / 20, "Normal": 1 / 5}
"""Seconds between two: that all is well is not worth a write per tenant while thousands are made."""
_REMEMBERED = 4096
_REPEAT_AFTER = 600.0


class Recorder:
    """Posts Events about objects. :meth:`run` must be running for anything to be posted."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._queue: asyncio.PriorityQueue[tuple[bool, int, str, Object]] = asyncio.PriorityQueue(_WAITING)
        self._count = itertools.count()
        self._recent: OrderedDict[str, float] = OrderedDict()

    def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something went as it should."""
        self._post(obj, "Normal", reason, message)

    def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something that a person should look at."""
        self._post(obj, "Warning", reason, message)

    def _post(self, obj: Object, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        meta = obj["metadata"]
        identity = f"{meta['uid']}/{reason}/{message}"
        now = time.monotonic()
        if now - self._recent.get(identity, -_REPEAT_AFTER) < _REPEAT_AFTER:
            return
        self._recent[identity] = now
        self._recent.move_to_end(identity)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        # Events of cluster-scoped objects live in the namespace "default", as kubectl expects.
        namespace = meta.get("namespace") or "default"
        at = timestamp()
        digest = hashlib.sha256(f"{identity}/{time.time_ns()}".encode()).hexdigest()[:16]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name'][:220]}.{digest}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": obj["kind"],
                "name": meta["name"],
                "namespace": meta.get("namespace"),
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion"),
            },
            "type": kind,
            "reason": reason[:128],
            "message": message[:1024],
            "source": {"component": "tenantry-operator"},
            "reportingComponent": "tenantry.dev/operator",
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        if kind == "Normal" and self._queue.qsize() > _WAITING // 2:
            return
        try:
            self._queue.put_nowait((kind == "Normal", next(self._count), namespace, event))
        except asyncio.QueueFull:
            _log.warning("an Event was left out, too many are waiting", reason=reason, object=meta["name"])

    async def run(self) -> None:
        """Posts what was recorded, until cancelled."""
        while True:
            _, _, namespace, event = await self._queue.get()
            try:
                await self._kube.create(EVENTS, namespace, event)
            except ReconcileError as error:
                # A namespace that is being deleted takes no Events; the conditions say the same.
                _log.info("an Event could not be posted", error=str(error))
            await asyncio.sleep(_PAUSES[event["type"]])
