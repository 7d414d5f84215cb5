"""Where a migration stands: a table of its own in the operator's database, for as long as it runs.

The migration's account may read and change it, and nothing else there. So what a transaction did to the data and
that it was done become true at the same moment. Of a definition, which commits by itself, it is written down
before it begins how the database is defined then: after a crash, a database that is still defined like that has
not seen it. The one thing this cannot tell is EXCHANGE PARTITION, which swaps rows and changes no definition.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pymysql

from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.errno import NOTHING_TO_REVOKE, number_of
from tenantry_operator.engines.mysql.names import BOOKS
from tenantry_operator.engines.mysql.sql import account, literal, name


def table_of(database: str) -> str:
    """The progress table of a tenant's database, quoted."""
    return f"{name(BOOKS)}.{name('run_' + hashlib.sha256(database.encode()).hexdigest()[:32])}"


@dataclass(frozen=True, slots=True)
class Progress:
    """A line of the table."""

    done: int
    """How many statements have been done."""
    before: str | None
    """How the database was defined when the next one began; None: that is no definition, or has not begun."""


async def begin(connection: Connection, database: str) -> None:
    """Migrations are about to begin. For the administrator."""
    table = table_of(database)
    await connection.run(f"DROP TABLE IF EXISTS {table}")
    await connection.run(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, done INT NOT NULL, before_definition CHAR(64)) "
        "ENGINE = InnoDB CHARACTER SET ascii"
    )
    # Not in one with the table, which some ways of replicating refuse.
    await connection.run(f"INSERT INTO {table} VALUES (1, 0, NULL)")


async def again(connection: Connection, database: str) -> None:
    """The next migration is about to begin, where one came to its end. For the administrator."""
    await write(connection, database, Progress(0, None))


async def allow(connection: Connection, database: str, login: str) -> None:
    """Lets an account write it. For the administrator."""
    await connection.run(f"GRANT SELECT, UPDATE ON {table_of(database)} TO {account(login)}")


async def end(connection: Connection, database: str, login: str) -> None:
    """Migrations came to their end. For the administrator."""
    # Rights on a table outlive it.
    try:
        await connection.run(f"REVOKE ALL PRIVILEGES ON {table_of(database)} FROM {account(login)}")
    except pymysql.MySQLError as error:
        if number_of(error) not in NOTHING_TO_REVOKE:
            raise
    await drop(connection, database)


async def drop(connection: Connection, database: str) -> None:
    """Drops what is left, when the account that could write it goes, too. For the administrator."""
    await connection.run(f"DROP TABLE IF EXISTS {table_of(database)}")


async def read(connection: Connection, database: str) -> Progress:
    """Where it stands."""
    rows = await connection.run(f"SELECT done, before_definition FROM {table_of(database)} WHERE id = 1")
    return Progress(int(rows[0][0]), rows[0][1])


async def write(connection: Connection, database: str, progress: Progress) -> None:
    """Where it stands from now on."""
    await connection.run(
        f"UPDATE {table_of(database)} SET done = {progress.done}, before_definition = {literal(progress.before)} "
        "WHERE id = 1"
    )
