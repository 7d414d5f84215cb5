"""What only one request at a time may do, whichever replica of the facade it reached.

The API server keeps one object's writes apart, and no more. Where a request must be the only one beyond that (it
gives a name that is unique, moves a tenant, or has an Idempotency-Key), it makes a Lease first, whose name is a
hash of what it claims: of two that make it, one is refused. Where others learn only from their caches what came of
it, the Lease outlasts the request by a little, until all of them must have heard; one that a crash left runs out.

Of the requests that wait for the same in one replica only the first asks the API server, and who is done hands the
Lease on to the next, until another replica has to have its turn: many at the same moment are served one after the
other, and none is kept waiting by how many there are elsewhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from tenantry_api.lines import Lines
from tenantry_api.problems import Problem, Unavailable
from tenantry_api.refusals import MANAGER, problem_of
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import LEASES, ApiError, Conflict, KubeClient, NotFound
from tenantry_operator.names import GROUP

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

LABEL = f"{GROUP}/claim"
_CONTENT = f"{GROUP}/content"
LINGERS = 5.0
"""Seconds that a Lease is kept after the request: so far a replica's cache may lag behind."""
_TURN = 1.0
"""Seconds for which a replica hands a Lease on from request to request; then another one may have it."""
_HANDED = 0.5
"""Seconds that a Lease is kept for the next one, who has only to take it."""
_LONGEST = 20.0
"""Seconds that a request may have a Lease; then it is given up."""
_LASTS = timedelta(seconds=LINGERS + _LONGEST + LINGERS + 5.0)
"""When a Lease is a dead replica's: after all that a living one does with it."""
_PATIENCE = 20.0
_SOONEST, _LATEST = 0.02, 0.1
"""Seconds between two looks at a Lease that another replica has: more, the longer the same one is there."""
_YIELDS = 0.15
"""Seconds that a replica leaves to others after its turn: somebody looks meanwhile."""
_SWEEP_EVERY = 60.0


class Held(Exception):
    """Another request has it.

    :param content: what that request said of itself.
    """

    def __init__(self, content: str) -> None:
        super().__init__("another request has it")
        self.content = content


