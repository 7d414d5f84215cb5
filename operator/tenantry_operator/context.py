"""What all reconciles share: the objects that are known, the servers, the way to the API server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from tenantry_operator import telemetry
from tenantry_operator.blueprints.book import Book, blueprint_of
from tenantry_operator.blueprints.expectations import Expectations
from tenantry_operator.blueprints.linting import Linter
from tenantry_operator.cache import Key, Store, key_of
from tenantry_operator.conditions import Condition, failed, find, render
from tenantry_operator.errors import ReconcileError
from tenantry_operator.instances import hibernation
from tenantry_operator.instances.providers import Providers
from tenantry_operator.instances.servers import EngineFactory, Servers
from tenantry_operator.instances.statefulset import StatefulSets
from tenantry_operator.kube import KubeClient, Resource, merge_patch
from tenantry_operator.names import GROUP
from tenantry_operator.recorder import Recorder
from tenantry_operator.rollouts.runs import Runs
from tenantry_operator.services.observe import by_tenant
from tenantry_operator.settings import Settings
from tenantry_operator.tenants.view import TenantView, placements_of

Object = dict[str, Any]

_AWAKE = 60.0
"""Seconds for which a server stays up after something was done on it."""

TENANTS = Resource(GROUP, "v1alpha1", "tenants", "Tenant")
BLUEPRINTS = Resource(GROUP, "v1alpha1", "blueprints", "Blueprint")
ROLLOUTS = Resource(GROUP, "v1alpha1", "rollouts", "Rollout")
BLUEPRINT_VERSIONS = Resource(GROUP, "v1alpha1", "blueprintversions", "BlueprintVersion")
INSTANCES = Resource(GROUP, "v1alpha1", "databaseinstances", "DatabaseInstance")
PLANS = Resource(GROUP, "v1alpha1", "plans", "Plan", namespaced=False)


def _tenant_id(obj: Object) -> Iterable[str]:
    meta = obj["metadata"]
    return (f"{meta['namespace']}/{obj['spec'].get('id') or meta['name']}",)


def _tenant_blueprints(obj: Object) -> Iterable[str]:
    namespace = obj["metadata"]["namespace"]
    names = {database.get("blueprint") for database in obj["spec"].get("databases") or []}
    return tuple(sorted(f"{namespace}/{name}" for name in names))


def _tenant_services(obj: Object) -> Iterable[str]:
    namespace = obj["metadata"]["namespace"]
    names = {service.get("blueprint") for service in obj["spec"].get("services") or []}
    return tuple(sorted(f"{namespace}/{name}" for name in names))


def _tenant_plan(obj: Object) -> Iterable[str]:
    code = (obj["spec"].get("plan") or {}).get("code")
    return (code,) if code else ()


def _tenant_instances(obj: Object) -> Iterable[str]:
    return tuple(sorted({"/".join(key) for key in placements_of(obj).values()}))


def _tenant_failure(obj: Object) -> Iterable[str]:
    ready = find(obj, "Ready")
    return (str(ready.get("reason")),) if ready is not None and ready.get("status") != "True" else ()


def told(obj: Object) -> tuple[Any, ...]:
    """What people said of an object: all that a reconcile acts on, apart from its status."""
    meta = obj["metadata"]
    return (
        meta["uid"],
        meta.get("generation"),
        meta.get("deletionTimestamp"),
        meta.get("annotations"),
        meta.get("labels"),
        meta.get("finalizers"),
    )


class Context:
    """The shared state. One per operator."""

    def __init__(self, settings: Settings, installation: str, kube: KubeClient, factory: EngineFactory) -> None:
        self.settings = settings
        self.installation = installation
        self.kube = kube
        self.tenants = Store(
            id=_tenant_id,
            blueprint=_tenant_blueprints,
            service=_tenant_services,
            plan=_tenant_plan,
            instance=_tenant_instances,
            failure=_tenant_failure,
        )
        self.blueprints = Store()
        self.versions = Store(blueprint=lambda obj: (blueprint_of(obj),))
        self.rollouts = Store(blueprint=lambda obj: (blueprint_of(obj),))
        self.instances = Store()
        self.plans = Store(code=lambda obj: (obj["spec"].get("code") or obj["metadata"]["name"],))
        self.secrets = Store()
        self.deployments = Store(tenant=by_tenant)
        self.services = Store(tenant=by_tenant)
        self.stateful_sets = Store()
        self.pods = Store()
        self.claims = Store()
        run_here = StatefulSets(kube, settings, self.stateful_sets, self.pods, self.claims)
        self.providers = Providers(kube, settings, run_here)
        self.servers = Servers(self.instances, self.providers, factory)
        self.book = Book(kube, self.versions)
        self.expectations = Expectations(installation, self.book, self.versions, self._write_version)
        self.linter = Linter()
        self.runs = Runs(self.rollouts, self.blueprints, self.tenants, self._is_up)
        self.recorder = Recorder(kube)

        self._wanted: dict[Key, float] = {}
        self.wake: Callable[[Key], None] = lambda key: None
        """Called with a DatabaseInstance that is to wake."""

        self.overtaken: Callable[[Resource, Object, Object | None], None] = lambda resource, before, after: None
        """Called with an object as it was and as it is (None: it is gone), when the answer to a write tells of a
        change first."""

    async def _write_version(self, obj: Object, status: Object) -> Object:
        return await self.write_status(BLUEPRINT_VERSIONS, self.versions, obj, status)

    def _is_up(self, server: Key) -> bool:
        known = self.servers.peek(server)
        return known is None or known.error is None

    def sleep_is_due(self, key: Key) -> bool:
        """Whether a DatabaseInstance should sleep: all its tenants rest, and no rollout has to migrate one."""
        instance = self.instances.get(key)
        if instance is None or self._wanted.get(key, 0.0) > time.monotonic():
            return False
        return hibernation.due(instance, key, self.tenants.all("instance", "/".join(key)), self._has_turn)

    def keep_awake(self, key: Key) -> None:
        """Something is about to be done on a server though its tenants rest: it wakes, and stays up a while."""
        self._wanted[key] = time.monotonic() + _AWAKE
        if hibernation.is_asleep(self.instances.get(key)):
            self.wake(key)

    def _has_turn(self, tenant: Object) -> bool:
        view = TenantView(tenant)
        return any(self.runs.turn(view, entry) is not None for entry in view.entries)

    def instance_keys(self, namespace: str) -> list[Key]:
        """The DatabaseInstances that tenants of a namespace may be on: its own, then the operator's."""
        home = self.settings.namespace
        keys = [key for key in self.instances.keys() if key[0] in (namespace, home)]  # noqa: SIM118
        return sorted(keys, key=lambda key: (key[0] == home and key[0] != namespace, key))

    async def write_status(self, resource: Resource, store: Store, obj: Object, status: Object) -> Object:
        """Writes a status, unless it says what the object says already.

        :returns: the object as it is now.
        """
        patch = merge_patch(obj.get("status") or {}, status)
        if patch is None:
            return obj
        meta = obj["metadata"]
        telemetry.api_writes.labels("patch", f"{resource.plural}/status").inc()
        # The uid makes it a conflict when the object was deleted and created again in between.
        which = {"uid": meta["uid"]}
        if "usage" in patch:
            # The facade writes there too: what was reported meanwhile must not be written over.
            which["resourceVersion"] = meta["resourceVersion"]
        body = {"metadata": which, "status": patch}
        written = await self.kube.patch(resource, meta.get("namespace"), meta["name"], body, sub="status")
        store.put_answer(written)
        if told(written) != told(obj):
            # Somebody changed it meanwhile. The watch will show a version that is older than this answer, which
            # is no news to the cache: without this the change would be seen by nobody.
            self.overtaken(resource, obj, written)
        return written

    def let_go(self, resource: Resource, store: Store, obj: Object, written: Object) -> None:
        """Keeps the answer to a write that took the operator's finalizer away.

        With the last finalizer the object is gone. The watch need not tell: after a restart it begins later than
        the listing that the object is known from.
        """
        meta = written["metadata"]
        if "deletionTimestamp" not in meta or meta.get("finalizers"):
            store.put_answer(written)
        elif store.drop(key_of(written), meta["uid"]):
            self.overtaken(resource, obj, None)

    async def write_failure(
        self, resource: Resource, store: Store, obj: Object, error: ReconcileError, *, waited: float = 0.0
    ) -> Object:
        """Writes the conditions of a reconcile that could not even read what it needs; the rest of the
        status stays."""
        found = failed(error, waited=waited, stalled_after=self.settings.stalled_after)
        return await self.write_conditions(resource, store, obj, found)

    async def write_conditions(
        self,
        resource: Resource,
        store: Store,
        obj: Object,
        found: Iterable[Condition],
        fields: Object | None = None,
    ) -> Object:
        """Writes conditions and further fields of a status, keeping the others; None removes a field."""
        known = obj.get("status") or {}
        generation = obj["metadata"].get("generation", 0)
        status = {
            **known,
            **(fields or {}),
            "observedGeneration": generation,
            "conditions": render(found, known.get("conditions") or [], generation, datetime.now(UTC)),
        }
        return await self.write_status(
            resource, store, obj, {name: value for name, value in status.items() if value is not None}
        )
