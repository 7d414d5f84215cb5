"""Who runs the server of a DatabaseInstance: one provider per way that its spec can name."""

from __future__ import annotations

from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Stalled
from tenantry_operator.instances.cloudnativepg import CloudNativePG
from tenantry_operator.instances.external import External
from tenantry_operator.instances.mariadb import MariaDB
from tenantry_operator.instances.provider import Instance, Provider
from tenantry_operator.instances.statefulset import StatefulSets
from tenantry_operator.kube import KubeClient
from tenantry_operator.settings import Settings


class Providers:
    """All providers."""

    def __init__(self, kube: KubeClient, settings: Settings, stateful_sets: StatefulSets) -> None:
        self._enabled = settings.instances_enabled
        self._external = External(kube)
        self._stateful_sets = stateful_sets
        self._cloud_native_pg = CloudNativePG(kube, settings)
        self._maria_db = MariaDB(kube, settings)

    def of(self, instance: Instance) -> Provider:
        """Who runs a server.

        :raises Stalled: InstanceKindNotSupported.
        """
        spec = instance.spec
        if spec.external is not None:
            return self._external
        if not self._enabled:
            raise Stalled(
                "InstancesDisabled",
                f"{instance.what}: this operator runs no servers: TENANTRY_INSTANCES_ENABLED, in the chart "
                "instances.enabled, is false; turn it on, or give spec.external",
            )
        if spec.stateful_set is not None:
            return self._stateful_sets
        if spec.cloud_native_pg is not None:
            return self._cloud_native_pg
        if spec.maria_db is not None:
            return self._maria_db
        # The API server refuses it; this operator is older than the definition.
        raise Stalled(
            "InstanceKindNotSupported", f"{instance.what}: this operator knows no way to run it; upgrade it"
        )

    async def access(self, instance: Instance) -> Access:
        """How a server is reached now. See :meth:`Provider.access`."""
        return await self.of(instance).access(instance)
