"""One operator at a time: a Lease, renewed while the operator works.

Source: https://kubernetes.io/docs/concepts/architecture/leases/. kopf's peering warns and pauses; a Lease
also keeps an operator from working that was cut off from the API server and does not know that another
one took over: it stops before the other may start.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from datetime import UTC, datetime
from typing import Any

import structlog

from tenantry_operator.errors import Retryable
from tenantry_operator.kube import LEASES, Conflict, KubeClient, NotFound

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """The Lease was not renewed in time: another operator may be at work."""


def identity() -> str:
    """Who holds the Lease. A restarted container is the same holder: its process died before."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Lease:
    """The Lease of one operator.

    :param duration: seconds that a holder may go without renewing.
    """

    def __init__(self, kube: KubeClient, namespace: str, name: str, duration: float) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._duration = duration
        self._identity = identity()
        self._renewed = 0.0
        self._seen: tuple[str | None, float] = (None, 0.0)

    async def acquire(self) -> None:
        """Waits until the Lease is ours."""
        told = False
        while not await self._try():
            if not told:
                _log.info("waiting for the Lease of another operator", lease=self._name)
                told = True
            await asyncio.sleep(min(1.0, self._duration / 5))
        _log.info("holding the Lease", lease=self._name, holder=self._identity)

    async def hold(self) -> None:
        """Renews until cancelled.

        :raises LeaseLost: when renewing failed for so long that another operator may take over.
        """
        while True:
            await asyncio.sleep(self._duration / 3)
            try:
                if not await self._try():
                    raise LeaseLost(f"another operator holds the Lease {self._namespace}/{self._name}")
            except Retryable as error:
                _log.warning("the Lease could not be renewed", error=str(error))
            if time.monotonic() - self._renewed > self._duration * 0.8:
                raise LeaseLost(f"the Lease {self._namespace}/{self._name} was not renewed in time")

    async def give_up(self) -> None:
        """Lets another operator start at once."""
        try:
            found = await self._kube.get(LEASES, self._namespace, self._name)
            if found["spec"].get("holderIdentity") == self._identity:
                found["spec"]["holderIdentity"] = ""
                await self._kube.replace(LEASES, self._namespace, self._name, found)
        except Retryable as error:
            _log.info("the Lease could not be given up; it runs out by itself", error=str(error))

    async def _try(self) -> bool:
        started = time.monotonic()
        try:
            found = await self._kube.get(LEASES, self._namespace, self._name)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            try:
                await self._kube.create(LEASES, self._namespace, body)
            except Conflict:
                return False
            self._renewed = started
            return True
        if not self._free(found):
            return False
        found["spec"] = self._spec(found.get("spec") or {})
        try:
            await self._kube.replace(LEASES, self._namespace, self._name, found)
        except Conflict:
            return False
        self._renewed = started
        return True

    def _free(self, found: Object) -> bool:
        """Whether the Lease is ours, nobody's, or ran out while we watched.

        The time is our own since the last renewal that we saw: clocks of other machines may differ.
        """
        spec = found.get("spec") or {}
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return True
        version = found["metadata"]["resourceVersion"]
        now = time.monotonic()
        if self._seen[0] != version:
            self._seen = (version, now)
        duration = float(spec.get("leaseDurationSeconds") or self._duration)
        return now - self._seen[1] > duration

    def _spec(self, before: Object) -> Object:
        now = datetime.now(UTC)
        ours = before.get("holderIdentity") == self._identity
        stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": before.get("acquireTime") if ours else stamp,
            "renewTime": stamp,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours else 1),
        }
