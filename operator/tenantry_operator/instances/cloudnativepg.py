"""PostgreSQL that CloudNativePG runs.

Source: https://cloudnative-pg.io/documentation/current/ ("Connecting from an application", "Certificates",
"Declarative hibernation", "Scheduling"). A Cluster takes its volumes with it, so ``deletionPolicy: Retain`` keeps
it, asleep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tenantry_crds.database_instance import CloudNativePGServer
from tenantry_operator.conditions import find
from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Waiting
from tenantry_operator.instances import admin_secrets, postgres_admin
from tenantry_operator.instances.foreign import Foreign
from tenantry_operator.instances.manifests import postgres
from tenantry_operator.instances.manifests.design import admin_secret
from tenantry_operator.instances.manifests.paths import Path
from tenantry_operator.instances.provider import Instance
from tenantry_operator.kube import PODS, SECRETS, NotFound, Resource

Object = dict[str, Any]

CLUSTERS = Resource("postgresql.cnpg.io", "v1", "clusters", "Cluster")
HIBERNATION = "cnpg.io/hibernation"


class CloudNativePG(Foreign):
    """``spec.cloudNativePG``. The operator works with an administrator of its own, made by the superuser."""

    resource = CLUSTERS
    operator = "CloudNativePG"
    admin = postgres.ADMIN
    pods: ClassVar[Mapping[Path, Path]] = {
        ("imagePullSecrets",): ("spec", "imagePullSecrets"),
        ("nodeSelector",): ("spec", "affinity", "nodeSelector"),
        ("tolerations",): ("spec", "affinity", "tolerations"),
        ("affinity", "nodeAffinity"): ("spec", "affinity", "nodeAffinity"),
        ("affinity", "podAffinity"): ("spec", "affinity", "additionalPodAffinity"),
        ("affinity", "podAntiAffinity"): ("spec", "affinity", "additionalPodAntiAffinity"),
        ("topologySpreadConstraints",): ("spec", "topologySpreadConstraints"),
        ("priorityClassName",): ("spec", "priorityClassName"),
    }

    def server(self, instance: Instance) -> CloudNativePGServer:
        """The part of the spec that is CloudNativePG's."""
        server = instance.spec.cloud_native_pg
        if server is None:
            raise TypeError("not a server of CloudNativePG")
        return server

    def spec(self, instance: Instance, storage: int | str) -> Object:
        """The Cluster."""
        server = self.server(instance)
        return {
            "instances": server.instances,
            "imageName": server.image,
            "enableSuperuserAccess": True,
            "storage": {"size": str(storage), "storageClass": server.storage_class_name},
            "resources": server.resources.to_object() if server.resources is not None else None,
            "postgresql": {"parameters": {"password_encryption": "scram-sha-256"}},
        }

    def annotations(self, instance: Instance) -> Mapping[str, str]:
        """Awake."""
        return {HIBERNATION: "off"}

    def size(self, found: Object) -> str | None:
        """The size that the Cluster has."""
        size: str | None = (found["spec"].get("storage") or {}).get("size")
        return size

    async def data_of(self, instance: Instance, found: Object | None) -> str | None:
        """The superuser, whose Secret CloudNativePG keeps, gives the administrator another password."""
        return None

    async def check_up(self, instance: Instance, found: Object) -> None:
        """Also asks for a server: a Cluster that sleeps, or has just been woken, stays ready in words."""
        await super().check_up(instance, found)
        asleep = find(found, HIBERNATION) or {}
        if asleep.get("status") == "True":
            raise self.starting(instance, str(asleep.get("message") or "it is hibernated"))
        status = found.get("status") or {}
        if not status.get("readyInstances"):
            raise self.starting(
                instance, str(status.get("phaseReason") or status.get("phase") or "no server is ready")
            )

    async def access(self, instance: Instance) -> Access:
        """Through the Service of the primary."""
        found = await self.find(instance) or {}
        await self.check_up(instance, found)
        values, version = await admin_secrets.read(self._kube, instance, admin_secret(instance.name))
        authority = await self._authority(instance, found)
        by_address = self._settings.pod_addresses
        host = f"{instance.name}-rw.{instance.namespace}.svc"
        if by_address:
            host = await self._primary(instance, found)
        return Access(
            engine=instance.spec.engine,
            host=host,
            port=postgres.PORT,
            username=values["username"],
            password=values["password"],
            secret_version=version,
            # Certificates are for the Services' names.
            sslmode="prefer" if authority is None else "verify-ca" if by_address else "verify-full",
            certificates=(("ca.crt", authority),) if authority is not None else (),
        )

    async def _authority(self, instance: Instance, found: Object) -> str | None:
        """The certificate of the authority that the server's certificate is from."""
        name = ((found.get("status") or {}).get("certificates") or {}).get("serverCASecret")
        if not name:
            return None
        try:
            secret = await self._kube.get(SECRETS, instance.namespace, name)
        except NotFound:
            return None
        return admin_secrets.decode(secret, f"Secret {instance.namespace}/{name}", ("ca.crt",))["ca.crt"]

    async def _primary(self, instance: Instance, found: Object) -> str:
        name = (found.get("status") or {}).get("currentPrimary") or f"{instance.name}-1"
        try:
            pod = await self._kube.get(PODS, instance.namespace, name)
        except NotFound:
            raise self.starting(instance, f"pod {name} is not there yet") from None
        address: str = (pod.get("status") or {}).get("podIP") or ""
        if not address:
            raise self.starting(instance, f"pod {name} has no address yet")
        return address

    async def prepare(self, instance: Instance) -> bool:
        """The superuser makes the administrator."""
        access = await self.access(instance)
        superuser = f"{instance.name}-superuser"
        values, _ = await admin_secrets.read(self._kube, instance, superuser)
        return await postgres_admin.make(access, values["password"], instance.what)

    async def sleep(self, instance: Instance) -> None:
        """Without pods; the volumes stay."""
        found = await self.own(instance)
        if found is not None and (found["metadata"].get("annotations") or {}).get(HIBERNATION) != "on":
            await self.patch(instance, {"metadata": {"annotations": {HIBERNATION: "on"}}})

    async def remove(self, instance: Instance) -> None:
        """The Cluster goes with its volumes, or sleeps until an instance of the same name wants it."""
        if not instance.drops_data:
            await self.sleep(instance)
            return
        if not await self.removed(instance):
            raise Waiting("Removing", f"{instance.what}: its Cluster is being deleted")
        await admin_secrets.remove(self._kube, instance, admin_secret(instance.name))
