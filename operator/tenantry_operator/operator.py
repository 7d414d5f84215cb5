"""The operator as a whole: the queues, what is put into them when something changes, the background work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from tenantry_operator import telemetry
from tenantry_operator.blueprints.book import blueprint_of
from tenantry_operator.blueprints.reconcile import BlueprintReconciler
from tenantry_operator.cache import Key, Store, key_of
from tenantry_operator.context import (
    BLUEPRINT_VERSIONS,
    BLUEPRINTS,
    INSTANCES,
    PLANS,
    ROLLOUTS,
    TENANTS,
    Context,
    told,
)
from tenantry_operator.errors import ReconcileError, Retryable
from tenantry_operator.instances.hibernation import is_asleep
from tenantry_operator.instances.reconcile import InstanceReconciler
from tenantry_operator.kube import CLAIMS, DEPLOYMENTS, PODS, SECRETS, SERVICES, STATEFUL_SETS, Resource
from tenantry_operator.names import INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL, TENANT_LABEL
from tenantry_operator.plans import PlanReconciler
from tenantry_operator.rollouts.phase import phase_of
from tenantry_operator.rollouts.reconcile import RolloutReconciler
from tenantry_operator.services.observe import differs, remember_deployment, remember_service, tenant_of
from tenantry_operator.tenants.reconcile import TenantReconciler
from tenantry_operator.tenants.secrets import remember
from tenantry_operator.tenants.status import reported
from tenantry_operator.tenants.view import placements_of
from tenantry_operator.workqueue import WorkQueue

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

Reconcile = Callable[[Key], Awaitable[float | None]]
_OTHER_WORKERS = 4
_OURS = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
SELECTORS = {
    SECRETS: _OURS,
    DEPLOYMENTS: f"{_OURS},{SERVICE_LABEL}",
    SERVICES: f"{_OURS},{SERVICE_LABEL}",
    STATEFUL_SETS: f"{_OURS},{INSTANCE_LABEL}",
    PODS: f"{_OURS},{INSTANCE_LABEL}",
    CLAIMS: f"{_OURS},{INSTANCE_LABEL}",
}
"""Of kinds that are not only Tenantry's: what of them is listed and watched."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind that is watched: where its objects are kept, and what a change of one means."""

    resource: Resource
    store: Store
    changed: Callable[[Object | None, Object | None], None]
    """Called with the object as it was and as it is; None: it was not, or is not."""
    put: Callable[[Store, Object], bool] = Store.put
    selector: str | None = None
    """A label selector: only these objects are watched."""

    def seen(self, obj: Object) -> None:
        """An object is as given."""
        key = key_of(obj)
        before = self.store.get(key)
        if self.put(self.store, obj):
            self.changed(before, self.store.get(key))

    def deleted(self, obj: Object) -> None:
        """An object is gone."""
        key = key_of(obj)
        before = self.store.get(key)
        if self.store.drop(key, obj["metadata"]["uid"]):
            self.changed(before, None)


