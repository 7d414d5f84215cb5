"""One statement in every schema of a database, by psql in parallel: what a version of one ``ALTER TABLE`` costs
without Tenantry.

The schemas may be Tenantry's own, so that both do the same to the same tables; or those of the shop of
``examples/``, made by :func:`shop_schemas`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml
from psycopg import sql

from benchmarks.environment import say
from benchmarks.peers import Server
from benchmarks.references.psql import connect, new_database, run_psql, settle
from benchmarks.workload import named
from tenantry_local.paths import CHECKOUT

STATEMENT = "ALTER TABLE {schema}.orders ADD COLUMN {column} text"
"""The shop's orders have a ``note`` already: each run adds a column of another name."""
VERSIONS = ("1.0", "1.1")
_PROCESSES = (1, 2, 4)
_RECONNECT = 25
_DATABASE = "references"


@dataclass(frozen=True, slots=True)
class Way:
    """How psql is used: each process has one connection."""

    processes: int
    one_transaction: bool = False
    """Each psql does all of its statements in one transaction; else each is a transaction."""

    def __str__(self) -> str:
        return f"{self.processes} psql" + (", one transaction each" if self.one_transaction else "")


@dataclass(frozen=True, slots=True)
class Altered:
    """How long one way took, several times."""

    way: Way
    statements: int
    seconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Statements a second, by the median of the times."""
        return self.statements / statistics.median(self.seconds)

    def data(self) -> dict[str, Any]:
        """All figures, for machines."""
        return {
            "processes": self.way.processes,
            "one_transaction": self.way.one_transaction,
            "statements": self.statements,
            "seconds": [round(value, 3) for value in self.seconds],
            "rate": round(self.rate, 1),
        }


def usual_ways() -> tuple[Way, ...]:
    """1, 2, 4 processes and as many as there are processors; a transaction for each statement, or for all."""
    counts = sorted({*_PROCESSES, os.cpu_count() or 1})
    return tuple(Way(count, together) for together in (False, True) for count in counts)


def alter(
    server: Server,
    database: str,
    schemas: Sequence[str],
    *,
    statement: str = STATEMENT,
    ways: Sequence[Way] | None = None,
    runs: int = 3,
    column: str = "note",
) -> list[Altered]:
    """Runs the statement in every schema, by each way ``runs`` times; the ways take turns.

    :param statement: with ``{schema}``, and ``{column}`` where it needs a name that no run used before.
    :param ways: None: :func:`usual_ways`.
    :param column: how the columns' names begin.
    :raises RuntimeError: when psql fails.
    """
    chosen = list(ways if ways is not None else usual_ways())
    seconds: dict[Way, list[float]] = {way: [] for way in chosen}
    for number in range(runs):
        # Every other time in reverse order: whatever changes meanwhile then meets all alike.
        for way in chosen[:: -1 if number % 2 else 1]:
            index = number * len(chosen) + chosen.index(way)
            texts = scripts(statement, schemas, f"{column}{index}", way.processes)
            settle(server)
            seconds[way].append(run_psql(server, database, texts, one_transaction=way.one_transaction))
            say(f"{way}: {len(schemas) / seconds[way][-1]:.0f} statements a second")
    return [Altered(way, len(schemas), tuple(seconds[way])) for way in chosen]


def best(found: Sequence[Altered], *, one_transaction: bool = False) -> Altered:
    """The fastest with a transaction for each statement, or with one for all of a psql."""
    return max((each for each in found if each.way.one_transaction is one_transaction), key=lambda each: each.rate)


def scripts(statement: str, schemas: Sequence[str], column: str, processes: int) -> list[str]:
    """The statement for every schema, dealt out to so many processes."""
    template = sql.SQL(statement + ";\n")
    lines = [
        template.format(schema=sql.Identifier(schema), column=sql.Identifier(column)).as_string(None)
        for schema in schemas
    ]
    return ["".join(lines[number::processes]) for number in range(min(processes, len(lines)))]


@contextmanager
def shop_schemas(server: Server, count: int) -> Iterator[tuple[str, list[str]]]:
    """A database with so many schemas of the shop, dropped at the end; yields its name and theirs."""
    schemas = list(named(count))
    with new_database(server, _DATABASE) as database:
        # What the tables' defaults call; what it says does not matter, as nothing is inserted.
        run_psql(
            server,
            database,
            [
                "CREATE SCHEMA tenantry;\n"
                "CREATE FUNCTION tenantry.tenant_id() RETURNS text LANGUAGE sql STABLE RETURN 'nobody';\n"
            ],
        )
        migrations = _shop_migrations()
        processes = os.cpu_count() or 1
        say(f"making {count:,} schemas of the shop")
        run_psql(server, database, [_make(schemas[number::processes], migrations) for number in range(processes)])
        yield database, schemas


def shop_tables(server: Server, database: str, schema: str) -> int:
    """How many tables a schema has."""
    with connect(server, database) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", [schema]).fetchone()
    return int(row[0]) if row else 0


def _shop_migrations() -> str:
    """The SQL of the shop's versions, in order."""
    texts = []
    for version in VERSIONS:
        path = CHECKOUT / "examples" / "shop" / f"shop-{version}.yaml"
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]
        texts += [step["sql"] for step in spec["migrations"]]
    return "\n".join(texts)


def _make(schemas: Sequence[str], migrations: str) -> str:
    head = sql.SQL("BEGIN;\nCREATE SCHEMA {schema};\nSET LOCAL search_path = {schema};\n")
    text = []
    for number, schema in enumerate(schemas):
        if number % _RECONNECT == 0:
            text.append("\\connect\n")  # a session slows down with every function that it has seen
        text += [head.format(schema=sql.Identifier(schema)).as_string(None), migrations, "\nCOMMIT;\n"]
    return "".join(text)
