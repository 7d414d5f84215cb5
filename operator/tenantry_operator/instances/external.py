"""Servers that somebody else runs: there is nothing to make, only to read how they are reached."""

from __future__ import annotations

from tenantry_crds.common import DatabaseEngine
from tenantry_crds.database_instance import ExternalServer
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.kinds import KINDS
from tenantry_operator.instances import admin_secrets
from tenantry_operator.instances.provider import Instance, Notes
from tenantry_operator.kube import KubeClient


class External:
    """``spec.external``."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def access(self, instance: Instance) -> Access:
        """As the spec and the Secret say."""
        external = instance.spec.external
        if external is None:
            raise TypeError("not an external server")
        engine = instance.spec.engine
        values, version = await admin_secrets.read(self._kube, instance, external.admin_secret.name)
        return Access(
            engine=engine,
            host=external.host,
            port=external.port or KINDS[engine].port,
            username=values["username"],
            password=values["password"],
            secret_version=version,
            sslmode=admin_secrets.sslmode(external.tls, values),
            certificates=admin_secrets.certificates(values),
            backend=await self._backend(instance, external),
        )

    async def _backend(self, instance: Instance, external: ExternalServer) -> Access | None:
        behind = external.ferretdb
        if behind is None:
            return None
        values, version = await admin_secrets.read(self._kube, instance, behind.admin_secret.name)
        return Access(
            engine=DatabaseEngine.POSTGRESQL,
            host=behind.host,
            port=behind.port or KINDS[DatabaseEngine.POSTGRESQL].port,
            username=values["username"],
            password=values["password"],
            secret_version=version,
            sslmode=admin_secrets.sslmode(behind.tls, values),
            certificates=admin_secrets.certificates(values),
            database=behind.database,
        )

    async def ensure(self, instance: Instance) -> None:
        """Nothing: it is another's."""

    async def prepare(self, instance: Instance) -> bool:
        """Nothing: who runs the server makes its administrator."""
        return False

    def notes(self, instance: Instance) -> Notes:
        """None."""
        return Notes()

    async def sleep(self, instance: Instance) -> None:
        """Nothing: it is another's."""

    async def remove(self, instance: Instance) -> None:
        """Nothing: it is another's."""
