"""The cluster as the user sees it: the operator's client of the API server, with a watch and plain words."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import orjson
import typer
from kubernetes.aio import client

from tenantry_operator.cli import access
from tenantry_operator.cli.ending import Code, Trouble
from tenantry_operator.cli.options import Where
from tenantry_operator.cli.output import note
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import ApiError, KubeClient, NotFound, Object, Resource
from tenantry_operator.names import GROUP

TENANTS = Resource(GROUP, "v1alpha1", "tenants", "Tenant")
BLUEPRINTS = Resource(GROUP, "v1alpha1", "blueprints", "Blueprint")
BLUEPRINT_VERSIONS = Resource(GROUP, "v1alpha1", "blueprintversions", "BlueprintVersion")
ROLLOUTS = Resource(GROUP, "v1alpha1", "rollouts", "Rollout")

_MANAGER = "kubectl-tenantry"
_MERGE_PATCH = "application/merge-patch+json"
_PAGE = 500
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_SLACK = 15.0
"""Seconds after which a watch that should have ended has lost its connection."""


class Cluster(KubeClient):
    """A connection to the API server, as the user. Make it inside a running event loop."""

    def __init__(self, where: Where, found: access.Access) -> None:
        configuration = found.configuration
        context = client.rest.RESTClientObject(configuration).ssl_context
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=60, sock_connect=10),
            proxy=configuration.proxy or None,
            trust_env=not _is_loopback(configuration.host),
        )
        super().__init__(session, configuration.host, configuration)
        self._where = where
        self._context = found.context
        self._default_namespace = found.namespace

    @property
    def namespace(self) -> str:
        """The namespace that was named, else the context's."""
        return self._where.namespace or self._default_namespace

    @property
    def scope(self) -> str | None:
        """Where to list: a namespace, or None for all."""
        return None if self._where.everywhere else self.namespace

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Object:
        """One request, as the operator's; with a new token when the one there was has expired."""
        ask = partial(super().request, method, path, body, content_type=content_type, query=query, accept=accept)
        try:
            return await ask()
        except ApiError as error:
            if error.status != _UNAUTHORIZED:
                raise
        await access.find(self._where, self._configuration)
        return await ask()

    async def read(self, resource: Resource, name: str, hint: str = "") -> Object:
        """An object of the namespace.

        :param hint: what to do when it is not there.
        :raises Trouble: when it is not there.
        """
        try:
            return await self.get(resource, self.namespace, name)
        except NotFound as error:
            if not _names_object(error):
                raise
            raise self.missing(resource, name, hint) from error

    def missing(self, resource: Resource, name: str, hint: str = "") -> Trouble:
        """That an object of the namespace is not there."""
        text = f"there is no {resource.kind} {self.namespace}/{name}"
        return Trouble(f"{text}; {hint}" if hint else f"{text}; look for it in another namespace with -n")

    async def every(
        self, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All objects of a kind that selectors match.

        :param namespace: None for all.
        """
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in query.items() if value}
        found: list[Object] = []
        while True:
            answer = await self.request("GET", resource.path(namespace), query=query)
            for item in answer.get("items") or []:
                # Lists leave out what is the same for all of their items.
                found.append({"apiVersion": f"{resource.group}/{resource.version}", "kind": resource.kind, **item})
            query["continue"] = answer["metadata"].get("continue") or ""
            if not query["continue"]:
                return found

    async def change(self, resource: Resource, name: str, patch: Object) -> Object:
        """A JSON merge patch of an object of the namespace; the object as it is then."""
        path = resource.path(self.namespace, name)
        query = {"fieldManager": _MANAGER}
        return await self.request("PATCH", path, patch, content_type=_MERGE_PATCH, query=query)

    async def watch(
        self, resource: Resource, name: str, version: str, seconds: int
    ) -> AsyncGenerator[tuple[str, Object]]:
        """The changes of one object of the namespace after a version, until the API server ends the watch.

        :param seconds: when to end it. A connection that was lost without a word is noticed a little later.
        :raises ApiError: 410 when the version is too old; 0 when the connection was lost.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
        """
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        path = resource.path(self.namespace)
        headers = {"Accept": "application/json", **await self._authorization()}
        timeout = aiohttp.ClientTimeout(total=seconds + _SLACK, sock_connect=10)
        rest = b""
        try:
            async with self._session.get(
                f"{self._base}{path}?{urlencode(query)}", headers=headers, timeout=timeout
            ) as response:
                if response.status != 200:
                    raise ApiError(response.status, f"Http{response.status}", f"watch {path}: {response.reason}")
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield _event(orjson.loads(line), path)
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise ApiError(0, "ApiServerUnreachable", f"watch {path}: {error!r}") from error

    def explain(self, error: ApiError) -> Trouble:
        """What the API server refused, and what to do about it."""
        said = error.message.partition(": ")[2] or error.message
        if error.status == 0:
            cause = str(error.__cause__) or "no answer in time"
            return Trouble(
                f"cannot reach the API server {self._base} of {self._context}: {cause}; is it the right --context?"
            )
        if error.status == _UNAUTHORIZED:
            return Trouble(f"the API server does not accept the login of {self._context}; log in again")
        if error.status == _FORBIDDEN:
            return Trouble(f"not allowed for {self._context}: {said}; ask for a role that allows it")
        if isinstance(error, NotFound) and not _names_object(error):
            return Trouble(f"the cluster of {self._context} does not know the kinds of {GROUP}; install the chart")
        return Trouble(f"the API server of {self._context} answered {error.status}: {said}")


def run(where: Where, work: Callable[[Cluster], Awaitable[int]]) -> None:
    """Connects, works, and ends the program with the code that the work returns.

    Trouble is told in one line on standard error.

    :raises typer.Exit: always.
    """
    try:
        code = asyncio.run(_with_cluster(where, work))
    except Trouble as trouble:
        note(f"error: {trouble}")
        code = trouble.code
    except (KeyboardInterrupt, typer.Abort):
        code = Code.INTERRUPTED
    raise typer.Exit(int(code))


async def _with_cluster(where: Where, work: Callable[[Cluster], Awaitable[int]]) -> int:
    found = await access.find(where)
    try:
        cluster = Cluster(where, found)
    except OSError as error:  # ssl.SSLError among them
        raise Trouble(
            f"the certificates of {found.context} cannot be used: {error}; mend the kubeconfig"
        ) from error
    try:
        return await work(cluster)
    except ApiError as error:
        raise cluster.explain(error) from error
    except ReconcileError as error:
        raise Trouble(error.message) from error
    finally:
        await cluster.close()


def _event(event: Object, path: str) -> tuple[str, Object]:
    kind, obj = event["type"], event["object"]
    if kind == "ERROR":
        raise ApiError(obj.get("code") or 500, obj.get("reason") or "", f"watch {path}: {obj.get('message')}")
    return kind, obj


def _names_object(error: NotFound) -> bool:
    """Whether a single object is missing, not the API of its kind: that is answered by other words."""
    return "page not found" not in error.message and "could not find the requested resource" not in error.message


def _is_loopback(host: str) -> bool:
    """As with kubectl, the environment's proxies are not for this machine."""
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
