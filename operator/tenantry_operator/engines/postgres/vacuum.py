"""Vacuuming a tenant's tables, so that what was deleted makes room."""

from __future__ import annotations

from psycopg import sql

from tenantry_operator.engines.base import Desired
from tenantry_operator.engines.postgres.connections import Connections
from tenantry_operator.engines.postgres.provision import data_schema
from tenantry_operator.engines.postgres.statements import Rendered, Script, render_as_admin, render_as_steward
from tenantry_operator.faults import reached

_TABLES = """
SELECT c.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND d.refobjid = %(schema)s::pg_catalog.regnamespace AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND c.relkind IN ('r', 'm')
  AND c.relowner = %(owner)s::pg_catalog.regrole
ORDER BY c.oid
"""


async def vacuum(connections: Connections, steward: str, desired: Desired) -> None:
    """Vacuums the tables of a tenant; those that are in use at the moment are left out."""
    names = desired.names
    parameters = {
        "schema": sql.Identifier(data_schema(desired)).as_string(None),
        "owner": sql.Identifier(names.owner).as_string(None),
    }
    async with connections.use(names.database, keep=False) as connection:
        tables = await (await connection.execute(_TABLES, parameters)).fetchall()
        if not tables:
            return
        # VACUUM is no part of a transaction, so that the steward has the owner's rights beyond one.
        await connection.execute(render_as_steward(steward, names.owner).transaction())
        reached("steward-may-vacuum")
        try:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(steward)))
            listed = Rendered(", ".join(name for (name,) in tables).encode())
            await connection.execute(sql.SQL("VACUUM (SKIP_LOCKED) {}").format(listed))
        finally:
            end = Script().format("SET LOCAL ROLE {steward}", steward=sql.Identifier(steward))
            await connection.execute(end.add(render_as_admin(names.owner)).transaction())
