"""From an instance's access data to its engine."""

from __future__ import annotations

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Engine
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.engines.mysql import connections as mysql
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tenantry_operator.engines.postgres import connections as postgres
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.engines.redis import connections as redis
from tenantry_operator.engines.redis.engine import RedisEngine
from tenantry_operator.instances.servers import EngineFactory
from tenantry_operator.settings import Settings


def engine_factory(settings: Settings, installation: str) -> EngineFactory:
    """What makes the engine of a server."""
    at_once = settings.server_concurrency

    def make(access: Access) -> Engine:
        match access.engine:
            case DatabaseEngine.POSTGRESQL:
                chosen = postgres.ConnectionSettings(concurrency=at_once, citus=access.citus)
                return PostgresEngine(access, installation=installation, settings=chosen)
            case DatabaseEngine.MYSQL:
                return MySqlEngine(
                    access, installation=installation, settings=mysql.ConnectionSettings(concurrency=at_once)
                )
            case DatabaseEngine.MONGODB:
                chosen = postgres.ConnectionSettings(concurrency=at_once)
                return MongoEngine(access, installation=installation, settings=chosen)
            case DatabaseEngine.REDIS:
                return RedisEngine(
                    access, installation=installation, settings=redis.ConnectionSettings(concurrency=at_once)
                )

    return make
