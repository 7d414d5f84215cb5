"""Migrations: the ledger beside the data, and how a transaction of migrations is run.

A migration runs inside a SECURITY DEFINER function that belongs to the owner role: SET ROLE, RESET ROLE
and transaction commands are refused in there, so that a blueprint's SQL never acts as the administrator.
What it could leave behind for later, in the same session, is undone before the administrator acts again:
deferred triggers, cursors that outlive the transaction, settings, temporary objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Chain, Migration, Pace
from tenantry_operator.engines.path import Applied
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.lexer import line_of, split
from tenantry_operator.engines.postgres.sqlstate import describe, is_of_server
from tenantry_operator.engines.postgres.statements import Rendered, Script
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

RUNNER = "tenantry_run"
PROGRESS = "TN001"
"""The SQLSTATE of the notice that says which migration begins, and which statement of it."""
PASSING = frozenset({"55P03", "40P01", "40001", "57014"})


@lru_cache(maxsize=256)
def _render_arguments(migrations: tuple[Migration, ...], located: int | None) -> tuple[bytes, ...]:
    """The arguments of the runner for every migration: one statement at a time for the one to be located.

    The same for all tenants, thus rendered once.
    """
    rendered = []
    for number, migration in enumerate(migrations):
        texts = [migration.text]
        if number == located:
            texts = [statement.text for statement in split(migration.text)]
        statements = sql.SQL(", ").join([sql.Literal(text) for text in texts])
        arguments = sql.SQL("({number}, ARRAY[{statements}]::text[])").format(
            number=sql.Literal(number), statements=statements
        )
        rendered.append(arguments.as_bytes(None))
    # The call without a migration leaves nothing behind that would wait for COMMIT. Before PostgreSQL 18,
    # deferred triggers would run as the administrator then; cursors WITH HOLD still do.
    return (*rendered, b"(0, ARRAY[]::text[])")


@lru_cache(maxsize=256)
def _render_values(migrations: tuple[Migration, ...]) -> Rendered:
    rows = [
        sql.SQL("({}, {}, {})").format(
            sql.Literal(migration.version), sql.Literal(migration.name), sql.Literal(migration.checksum)
        )
        for migration in migrations
    ]
    return Rendered(sql.SQL(", ").join(rows).as_bytes(None))


_DEFERRED = "deferr"


def render_pace(pace: Pace | None) -> Script:
    """How long the transaction waits, for locks and for each migration."""
    script = Script()
    if pace is not None:
        script.format(
            "SET LOCAL lock_timeout = {lock};\nSET LOCAL statement_timeout = {statement}",
            lock=sql.Literal(max(1, round(pace.lock_timeout * 1000))),
            statement=sql.Literal(max(1, round(pace.timeout * 1000))),
        )
    return script


def render_run(
    schema: str,
    owner: str,
    migrations: tuple[Migration, ...],
    *,
    pace: Pace | None = None,
    located: int | None = None,
) -> Script:
    """Runs migrations as the owner role, in its schema. To be sent by a role that inherits from the owner.

    :param located: the number of the migration that is to be run statement by statement.
    """
    script = Script()
    if not migrations:
        return script
    deferred = any(_DEFERRED in migration.text.lower() for migration in migrations)
    runner = sql.Identifier(schema, RUNNER)
    script.format(
        "CREATE FUNCTION {runner}(number integer, statements text[]) RETURNS void LANGUAGE plpgsql\n"
        "SECURITY DEFINER SET search_path = {schema} SET client_min_messages = notice AS {body};\n"
        "ALTER FUNCTION {runner}(integer, text[]) OWNER TO {owner}",
        schema=sql.Identifier(schema),
        runner=runner,
        owner=sql.Identifier(owner),
        body=sql.Literal(_BODY.replace("/*each*/", _EACH if deferred else "")),
    )
    call = b"SELECT " + runner.as_bytes(None)
    # What one migration sets, a search path as pg_dump does for one, is not for the next.
    timeouts = render_pace(pace)
    between = b";\nRESET ALL;\n" + (timeouts.body() + b";\n" if timeouts else b"")
    script.add(timeouts)
    script.add(Rendered(between.join(call + arguments for arguments in _render_arguments(migrations, located))))
    return script.format("RESET ALL;\nDROP FUNCTION {runner}(integer, text[])", runner=runner)


_BODY = """
DECLARE
  tenantry_text text;
  tenantry_deferred text;
  tenantry_count integer := 0;
