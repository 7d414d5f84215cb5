"""From an instance's access data to its engine."""

from __future__ import annotations

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Engine
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.errors import Stalled
from tenantry_operator.instances.servers import EngineFactory
from tenantry_operator.settings import Settings


def engine_factory(settings: Settings, installation: str) -> EngineFactory:
    """What makes the engine of a server."""

    def make(access: Access) -> Engine:
        connections = ConnectionSettings(concurrency=settings.server_concurrency, citus=access.citus)
        if access.engine == DatabaseEngine.POSTGRESQL:
            return PostgresEngine(access, installation=installation, settings=connections)
        raise Stalled("EngineNotSupported", f"engine {access.engine} is not supported yet, only PostgreSQL is")

    return make
