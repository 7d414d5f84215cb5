"""Who runs the server of a DatabaseInstance: one provider per way that its spec can name."""

from __future__ import annotations

from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Stalled
from tenantry_operator.instances.external import External
from tenantry_operator.instances.provider import Instance, Provider
from tenantry_operator.instances.statefulset import StatefulSets


class Providers:
    """All providers."""

    def __init__(self, external: External, stateful_sets: StatefulSets, *, enabled: bool) -> None:
        self._enabled = enabled
        self._external = external
        self._stateful_sets = stateful_sets

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
        raise Stalled("InstanceKindNotSupported", f"{instance.what}: give spec.external or spec.statefulSet")

    async def access(self, instance: Instance) -> Access:
        """How a server is reached now. See :meth:`Provider.access`."""
        return await self.of(instance).access(instance)
