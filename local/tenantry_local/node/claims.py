"""Makes a folder for every PersistentVolumeClaim of the class ``local``, as a provisioner does in production.

kube-controller-manager binds claim and volume. A volume of a released claim goes, with its folder, when its
reclaim policy says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from tenantry_crds.quantities import parse_quantity
from tenantry_local.node.client import CLAIMS, SYNC, VOLUMES, NodeClient
from tenantry_local.node.manifests import CLASS, PROVISIONER
from tenantry_local.node.users import Account
from tenantry_local.paths import remove_tree
from tenantry_operator.kube import ApiError, Conflict, NotFound, Object

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
log = logging.getLogger(__name__)


class Claims:
    """The claims and volumes of the cluster."""

    def __init__(self, client: NodeClient, folder: Path, account: Account) -> None:
        self._client = client
        self._folder = folder
        self._account = account
        self._claims: dict[str, Object] = {}
        self._volumes: dict[str, Object] = {}
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Serves claims and volumes, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_claims())
            tasks.create_task(self._follow_volumes())

    async def folder_of(self, namespace: str, claim: str) -> Path:
        """The folder of a claim's volume; waits until the claim is bound."""
        key = f"{namespace}/{claim}"
        async with self._changed:
            while True:
                value = self._claims.get(key)
                if value and (value.get("status") or {}).get("phase") == "Bound":
                    volume = self._volumes.get(value["spec"]["volumeName"])
                    path = ((volume or {}).get("spec", {}).get("hostPath") or {}).get("path")
                    if path:
                        return self._prepared(Path(path))
                await self._changed.wait()

    def state_of(self, namespace: str, claim: str) -> str:
        """Why a claim cannot be mounted; empty when it can."""
        value = self._claims.get(f"{namespace}/{claim}")
        if value is None:
            return f'persistentvolumeclaim "{claim}" not found'
        if (value.get("status") or {}).get("phase") != "Bound":
            return f'persistentvolumeclaim "{claim}" is not bound'
        return ""

    async def _follow_claims(self) -> None:
        async for kind, value in self._client.watch(CLAIMS):
            changed = value.get("items") or [] if kind == SYNC else [value]
            async with self._changed:
                if kind == SYNC:
                    self._claims.clear()
                for item in changed:
                    key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
                    if kind == "DELETED":
                        self._claims.pop(key, None)
                    else:
                        self._claims[key] = item
                self._changed.notify_all()
            if kind != "DELETED":
                for item in changed:
                    await self._attempt(self._serve_claim, item)

    async def _follow_volumes(self) -> None:
        async for kind, value in self._client.watch(VOLUMES):
            changed = value.get("items") or [] if kind == SYNC else [value]
            async with self._changed:
                if kind == SYNC:
                    self._volumes.clear()
                for item in changed:
                    if kind == "DELETED":
                        self._volumes.pop(item["metadata"]["name"], None)
                    else:
                        self._volumes[item["metadata"]["name"]] = item
                self._changed.notify_all()
            if kind != "DELETED":
                for item in changed:
                    await self._attempt(self._serve_volume, item)

    async def _attempt(self, step: Callable[[Object], Awaitable[None]], value: Object) -> None:
        for _ in range(5):
            try:
                await step(value)
            except (Conflict, NotFound):
                return  # it was changed meanwhile, and that change comes here, too
            except ApiError as error:
                log.warning("volumes: %s", error)
                await asyncio.sleep(1)
            except Exception:  # one strange object keeps no other from being served
                log.exception("volumes: %s", value["metadata"]["name"])
                return
            else:
                return

    async def _serve_claim(self, claim: Object) -> None:
        metadata, spec, status = claim["metadata"], claim["spec"], claim.get("status") or {}
        if spec.get("storageClassName") != CLASS or metadata.get("deletionTimestamp"):
            return
        name = f"pvc-{metadata['uid']}"
        wanted = spec["resources"]["requests"]["storage"]
        if status.get("phase") != "Bound":
            if not spec.get("volumeName") and name not in self._volumes:
                await self._make(name, claim)
        elif spec["volumeName"] == name and _larger(wanted, (status.get("capacity") or {}).get("storage")):
            capacity = {"capacity": {"storage": wanted}}
            await self._client.send("PATCH", VOLUMES.path(None, name), {"spec": capacity}, merge=True)
            path = CLAIMS.path(metadata["namespace"], metadata["name"], "status")
            await self._client.send("PATCH", path, {"status": capacity}, merge=True)

    async def _make(self, name: str, claim: Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        self._account.folder(self._folder / name)
        volume: Object = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "storageClassName": CLASS,
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "persistentVolumeReclaimPolicy": "Delete",
                "hostPath": {"path": str(self._folder / name / "data"), "type": "DirectoryOrCreate"},
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }
        await self._client.send("POST", VOLUMES.path(), volume)

    async def _serve_volume(self, volume: Object) -> None:
        metadata, spec = volume["metadata"], volume["spec"]
        own = (metadata.get("annotations") or {}).get(PROVISIONED_BY) == PROVISIONER
        released = (volume.get("status") or {}).get("phase") == "Released"
        if not own or not released or spec.get("persistentVolumeReclaimPolicy") != "Delete":
            return
        folder = Path(spec["hostPath"]["path"]).parent
        if folder == self._folder / metadata["name"]:
            await asyncio.to_thread(remove_tree, folder)
        body = {"preconditions": {"uid": metadata["uid"]}}
        await self._client.send("DELETE", VOLUMES.path(None, metadata["name"]), body)

    def _prepared(self, path: Path) -> Path:
        """The folder of one of our volumes, made anew when somebody removed it."""
        if path.parent.parent == self._folder:
            self._account.folder(path.parent)
            self._account.folder(path)
        return path


def _larger(wanted: str, present: str | None) -> bool:
    return present is None or parse_quantity(wanted) > parse_quantity(present)
