"""Sizes, measured only where something changed.

To measure a relation the server opens it and looks at each of its files: for tens of thousands of tables
that takes seconds, and memory in the server's process. So a schema or database is measured again when its
counters moved, a limited number of them at a time, those that waited longest first.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenantry_operator.engines.postgres.connections import Connection

MEASURED_AT_ONCE = 500
"""Schemas or databases that are measured in one sweep, per database or server."""

MEASURED_AGAIN = 900.0
"""Seconds after which something is measured again although its counters did not move."""

_DATABASES = """
SELECT d.datname::text, pg_catalog.pg_database_size(d.oid)
FROM pg_catalog.pg_database d
WHERE d.datname = ANY (%s)
  AND (pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
       OR pg_catalog.has_database_privilege(d.oid, 'CONNECT'))
"""

_SCHEMAS = """
SELECT n.nspname::text, coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_depend d
       ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid
      AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'm')
WHERE n.nspname = ANY (%s)
GROUP BY n.nspname
"""


async def measure_databases(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Bytes by database, as far as the administrator may know them."""
    rows = await (await connection.execute(_DATABASES, (list(names),))).fetchall()
    return {name: size for name, size in rows if size is not None}


async def measure_schemas(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Bytes by schema of the connection's database."""
    return dict(await (await connection.execute(_SCHEMAS, (list(names),))).fetchall())
