"""One container of a pod: started, probed, started again, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tenantry_local.errors import LocalError
from tenantry_local.node import runtime, status
from tenantry_local.node.context import KINDS, LONGEST_BACK_OFF, Context
from tenantry_local.node.environment import Missing, Object
from tenantry_local.node.images import UnknownImage
from tenantry_local.node.launch import Prepared, execute, log_file, prepare
from tenantry_local.node.mounts import Places
from tenantry_local.node.probes import Verdict, ask
from tenantry_local.node.runtime import Exited, Running
from tenantry_local.node.status import View
from tenantry_operator.kube import ApiError

_LAST_WORDS = 2048
"""Bytes of a log that a status takes."""
RETRY = 10.0
"""Seconds between two attempts at what nothing tells us to try again."""
LASTED = 600.0
"""Seconds after which a container that ended begins with the shortest back-off again."""
log = logging.getLogger(__name__)


class Changed(Protocol):
    """Told that the view is another."""

    def __call__(self, *, urgent: bool = False) -> None:
        """:param urgent: somebody waits for it."""


class Container:
    """A container that the node looks after. Its view changes as its process does."""

    def __init__(
        self,
        context: Context,
        pod: Callable[[], Object],
        spec: Object,
        address: str,
        places: Places,
        changed: Changed,
    ) -> None:
        self.spec = spec
        self.view = View(spec["name"], spec["image"])
        self.up = asyncio.Event()
        """Set once it has started, by its startup probe if it has one."""
        self._context = context
        self._pod = pod
        self._address = address
        self._places = places
        self._changed = changed
        self._prepared: Prepared | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._failures = 0

    @property
    def folder(self) -> Path:
        """Where its records are."""
        return self._places.container

    async def run(self, policy: str) -> int:
        """Keeps the container running as ``restartPolicy`` says; returns its last exit code."""
        found = runtime.read(self.folder)
        self.view.restarts = self._load_restarts() if found else 0
        if isinstance(found, Exited):
            # It ended while there was no node, which is no reason to wait.
            self._ended(found)
            if not _again(policy, found.code):
                return found.code
            self.view.last = self.view.state
            self.view.restarts += 1
            found = None
        while True:
            taken_up = found is not None
            if not taken_up:
                await self._start()
            running = runtime.read(self.folder)
            self.view.state = status.running(running.at if running else "")
            ended = await self._watched(running, taken_up=taken_up)
            self._ended(ended)
            if not _again(policy, ended.code):
                return ended.code
            await self._back_off(ended)
            self.view.last = self.view.state if "terminated" in self.view.state else self.view.last
            self.view.restarts += 1
            found = None

    async def stop(self, grace: float) -> None:
        """Ends the process within so many seconds, when it runs."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
        if isinstance(runtime.read(self.folder), Running):
            self._stopping = asyncio.create_task(self._ask_to_stop(grace))
            await asyncio.wait([self._stopping])
            await runtime.stop(self.folder, 0)
        after = runtime.read(self.folder)
        self.view.ready = self.view.started = False
        if isinstance(after, Exited):
            self._ended(after)

    async def _ask_to_stop(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        if hook:
            with contextlib.suppress(LocalError, ApiError):
                await self._hook(hook, grace)
        await runtime.stop(self.folder, until - loop.time())

    def hurry(self, grace: float) -> None:
        """Of a process that is being stopped: it is killed in so many seconds, if that is earlier."""
        if self._stopping is not None:
            asyncio.get_running_loop().call_later(grace, self._stopping.cancel)

    async def _start(self) -> None:
        """Starts the process, however often that has to be tried."""
        while True:
            if isinstance(runtime.read(self.folder), Running):
                return  # an earlier node was just about to start it
            try:
                await self._attempt()
            except Missing as missing:
                await self._wait("CreateContainerConfigError", str(missing))
                kind, name = missing.reference.kind, missing.reference.name
                namespace = self._pod()["metadata"]["namespace"]
                await self._context.client.appears(KINDS[kind], namespace, name, missing.version)
            except UnknownImage as error:
                await self._wait("ErrImagePull", str(error))
                await asyncio.sleep(RETRY)
            except ApiError as error:
                log.info("container %s: %s", self.spec["name"], error)
                await asyncio.sleep(1)
            except LocalError as error:
                await self._wait("CreateContainerError", str(error))
                await asyncio.sleep(RETRY)
            else:
                return

    async def _attempt(self) -> None:
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._say_what_is_unbound()
        self._prepared = await self._prepare()
        self._save_restarts()
        # Shielded: a process that is half started would be nobody's.
        self._starting = asyncio.create_task(runtime.start(self.folder, self._prepared.launch))
        await asyncio.shield(self._starting)

    async def _prepare(self, *, again: bool = False) -> Prepared:
        return await prepare(self._context, self._pod(), self.spec, self._address, self._places, again=again)

    def _say_what_is_unbound(self) -> None:
        pod = self._pod()
        mounted = {mount["name"] for mount in self.spec.get("volumeMounts") or []}
        for volume in pod["spec"].get("volumes") or []:
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and volume["name"] in mounted:
                reason = self._context.claims.state_of(pod["metadata"]["namespace"], claim)
                if reason and not self.view.ran:
                    self.view.state = status.waiting("ContainerCreating", reason)
                    self._changed()

    async def _wait(self, reason: str, message: str) -> None:
        if "terminated" in self.view.state:
            self.view.last = self.view.state
        self.view.state = status.waiting(reason, message)
        self._changed()
        await self._context.warn(self._pod(), "Failed", f"container {self.spec['name']}: {message}")

    async def _watched(self, running: Running | Exited | None, *, taken_up: bool) -> Exited:
        """Probes the container until its process has ended.

        :param taken_up: an earlier node started it.
        """
        self.view.started, self.view.ready = self._said_of(running) if taken_up else (False, False)
        if self.view.started:
            self.up.set()
        ended = asyncio.create_task(runtime.wait(self.folder))
        probing = asyncio.create_task(self._probing()) if isinstance(running, Running) else None
        self._changed()
        try:
            return await asyncio.shield(ended)
        finally:
            for task in (ended, probing):
                if task is not None:
                    task.cancel()
            self.view.started = self.view.ready = False
            self.up.clear()

    def _said_of(self, running: Running | Exited | None) -> tuple[bool, bool]:
        """Whether a process has started and is ready, as an earlier node found: it need not prove that again."""
        found = self._pod().get("status") or {}
        for entry in [*(found.get("containerStatuses") or []), *(found.get("initContainerStatuses") or [])]:
            since = ((entry.get("state") or {}).get("running") or {}).get("startedAt")
            if entry["name"] == self.spec["name"] and isinstance(running, Running) and since == running.at:
                return bool(entry.get("started")), bool(entry.get("ready"))
        return False, False

    async def _probing(self) -> None:
        try:
            if not self.view.started:
                await self._until_started()
            async with asyncio.TaskGroup() as tasks:
                if readiness := self.spec.get("readinessProbe"):
                    verdict = Verdict(readiness, value=self.view.ready)
                    tasks.create_task(self._repeat(readiness, verdict, on=self._ready))
                if liveness := self.spec.get("livenessProbe"):
                    tasks.create_task(self._repeat(liveness, Verdict(liveness, value=True)))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("probes of container %s", self.spec["name"])

    async def _until_started(self) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("postStart")
        if hook:
            await self._hook(hook, 60)
        if startup := self.spec.get("startupProbe"):
            await self._repeat(startup, Verdict(startup, value=False), until=True)
        self.view.started = True
        self.up.set()
        self.view.ready = "readinessProbe" not in self.spec
        self._changed()

    def _ready(self, value: bool) -> None:
        if self.view.ready != value:
            self.view.ready = value
            self._changed(urgent=True)

    async def _repeat(
        self,
        probe: Mapping[str, Any],
        verdict: Verdict,
        *,
        until: bool = False,
        on: Callable[[bool], None] | None = None,
    ) -> None:
        """Asks for ever, or until the answer is yes. Without ``on``, a no that lasts ends the process."""
        await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
        while True:
            reason = await ask(probe, self.spec, self._address, self._execute)
            if verdict.add(not reason):
                if on is not None:
                    on(verdict.value)
                elif verdict.value and until:
                    return
                elif not verdict.value:
                    await self._unhealthy(probe, reason)
                    return
            await asyncio.sleep(float(probe.get("periodSeconds") or 10))

    async def _unhealthy(self, probe: Mapping[str, Any], reason: str) -> None:
        name = self.spec["name"]
        await self._context.warn(
            self._pod(), "Unhealthy", f"container {name} failed its probe, it is ended: {reason}"
        )
        default = self._pod()["spec"].get("terminationGracePeriodSeconds", 30)
        # Shielded: the end of the process ends the probes, and with them this.
        stopping = asyncio.create_task(
            runtime.stop(self.folder, float(probe.get("terminationGracePeriodSeconds") or default))
        )
        await asyncio.shield(stopping)

    async def _back_off(self, ended: Exited) -> None:
        """Waits before the container is started again: not at all, the base, twice that, and so on."""
        if _seconds(ended) > LASTED:
            self._failures = 0
        self._failures += 1
        if self._failures == 1:
            return
        seconds = min(self._context.back_off * 2 ** (self._failures - 2), LONGEST_BACK_OFF)
        self.view.last = self.view.state
        name, pod = self.spec["name"], self._pod()["metadata"]["name"]
        said = f"back-off {seconds:g}s restarting failed container={name} pod={pod}"
        self.view.state = status.waiting("CrashLoopBackOff", said)
        self._changed()
        await self._context.warn(self._pod(), "BackOff", f"restarting failed container {name}; see its log")
        await asyncio.sleep(seconds)

    async def _hook(self, hook: Object, seconds: float) -> None:
        if "exec" in hook:
            await self._execute(list(hook["exec"].get("command") or []), seconds)
        elif "sleep" in hook:
            await asyncio.sleep(min(float(hook["sleep"]["seconds"]), seconds))
        elif "httpGet" in hook:
            await ask({**hook, "timeoutSeconds": seconds}, self.spec, self._address, self._execute)

    async def _execute(self, command: list[str], seconds: float) -> tuple[int, str]:
        if self._prepared is None:  # taken up from an earlier node
            try:
                self._prepared = await self._prepare(again=True)
            except (LocalError, ApiError) as error:
                return 126, str(error)
        return await execute(self._prepared, command, seconds, self._context.account)

    def _ended(self, ended: Exited) -> None:
        said = ended.error or (self._last_words() if ended.code else "")
        self.view.state = status.terminated(ended.code, ended.started, ended.at, ended.error, said)
        self.view.ready = self.view.started = False
        self._changed()

    def _last_words(self) -> str:
        """The end of the log, where the container asks for it; at most as much as a kubelet takes."""
        if self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        metadata = self._pod()["metadata"]
        path = log_file(self._context.folder, metadata["namespace"], metadata["name"], self.spec["name"])
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _LAST_WORDS))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _load_restarts(self) -> int:
        try:
            return int(json.loads((self.folder / "restarts.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return 0

    def _save_restarts(self) -> None:
        fresh = self.folder / ".restarts.json"
        fresh.write_text(json.dumps(self.view.restarts), encoding="utf-8")
        fresh.replace(self.folder / "restarts.json")


def _again(policy: str, code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _seconds(ended: Exited) -> float:
    return (datetime.fromisoformat(ended.at) - datetime.fromisoformat(ended.started)).total_seconds()