class Operator:
    """Ties watches, queues and reconcilers together."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.tenants = TenantReconciler(context)
        self.instances = InstanceReconciler(context, self._requeue_homeless)
        self.rollouts = RolloutReconciler(context)
        blueprints = BlueprintReconciler(context)
        self._reconcilers: dict[str, Reconcile] = {
            "Blueprint": blueprints.blueprint,
            "BlueprintVersion": blueprints.version,
            "DatabaseInstance": self.instances.reconcile,
            "Plan": PlanReconciler(context).reconcile,
            "Rollout": self.rollouts.reconcile,
        }
        self.kinds = (
            Kind(TENANTS, context.tenants, self.tenant_changed),
            Kind(BLUEPRINTS, context.blueprints, self.blueprint_changed),
            Kind(BLUEPRINT_VERSIONS, context.versions, self.version_changed),
            Kind(ROLLOUTS, context.rollouts, self.rollout_changed),
            Kind(INSTANCES, context.instances, self.instance_changed),
            Kind(PLANS, context.plans, self.plan_changed),
            Kind(SECRETS, context.secrets, self.secret_changed, remember, SELECTORS[SECRETS]),
            Kind(
                DEPLOYMENTS,
                context.deployments,
                self.service_changed,
                remember_deployment,
                SELECTORS[DEPLOYMENTS],
            ),
            Kind(SERVICES, context.services, self.service_changed, remember_service, SELECTORS[SERVICES]),
            *self._parts(),
        )
        self.tenant_queue: WorkQueue[Key] = WorkQueue(self._measured("Tenant", self._tenant))
        self.other_queue: WorkQueue[tuple[str, Key]] = WorkQueue(self._other)
        context.runs.wake = self.tenant_queue.add
        context.overtaken = self._overtaken
        context.wake = lambda key: self.other_queue.add(("DatabaseInstance", key))
        context.runs.turned = self._requeue_rollouts
        context.runs.moved = lambda key: self.other_queue.add(("Rollout", key))

    def _parts(self) -> list[Kind]:
        """What servers that run in the cluster are made of, as far as its changes matter."""
        context = self.context
        parts = ((STATEFUL_SETS, context.stateful_sets), (PODS, context.pods), (CLAIMS, context.claims))
        if not context.settings.instances_enabled:
            return []
        return [
            Kind(resource, store, self.part_changed, selector=SELECTORS[resource]) for resource, store in parts
        ]

    def _overtaken(self, resource: Resource, before: Object, after: Object | None) -> None:
        for kind in self.kinds:
            if kind.resource == resource:
                kind.changed(before, after)

    def namespaces(self, resource: Resource) -> list[str | None]:
        """Where objects of a kind are looked for; None: everywhere."""
        served = self.context.settings.watch_namespaces
        return [*served] if served and resource.namespaced else [None]

    async def load(self) -> None:
        """Lists everything there is, and only then has it reconciled."""
        for kind in self.kinds:
            for namespace in self.namespaces(kind.resource):
                async for page in self.context.kube.pages(kind.resource, namespace, selector=kind.selector):
                    for obj in page:
                        kind.put(kind.store, obj)
        self.rollouts.restore()
        for kind in self.kinds:
            if kind.selector is None:  # the others belong to objects that are reconciled anyway
                for obj in kind.store:
                    kind.changed(None, obj)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.tenant_queue.run(self.context.settings.workers))
            group.create_task(self.other_queue.run(_OTHER_WORKERS))
            group.create_task(self.context.recorder.run())

    async def _tenant(self, key: Key) -> float | None:
        try:
            return await self.tenants.reconcile(key)
        finally:
            tenant = self.context.tenants.get(key)
            if tenant is not None:
                self._wake_or_send_to_sleep(tenant)

    def _wake_or_send_to_sleep(self, tenant: Object) -> None:
        """Dedicated servers sleep while their tenants rest."""
        for home in set(placements_of(tenant).values()):
            instance = self.context.instances.get(home)
            if instance is not None and is_asleep(instance) != self.context.sleep_is_due(home):
                self.other_queue.add(("DatabaseInstance", home))

    async def _other(self, item: tuple[str, Key]) -> float | None:
        kind, key = item
        return await self._measured(kind, self._reconcilers[kind])(key)

    def _measured(self, kind: str, reconcile: Reconcile) -> Reconcile:
        async def measured(key: Key) -> float | None:
            started = time.monotonic()
            result = "error"
            try:
                again = await reconcile(key)
                result = "ok"
            except ReconcileError as error:
                result = "retry" if isinstance(error, Retryable) else "error"
                _log.info(
                    "trying again later",
                    kind=kind,
                    object="/".join(key),
                    reason=error.reason,
                    message=error.message,
                )
                raise
            except Exception:
                _log.exception("a reconcile failed unexpectedly", kind=kind, object="/".join(key))
                telemetry.reconcile_errors.labels(kind, "Internal").inc()
                raise
            finally:
                telemetry.reconciles.labels(kind, result).inc()
                telemetry.reconcile_seconds.labels(kind).observe(time.monotonic() - started)
            return again

        return measured

    # What a change of one object means for others. Statuses are the operator's own words: only changes
    # of what people write (generation, annotations, deletion) are news.

    def tenant_changed(self, before: Object | None, after: Object | None) -> None:
        """A Tenant came, changed or went."""
        obj = after or before
        if obj is None:
            return
        key = key_of(obj)
        self.context.runs.changed(key)
        if after is None:
            self.tenant_queue.add(key)
            self._requeue_twins(obj)
            self._requeue(self.context.tenants, "failure", "InstanceFull")
            return
        news = before is None or told(before) != told(after)
        if news:
            self._wake_or_send_to_sleep(after)
        if news or _reports(before) != _reports(after):
            self.tenant_queue.add(key)

    def _requeue_twins(self, gone: Object) -> None:
        meta = gone["metadata"]
        index = f"{meta['namespace']}/{gone['spec'].get('id') or meta['name']}"
        for key in self.context.tenants.find("id", index):
            self.tenant_queue.add(key)
        self._wake_or_send_to_sleep(gone)
        for instance in self.context.instances:
            if "deletionTimestamp" in instance["metadata"]:
                self.other_queue.add(("DatabaseInstance", key_of(instance)))

    def blueprint_changed(self, before: Object | None, after: Object | None) -> None:
        """A Blueprint came, changed or went."""
        self._changed("Blueprint", before, after, self._requeue_followers)

    def _requeue_followers(self, blueprint: Object) -> None:
        self._requeue(self.context.tenants, "blueprint", "/".join(key_of(blueprint)))
        self._requeue(self.context.tenants, "service", "/".join(key_of(blueprint)))

    def version_changed(self, before: Object | None, after: Object | None) -> None:
        """A BlueprintVersion came or went; its spec never changes."""
        self._changed("BlueprintVersion", before, after, self._requeue_blueprint)

    def _requeue_blueprint(self, version: Object) -> None:
        blueprint = blueprint_of(version)
        self.context.book.forget(blueprint)
        self._requeue_rollouts(blueprint)
        for key in self.context.versions.find("blueprint", blueprint):
            self.other_queue.add(("BlueprintVersion", key))
        self._requeue(self.context.tenants, "blueprint", blueprint)

    def rollout_changed(self, before: Object | None, after: Object | None) -> None:
        """A Rollout came, changed or went; others of its blueprint may be waiting for its end."""
        obj = after or before
        if obj is None:
            return
        same = before is not None and after is not None and told(before) == told(after)
        if same and phase_of(before or {}) == phase_of(after or {}):
            return
        self.other_queue.add(("Rollout", key_of(obj)))
        self._requeue_rollouts(blueprint_of(obj))

    def _requeue_rollouts(self, blueprint: str) -> None:
        for key in self.context.rollouts.find("blueprint", blueprint):
            self.other_queue.add(("Rollout", key))
        namespace, _, name = blueprint.partition("/")
        self.other_queue.add(("Blueprint", (namespace, name)))

    def plan_changed(self, before: Object | None, after: Object | None) -> None:
        """A Plan came, changed or went."""
        self._changed("Plan", before, after, self._requeue_subscribers)

    def _requeue_subscribers(self, plan: Object) -> None:
        code = plan["spec"].get("code") or plan["metadata"]["name"]
        self._requeue(self.context.tenants, "plan", code)
        for key in self.context.plans.find("code", code):
            self.other_queue.add(("Plan", key))

    def instance_changed(self, before: Object | None, after: Object | None) -> None:
        """A DatabaseInstance came, changed or went."""
        self._changed("DatabaseInstance", before, after, self._requeue_homeless)

    def _requeue_homeless(self, instance: Object) -> None:
        self._requeue(self.context.tenants, "instance", "/".join(key_of(instance)))
        for reason in ("NoInstance", "InstanceNotFound", "InstanceFull", "InstanceNameTaken"):
            self._requeue(self.context.tenants, "failure", reason)

    def secret_changed(self, before: Object | None, after: Object | None) -> None:
        """A Secret of a tenant's came, changed or went, not by the operator's own hand."""
        obj = after or before
        tenant = (obj or {}).get("metadata", {}).get("labels", {}).get(TENANT_LABEL)
        if obj is not None and tenant:
            self.tenant_queue.add((obj["metadata"]["namespace"], tenant))
        if obj is not None:
            self._requeue_instance(obj)

    def part_changed(self, before: Object | None, after: Object | None) -> None:
        """Something that a server consists of came, changed or went."""
        obj = after or before
        if obj is not None:
            self._requeue_instance(obj)

    def _requeue_instance(self, part: Object) -> None:
        name = (part["metadata"].get("labels") or {}).get(INSTANCE_LABEL)
        key = (part["metadata"].get("namespace") or "", name or "")
        if name and self.context.instances.get(key) is not None:
            self.other_queue.add(("DatabaseInstance", key))

    def service_changed(self, before: Object | None, after: Object | None) -> None:
        """A Deployment or Service of a tenant's came, changed or went, not by the operator's own hand."""
        if not differs(before, after):
            return
        # Somebody may have changed the very label that says whose it is.
        for obj in (before, after):
            tenant = tenant_of(obj) if obj is not None else None
            if obj is not None and tenant:
                self.tenant_queue.add((obj["metadata"]["namespace"], tenant))

    def _requeue(self, store: Store, index: str, value: str) -> None:
        for key in store.find(index, value):
            self.tenant_queue.add(key)

    def _changed(
        self, kind: str, before: Object | None, after: Object | None, spread: Callable[[Object], None]
    ) -> None:
        obj = after or before
        if obj is None:
            return
        if after is not None and before is not None and told(before) == told(after):
            return
        self.other_queue.add((kind, key_of(obj)))
        spread(obj)


def _reports(tenant: Object | None) -> list[tuple[str, int]]:
    return reported((tenant or {}).get("status") or {})
