"""Servers that Tenantry runs itself, as StatefulSets of one pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry_crds.common import DatabaseEngine
from tenantry_crds.database_instance import StatefulSetServer
from tenantry_operator import podsettings, telemetry
from tenantry_operator.cache import Store
from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.instances import admin_secrets, pods, postgres_admin, volumes
from tenantry_operator.instances.manifests import mongodb, mysql, postgres, redis
from tenantry_operator.instances.manifests.design import Plan, admin_secret, claim_name, labels_of, pod_name
from tenantry_operator.instances.manifests.flavours import (
    Flavour,
    check_change,
    flavour,
)
from tenantry_operator.instances.manifests.render import DESIGNS, Rendered, parts, render
from tenantry_operator.instances.objects import Objects, check_own, fits, is_own
from tenantry_operator.instances.provider import Instance, Notes
from tenantry_operator.kube import CLAIMS, EVENTS, PODS, STATEFUL_SETS, ApiError, KubeClient
from tenantry_operator.settings import Settings
from tenantry_operator.tenants.credentials import new_password

Object = dict[str, Any]

_ADMINS = {
    DatabaseEngine.POSTGRESQL: postgres.ADMIN,
    DatabaseEngine.MYSQL: mysql.ADMIN,
    DatabaseEngine.REDIS: redis.ADMIN,
    DatabaseEngine.MONGODB: postgres.ADMIN,
}


class StatefulSets:
    """``spec.statefulSet``.

    :param stateful_sets, pods, claims: the watched objects that carry the operator's label.
    """

    def __init__(
        self, kube: KubeClient, settings: Settings, stateful_sets: Store, pods: Store, claims: Store
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._sets = stateful_sets
        self._pods = pods
        self._claims = claims
        self._objects = Objects(kube, {STATEFUL_SETS: stateful_sets})

    async def access(self, instance: Instance) -> Access:
        """By the Service's name, or the pod's address."""
        pod = self._pods.get((instance.namespace, pod_name(instance.name)))
        if pod is None or not pods.is_ready(pod):
            raise await self._starting(instance)
        keys = self._keys(instance)
        values, version = await admin_secrets.read(self._kube, instance, admin_secret(instance.name), keys)
        host = f"{instance.name}.{instance.namespace}.svc"
        if self._settings.pod_addresses:
            host = pods.address(pod)
        engine = instance.spec.engine
        backend = None
        if self._is_ferretdb(instance):
            backend = Access(
                DatabaseEngine.POSTGRESQL,
                host,
                postgres.PORT,
                values["username"],
                values["password"],
                secret_version=version,
                database=mongodb.DATABASE,
            )
        return Access(
            engine,
            host,
            DESIGNS[engine](self._plan(instance)).port,
            values["username"],
            values["password"],
            secret_version=version,
            backend=backend,
        )

    async def ensure(self, instance: Instance) -> None:
        """Makes all objects, mends them, and looks whether the pod serves."""
        claim = await self._claim(instance)
        plan = self._plan(instance, claim)
        if claim is not None:
            volumes.check(instance, plan, claim)
        await admin_secrets.ensure(
            self._kube,
            instance,
            plan.secret,
            lambda: self._new_secret(instance),
            data=f"PersistentVolumeClaim {plan.claim}" if claim is not None else None,
            keys=self._keys(instance),
        )
        if claim is not None:
            await volumes.grow(self._kube, instance, plan, claim)
        for rendered in render(plan):
            if rendered.resource == STATEFUL_SETS:
                await self._make_again(instance, rendered)
            await self._objects.keep(instance, rendered)
            reached(f"made-{rendered.resource.plural}")
        await self._check_up(instance)

    async def _claim(self, instance: Instance) -> Object | None:
        key = (instance.namespace, claim_name(instance.name))
        claim = self._claims.get(key) or await self._objects.find(CLAIMS, key)
        if claim is not None:
            check_own(instance, CLAIMS, claim)
        return claim

    async def _make_again(self, instance: Instance, rendered: Rendered) -> None:
        """The size of a StatefulSet's volume cannot be changed: it goes, and its pod stays for the next one."""
        found = self._sets.get((instance.namespace, instance.name))
        if found is None or not is_own(instance, found):
            return
        leaving = "deletionTimestamp" in found["metadata"]
        if leaving or not fits(rendered, found):
            if not leaving:
                await self._objects.check(instance, rendered)
            there = await self._objects.remove(instance, STATEFUL_SETS, instance.name, orphan=True)
            self._sets.drop((instance.namespace, instance.name), found["metadata"]["uid"])
            reached("stateful-set-taken-away")
            if there:
                raise Waiting(
                    "InstanceStarting", f"{instance.what}: its StatefulSet is made again, its pod runs on"
                )

    async def _check_up(self, instance: Instance) -> None:
        found = self._sets.get((instance.namespace, instance.name)) or {}
        status = found.get("status") or {}
        pod = self._pods.get((instance.namespace, pod_name(instance.name)))
        known = status.get("observedGeneration", 0) >= (found.get("metadata") or {}).get("generation", 0)
        revision = ((pod or {}).get("metadata") or {}).get("labels", {}).get("controller-revision-hash")
        if known and pods.is_ready(pod) and revision == status.get("updateRevision"):
            return
        raise await self._starting(instance)

    async def _starting(self, instance: Instance) -> Waiting:
        where = instance.namespace
        found = self._sets.get((where, instance.name)) or {"metadata": {"name": instance.name}}
        claim = self._claims.get((where, claim_name(instance.name)))
        pod = self._pods.get((where, pod_name(instance.name)))
        events = await self._events(found) if pod is None else []
        return Waiting("InstanceStarting", f"{instance.what}: {pods.trouble(pod, claim, found, events)}")

    async def _events(self, stateful_set: Object) -> list[Object]:
        """What its controller says of pods that it cannot make; the StatefulSet itself does not tell."""
        uid = stateful_set["metadata"].get("uid")
        if uid is None:
            return []
        wanted = f"involvedObject.uid={uid},reason={pods.FAILED}"
        where = stateful_set["metadata"]["namespace"]
        try:
            return [event async for page in self._kube.pages(EVENTS, where, fields=wanted) for event in page]
        except ApiError:
            return []  # that it starts is said all the same

    async def prepare(self, instance: Instance) -> bool:
        """PostgreSQL's administrator is made by the image's superuser."""
        if postgres.SUPERUSER_KEY not in self._keys(instance):
            return False
        access = await self.access(instance)
        values, _ = await admin_secrets.read(
            self._kube, instance, admin_secret(instance.name), self._keys(instance)
        )
        return await postgres_admin.make(access.backend or access, values[postgres.SUPERUSER_KEY], instance.what)

    def notes(self, instance: Instance) -> Notes:
        """Whether its volume is still the one it was made with."""
        return volumes.notes(instance, self._claims.get((instance.namespace, claim_name(instance.name))))

    async def sleep(self, instance: Instance) -> None:
        """Without pods; everything else stays."""
        found = self._sets.get((instance.namespace, instance.name))
        if found is None or not is_own(instance, found) or found["spec"].get("replicas") == 0:
            return
        telemetry.api_writes.labels("patch", STATEFUL_SETS.plural).inc()
        written = await self._kube.patch(
            STATEFUL_SETS, instance.namespace, instance.name, {"spec": {"replicas": 0}}
        )
        self._sets.put_answer(written)

    async def remove(self, instance: Instance) -> None:
        """The pod first, then what belongs to it; volume and Secret only with ``deletionPolicy: Delete``."""
        there = await self._objects.remove(instance, STATEFUL_SETS, instance.name)
        pod = await self._objects.find(PODS, (instance.namespace, pod_name(instance.name)))
        if there or (pod is not None and is_pod_of(instance, pod)):
            raise Waiting("Removing", f"{instance.what}: pod {pod_name(instance.name)} is being stopped")
        for resource, name in parts(instance.name):
            await self._objects.remove(instance, resource, name)
        if instance.drops_data:
            if await self._objects.remove(instance, CLAIMS, claim_name(instance.name)):
                raise Waiting(
                    "Removing",
                    f"{instance.what}: PersistentVolumeClaim {claim_name(instance.name)} is being deleted",
                )
            reached("claim-removed")
            await admin_secrets.remove(self._kube, instance, admin_secret(instance.name))

    def _plan(self, instance: Instance, claim: Object | None = None, *, lenient: bool = False) -> Plan:
        """The server with all defaults filled in.

        :param lenient: what cannot be is not refused.
        """
        spec, engine = self._server(instance), instance.spec.engine
        defaults = self._settings.instances[engine]
        images = self._images(instance)
        image = spec.image or _kept(engine, images.get("server"), defaults.image)
        if images and lenient:
            image = images["server"]
        elif images:
            check_change(engine, images["server"], image)
        backend = ""
        if engine is DatabaseEngine.MONGODB and flavour(engine, image) is Flavour.FERRETDB:
            backend = _kept(DatabaseEngine.POSTGRESQL, images.get("postgresql"), defaults.backend_image)
        known = volumes.size_of(claim) if claim is not None else None
        home = self._settings.namespace
        return Plan(
            namespace=instance.namespace,
            name=instance.name,
            uid=instance.uid,
            engine=engine,
            image=image,
            storage=spec.storage or known or defaults.storage,
            storage_class=spec.storage_class_name or (None if claim else defaults.storage_class_name or None),
            resources=spec.resources or defaults.resources,
            pods=podsettings.over(spec, self._settings.instance_pods),
            backend_image=backend,
            clients=(home,) if instance.namespace == home else (home, instance.namespace),
            projects=instance.namespace == home,
        )

    def _images(self, instance: Instance) -> Mapping[str, str]:
        """The images that the StatefulSet has, by container."""
        found = self._sets.get((instance.namespace, instance.name))
        if found is None:
            return {}
        return {one["name"]: one["image"] for one in found["spec"]["template"]["spec"]["containers"]}

    def _server(self, instance: Instance) -> StatefulSetServer:
        server = instance.spec.stateful_set
        if server is None:
            raise TypeError("not a server that is run as a StatefulSet")
        return server

    def _is_ferretdb(self, instance: Instance) -> bool:
        return bool(self._plan(instance, lenient=True).backend_image)

    def _keys(self, instance: Instance) -> tuple[str, ...]:
        """The keys of the administrator's Secret."""
        engine = instance.spec.engine
        if engine is DatabaseEngine.POSTGRESQL or self._is_ferretdb(instance):
            return ("username", "password", postgres.SUPERUSER_KEY)
        if engine is DatabaseEngine.REDIS:
            return ("username", "password", redis.ACCOUNTS)
        return ("username", "password")

    def _new_secret(self, instance: Instance) -> dict[str, str]:
        password = new_password()
        values = {"username": _ADMINS[instance.spec.engine], "password": password}
        for key in self._keys(instance):
            if key == postgres.SUPERUSER_KEY:
                values[key] = new_password()
            elif key == redis.ACCOUNTS:
                values[key] = redis.accounts(password)
        return values


def _kept(engine: DatabaseEngine, running: str | None, default: str) -> str:
    """The default image; the one that runs, when the default has moved on to what cannot read its data."""
    if running is None:
        return default
    try:
        check_change(engine, running, default)
    except Stalled:
        return running
    return default


def is_pod_of(instance: Instance, pod: Object) -> bool:
    """Whether a pod is one of the instance's StatefulSet."""
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in labels_of(instance.name).items())
