"""The node's connection to the API server: the operator's, with watches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import cast

import aiohttp
import orjson

from tenantry_operator.kube import ApiError, KubeClient, Object, Resource

NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")
SYNC = "SYNC"
"""The type of the event that holds a whole list: ``{"items": [...]}``."""
WATCH = 300
"""Seconds after which the API server ends a watch."""
PAUSE = 0.5
"""Seconds before a lost watch is started again."""
WATCHES = 30
"""How many watches may wait for one object each: connections are limited, and others need some, too."""
CROWDED = 10.0
"""Seconds until one that may not have a watch looks again."""
MANAGER = "tenantry-local-node"
log = logging.getLogger(__name__)


class NodeClient(KubeClient):
    """Requests of the node, under its own name as field manager."""

    _waiting = 0
    """Watches that wait for one object each."""

    @classmethod
    async def connect(cls) -> NodeClient:
        """Connects by ``KUBECONFIG``."""
        return cast(NodeClient, await super().connect())

    @property
    def base(self) -> str:
        """The API server's URL."""
        return self._base

    async def send(self, method: str, path: str, body: Object | None = None, *, merge: bool = False) -> Object:
        """One write.

        :raises NotFound, Conflict, ApiError: when the API server answers so, or not at all.
        """
        kind = "application/merge-patch+json" if merge else "application/json"
        query = {} if method == "DELETE" else {"fieldManager": MANAGER}
        return await self.request(method, path, body, content_type=kind, query=query)

    async def watch(
        self, resource: Resource, namespace: str | None = None, *, fields: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """All objects of a kind as one event :data:`SYNC`, then every change to them, for ever.

        After a gap in the changes there is another SYNC.
        """
        selector = {"fieldSelector": ",".join(f"{k}={v}" for k, v in fields.items())} if fields else {}
        while True:
            try:
                listed = await self.request("GET", resource.path(namespace), query=selector)
                yield SYNC, listed
                version = listed["metadata"]["resourceVersion"]
                while version:
                    last = ""
                    async for kind, value in self._changes(resource, namespace, selector, version):
                        if kind == "ERROR":  # the version is too old, mostly
                            last = ""
                            break
                        last = value["metadata"]["resourceVersion"]
                        if kind != "BOOKMARK":
                            yield kind, value
                    else:
                        last = last or version
                    version = last
            except ApiError as error:
                log.info("watch of %s: %s", resource.plural, error)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                log.info("watch of %s: %r", resource.plural, error)
            await asyncio.sleep(PAUSE)

    async def appears(self, resource: Resource, namespace: str, name: str, known: str | None) -> None:
        """Returns once the object is there, in another version than the known one; or earlier, to look again."""
        if self._waiting >= WATCHES:
            await asyncio.sleep(CROWDED)
            return
        self._waiting += 1
        try:
            await self._until_there(resource, namespace, name, known)
        finally:
            self._waiting -= 1

    async def _until_there(self, resource: Resource, namespace: str, name: str, known: str | None) -> None:
        async for kind, value in self.watch(resource, namespace, fields={"metadata.name": name}):
            found = value.get("items") or [] if kind == SYNC else [value] if kind != "DELETED" else []
            if any(item["metadata"]["resourceVersion"] != known for item in found):
                return

    async def _changes(
        self, resource: Resource, namespace: str | None, selector: Mapping[str, str], version: str
    ) -> AsyncIterator[tuple[str, Object]]:
        query = {
            **selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH),
            "resourceVersion": version,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH + 30)
        headers = await self._authorization()
        url = self._base + resource.path(namespace)
        async with self._session.get(url, params=query, headers=headers, timeout=timeout) as response:
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        event = orjson.loads(line)
                        yield event["type"], event["object"]
