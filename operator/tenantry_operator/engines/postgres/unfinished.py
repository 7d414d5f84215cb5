"""What is half done: a migration outside of a transaction, and how its statements are taken up again."""

from __future__ import annotations

import re

from psycopg import sql

from tenantry_operator.engines.base import Migration
from tenantry_operator.engines.halfway import Unfinished
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.statements import Script

TABLE = """
CREATE TABLE tenantry.unfinished (
  schema name PRIMARY KEY,
  version text NOT NULL,
  migration text NOT NULL,
  undo boolean NOT NULL,
  statement integer NOT NULL
)
"""


async def prepare_unfinished(connection: Connection) -> None:
    """Makes the table, in databases that were made without it. For one caller at a time."""
    if not await _has_table(connection):
        await connection.execute(TABLE)


async def _has_table(connection: Connection) -> bool:
    cursor = await connection.execute("SELECT pg_catalog.to_regclass('tenantry.unfinished') IS NOT NULL")
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def read_unfinished(connection: Connection, schema: str) -> Unfinished | None:
    """What was begun in a schema and did not end."""
    if not await _has_table(connection):
        return None
    cursor = await connection.execute(
        "SELECT version, migration, undo, statement FROM tenantry.unfinished WHERE schema = %s", (schema,)
    )
    row = await cursor.fetchone()
    return Unfinished(*row) if row is not None else None


async def write_unfinished(connection: Connection, schema: str, migration: Migration, statement: int) -> None:
    """A statement is about to be begun."""
    await connection.execute(
        "INSERT INTO tenantry.unfinished (schema, version, migration, undo, statement)\n"
        "VALUES (%s, %s, %s, %s, %s)\n"
        "ON CONFLICT (schema) DO UPDATE SET version = excluded.version, migration = excluded.migration,\n"
        "undo = excluded.undo, statement = excluded.statement",
        (schema, migration.version, migration.name, migration.undo, statement),
    )


def render_finished(schema: str) -> Script:
    """Nothing is half done in a schema any more. For the administrator."""
    return Script().format("DELETE FROM tenantry.unfinished WHERE schema = {schema}", schema=sql.Literal(schema))


_NAME = r'(?P<name>"(?:[^"]|"")+"|[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)'
_CREATE = re.compile(
    rf"create\s+(unique\s+)?index\s+concurrently\s+(if\s+not\s+exists\s+)?{_NAME}\s+on\b", re.IGNORECASE
)
_DROP = re.compile(
    rf"drop\s+index\s+concurrently\s+(if\s+exists\s+)?(\w+\.)?{_NAME}\s*(cascade|restrict)?\s*$", re.I
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def index_created(statement: str) -> str | None:
    """The name of the index that a statement creates concurrently; None for any other statement."""
    match = _CREATE.match(_COMMENT.sub(" ", statement).strip())
    return _unquoted(match["name"]) if match is not None else None


def index_dropped(statement: str) -> str | None:
    """The name of the index that a statement drops concurrently; None for any other statement."""
    match = _DROP.match(_COMMENT.sub(" ", statement).strip())
    return _unquoted(match["name"]) if match is not None else None


async def is_valid(connection: Connection, schema: str, index: str) -> bool | None:
    """Whether an index is valid; None: there is none of that name.

    An index of a partitioned table that waits for its partitions' is not one that was left half done.
    """
    cursor = await connection.execute(
        "SELECT i.indisvalid OR c.relkind = 'I' FROM pg_catalog.pg_index i\n"
        "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid\n"
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace\n"
        "WHERE n.nspname = %s AND c.relname = %s",
        (schema, index),
    )
    row = await cursor.fetchone()
    return bool(row[0]) if row is not None else None
