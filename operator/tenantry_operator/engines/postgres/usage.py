"""Usage queries: what a tenant's own data says of its use of a resource.

The text is a blueprint author's, and may call functions that a tenant with DDL rights made. So it runs
inside a SECURITY DEFINER function, where SET ROLE and set_config('role', ...) are refused, as a role that
reaches the tenant's data only, in a read-only transaction that is rolled back: function and grants never
exist for anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Desired, Isolation, Stale, UsageRow
from tenantry_operator.engines.postgres.connections import Connection, Connections
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.provision import data_schema, render_acting
from tenantry_operator.engines.postgres.sqlstate import describe, translate
from tenantry_operator.engines.postgres.statements import Script, render_as_steward
from tenantry_operator.engines.usagerows import usage_rows
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.tenants.naming import read_only_group_of

_FUNCTION = "tenantry_usage"
TIMEOUT = 10
"""Seconds that one query may take."""
_OPERATORS = frozenset({"08", "53", "57", "55", "40"})
"""Classes of SQLSTATE that say nothing of the query."""


async def count(
    connections: Connections, installation: Installation, desired: Desired, queries: Mapping[str, str]
) -> dict[str, tuple[UsageRow, ...]]:
    """Runs usage queries.

    :param queries: by resource; each has the columns ``count`` and, if it likes, ``label`` and ``latest``.
    :raises Stalled: UsageQueryFailed.
    """
    names = desired.names
    where = (
        f"database {names.database}{f', schema {names.schema}' if names.schema else ''} on {connections.server}"
    )
    counted: dict[str, tuple[UsageRow, ...]] = {}
    keep = names.schema is not None
    try:
        async with connections.use(names.database, keep=keep) as connection:
            for resource, query in queries.items():
                what = f"{where}: the usage query of {resource} of blueprint {desired.blueprint}"
                await connection.execute(_render_begin(installation, desired).body())
                rows = await _run(connection, query, what)
                await connection.execute("ROLLBACK")
                # Locks and settings of the session do not end with the transaction.
                await connection.execute("DISCARD ALL")
                counted[resource] = usage_rows(rows, what)
    except psycopg.Error as error:
        translated = translate(error, where)
        if isinstance(translated, Stale):
            raise Retryable("ServerChanging", str(translated)) from None
        raise translated from None
    except Stale as stale:
        raise Retryable("ServerChanging", str(stale)) from None
    return counted


def _render_begin(installation: Installation, desired: Desired) -> Script:
    """Until the function is there and only it may be called."""
    owner = desired.names.owner
    row = desired.isolation is Isolation.ROW
    # The owner role of shared tables is not confined to a tenant's rows as strictly as their users are.
    role = read_only_group_of(owner) if row else owner
    script = Script().format("BEGIN").add(render_acting(desired))
    script.add(render_as_steward(installation.steward(owner), owner))
    values = {
        "schema": sql.Identifier(data_schema(desired)),
        "function": sql.Identifier(data_schema(desired), _FUNCTION),
        "role": sql.Identifier(role),
    }
    if row:
        script.format(
            "GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\nGRANT CREATE ON SCHEMA {schema} TO {role}",
            **values,
        )
    return script.format(
        "CREATE FUNCTION {function}(query text) RETURNS SETOF jsonb LANGUAGE plpgsql SECURITY DEFINER\n"
        "SET search_path = {schema} AS {body};\n"
        "REVOKE ALL ON FUNCTION {function}(text) FROM PUBLIC;\n"
        "ALTER FUNCTION {function}(text) OWNER TO {role};\n"
        "SET LOCAL statement_timeout = {timeout};\n"
        "SET TRANSACTION READ ONLY;\n"
        "SET LOCAL search_path = {schema}",
        body=sql.Literal(_BODY),
        timeout=sql.Literal(TIMEOUT * 1000),
        **values,
    )


# One statement: a cursor takes no more.
_BODY = """
BEGIN
  RETURN QUERY EXECUTE 'SELECT pg_catalog.to_jsonb(tenantry_rows) FROM (' || query
    || pg_catalog.chr(10) || ') AS tenantry_rows LIMIT 1001';
END
"""


async def _run(connection: Connection, query: str, what: str) -> Sequence[Any]:
    call = sql.SQL("SELECT * FROM {function}({query})").format(
        function=sql.Identifier(_FUNCTION), query=sql.Literal(query.rstrip().rstrip(";"))
    )
    try:
        return [row for (row,) in await (await connection.execute(call)).fetchall()]
    except psycopg.errors.QueryCanceled as error:
        raise Stalled("UsageQueryFailed", f"{what} took longer than {TIMEOUT} s: {describe(error)}") from None
    except psycopg.Error as error:
        if not error.sqlstate or error.sqlstate[:2] in _OPERATORS:
            raise
        raise Stalled("UsageQueryFailed", f"{what} failed: {describe(error)}") from None
