"""What the operator keeps on a server for itself: the database ``tenantry``.

``marks`` says whose each database and account is. A mark is written before its object is made, so that a crash
leaves nothing unmarked, and taken away after it is gone. The ledger of migrations is here and not in the
tenants' databases: rights on a database include all its tables, and no tenant is to write its own ledger. Who
dumps a tenant's database to move it takes its lines of ``ledger`` along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration, Stale
from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.names import BOOKS, Kind
from tenantry_operator.engines.mysql.parts import MarkRow, marks, read_mark
from tenantry_operator.engines.mysql.sql import literal, name
from tenantry_operator.errors import Stalled

_COMMENT = "Made by Tenantry"
_TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_TABLES = (
    f"""CREATE TABLE IF NOT EXISTS {BOOKS}.marks (
  kind VARCHAR(16) NOT NULL,
  name VARCHAR(64) NOT NULL,
  mark TEXT NOT NULL,
  made BOOLEAN NOT NULL DEFAULT FALSE,
  kept BOOLEAN NOT NULL DEFAULT FALSE,
  read_only BOOLEAN NOT NULL DEFAULT FALSE,
  secret VARCHAR(64),
  PRIMARY KEY (kind, name)
) ENGINE = InnoDB {_TEXT} COMMENT = '{_COMMENT}'""",
    f"""CREATE TABLE IF NOT EXISTS {BOOKS}.ledger (
  position BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  tenant_database VARCHAR(64) NOT NULL,
  blueprint VARCHAR(512) NOT NULL,
  version VARCHAR(128) NOT NULL,
  migration VARCHAR(256) NOT NULL,
  checksum CHAR(64) NOT NULL,
  applied TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
  KEY (tenant_database)
) ENGINE = InnoDB {_TEXT}""",
    f"""CREATE TABLE IF NOT EXISTS {BOOKS}.texts (
  checksum CHAR(64) NOT NULL PRIMARY KEY,
  migration LONGTEXT NOT NULL,
  undoing LONGTEXT
) ENGINE = InnoDB {_TEXT}""",
    f"""CREATE TABLE IF NOT EXISTS {BOOKS}.unfinished (
  tenant_database VARCHAR(64) NOT NULL PRIMARY KEY,
  version VARCHAR(128) NOT NULL,
  migration VARCHAR(256) NOT NULL,
  undoing BOOLEAN NOT NULL,
  checksum CHAR(64) NOT NULL
) ENGINE = InnoDB {_TEXT}""",
)


async def prepare(connection: Connection, server: str) -> None:
    """Makes the operator's database.

    :raises Stalled: NameTaken, when somebody else has one of that name.
    """
    rows = await connection.run(
        f"SELECT table_name, table_comment FROM information_schema.tables WHERE table_schema = {literal(BOOKS)}"
    )
    tables = {str(row[0]): str(row[1]) for row in rows}
    if tables and tables.get("marks") != _COMMENT:
        raise Stalled(
            "NameTaken",
            f"server {server} has a database {BOOKS} that Tenantry did not make; it is left alone. Rename it, or "
            "use another server",
        )
    if not tables:
        await connection.run(f"CREATE DATABASE IF NOT EXISTS {name(BOOKS)} {_TEXT}")
    for table in _TABLES:
        await connection.run(table)


async def claim(connection: Connection, names: Sequence[tuple[Kind, str]], mark: Mark) -> None:
    """Puts a mark on things that are to be made: on all of them, or on none.

    :raises pymysql.MySQLError: 1062, when one of them has a mark already.
    """
    text = literal(mark.encode())
    lines = ", ".join(f"({literal(kind)}, {literal(own)}, {text})" for kind, own in names)
    await connection.run(f"INSERT INTO {BOOKS}.marks (kind, name, mark) VALUES {lines}")


async def write_made(connection: Connection, names: Sequence[tuple[Kind, str]]) -> None:
    """Notes that things are there."""
    await connection.run(f"UPDATE {BOOKS}.marks SET made = 1 WHERE (kind, name) IN ({_pairs(names)})")


async def write_mark(connection: Connection, row: MarkRow) -> None:
    """Changes a mark."""
    await connection.run(
        f"UPDATE {BOOKS}.marks SET mark = {literal(row.mark.encode())}, made = {int(row.made)}, "
        f"kept = {int(row.kept)}, read_only = {int(row.read_only)}, secret = {literal(row.secret)} "
        f"WHERE kind = {literal(row.kind)} AND name = {literal(row.name)}"
    )


async def drop_marks(connection: Connection, names: Sequence[tuple[Kind, str]]) -> None:
    """Takes marks away, all at once."""
    if names:
        await connection.run(f"DELETE FROM {BOOKS}.marks WHERE (kind, name) IN ({_pairs(names)})")


def _pairs(names: Sequence[tuple[Kind, str]]) -> str:
    return ", ".join(f"({literal(kind)}, {literal(own)})" for kind, own in names)


async def write_unfinished(connection: Connection, row: MarkRow, migration: Migration, under_way: Mark) -> None:
    """A migration is about to begin: known from outside, too, from now on.

    The mark comes first: by it, what is not noted yet is begun again.
    """
    if row.mark != under_way:
        await write_mark(connection, replace(row, mark=under_way))
    values: tuple[str | int, ...] = (
        row.name,
        migration.version,
        migration.name,
        int(migration.undo),
        migration.checksum,
    )
    await connection.run(
        f"REPLACE INTO {BOOKS}.unfinished (tenant_database, version, migration, undoing, checksum) "
        f"VALUES ({', '.join(map(literal, values))})"
    )


async def write_applied(connection: Connection, row: MarkRow, chain: Chain, migration: Migration) -> None:
    """A migration came to its end; the mark stays that of a database on its way."""
    await connection.run("START TRANSACTION")
    if migration.undo:
        await connection.run(
            f"DELETE FROM {BOOKS}.ledger WHERE tenant_database = {literal(row.name)} "
            f"AND version = {literal(migration.version)} AND migration = {literal(migration.name)}"
        )
    else:
        values = (row.name, chain.blueprint, migration.version, migration.name, migration.checksum)
        await connection.run(
            f"INSERT INTO {BOOKS}.ledger (tenant_database, blueprint, version, migration, checksum) "
            f"VALUES ({', '.join(map(literal, values))})"
        )
    await connection.run(f"DELETE FROM {BOOKS}.unfinished WHERE tenant_database = {literal(row.name)}")
    await connection.run("COMMIT")


async def write_not_begun(connection: Connection, row: MarkRow) -> None:
    """A migration failed before anything of it was done; the mark is what it was before."""
    await connection.run("START TRANSACTION")
    await connection.run(f"DELETE FROM {BOOKS}.unfinished WHERE tenant_database = {literal(row.name)}")
    await write_mark(connection, row)
    await connection.run("COMMIT")


async def write_text(connection: Connection, migration: Migration) -> None:
    """Keeps the text of a migration and what undoes it, once for all tenants."""
    values = (migration.checksum, migration.text, migration.rollback)
    await connection.run(
        f"REPLACE INTO {BOOKS}.texts (checksum, migration, undoing) VALUES ({', '.join(map(literal, values))})"
    )


async def recorded_chain(connection: Connection, database: str, blueprint: str) -> Chain:
    """What was applied to a database, and after it what is half done, with the texts that were kept."""
    rows = await connection.run(
        "SELECT l.version, l.migration, t.migration, t.undoing FROM ("
        f"SELECT position, version, migration, checksum FROM {BOOKS}.ledger "
        f"WHERE tenant_database = {literal(database)} UNION ALL "
        f"SELECT ~0, version, migration, checksum FROM {BOOKS}.unfinished "
        f"WHERE tenant_database = {literal(database)} AND NOT undoing"
        f") l JOIN {BOOKS}.texts t ON t.checksum = l.checksum ORDER BY l.position"
    )
    migrations = [Migration(version, own, text, rollback=undoing) for version, own, text, undoing in rows]
    return Chain.of(blueprint, migrations[-1].version if migrations else "", migrations)


async def mark_of(connection: Connection, kind: Kind, own: str, desired: Desired) -> MarkRow:
    """The mark on a tenant's database or account.

    :raises Stale: when it is not the tenant's.
    """
    for line in await connection.run(f"{marks([own]).text} AND kind = {literal(kind)}"):
        row = read_mark(line)
        if row is not None and row.mark.same_owner(desired.mark):
            return row
    raise Stale(f"{kind} {own} has not the mark of {desired.tenant} any more")


async def forget(connection: Connection, database: str) -> None:
    """Nothing was ever applied to a database, which is gone. What is left of it by a crash goes the next time."""
    for table in ("ledger", "unfinished"):
        await connection.run(f"DELETE FROM {BOOKS}.{table} WHERE tenant_database = {literal(database)}")
