"""How much of the tables that tenants share belongs to whom: an estimate."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg
from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.rowcatalog import OWN_POLICIES, TENANT_POLICY, Relation
from tenantry_operator.engines.postgres.statements import Rendered

SAMPLED_PAGES = 1000
"""Pages of 8 KiB that are read of a table at most. Smaller tables are counted in full."""

_SIZES = """
SELECT c.relname::text, pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_total_relation_size(c.oid)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind = 'r'
"""
_FOREIGN = """
SELECT DISTINCT c.relname::text
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND p.polname <> ALL (%(own)s)
"""
_COLUMN = re.compile(r'^\(\(?(?P<column>[a-z_][a-z0-9_]*|"(?:[^"]|"")+")\)?(?:::text)? = \( SELECT ')


async def read_shares(connection: Connection, schema: str, relations: Sequence[Relation]) -> dict[str, int] | None:
    """Bytes by tenant id, over all tables of a shared schema; None when they cannot be looked at just now.

    A table's size, with indexes, is divided by the numbers of rows in a sample of its pages: rows count
    alike, however long they are, and a tenant with very few rows may be missed in a large table. Tables
    with policies of the blueprint's own are left out: the administrator would execute their expressions.
    """
    parameters = {"schema": sql.Identifier(schema).as_string(None)}
    rows = await (await connection.execute(_SIZES, parameters)).fetchall()
    sizes = {name: (size, total) for name, size, total in rows if size}
    tables = [relation for relation in relations if relation.name in sizes and _column(relation) is not None]
    if not tables:
        return {}
    names = [relation.name for relation in tables]
    listed = sql.SQL(", ").join([sql.Identifier(schema, name) for name in names])
    try:
        # While it is locked, a table gets no policy.
        await connection.execute(sql.SQL("BEGIN; LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT").format(listed))
        found = await connection.execute(_FOREIGN, {**parameters, "own": sorted(OWN_POLICIES)})
        foreign = {name for (name,) in await found.fetchall()}
        parts = [_render_share(schema, table, *sizes[table.name]) for table in tables if table.name not in foreign]
        if not parts:
            return {}
        query = sql.SQL("SELECT s.tenant, sum(s.bytes)::bigint FROM ({}) s GROUP BY s.tenant").format(
            sql.SQL(" UNION ALL ").join(parts)
        )
        return dict(await (await connection.execute(query)).fetchall())
    except psycopg.errors.LockNotAvailable:
        return None
    finally:
        await connection.rollback()


def _column(relation: Relation) -> str | None:
    """The tenant column of a table, as the server wrote it into the policy's expression."""
    policy = relation.policies.get(TENANT_POLICY)
    match = _COLUMN.match(policy.using or "") if policy is not None else None
    return match["column"] if match is not None else None


def _render_share(schema: str, relation: Relation, size: int, total: int) -> sql.Composed:
    return sql.SQL(
        "SELECT {column}::text AS tenant, count(*) / sum(count(*)) OVER () * {total} AS bytes "
        "FROM ONLY {table} TABLESAMPLE SYSTEM ({percent}) GROUP BY 1"
    ).format(
        column=Rendered((_column(relation) or "NULL").encode()),
        total=sql.Literal(total),
        table=sql.Identifier(schema, relation.name),
        percent=sql.Literal(min(100.0, 100.0 * SAMPLED_PAGES * 8192 / size)),
    )
