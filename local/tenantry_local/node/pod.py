"""One pod of the node, from its binding to its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from tenantry_local.errors import LocalError
from tenantry_local.node import status
from tenantry_local.node.client import PODS
from tenantry_local.node.container import Container
from tenantry_local.node.context import Context
from tenantry_local.node.environment import HOST_ADDRESS, Object
from tenantry_local.node.mounts import Places
from tenantry_local.node.shim import now
from tenantry_local.paths import remove_tree
from tenantry_operator.kube import ApiError, Conflict, NotFound

DEBOUNCE = 0.03
"""Seconds in which several changes become one write."""
RETRY = 10.0
"""Seconds after something unexpected."""
SOCKET = 80
"""Longest path of a socket's folder; the system allows 107 bytes for all of it."""
log = logging.getLogger(__name__)


class PodWorker:
    """Runs a pod's containers and writes its status."""

    def __init__(self, context: Context, pod: Object) -> None:
        self.uid: str = pod["metadata"]["uid"]
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self._context = context
        self._pod = pod
        self._address = ""
        self._started = now()
        self._init: list[Container] = []
        self._main: list[Container] = []
        self._dirty = asyncio.Event()
        self._urgent = asyncio.Event()
        self._published: Object | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None

    @property
    def folder(self) -> Path:
        """Where its files are, volumes of claims aside."""
        return self._context.folder / "pods" / self.uid

    def start(self) -> None:
        """Takes the pod up, from the beginning or where an earlier node left it."""
        self._address = (
            HOST_ADDRESS
            if self._pod["spec"].get("hostNetwork")
            else self._context.addresses.take(self.namespace, self.name)
        )
        for folder in (self.folder, self.folder / "volumes", self.folder / "containers"):
            folder.mkdir(mode=0o711, exist_ok=True)
        names = {"namespace": self.namespace, "name": self.name}
        (self.folder / "pod.json").write_text(json.dumps(names), encoding="utf-8")
        spec = self._pod["spec"]
        self._init = [self._container(entry) for entry in spec.get("initContainers") or []]
        self._main = [self._container(entry) for entry in spec["containers"]]
        if not self._init:
            for container in self._main:
                container.view.state = status.waiting("ContainerCreating")
        ending = self._pod["metadata"].get("deletionTimestamp")
        if not ending and self._phase() not in {"Succeeded", "Failed"}:
            self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._run())]
            self._change()

    def update(self, pod: Object) -> None:
        """The pod as the API server has it now; one that is to be deleted is ended."""
        self._pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if self._ending is None:
                self._ending = asyncio.create_task(self._end(grace, delete=True))
            self._hurry(grace)

    def vanish(self) -> None:
        """The object is gone: somebody deleted it by force."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(1, delete=False))
        self._hurry(1)

    def _hurry(self, grace: float) -> None:
        """Its processes have so many seconds from now, if they had more: another pod of its name may come."""
        for container in [*self._main, *self._init]:
            container.hurry(grace)

    async def ended(self) -> None:
        """Returns when everything of the pod is gone; to be called once it is to end."""
        if self._ending is not None:
            await self._ending

    async def leave(self) -> None:
        """The node ends: the pod's processes run on."""
        await _cancelled([*self._tasks, *([self._ending] if self._ending else [])])

    def _container(self, spec: Object) -> Container:
        places = Places(self.folder / "volumes", self.folder / "containers" / spec["name"], self._sockets())
        return Container(self._context, lambda: self._pod, spec, self._address, places, self._change)

    def _sockets(self) -> Path:
        """A folder with a path short enough for sockets."""
        folder = self._context.folder / "run" / self.uid[:13]
        if len(str(folder)) > SOCKET:
            mark = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"tenantry-{mark}"
        self._context.account.folder(folder)
        owner = self._context.account.uid if self._context.account.uid is not None else os.getuid()
        if folder.stat().st_uid != owner or folder.is_symlink():
            raise LocalError(f"{folder} belongs to somebody else; remove it")
        return folder

    async def _run(self) -> None:
        while True:
            try:
                await self._run_once()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("pod %s/%s is taken up again in %g s", self.namespace, self.name, RETRY)
                await asyncio.sleep(RETRY)
            else:
                return

    async def _run_once(self) -> None:
        """Runs the containers that are to run, until there are none."""
        policy = str(self._pod["spec"].get("restartPolicy", "Always"))
        tasks: list[asyncio.Task[int]] = []
        try:
            for container in self._init:
                if container.spec.get("restartPolicy") == "Always":
                    tasks.append(asyncio.create_task(container.run("Always")))
                    await container.up.wait()
                elif await container.run("Never" if policy == "Never" else "OnFailure"):
                    return
            main = [asyncio.create_task(container.run(policy)) for container in self._main]
            tasks += main
            await asyncio.gather(*main)
        finally:
            await _cancelled(tasks)
        grace = float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        for container in reversed(self._init):
            await container.stop(grace)

    async def _end(self, grace: float, *, delete: bool) -> None:
        try:
            await _cancelled([*self._tasks])
            every = [*self._main, *self._init]
            await asyncio.gather(*(container.stop(grace) for container in every))
            # Before the next pod of its name takes it again.
            self._context.addresses.release(self.namespace, self.name)
            while delete:
                try:
                    if self._phase() not in {"Succeeded", "Failed"}:
                        await self._write()
                    body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
                    await self._context.client.send("DELETE", PODS.path(self.namespace, self.name), body)
                except (NotFound, Conflict):
                    break
                except ApiError as error:
                    log.info("deleting pod %s/%s: %s", self.namespace, self.name, error)
                    await asyncio.sleep(1)
                else:
                    break
            self._context.forget(self.uid)
            await asyncio.to_thread(self._remove)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("ending pod %s/%s", self.namespace, self.name)

    def _remove(self) -> None:
        for folder in (self._sockets(), self.folder):
            remove_tree(folder)

    def _change(self, *, urgent: bool = False) -> None:
        self._dirty.set()
        if urgent:
            self._urgent.set()

    async def _publish(self) -> None:
        while True:
            await self._dirty.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._urgent.wait(), DEBOUNCE)
            self._dirty.clear()
            self._urgent.clear()
            try:
                await self._write()
            except (NotFound, Conflict) as error:
                log.info("status of pod %s/%s: %s", self.namespace, self.name, error)
            except ApiError as error:
                log.info("status of pod %s/%s: %s", self.namespace, self.name, error)
                await asyncio.sleep(1)
                self._dirty.set()

    async def _write(self) -> None:
        """Writes the status if it differs from the one written before."""
        before = self._pod.get("status") or {}
        known = self._published or before
        computed = status.compute(self._view(), {**before, "conditions": self._conditions(before)}, now())
        if {key: known.get(key) for key in computed} == computed:
            return
        body = {"metadata": {"uid": self.uid}, "status": computed}
        path = PODS.path(self.namespace, self.name, "status")
        answer = await self._context.client.send("PATCH", path, body, merge=True)
        self._published = {key: (answer.get("status") or {}).get(key) for key in computed} | computed

    def _conditions(self, before: Object) -> list[Object]:
        """The conditions of others as they are now, and ours as they were written last."""
        others = [entry for entry in before.get("conditions") or [] if entry["type"] not in status.OWN]
        source = self._published or before
        return others + [entry for entry in source.get("conditions") or [] if entry["type"] in status.OWN]

    def _phase(self) -> str:
        return str((self._pod.get("status") or {}).get("phase") or "")

    def _view(self) -> status.Pod:
        return status.Pod(
            spec=self._pod["spec"],
            generation=int(self._pod["metadata"].get("generation") or 1),
            addresses=[self._address],
            host=HOST_ADDRESS,
            started=self._started,
            init=[container.view for container in self._init],
            main=[container.view for container in self._main],
        )


async def _cancelled(tasks: list[asyncio.Task[None]] | list[asyncio.Task[int]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
