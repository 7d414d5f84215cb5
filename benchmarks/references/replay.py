"""A new database with many tables by replaying the DDL with psql: the reference of Tenantry's templates."""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from benchmarks.environment import say
from benchmarks.peers import Server
from benchmarks.references import tables
from benchmarks.references.psql import connect, run_psql, settle

RUNS = 20


@dataclass(frozen=True, slots=True)
class Replayed:
    """How long each database took, one after the other."""

    tables: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds for a database."""
        return statistics.median(self.seconds)

    def data(self) -> dict[str, Any]:
        """All figures, for machines."""
        return {
            "tables": self.tables,
            "databases": len(self.seconds),
            "seconds": [round(value, 3) for value in self.seconds],
            "median": round(self.median, 3),
        }


def replay(server: Server, count: int = tables.TABLES, *, runs: int = RUNS, prefix: str = "replayed") -> Replayed:
    """Makes ``runs`` databases of ``count`` tables, and drops them when all are measured.

    Each is made by a psql of its own: ``CREATE DATABASE``, then the DDL as one message, which is one transaction
    (https://www.postgresql.org/docs/18/protocol-flow.html, Multiple Statements in a Simple Query).

    :param prefix: how the databases' names begin; those that are there already are dropped first.
    :raises RuntimeError: when psql fails, or a database has not all tables afterwards.
    """
    names = [f"{prefix}{number}" for number in range(runs)]
    ddl = message(count)
    _drop(server, names)
    try:
        settle(server)
        seconds = []
        for name in names:
            seconds.append(run_psql(server, "postgres", [_script(name, ddl)]))
        made = {name: _tables(server, name) for name in names}
    finally:
        with suppress(Exception):
            _drop(server, names)
    wrong = {name: number for name, number in made.items() if number != count}
    if wrong:
        raise RuntimeError(f"databases have not the {count} tables they should have: {wrong}")
    say(f"{runs} databases of {count} tables by psql: {statistics.median(seconds):.2f} s each")
    return Replayed(count, tuple(seconds))


def message(count: int) -> str:
    """The DDL as psql sends it in one message: with ``\\;`` between its statements."""
    texts = [text.removesuffix(";") for number in range(1, count + 1) for text in tables.statements(number)]
    return " \\;\n".join(texts) + ";\n"


def _script(name: str, ddl: str) -> str:
    database = sql.Identifier(name).as_string(None)
    return f"CREATE DATABASE {database} TEMPLATE template0;\n\\connect {database}\n{ddl}"


def _tables(server: Server, database: str) -> int:
    with connect(server, database) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    return int(row[0]) if row else 0


def _drop(server: Server, names: list[str]) -> None:
    with connect(server) as connection:
        for name in names:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
