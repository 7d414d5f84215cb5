"""Servers that another operator runs: what is the same for all of them.

Tenantry makes one custom resource of that operator, says in it what the server is made of, and waits until the
operator reports it ready. The resource has no owner: with ``deletionPolicy: Retain`` it, or its volumes, stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from tenantry_crds.database_instance import RunnableServer
from tenantry_crds.quantities import parse_quantity
from tenantry_operator import podsettings, telemetry
from tenantry_operator.conditions import find
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.instances import admin_secrets
from tenantry_operator.instances.manifests.design import admin_secret, labels_of
from tenantry_operator.instances.manifests.paths import Path, dig, put
from tenantry_operator.instances.manifests.render import RENDERED, Rendered, digest, marked
from tenantry_operator.instances.objects import Objects, check_own, is_own
from tenantry_operator.instances.provider import Instance, Notes
from tenantry_operator.kube import KubeClient, NotFound, Resource
from tenantry_operator.settings import Settings
from tenantry_operator.tenants.credentials import new_password

Object = dict[str, Any]


class Foreign(ABC):
    """One kind of custom resource of another operator."""

    resource: ClassVar[Resource]
    operator: ClassVar[str]
    """Its name, for messages."""
    admin: ClassVar[str]
    """The login of the administrator."""
    pods: ClassVar[Mapping[Path, Path]]
    """Where the custom resource has what a pod's spec has: what pods get besides their containers."""

    def __init__(self, kube: KubeClient, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        self._objects = Objects(kube, {})

    # What each kind says

    @abstractmethod
    def server(self, instance: Instance) -> RunnableServer:
        """The part of the spec that is this kind's."""

    @abstractmethod
    def spec(self, instance: Instance, storage: int | str) -> Object:
        """The ``spec`` of the custom resource; None takes a field away."""

    def annotations(self, instance: Instance) -> Mapping[str, str]:
        """Annotations of the custom resource of a server that is awake."""
        return {}

    @abstractmethod
    def size(self, found: Object) -> str | None:
        """The size that a custom resource has."""

    # What is the same for all

    async def find(self, instance: Instance) -> Object | None:
        """The custom resource; None when there is none.

        :raises Stalled: OperatorNotInstalled, NameTaken.
        """
        try:
            found = await self._kube.get(self.resource, instance.namespace, instance.name)
        except NotFound as error:
            if error.reason == "NotFound":
                return None
            raise Stalled(
                "OperatorNotInstalled",
                f"{instance.what}: this cluster has no {self.resource.kind} of {self.resource.group}: install "
                f"{self.operator}; it is noticed by itself",
            ) from None
        check_own(instance, self.resource, found)
        return found

    async def ensure(self, instance: Instance) -> None:
        """Makes the Secret of the administrator and the custom resource, and looks whether the server is up."""
        found = await self.find(instance)
        storage = self._storage(instance, found)
        await admin_secrets.ensure(
            self._kube,
            instance,
            admin_secret(instance.name),
            lambda: {"username": self.admin, "password": new_password()},
            data=await self.data_of(instance, found),
            keys=("username", "password"),
        )
        rendered = self._render(instance, storage)
        found = await self._objects.keep(instance, rendered, always=True)
        reached(f"made-{self.resource.plural}")
        await self.check_up(instance, found or {})

    async def data_of(self, instance: Instance, found: Object | None) -> str | None:
        """What has data that the administrator's password is for; None: another password would do."""
        return f"{self.resource.kind} {instance.name}" if found is not None else None

    def _storage(self, instance: Instance, found: Object | None) -> int | str:
        wanted = self.server(instance).storage
        known = self.size(found) if found is not None else None
        if known is not None and wanted is not None and parse_quantity(wanted) < parse_quantity(known):
            raise Stalled(
                "StorageShrink",
                f"{instance.what}: its storage is {known}, and {wanted} is asked for: a volume never shrinks; ask "
                f"for at least {known}",
            )
        return wanted or known or self._settings.instances[instance.spec.engine].storage

    def _render(self, instance: Instance, storage: int | str) -> Rendered:
        body: Object = {
            "apiVersion": f"{self.resource.group}/{self.resource.version}",
            "kind": self.resource.kind,
            "metadata": {
                "name": instance.name,
                "namespace": instance.namespace,
                "labels": labels_of(instance.name),
                "annotations": dict(self.annotations(instance)),
            },
            "spec": self.spec(instance, storage),
        }
        pods = podsettings.fields(podsettings.over(self.server(instance), self._settings.instance_pods))
        for source, target in self.pods.items():
            value = dig(pods, source)
            if value is not None:
                body = put(body, target, value)
        body["metadata"]["annotations"][RENDERED] = digest(body)
        return marked(Rendered(self.resource, body, pods=tuple(self.pods.values())))

    async def check_up(self, instance: Instance, found: Object) -> None:
        """:raises Waiting: InstanceStarting, with what the other operator says."""
        ready = find(found, "Ready") or {}
        if ready.get("status") != "True":
            raise self.starting(instance, str(ready.get("message") or ready.get("reason") or "not reported yet"))

    def starting(self, instance: Instance, what: str) -> Waiting:
        """It is not up."""
        words = f"{self.operator} brings {self.resource.kind} {instance.name} up"
        return Waiting("InstanceStarting", f"{instance.what}: {words}: {what}")

    def notes(self, instance: Instance) -> Notes:
        """None."""
        return Notes()

    @abstractmethod
    async def sleep(self, instance: Instance) -> None:
        """As the other operator has it."""

    async def patch(self, instance: Instance, patch: Object) -> None:
        """Changes the custom resource."""
        telemetry.api_writes.labels("patch", self.resource.plural).inc()
        await self._kube.patch(self.resource, instance.namespace, instance.name, patch)

    async def removed(self, instance: Instance) -> bool:
        """Deletes the custom resource; whether it is gone."""
        try:
            return not await self._objects.remove(instance, self.resource, instance.name)
        except NotFound:
            return True  # the other operator was taken away, and all of its resources with it

    async def own(self, instance: Instance) -> Object | None:
        """The custom resource if it is there, and the instance's."""
        try:
            found = await self._kube.get(self.resource, instance.namespace, instance.name)
        except NotFound:
            return None
        return found if is_own(instance, found) else None
