"""The node itself: registers, takes up pods, and looks after claims."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
from pathlib import Path

from tenantry_local.errors import LocalError
from tenantry_local.node import runtime
from tenantry_local.node.client import NODES, PODS, SYNC, NodeClient
from tenantry_local.node.context import Context
from tenantry_local.node.environment import HOST_ADDRESS, NODE, memory
from tenantry_local.node.pod import PodWorker
from tenantry_local.node.shim import now
from tenantry_local.paths import remove_tree, write_private
from tenantry_operator.kube import ApiError, Conflict, NotFound, Object

PODS_LIMIT = 1000
log = logging.getLogger(__name__)


class Agent:
    """The node of one cluster."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client: NodeClient = context.client
        self._pods: dict[str, PodWorker] = {}
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves until it is cancelled. The pods' processes run on then."""
        try:
            await self._register()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._context.claims.run())
                tasks.create_task(self._follow_pods())
        finally:
            await asyncio.gather(*(worker.leave() for worker in self._pods.values()))

    async def _register(self) -> None:
        """Makes the Node, or brings it up to date."""
        while True:
            try:
                try:
                    await self._client.send("POST", NODES.path(), _node())
                except Conflict:
                    labels = {"metadata": {"labels": _node()["metadata"]["labels"]}}
                    await self._client.send("PATCH", NODES.path(None, NODE), labels, merge=True)
                # The API server marks a new node until a controller, which does not run here, has seen it.
                await self._client.send("PATCH", NODES.path(None, NODE), {"spec": {"taints": None}}, merge=True)
                status = {"status": _status(await self._client.get(NODES, None, NODE))}
                await self._client.send("PATCH", NODES.path(None, NODE, "status"), status, merge=True)
            except ApiError as error:
                log.warning("registering the node: %s", error)
                await asyncio.sleep(0.5)
            else:
                return

    async def _follow_pods(self) -> None:
        async for kind, value in self._client.watch(PODS):
            if kind == SYNC:
                items = value.get("items") or []
                await self._end_unknown({item["metadata"]["uid"] for item in items})
                for item in items:
                    await self._handled(item)
                write_private(self._context.folder / "ready", f"{os.getpid()}\n")
            elif kind == "DELETED":
                self._vanished(value["metadata"]["uid"])
            else:
                await self._handled(value)

    async def _handled(self, pod: Object) -> None:
        try:
            await self._handle(pod)
        except Exception:  # one strange pod keeps no other from being served
            log.exception("pod %s/%s", pod["metadata"]["namespace"], pod["metadata"]["name"])

    async def _handle(self, pod: Object) -> None:
        spec, uid = pod["spec"], pod["metadata"]["uid"]
        if not spec.get("nodeName"):
            if not pod["metadata"].get("deletionTimestamp") and not spec.get("schedulingGates"):
                await self._bind(pod)
            return
        if spec["nodeName"] != NODE:
            return
        worker = self._pods.get(uid)
        if worker is None:
            worker = PodWorker(self._context, pod)
            try:
                worker.start()
            except (LocalError, OSError) as error:
                log.error("pod %s/%s cannot be run: %s", worker.namespace, worker.name, error)  # noqa: TRY400
                await self._context.warn(pod, "FailedCreatePodSandBox", str(error))
                return
            self._pods[uid] = worker
        worker.update(pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._await_end(uid)

    async def _bind(self, pod: Object) -> None:
        metadata = pod["metadata"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        try:
            await self._client.send("POST", PODS.path(metadata["namespace"], metadata["name"], "binding"), binding)
        except (Conflict, NotFound):
            return  # it is bound already, or gone; the watch says so
        except ApiError as error:
            log.warning("binding pod %s/%s: %s", metadata["namespace"], metadata["name"], error)

    def _vanished(self, uid: str) -> None:
        worker = self._pods.get(uid)
        if worker is not None:
            worker.vanish()
            self._await_end(uid)

    def _await_end(self, uid: str) -> None:
        async def wait() -> None:
            await self._pods[uid].ended()
            self._pods.pop(uid, None)

        if uid in self._pods:
            task = asyncio.create_task(wait())
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _end_unknown(self, known: set[str]) -> None:
        """Ends what is left of pods that were deleted while nobody watched."""
        for uid in set(self._pods) - known:
            self._vanished(uid)
        folders = {folder.name: folder for folder in (self._context.folder / "pods").iterdir()}
        for uid in set(folders) - known - set(self._pods):
            await asyncio.to_thread(runtime.end_all, containers(folders[uid]), grace=10)
            await asyncio.to_thread(remove_tree, folders[uid])


def containers(pod: Path) -> list[Path]:
    """The folders of a pod's containers."""
    folder = pod / "containers"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def end_pods(folder: Path) -> int:
    """Ends the processes of all pods, after the node has ended; returns how many ran. Data stays."""
    pods = folder / "pods"
    found = [entry for pod in sorted(pods.iterdir()) for entry in containers(pod)] if pods.is_dir() else []
    return runtime.end_all(found)


def pod_names(folder: Path) -> list[str]:
    """``namespace/name`` of the pods the node runs or ran last."""
    result = []
    for file in sorted((folder / "pods").glob("*/pod.json")):
        value = json.loads(file.read_text(encoding="utf-8"))
        result.append(f"{value['namespace']}/{value['name']}")
    return sorted(result)


def _node() -> Object:
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": NODE,
        "kubernetes.io/os": platform.system().lower(),
        "kubernetes.io/arch": architecture,
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}, "spec": {}}


def _status(node: Object) -> Object:
    amounts = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory() // 1024}Ki",
        "pods": str(PODS_LIMIT),
        "ephemeral-storage": str(os.statvfs("/").f_blocks * os.statvfs("/").f_frsize),
    }
    found = {entry["type"]: entry for entry in (node.get("status") or {}).get("conditions") or []}
    ready = found.get("Ready", {})
    since = ready["lastTransitionTime"] if ready.get("status") == "True" else now()
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "addresses": [{"type": "InternalIP", "address": HOST_ADDRESS}, {"type": "Hostname", "address": NODE}],
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "NodeRuns",
                "message": "pods run as processes of this machine",
                "lastHeartbeatTime": now(),
                "lastTransitionTime": since,
            }
        ],
        "nodeInfo": {
            "architecture": _node()["metadata"]["labels"]["kubernetes.io/arch"],
            "operatingSystem": "linux",
            "osImage": platform.platform(),
            "kernelVersion": platform.release(),
            "containerRuntimeVersion": "local://processes",
            "kubeletVersion": "tenantry-local",
            "kubeProxyVersion": "",
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
        },
    }
