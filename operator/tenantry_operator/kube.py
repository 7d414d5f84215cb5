"""The only module that talks to the API server (kopf's watches aside).

Requests go through the connection that :mod:`kubernetes.aio` configures: in a cluster with the mounted
token, which is read again as it rotates, elsewhere from the kubeconfig. Objects are plain dicts as the API
server sent them: building typed models for thousands of objects would cost more than the work itself.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio import client, config

from tenantry_operator.errors import Retryable

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Object = dict[str, Any]

_PAGE = 500
FIELD_MANAGER = "tenantry-operator"
NAMESPACE_ENDS = "NamespaceTerminating"
"""The reason of an :class:`ApiError` when nothing is made any more, since the namespace is being deleted."""


@dataclass(frozen=True, slots=True)
class Resource:
    """An API resource: where its objects are."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """The path of a collection, an object, or a subresource."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, sub) if part is not None]
        return "/".join(parts)


SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
SERVICES = Resource("", "v1", "services", "Service")
PODS = Resource("", "v1", "pods", "Pod")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


class ApiError(Retryable):
    """The API server refused a request or could not be reached.

    :param status: the HTTP status; 0 when no answer came.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(reason or "ApiError", message)
        self.status = status


class NotFound(ApiError):
    """The object is not there."""


class Conflict(ApiError):
    """The object exists already, or was changed since it was read."""


class KubeClient:
    """A connection to the API server. Make it inside a running event loop; close it when done."""

    def __init__(self, session: aiohttp.ClientSession, base: str, configuration: Any) -> None:
        self._session = session
        self._base = base.rstrip("/")
        self._configuration = configuration

    @classmethod
    async def connect(cls) -> KubeClient:
        """Connects as the pod's ServiceAccount, or by ``KUBECONFIG``.

        :raises kubernetes.aio.config.ConfigException: when neither is there.
        """
        configuration = client.Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        context = client.rest.RESTClientObject(configuration).ssl_context
        connector = aiohttp.TCPConnector(ssl=context, limit=64)
        timeout = aiohttp.ClientTimeout(total=60, sock_connect=10)
        return cls(aiohttp.ClientSession(connector=connector, timeout=timeout), configuration.host, configuration)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def _authorization(self) -> dict[str, str]:
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if not token:
            return {}
        # The in-cluster loader keeps the scheme within the token, the kubeconfig loader as a prefix.
        return {"Authorization": token if " " in token else f"Bearer {token}"}

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = _JSON,
        query: Mapping[str, str] | None = None,
        accept: str = _JSON,
    ) -> Object:
        """One request; the answer's JSON.

        :raises NotFound, Conflict, ApiError: when the API server answers so, or not at all.
        """
        url = self._base + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, **await self._authorization()}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(
                method, url, data=None if body is None else orjson.dumps(body), headers=headers
            ) as response:
                raw = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "ApiServerUnreachable", f"{method} {path}: {error!r}") from error
        if status < 400:
            answer: Object = orjson.loads(raw) if raw else {}
            return answer
        try:
            details = orjson.loads(raw)
        except orjson.JSONDecodeError:
            details = {}
        message = details.get("message") or raw[:300].decode(errors="replace")
        kind = NotFound if status == 404 else Conflict if status == 409 else ApiError
        causes = {cause.get("reason") for cause in (details.get("details") or {}).get("causes") or []}
        reason = NAMESPACE_ENDS if NAMESPACE_ENDS in causes else details.get("reason")
        raise kind(status, reason or f"Http{status}", f"{method} {path}: {message}")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object."""
        return await self.request("GET", resource.path(namespace, name))

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[list[Object]]:
        """All objects of a kind, some hundred at a time; items get the kind that lists leave out.

        :param selector, fields: only those with such labels, or fields.
        """
        query = {"limit": str(_PAGE)}
        if selector:
            query["labelSelector"] = selector
        if fields:
            query["fieldSelector"] = fields
        while True:
            answer = await self.request("GET", resource.path(namespace), query=query)
            items: list[Object] = answer.get("items") or []
            for item in items:
                item.setdefault("apiVersion", answer["apiVersion"])
                item.setdefault("kind", resource.kind)
            yield items
            query["continue"] = answer["metadata"].get("continue") or ""
            if not query["continue"]:
                return

    async def list_metadata(
        self, resource: Resource, namespace: str | None = None, *, selector: str | None = None
    ) -> list[Object]:
        """The metadata of all objects of a kind, read from the API server's watch cache."""
        query = {"resourceVersion": "0"}
        if selector:
            query["labelSelector"] = selector
        answer = await self.request("GET", resource.path(namespace), query=query, accept=_METADATA)
        return list(answer.get("items") or [])

    async def create(
        self,
        resource: Resource,
        namespace: str | None,
        body: Object,
        *,
        strict: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Creates an object.

        :param strict: unknown fields are an error, rather than left out.
        :param dry_run: only asks whether it could be created; one that is there already is a Conflict if so.
        """
        query = {**_query(strict=strict), **({"dryRun": "All"} if dry_run else {})}
        return await self.request("POST", resource.path(namespace), body, query=query)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Object,
        *,
        sub: str | None = None,
        strict: bool = False,
    ) -> Object:
        """A JSON merge patch. With ``metadata.resourceVersion`` in it, a change in between is a Conflict.

        :param strict: unknown fields are an error, rather than left out.
        """
        query = _query(strict=strict)
        path = resource.path(namespace, name, sub)
        return await self.request("PATCH", path, patch, content_type=_MERGE_PATCH, query=query)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: Object, *, strict: bool = False
    ) -> Object:
        """Replaces an object; with a resourceVersion in it, only that version.

        :param strict: unknown fields are an error, rather than left out.
        """
        query = _query(strict=strict)
        return await self.request("PUT", resource.path(namespace, name), body, query=query)

    async def delete(
        self, resource: Resource, namespace: str | None, name: str, *, uid: str | None = None, orphan: bool = False
    ) -> None:
        """Deletes an object; one that is gone already is fine.

        :param uid: only that very object.
        :param orphan: what it owns stays.
        """
        body: Object = {"preconditions": {"uid": uid}} if uid else {}
        if orphan:
            body["propagationPolicy"] = "Orphan"
        try:
            await self.request("DELETE", resource.path(namespace, name), body or None)
        except NotFound:
            return


def _query(*, strict: bool = False) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, **({"fieldValidation": "Strict"} if strict else {})}


def merge_patch(old: Any, new: Any) -> Object | None:
    """The JSON merge patch (RFC 7396) from one object to another; None when they are equal."""
    if old == new:
        return None
    patch: Object = {}
    for key in {**old, **new}:
        if key not in new:
            patch[key] = None
        elif key not in old:
            patch[key] = new[key]
        elif isinstance(old[key], dict) and isinstance(new[key], dict):
            inner = merge_patch(old[key], new[key])
            if inner is not None:
                patch[key] = inner
        elif old[key] != new[key]:
            patch[key] = new[key]
    return patch or None
