"""Deleting all rows of one tenant from the tables that tenants share."""

from __future__ import annotations

from psycopg import sql

from tenantry_operator.engines.base import Desired
from tenantry_operator.engines.postgres.rowcatalog import Relation


def render_removal(desired: Desired, relations: tuple[Relation, ...]) -> str:
    """Deletes a tenant's rows: from all tables in one statement, so that no order of the foreign keys matters.

    Repeated, as a trigger of the blueprint may write while rows are deleted.
    """
    tables = [
        relation
        for relation in relations
        if relation.is_table and not relation.partition and relation.column(desired.row_column) is not None
    ]
    if not tables:
        return "SELECT"
    deletes = sql.SQL(", ").join(
        [
            sql.SQL("{name} AS (DELETE FROM {table} WHERE {column} = {tenant} RETURNING 1)").format(
                name=sql.Identifier(f"deleted_{number}"),
                table=sql.Identifier(desired.names.owner, relation.name),
                column=sql.Identifier(desired.row_column),
                tenant=sql.Literal(desired.tenant_id),
            )
            for number, relation in enumerate(tables)
        ]
    )
    counts = sql.SQL(" + ").join(
        [
            sql.SQL("(SELECT count(*) FROM {})").format(sql.Identifier(f"deleted_{number}"))
            for number in range(len(tables))
        ]
    )
    body = sql.SQL(
        "DECLARE rows_left bigint;\n"
        "BEGIN\n"
        "  FOR attempt IN 1..5 LOOP\n"
        "    WITH {deletes} SELECT {counts} INTO rows_left;\n"
        "    EXIT WHEN rows_left = 0;\n"
        "  END LOOP;\n"
        "  IF rows_left > 0 THEN RAISE EXCEPTION 'triggers write rows anew while they are deleted'; END IF;\n"
        "END"
    ).format(deletes=deletes, counts=counts)
    return sql.SQL("DO {}").format(sql.Literal(body.as_string(None))).as_string(None)