@dataclass(slots=True)
class _Own:
    """A Lease that this replica made."""

    lease: Object
    content: str
    until: float
    """Until when it is handed on."""
    removing: asyncio.Task[None] | None = None
    """Nobody has it, and it goes after a while."""
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Claims:
    """The Leases of one project."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._lines = Lines()
        self._own: dict[str, _Own] = {}

    @asynccontextmanager
    async def hold(
        self, what: str, content: str = "", *, settled: Callable[[], bool], lingers: float = LINGERS
    ) -> AsyncIterator[None]:
        """Has something to itself for the length of the block, which is given up after some seconds.

        When another request has it, this one waits until the cache shows what came of that.

        :param what: what is claimed: the same words, the same claim.
        :param content: told to those who find it held.
        :param settled: whether the cache shows what came of it.
        :param lingers: seconds that it is kept afterwards.
        :raises Held: when another request with other content has it, or ``settled`` says that it is over.
        :raises Problem: 503, when the API server is away, or it takes too long.
        """
        name = f"tenantry-claim-{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        own = await self._acquire(name, content, settled, lingers)
        try:
            async with asyncio.timeout(_LONGEST) as limit:
                yield
        except BaseException as error:
            await asyncio.shield(self._release(name, own, 0.0))
            if isinstance(error, TimeoutError) and limit.expired():
                raise Unavailable("the cluster takes too long to answer; try again") from error
            raise
        await asyncio.shield(self._release(name, own, lingers))

    async def _release(self, name: str, own: _Own, lingers: float) -> None:
        """Hands a Lease on to who waits here, keeps it for a while, or removes it."""
        handed = self._lines.waiting(name) and time.monotonic() < own.until
        after = max(lingers, _HANDED) if handed else lingers
        if after:
            own.removing = asyncio.create_task(self._remove(name, own, after))
            own.released.set()
        else:
            await self._remove(name, own)

    async def _acquire(self, name: str, content: str, settled: Callable[[], bool], lingers: float) -> _Own:
        deadline = time.monotonic() + _PATIENCE
        async with self._lines.turn(name, _PATIENCE):
            own = await self._take_over(name, content, settled, deadline)
            if own is None:
                lease = await self._contend(name, content, settled, deadline)
                until = time.monotonic() + (lingers or _TURN)
                own = self._own[name] = _Own(lease, content, until)
            return own

    async def _take_over(
        self, name: str, content: str, settled: Callable[[], bool], deadline: float
    ) -> _Own | None:
        """The Lease that this replica has, when the request is done that had it; None: there is none to be had."""
        own = self._own.get(name)
        if own is None:
            return None
        if own.content != content or settled():
            raise Held(own.content)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await own.released.wait()
        except TimeoutError as error:
            raise _too_many() from error
        if self._own.get(name) is not own:
            await asyncio.sleep(_YIELDS)
            return None
        if settled():
            raise Held(own.content)
        if own.removing is None or time.monotonic() >= own.until:
            return None
        own.removing.cancel()
        own.removing = None
        own.released.clear()
        return own

    async def _contend(self, name: str, content: str, settled: Callable[[], bool], deadline: float) -> Object:
        """Makes the Lease, as soon as nobody else has it."""
        pause, seen = _SOONEST, ""
        while True:
            made = await self._make(name, content)
            if made is not None:
                return made
            while (held := await self._find(name)) is not None and not _ran_out(held):
                theirs = (held["metadata"].get("annotations") or {}).get(_CONTENT, "")
                if theirs != content or settled():
                    raise Held(theirs)
                if time.monotonic() > deadline:
                    raise _too_many()
                if held["metadata"]["uid"] != seen:
                    pause, seen = _SOONEST, held["metadata"]["uid"]
                # By chance sooner or later, so that no replica is always the one that comes too late.
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311
                pause = min(2 * pause, _LATEST)
            if held is not None:
                await self._delete(held)

    async def _make(self, name: str, content: str) -> Object | None:
        """The Lease; None: there is one."""
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
        try:
            return await self._kube.request(
                "POST", LEASES.path(self._namespace), body, query={"fieldManager": MANAGER}
            )
        except Conflict:
            return None
        except ApiError as error:
            raise _problem_of(error) from error

    async def _find(self, name: str) -> Object | None:
        try:
            return await self._kube.get(LEASES, self._namespace, name)
        except NotFound:
            return None
        except ApiError as error:
            raise problem_of(error) from error

    async def _remove(self, name: str, own: _Own, after: float = 0.0) -> None:
        if after:
            await asyncio.sleep(after)
        if self._own.get(name) is own:
            # Before the API server is asked: from here on it is nobody's to take over.
            del self._own[name]
        await self._delete(own.lease)
        own.released.set()

    async def _delete(self, lease: Object) -> None:
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
                            await self._delete(lease)
            except ReconcileError as error:
                _log.info("claims that ran out were not removed", error=str(error))
            await asyncio.sleep(_SWEEP_EVERY)


def _too_many() -> Unavailable:
    return Unavailable("the same is being asked for elsewhere; try again", retry_after=1)


def _problem_of(error: ApiError) -> Problem:
    """Of a Lease that was not made."""
    if isinstance(error, NotFound):
        return Unavailable("whoever runs this has to make the project's namespace", retry_after=60)
    return problem_of(error)


def _ran_out(lease: Object) -> bool:
    """Whether whoever made it must be gone. Clocks of replicas differ by less than it lasts."""
    try:
        made = datetime.fromisoformat(lease["spec"]["renewTime"])
    except (KeyError, ValueError, TypeError):
        made = datetime.fromisoformat(lease["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - made > _LASTS
