"""What only one request at a time may do, whichever replica of the facade it reached.

The API server keeps one object's writes apart, and no more. Where a request must be the only one beyond that (it
gives a name that is unique, or has an Idempotency-Key), it makes a Lease first, whose name is a hash of what it
claims: of two that make it, one is refused. The Lease outlasts the request by a little, until the caches of all
replicas must have heard of what came of it; one that a crash left runs out.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from tenantry_api.problems import Unavailable
from tenantry_api.refusals import MANAGER, problem_of
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import LEASES, ApiError, Conflict, KubeClient, NotFound
from tenantry_operator.names import GROUP

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

LABEL = f"{GROUP}/claim"
_CONTENT = f"{GROUP}/content"
_LASTS = timedelta(seconds=30)
"""The longest that a request needs it."""
LINGERS = 5.0
"""Seconds that a Lease is kept after the request: so far a replica's cache may lag behind."""
_PATIENCE = LINGERS + 3.0
_SWEEP_EVERY = 60.0


class Held(Exception):
    """Another request has it.

    :param content: what that request said of itself.
    """

    def __init__(self, content: str) -> None:
        super().__init__("another request has it")
        self.content = content


class Claims:
    """The Leases of one project."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._lingering: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def hold(
        self, what: str, content: str = "", *, settled: Callable[[], bool], lingers: float = LINGERS
    ) -> AsyncIterator[None]:
        """Has something to itself for the length of the block.

        When another request has it, this one waits until the cache shows what came of that.

        :param what: what is claimed: the same words, the same claim.
        :param content: told to those who find it held.
        :param settled: whether the cache shows what came of it.
        :param lingers: seconds that it is kept afterwards.
        :raises Held: when another request with other content has it, or ``settled`` says that it is over.
        :raises Problem: 503, when the API server is away, or it takes too long.
        """
        name = f"tenantry-claim-{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        lease = await self._make(name, content, settled)
        try:
            yield
        except BaseException:
            await asyncio.shield(self._remove(lease))
            raise
        task = asyncio.create_task(self._remove(lease, after=lingers))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def _make(self, name: str, content: str, settled: Callable[[], bool]) -> Object:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "labels": {LABEL: "request"}, "annotations": {_CONTENT: content}},
            "spec": {
                "holderIdentity": str(uuid.uuid4()),
                "leaseDurationSeconds": int(_LASTS.total_seconds()),
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        pause = 0.02
        while True:
            try:
                made = await self._kube.request(
                    "POST", LEASES.path(self._namespace), body, query={"fieldManager": MANAGER}
                )
            except Conflict:
                held = await self._find(name)
            except ApiError as error:
                raise problem_of(error) from error
            else:
                return made
            if held is not None:
                if _ran_out(held):
                    await self._remove(held)
                    continue
                theirs = (held["metadata"].get("annotations") or {}).get(_CONTENT, "")
                if theirs != content or settled():
                    raise Held(theirs)
            if loop.time() > deadline:
                raise Unavailable("the same is being asked for elsewhere; try again", retry_after=1)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def _find(self, name: str) -> Object | None:
        try:
            return await self._kube.get(LEASES, self._namespace, name)
        except NotFound:
            return None
        except ApiError as error:
            raise problem_of(error) from error

    async def _remove(self, lease: Object, after: float = 0.0) -> None:
        if after:
            await asyncio.sleep(after)
        meta = lease["metadata"]
        with suppress(ReconcileError):  # it runs out
            await self._kube.delete(LEASES, self._namespace, meta["name"], uid=meta["uid"])

    async def sweep(self) -> None:
        """Removes what crashes left, until cancelled."""
        while True:
            try:
                async for leases in self._kube.pages(LEASES, self._namespace, selector=LABEL):
                    for lease in leases:
                        if _ran_out(lease):
                            await self._remove(lease)
            except ReconcileError as error:
                _log.info("claims that ran out were not removed", error=str(error))
            await asyncio.sleep(_SWEEP_EVERY)


def _ran_out(lease: Object) -> bool:
    """Whether whoever made it must be gone. Clocks of replicas differ by less than it lasts."""
    try:
        made = datetime.fromisoformat(lease["spec"]["renewTime"])
    except (KeyError, ValueError, TypeError):
        made = datetime.fromisoformat(lease["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - made > _LASTS
