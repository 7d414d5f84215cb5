"""How much of the tables that tenants share belongs to whom: an estimate."""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.rowcatalog import TENANT_POLICY, Relation
from tenantry_operator.engines.postgres.statements import Rendered

SAMPLED_PAGES = 1000
"""Pages of 8 KiB that are read of a table at most. Smaller tables are counted in full."""

_SIZES = """
SELECT c.relname::text, pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_total_relation_size(c.oid)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind = 'r'
"""
_COLUMN = re.compile(r'^\(\(?(?P<column>[a-z_][a-z0-9_]*|"(?:[^"]|"")+")\)?(?:::text)? = \( SELECT ')


async def read_shares(connection: Connection, schema: str, relations: Sequence[Relation]) -> dict[str, int]:
    """Bytes by tenant id, over all tables of a shared schema.

    A table's size, with indexes, is divided by the numbers of rows in a sample of its pages: rows count
    alike, however long they are, and a tenant with very few rows may be missed in a large table.
    """
    parameters = {"schema": sql.Identifier(schema).as_string(None)}
    rows = await (await connection.execute(_SIZES, parameters)).fetchall()
    sizes = {name: (size, total) for name, size, total in rows}
    parts = []
    for relation in relations:
        size, total = sizes.get(relation.name, (0, 0))
        policy = relation.policies.get(TENANT_POLICY)
        column = _COLUMN.match(policy.using or "") if policy is not None else None
        if not size or column is None:
            continue
        percent = min(100.0, 100.0 * SAMPLED_PAGES * 8192 / size)
        parts.append(
            sql.SQL(
                "SELECT {column}::text AS tenant, count(*) / sum(count(*)) OVER () * {total} AS bytes "
                "FROM {table} TABLESAMPLE SYSTEM ({percent}) GROUP BY 1"
            ).format(
                # As the server wrote it into the policy's expression.
                column=Rendered(column["column"].encode()),
                total=sql.Literal(total),
                table=sql.Identifier(schema, relation.name),
                percent=sql.Literal(percent),
            )
        )
    if not parts:
        return {}
    query = sql.SQL("SELECT s.tenant, sum(s.bytes)::bigint FROM ({}) s GROUP BY s.tenant").format(
        sql.SQL(" UNION ALL ").join(parts)
    )
    return dict(await (await connection.execute(query)).fetchall())
