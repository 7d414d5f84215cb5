"""PostgreSQL with the extension Citus: what its catalogs say of tenants' schemas and of its nodes.

Source: Citus documentation, "Schema-Based Sharding" and "Citus Utility Functions"; the definitions of its
functions. Citus sends statements to the nodes as the role that executes them, and logs in there by that role's
name: a role that cannot log in, as a steward, cannot have anything sent. So the administrator's sessions have
the sending of DDL turned off (``citus.enable_ddl_propagation``), the nodes get a tenant's roles by commands of the
administrator's, and only what changes the tables of a distributed schema is sent, as their owner, who can log
in on the nodes but has no password.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection

_log = structlog.get_logger(__name__)

SIZES_FOR = 300.0
"""Seconds for which sizes of schemas are good: to measure them, Citus asks every node for every table."""


@dataclass(frozen=True, slots=True)
class CitusCatalog:
    """What Citus keeps in one database."""

    installed: bool
    schemas: Mapping[str, str | None] = field(default_factory=dict)
    """Distributed schemas, with ``host:port`` of the node each is on; None: it has no tables yet."""
    nodes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """By ``host:port`` of a node, the roles that can log in there; None: it did not answer."""


_INSTALLED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus'),
       pg_catalog.to_regclass('pg_catalog.pg_dist_schema') IS NOT NULL
"""

_SCHEMAS = """
SELECT n.nspname::text, min(w.nodename || ':' || w.nodeport)
FROM pg_catalog.pg_dist_schema s
JOIN pg_catalog.pg_namespace n ON n.oid = s.schemaid
LEFT JOIN pg_catalog.pg_dist_partition p ON p.colocationid = s.colocationid
LEFT JOIN pg_catalog.pg_dist_shard h ON h.logicalrelid = p.logicalrelid
LEFT JOIN pg_catalog.pg_dist_placement l ON l.shardid = h.shardid
LEFT JOIN pg_catalog.pg_dist_node w ON w.groupid = l.groupid AND w.noderole = 'primary'
WHERE %(names)s::text[] IS NULL OR n.nspname = ANY (%(names)s::text[])
GROUP BY n.nspname
"""

_ROLES_OF_NODE = sql.SQL("""
SELECT coalesce(json_agg(r.rolname), '[]') FROM pg_catalog.pg_roles r
WHERE r.rolcanlogin AND ({logins}::text[] IS NULL OR r.rolname = ANY ({logins}::text[]))
""")

_SIZES = """
SELECT n.nspname::text, sum(z.size)::bigint
FROM citus_shard_sizes() z
JOIN pg_catalog.pg_dist_shard h ON h.shardid = z.shard_id
JOIN pg_catalog.pg_class c ON c.oid = h.logicalrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
GROUP BY n.nspname
"""


async def observe_citus(
    connection: Connection, schemas: Sequence[str] | None = None, roles: Sequence[str] | None = None
) -> CitusCatalog:
    """Reads what Citus keeps in the database of the connection, and asks each node once.

    :param schemas: only these; None: all.
    :param roles: only these; None: all that can log in.
    """
    if not await is_installed(connection):
        return CitusCatalog(installed=False)
    names = None if schemas is None else list(schemas)
    rows = await (await connection.execute(_SCHEMAS, {"names": names})).fetchall()
    logins = None if roles is None else list(roles)
    query = _ROLES_OF_NODE.format(logins=sql.Literal(logins)).as_string(None)
    nodes: dict[str, frozenset[str] | None] = {}
    for node, answered, result in await run_on_nodes(connection, query):
        nodes[node] = frozenset(json.loads(result)) if answered else None
        if not answered:
            _log.warning("a node of Citus did not say what roles it has", node=node, error=result)
    return CitusCatalog(installed=True, schemas=dict(rows), nodes=nodes)


async def is_installed(connection: Connection) -> bool:
    """Whether the database of the connection has Citus, and one that knows schemas (12 or newer)."""
    row = await (await connection.execute(_INSTALLED)).fetchone()
    return row is not None and bool(row[0]) and bool(row[1])


async def run_on_nodes(connection: Connection, command: str) -> list[tuple[str, bool, str]]:
    """Has every node but the coordinator run a command, as the administrator: no transaction spans them.

    :returns: of each: ``host:port``, whether it did, and the result, or the error.
    """
    cursor = await connection.execute(
        "SELECT nodename || ':' || nodeport, success, result FROM run_command_on_workers(%s) ORDER BY 1",
        (command,),
    )
    return [(node, bool(success), result or "") for node, success, result in await cursor.fetchall()]


class Sizes:
    """The sizes of distributed schemas, measured now and then."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, dict[str, int]]] = {}

    def known(self, database: str) -> Mapping[str, int]:
        """Bytes by schema, as they were measured last."""
        return self._known.get(database, (0.0, {}))[1]

    async def look(self, connection: Connection, database: str, schemas: Collection[str]) -> None:
        """Measures the schemas of the connection's database when it is time to.

        Of a node that is away Citus says nothing: what was measured before stays.
        """
        now = time.monotonic()
        at, before = self._known.get(database, (float("-inf"), {}))
        if now - at < SIZES_FOR:
            return
        found = {**before, **dict(await (await connection.execute(_SIZES)).fetchall())}
        self._known[database] = (now, {name: size for name, size in found.items() if name in schemas})
