"""Vacuuming a tenant's tables, so that what was deleted makes room.

A plain VACUUM gives back what is empty at the end of a table. What is empty in between it keeps for rows to
come, and while writing is refused none come: a table that is mostly empty is rewritten.
"""

from __future__ import annotations

from psycopg import sql

from tenantry_operator.engines.base import Desired
from tenantry_operator.engines.postgres.connections import Connection, Connections
from tenantry_operator.engines.postgres.provision import data_schema
from tenantry_operator.engines.postgres.statements import Rendered, Script, render_as_admin, render_as_steward
from tenantry_operator.faults import reached

REWRITTEN = 1 << 30
"""Bytes of the largest table that is rewritten: nobody reads it meanwhile."""

_TABLES = """
SELECT c.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND d.refobjid = %(schema)s::pg_catalog.regnamespace AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND c.relkind IN ('r', 'm')
  AND c.relowner = %(owner)s::pg_catalog.regrole
ORDER BY c.oid
"""

# By the statistics that VACUUM (ANALYZE) has just made: rows, and the average width of each column. A row has
# 28 bytes of its own; a page is well used at four fifths.
_SPARSE = """
SELECT c.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND d.refobjid = %(schema)s::pg_catalog.regnamespace AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND c.relkind IN ('r', 'm') AND c.relowner = %(owner)s::pg_catalog.regrole
  AND c.relpages BETWEEN 16 AND %(pages)s
  AND c.relpages * 8192 * 0.8 * 0.5 > greatest(c.reltuples, 0) * (28 + (
    SELECT coalesce(sum(s.avg_width * (1 - s.null_frac)), 0) FROM pg_catalog.pg_stats s
    WHERE s.schemaname = n.nspname AND s.tablename = c.relname))
ORDER BY c.oid
"""


async def vacuum(connections: Connections, steward: str, desired: Desired) -> None:
    """Vacuums the tables of a tenant; those that are in use at the moment are left out."""
    names = desired.names
    parameters = {
        "schema": sql.Identifier(data_schema(desired)).as_string(None),
        "owner": sql.Identifier(names.owner).as_string(None),
        "pages": REWRITTEN // 8192,
    }
    async with connections.use(names.database, keep=False) as connection:
        # VACUUM is no part of a transaction, so that the steward has the owner's rights beyond one.
        await connection.execute(render_as_steward(steward, names.owner).transaction())
        reached("steward-may-vacuum")
        try:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(steward)))
            await _vacuum(connection, "SKIP_LOCKED, ANALYZE", _TABLES, parameters)
            await _vacuum(connection, "SKIP_LOCKED, FULL", _SPARSE, parameters)
        finally:
            end = Script().format("SET LOCAL ROLE {steward}", steward=sql.Identifier(steward))
            await connection.execute(end.add(render_as_admin(names.owner)).transaction())


async def _vacuum(connection: Connection, options: str, query: str, parameters: dict[str, object]) -> None:
    rows = await (await connection.execute(query.encode(), parameters)).fetchall()
    if rows:
        # The server quoted the names.
        listed = Rendered(", ".join(name for (name,) in rows).encode())
        await connection.execute(sql.SQL("VACUUM ({}) {}").format(Rendered(options.encode()), listed))
