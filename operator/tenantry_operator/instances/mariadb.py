"""MariaDB that the MariaDB operator runs.

Source: https://github.com/mariadb-operator/mariadb-operator/tree/main/docs. It has no hibernation of its own:
``spec.suspend`` keeps its hands off the StatefulSet, which Tenantry then scales to zero; when the suspension ends,
the MariaDB operator scales it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tenantry_crds.database_instance import MariaDBServer
from tenantry_operator import telemetry
from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.instances import admin_secrets
from tenantry_operator.instances.foreign import Foreign
from tenantry_operator.instances.manifests import mysql
from tenantry_operator.instances.manifests.design import admin_secret
from tenantry_operator.instances.manifests.paths import Path
from tenantry_operator.instances.provider import Instance
from tenantry_operator.kube import CLAIMS, PODS, STATEFUL_SETS, Resource

Object = dict[str, Any]

MARIADBS = Resource("k8s.mariadb.com", "v1alpha1", "mariadbs", "MariaDB")
_CLAIM_LABELS = "app.kubernetes.io/name", "app.kubernetes.io/instance"


class MariaDB(Foreign):
    """``spec.mariaDB``. The administrator is MariaDB's ``root``."""

    resource = MARIADBS
    operator = "the MariaDB operator"
    admin = mysql.ADMIN
    pods: ClassVar[Mapping[Path, Path]] = {
        path: ("spec", *path)
        for path in (
            ("imagePullSecrets",),
            ("nodeSelector",),
            ("tolerations",),
            ("affinity", "nodeAffinity"),
            ("affinity", "podAffinity"),
            ("affinity", "podAntiAffinity"),
            ("topologySpreadConstraints",),
            ("priorityClassName",),
        )
    }

    def server(self, instance: Instance) -> MariaDBServer:
        """The part of the spec that is the MariaDB operator's."""
        server = instance.spec.maria_db
        if server is None:
            raise TypeError("not a server of the MariaDB operator")
        return server

    def spec(self, instance: Instance, storage: int | str) -> Object:
        """The MariaDB. Volumes stay when it goes: the next one of its name finds them."""
        server = self.server(instance)
        return {
            "image": server.image,
            "replicas": server.replicas,
            "replication": {"enabled": True} if server.replicas > 1 else None,
            "rootPasswordSecretKeyRef": {
                "name": admin_secret(instance.name),
                "key": "password",
                "generate": False,
            },
            "storage": {"size": str(storage), "storageClassName": server.storage_class_name},
            "resources": server.resources.to_object() if server.resources is not None else None,
            "suspend": False,
        }

    def size(self, found: Object) -> str | None:
        """The size that the MariaDB has."""
        size: str | None = (found["spec"].get("storage") or {}).get("size")
        return size

    async def data_of(self, instance: Instance, found: Object | None) -> str | None:
        """A volume of an earlier instance has data, too."""
        if found is not None:
            return await super().data_of(instance, found)
        claim = await self._claim(instance, 0)
        return f"PersistentVolumeClaim {claim['metadata']['name']}" if claim is not None else None

    async def check_up(self, instance: Instance, found: Object) -> None:
        """Also looks at the StatefulSet: while suspended, and just after, the MariaDB stays ready in words."""
        await super().check_up(instance, found)
        there = await self._stateful_set(instance, found)
        if there is None or not (there.get("status") or {}).get("readyReplicas"):
            raise self.starting(instance, f"StatefulSet {instance.name} has no ready pod")

    async def access(self, instance: Instance) -> Access:
        """Through the Service, of the primary where there are several."""
        found = await self.find(instance) or {}
        await self.check_up(instance, found)
        values, version = await admin_secrets.read(self._kube, instance, admin_secret(instance.name))
        several = self.server(instance).replicas > 1
        host = f"{instance.name}{'-primary' if several else ''}.{instance.namespace}.svc"
        if self._settings.pod_addresses:
            host = await self._primary(instance, found)
        return Access(
            engine=instance.spec.engine,
            host=host,
            port=mysql.PORT,
            username=values["username"],
            password=values["password"],
            secret_version=version,
        )

    async def _primary(self, instance: Instance, found: Object) -> str:
        name = (found.get("status") or {}).get("currentPrimary") or f"{instance.name}-0"
        pod = await self._objects.find(PODS, (instance.namespace, name))
        address: str = ((pod or {}).get("status") or {}).get("podIP") or ""
        if not address:
            raise self.starting(instance, f"pod {name} has no address yet")
        return address

    async def prepare(self, instance: Instance) -> bool:
        """Nothing: ``root`` is there from the start."""
        return False

    async def sleep(self, instance: Instance) -> None:
        """Suspended, and without pods."""
        found = await self.own(instance)
        if found is None:
            return
        if not found["spec"].get("suspend"):
            await self.patch(instance, {"spec": {"suspend": True}})
        there = await self._stateful_set(instance, found)
        if there is not None and there["spec"].get("replicas") != 0:
            telemetry.api_writes.labels("patch", STATEFUL_SETS.plural).inc()
            await self._kube.patch(STATEFUL_SETS, instance.namespace, instance.name, {"spec": {"replicas": 0}})

    async def _stateful_set(self, instance: Instance, found: Object) -> Object | None:
        """The StatefulSet that the MariaDB operator made for this MariaDB."""
        there = await self._objects.find(STATEFUL_SETS, (instance.namespace, instance.name))
        if there is None:
            return None
        owners = there["metadata"].get("ownerReferences") or []
        if any(owner.get("uid") == found["metadata"]["uid"] for owner in owners):
            return there
        if any((owner.get("kind"), owner.get("name")) == (MARIADBS.kind, instance.name) for owner in owners):
            raise self.starting(instance, f"StatefulSet {instance.name} of an earlier MariaDB is not gone yet")
        raise Stalled(
            "NameTaken",
            f"StatefulSet {instance.namespace}/{instance.name} was not made for {instance.what} and is left "
            "alone: rename or delete it",
        )

    async def remove(self, instance: Instance) -> None:
        """The MariaDB goes; its volumes only with ``deletionPolicy: Delete``."""
        if not await self.removed(instance):
            raise Waiting("Removing", f"{instance.what}: its MariaDB is being deleted")
        if not instance.drops_data:
            return
        left = False
        for number in range(self.server(instance).replicas):
            claim = await self._claim(instance, number)
            if claim is None:
                continue
            left = True
            if "deletionTimestamp" not in claim["metadata"]:
                meta = claim["metadata"]
                telemetry.api_writes.labels("delete", CLAIMS.plural).inc()
                await self._kube.delete(CLAIMS, instance.namespace, meta["name"], uid=meta["uid"])
        if left:
            raise Waiting("Removing", f"{instance.what}: its PersistentVolumeClaims are being deleted")
        await admin_secrets.remove(self._kube, instance, admin_secret(instance.name))

    async def _claim(self, instance: Instance, number: int) -> Object | None:
        """The volume that the MariaDB operator made for one of its pods."""
        key = (instance.namespace, f"storage-{instance.name}-{number}")
        claim = await self._objects.find(CLAIMS, key)
        labels = ((claim or {}).get("metadata") or {}).get("labels") or {}
        made_for = tuple(labels.get(name) for name in _CLAIM_LABELS) == ("mariadb", instance.name)
        return claim if made_for else None
