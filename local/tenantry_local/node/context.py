"""What all pods of the node share."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from tenantry_local.node.addresses import Addresses
from tenantry_local.node.claims import Claims
from tenantry_local.node.client import ACCOUNTS, CONFIGMAPS, EVENTS, SECRETS, NodeClient
from tenantry_local.node.environment import NODE, Found, Object, Reference
from tenantry_local.node.images import Programs
from tenantry_local.node.shim import now
from tenantry_local.node.users import Account
from tenantry_operator.kube import ApiError, NotFound, Resource

KINDS: dict[str, Resource] = {"Secret": SECRETS, "ConfigMap": CONFIGMAPS}
LONGEST_BACK_OFF = 300.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Context:
    """Connections, folders and settings of the node."""

    client: NodeClient
    folder: Path
    """``pods/<uid>/``, ``volumes/<name>/``, ``log/`` and ``run/`` are below it."""
    account: Account
    programs: Programs
    addresses: Addresses
    claims: Claims
    back_off: float
    """Seconds before the second restart of a container; doubled with each further one."""
    api: tuple[str, int]
    """Host and port of the API server."""
    _said: set[tuple[str, str, str]] = field(default_factory=set)

    async def fetch(self, namespace: str, references: set[Reference]) -> Found:
        """The objects; None for one that is not there.

        :raises ApiError: when the API server gives no answer.
        """

        async def one(reference: Reference) -> Object | None:
            try:
                return await self.client.get(KINDS[reference.kind], namespace, reference.name)
            except NotFound:
                return None

        wanted = list(references)
        return dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))

    async def token(self, pod: Object, source: Object) -> str:
        """A token of the pod's ServiceAccount, bound to the pod."""
        metadata = pod["metadata"]
        spec = {
            "audiences": [source["audience"]] if source.get("audience") else [],
            "expirationSeconds": source.get("expirationSeconds") or 3600,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        account = pod["spec"].get("serviceAccountName", "default")
        path = ACCOUNTS.path(metadata["namespace"], account, "token")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str((await self.client.send("POST", path, body))["status"]["token"])

    async def warn(self, pod: Object, reason: str, message: str) -> None:
        """An Event about a pod, once for each thing there is to say."""
        metadata = pod["metadata"]
        key = (metadata["uid"], reason, message)
        if key in self._said:
            return
        self._said.add(key)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:1000],
            "source": {"component": "tenantry-local-node", "host": NODE},
            "firstTimestamp": now(),
            "lastTimestamp": now(),
            "count": 1,
        }
        try:
            await self.client.send("POST", EVENTS.path(metadata["namespace"]), event)
        except ApiError as error:
            log.info("event %s for %s: %s", reason, metadata["name"], error)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._said = {key for key in self._said if key[0] != uid}
