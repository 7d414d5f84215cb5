"""What the facade knows of the cluster: a copy of the objects, kept up to date by watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import kopf
import structlog

from tenantry_api.idempotency import requests_of
from tenantry_api.tenants import NUMBER_LABEL, UPDATED, Tenant
from tenantry_operator.__main__ import kopf_settings
from tenantry_operator.audit import Audit
from tenantry_operator.cache import Key, Store, key_of
from tenantry_operator.context import BLUEPRINTS, INSTANCES, PLANS, TENANTS
from tenantry_operator.errors import ReconcileError
from tenantry_operator.handlers.objects import watch
from tenantry_operator.kube import FIELD_MANAGER, KubeClient, Resource
from tenantry_operator.operator import Kind
from tenantry_operator.settings import Settings as OperatorSettings

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_PING = 5.0
_STALE_AFTER = 10.0
"""Seconds without an answer of the API server after which reads say that they may be old."""


class TenantStore(Store):
    """Tenants, in the order of their creation."""

    def __init__(self) -> None:
        super().__init__(
            id=lambda obj: (f"{obj['metadata']['namespace']}/{Tenant(obj).id}",),
            uuid=lambda obj: (Tenant(obj).uuid,),
            number=_number,
            request=lambda obj: tuple(str(entry.get("key")) for entry in requests_of(obj)),
            name=lambda obj: (f"{obj['metadata']['namespace']}/{Tenant(obj).display_name.casefold()}",),
        )
        self.epoch = 0
        """Moves with every change."""
        self.highest: dict[str, int] = {}
        """By namespace: the highest number that was seen."""
        self._wrapped: dict[Key, Tenant] = {}
        self._sorted: dict[str, list[Key]] = {}
        self._listed: dict[str, tuple[int, list[Tenant]]] = {}

    def _keep(self, obj: Object) -> None:
        obj[UPDATED] = max(
            (
                entry.get("time") or ""
                for entry in obj["metadata"].get("managedFields") or []
                if not entry.get("subresource") and entry.get("manager") != FIELD_MANAGER
            ),
            default=obj.get(UPDATED, ""),
        )
        if key_of(obj) not in self._objects:
            self._sorted.pop(obj["metadata"]["namespace"], None)
        self.epoch += 1
        super()._keep(obj)
        tenant = self._wrapped[key_of(obj)] = Tenant(obj)
        namespace = tenant.key[0]
        self.highest[namespace] = max(self.highest.get(namespace, 0), tenant.number or 0)

    def drop(self, key: Key, uid: str | None = None) -> bool:
        """Forgets an object; with ``uid`` only that very one. True when it was known."""
        gone = super().drop(key, uid)
        if gone:
            self._wrapped.pop(key, None)
            self._sorted.pop(key[0], None)
            self.epoch += 1
        return gone

    def tenant(self, key: Key) -> Tenant | None:
        """A Tenant; the same one until it changes."""
        return self._wrapped.get(key)

    def ordered(self, namespace: str) -> list[Tenant]:
        """The Tenants of a namespace, oldest first. Not to be changed."""
        epoch, listed = self._listed.get(namespace, (-1, []))
        if epoch != self.epoch:
            listed = [self._wrapped[key] for key in self._order(namespace)]
            self._listed[namespace] = (self.epoch, listed)
        return listed

    def _order(self, namespace: str) -> list[Key]:
        keys = self._sorted.get(namespace)
        if keys is None:
            found = [obj for obj in self._objects.values() if obj["metadata"]["namespace"] == namespace]
            found.sort(key=_age)
            keys = self._sorted[namespace] = [key_of(obj) for obj in found]
        return keys


def _number(obj: Object) -> Iterable[str]:
    number = (obj["metadata"].get("labels") or {}).get(NUMBER_LABEL)
    return (f"{obj['metadata']['namespace']}/{number}",) if number else ()


def _age(obj: Object) -> tuple[str, int, str]:
    return (obj["metadata"]["creationTimestamp"], Tenant(obj).number or 0, obj["metadata"]["name"])


class Cache:
    """The copy."""

    def __init__(self, kube: KubeClient, namespaces: Iterable[str]) -> None:
        """:param namespaces: the project's, and the operator's."""
        self._kube = kube
        self._namespaces = list(dict.fromkeys(namespaces))
        self.tenants = TenantStore()
        self.plans = Store(
            code=lambda obj: (obj["spec"].get("code") or obj["metadata"]["name"],),
            number=lambda obj: (str(obj["spec"].get("number")),),
        )
        self.blueprints = Store()
        self.instances = Store()
        self.ready = False
        """Everything was listed once."""
        self.plans_epoch = 0
        """Moves with every change of a Plan."""
        self._answered = 0.0
        self._waiting: dict[Key, set[asyncio.Event]] = {}
        self.kinds = (
            Kind(TENANTS, self.tenants, self._tenant_changed),
            Kind(PLANS, self.plans, self._plan_changed),
            Kind(BLUEPRINTS, self.blueprints, _nothing),
            Kind(INSTANCES, self.instances, _nothing),
        )
        self.audit = Audit(kube, self.kinds, self.namespaces)
        """Whether the watches are alive."""

    def _tenant_changed(self, before: Object | None, after: Object | None) -> None:
        obj = after or before
        if obj is not None:
            self.tell(key_of(obj))

    def _plan_changed(self, before: Object | None, after: Object | None) -> None:
        self.plans_epoch += 1

    def tell(self, key: Key) -> None:
        """A Tenant changed."""
        for event in self._waiting.get(key, ()):
            event.set()

    @property
    def is_stale(self) -> bool:
        """Whether the API server has not answered for a while: what is here may be old."""
        return time.monotonic() - self._answered > _STALE_AFTER

    async def wait(self, key: Key, done: Callable[[Object | None], bool], seconds: float) -> Object | None:
        """Waits until a Tenant is as wanted.

        :param seconds: how long; then it is returned as it is.
        """
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            async with asyncio.timeout(seconds):
                while not done(self.tenants.get(key)):
                    event.clear()
                    await event.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting[key]
            waiting.discard(event)
            if not waiting:
                del self._waiting[key]
        return self.tenants.get(key)

    def namespaces(self, resource: Resource) -> list[str | None]:
        """Where objects of a kind are looked for; None: everywhere."""
        return [*self._namespaces] if resource.namespaced else [None]

    async def load(self) -> None:
        """Lists everything there is, again and again until the API server answers."""
        while True:
            try:
                for kind in self.kinds:
                    for namespace in self.namespaces(kind.resource):
                        async for page in self._kube.pages(kind.resource, namespace):
                            for obj in page:
                                kind.seen(obj)
            except ReconcileError as error:
                _log.warning("the API server does not answer; trying again", error=str(error))
                await asyncio.sleep(1.0)
            else:
                self._answered = time.monotonic()
                self.ready = True
                return

    async def ping(self) -> None:
        """Asks the API server now and then whether it is there, until cancelled."""
        while True:
            await asyncio.sleep(_PING)
            try:
                await self._kube.request("GET", "/version")
                self._answered = time.monotonic()
            except ReconcileError as error:
                _log.warning("the API server does not answer", error=str(error))

    async def watch(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        """Follows all changes until told to stop."""
        registry = kopf.OperatorRegistry()
        for kind in self.kinds:
            watch(registry, kind)

        @kopf.on.login(registry=registry)
        async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_via_client(**kwargs)

        settings = kopf_settings(OperatorSettings(watch_namespaces=self._namespaces))
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=False,
            namespaces=self._namespaces,
            stop_flag=stop,
            ready_flag=ready,
        )


def _nothing(before: Object | None, after: Object | None) -> None:
    return None