BEGIN
  FOREACH tenantry_text IN ARRAY statements LOOP
    RAISE NOTICE USING ERRCODE = 'TN001', MESSAGE = number || '/' || tenantry_count;
    EXECUTE tenantry_text;
    tenantry_count := tenantry_count + 1;
  END LOOP;
  IF tenantry_count = 0 THEN
    EXECUTE 'SET CONSTRAINTS ALL IMMEDIATE';
    EXECUTE 'CLOSE ALL';
    RETURN;
  END IF;
  RAISE NOTICE USING ERRCODE = 'TN001', MESSAGE = number || '/end';
  /*each*/
END
"""

_EACH = """
  -- As if every migration were a transaction of its own: checked at its end, deferred again for the next.
  SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.conname), ', '),
         pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.conname), ', ') FILTER (WHERE c.condeferred)
  INTO tenantry_text, tenantry_deferred
  FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
  WHERE c.condeferrable AND n.nspname = pg_catalog.current_schema();
  IF tenantry_text IS NOT NULL THEN
    EXECUTE 'SET CONSTRAINTS ' || tenantry_text || ' IMMEDIATE';
  END IF;
  IF tenantry_deferred IS NOT NULL THEN
    EXECUTE 'SET CONSTRAINTS ' || tenantry_deferred || ' DEFERRED';
  END IF;
"""


def render_ledger(schema: str, chain: Chain, migrations: tuple[Migration, ...]) -> Script:
    """Writes migrations down as applied, or undone. To be sent by the administrator."""
    script = Script()
    for migration in migrations:
        if migration.undo:
            script.format(
                "DELETE FROM tenantry.ledger\n"
                "WHERE schema = {schema} AND version = {version} AND migration = {migration}",
                schema=sql.Literal(schema),
                version=sql.Literal(migration.version),
                migration=sql.Literal(migration.name),
            )
    applied = tuple(migration for migration in migrations if not migration.undo)
    if applied:
        script.format(
            "INSERT INTO tenantry.ledger (schema, blueprint, version, migration, checksum)\n"
            "SELECT {schema}, {blueprint}, m.* FROM (VALUES {rows}) AS m (version, migration, checksum)",
            schema=sql.Literal(schema),
            blueprint=sql.Literal(chain.blueprint),
            rows=_render_values(applied),
        )
    return script


async def read_ledger(connection: Connection, schema: str) -> tuple[Applied, ...]:
    """What was applied to a schema, in that order."""
    cursor = await connection.execute(
        "SELECT version, migration, checksum FROM tenantry.ledger WHERE schema = %s ORDER BY position", (schema,)
    )
    return tuple(Applied(*row) for row in await cursor.fetchall())


@dataclass(slots=True)
class Progress:
    """Follows the runner by its notices: which migration was begun last, and which statement of it."""

    migration: int | None = None
    statement: int | None = 0
    """None: all have run, and what was deferred to the end is checked."""

    def notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        """To be called with every notice of the connection."""
        if diagnostic.sqlstate == PROGRESS:
            migration, _, statement = (diagnostic.message_primary or "").partition("/")
            if migration.isdigit():
                self.migration = int(migration)
                self.statement = int(statement) if statement.isdigit() else None


def is_of_migration(error: psycopg.Error) -> bool:
    """Whether an error came out of a migration, and not out of what the operator does around it.

    A session that was ended, or a full disk, is the server's fault, whatever was being run.
    """
    return f"{RUNNER}(" in (error.diag.context or "") and not is_of_server(error)


def explain(
    error: psycopg.Error, chain: Chain, migrations: Sequence[Migration], progress: Progress, where: str
) -> ReconcileError:
    """What an error in a migration means, for whoever wrote it."""
    migration = migrations[progress.migration or 0]
    what = f"{where}: {migration.what} of blueprint {chain.blueprint}"
    if error.sqlstate in PASSING:
        return Retryable("MigrationBlocked", f"{what} could not be run now: {describe(error)}")
    line = locate(error, migration.text, progress.statement)
    at = f", line {line}" if line is not None else ""
    if progress.statement is None:
        at = " in what was deferred to its end"
    hint = f" Hint: {error.diag.message_hint}" if error.diag.message_hint else ""
    return Stalled("MigrationFailed", f"{what} failed{at}: {describe(error)}.{hint}")


def locate(error: psycopg.Error, text: str, statement: int | None) -> int | None:
    """The line of a migration that an error is about, from 1; None when nobody can tell.

    :param statement: which statement of the migration was begun last, when they were run one at a time;
        None: the error came after all of them.
    """
    if statement is None:
        return None
    statements = split(text)
    position = error.diag.internal_position
    query = error.diag.internal_query
    if position and query:
        if query == text:
            return line_of(text, int(position) - 1)
        for candidate in statements:
            if candidate.text == query:
                return line_of(text, candidate.start + int(position) - 1)
    if len(statements) == 1 or statement:
        return line_of(text, statements[min(statement, len(statements) - 1)].start)
    return None
