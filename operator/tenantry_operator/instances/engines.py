"""From an instance's access data to its engine."""

from __future__ import annotations

from tenantry_operator.engines.base import Engine
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.instances.servers import Access, EngineFactory
from tenantry_operator.settings import Settings


def engine_factory(settings: Settings, installation: str) -> EngineFactory:
    """What makes the engine of a server."""

    def make(access: Access) -> Engine:
        return PostgresEngine(access, installation=installation, concurrency=settings.server_concurrency)

    return make
