"""Observing a server: a number of queries that does not depend on its tenants, and a single one for one tenant.

Databases are measured by their files (tablespaces), which is cheap, always fresh, and what a disk has to hold:
what was deleted counts until the table is rebuilt. Tables of other storage engines than InnoDB are not in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pymysql

from tenantry_operator.engines.base import Names
from tenantry_operator.engines.halfway import Unfinished
from tenantry_operator.engines.mysql import parts
from tenantry_operator.engines.mysql.connections import Connection, Row, unhurried
from tenantry_operator.engines.mysql.errno import NOT_THERE, number_of
from tenantry_operator.engines.mysql.flavour import VARIABLES, Flavour
from tenantry_operator.engines.mysql.names import BOOKS, Kind, own_accounts
from tenantry_operator.engines.mysql.parts import Account, Grant, MarkRow, Part, text_of
from tenantry_operator.engines.mysql.privileges import sees_all
from tenantry_operator.engines.mysql.sql import literals
from tenantry_operator.engines.path import Applied

ANYWHERE = "%"


@dataclass(frozen=True, slots=True)
class Facts:
    """The server as a whole."""

    flavour: Flavour
    sessions: int
    max_connections: int
    rights: frozenset[str]
    """The administrator's own, on the whole server, as they were granted by now."""
    written: int | None = None
    """How far the server's log of changes has come; None: not known."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was read of a server."""

    flavour: Flavour
    databases: frozenset[str]
    accounts: Mapping[str, Sequence[Account]]
    grants: Mapping[str, Sequence[Grant]]
    others: Mapping[str, frozenset[str]]
    """By account: databases and roles on which it has rights otherwise: on tables, routines, as a role."""
    sessions: Mapping[str, int]
    marks: Mapping[tuple[Kind, str], MarkRow]
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of databases in which there are tables."""
    measured: bool = True
    """Whether the administrator may know sizes."""


@dataclass(frozen=True, slots=True)
class Single:
    """What was read of one tenant."""

    catalog: Catalog
    ledger: tuple[Applied, ...] = ()
    """What was applied to its database, in that order."""
    unfinished: tuple[Unfinished, str] | None = None
    """What was begun there and did not end, and the checksum of its text."""


async def observe_server(connection: Connection, flavour: Flavour) -> tuple[Facts, Catalog]:
    """Reads a whole server."""
    facts, prepared = await _facts(connection, flavour)

    async def rows(part: Part) -> AsyncIterator[Row]:
        async for row in unhurried(await connection.run(part.text)):
            yield row

    accounts = [parts.read_account(flavour, row) async for row in rows(parts.accounts(flavour, None))]
    others = await connection.run(parts.together(("", part) for part in parts.others(flavour, None)))
    marks = [parts.read_mark(row) async for row in rows(parts.marks(None))] if prepared else []
    sizes = await connection.run(parts.sizes(flavour, None).text) if sees_all(connection.rights) else []
    return facts, Catalog(
        flavour=flavour,
        databases=frozenset([text_of(row[0]) async for row in rows(parts.databases(None))]),
        accounts=_by_name(accounts),
        grants=_grouped([parts.read_grant(flavour, row) async for row in rows(parts.grants(flavour, None))]),
        others=_others(row[1:] for row in others),
        sessions=_numbers(await connection.run(parts.sessions(flavour, None).text)),
        marks=_by_object(marks),
        sizes=_sizes(sizes),
        measured=sees_all(connection.rights),
    )


async def _facts(connection: Connection, flavour: Flavour) -> tuple[Facts, bool]:
    """What the server is, and whether the operator's database is there."""
    rows = await connection.run(
        "SELECT @@max_connections, (SELECT COUNT(*) FROM information_schema.tables "
        f"WHERE table_schema = '{BOOKS}' AND table_name = 'unfinished')"
    )
    status: dict[str, Any] = dict(
        await connection.run(
            "SHOW GLOBAL STATUS WHERE Variable_name IN "
            "('Threads_connected', 'Innodb_lsn_current', 'Innodb_redo_log_current_lsn')"
        )
    )
    written = status.get("Innodb_lsn_current") or status.get("Innodb_redo_log_current_lsn")
    facts = Facts(
        flavour=flavour,
        sessions=int(status["Threads_connected"]),
        max_connections=int(rows[0][0]),
        rights=await connection.granted(),
        written=int(written) if written else None,
    )
    return facts, bool(rows[0][1])


async def observe_tenant(
    connection: Connection, flavour: Flavour, names: Names, *, measured: bool = False, ledger: bool = False
) -> Single:
    """Reads what belongs to one tenant, in one query.

    :param measured: with the size of its database; otherwise it is only told whether there are tables.
    :param ledger: with what was applied to it.
    """
    own, database = own_accounts(names), names.database
    asked = [
        ("database", parts.databases(database)),
        ("account", parts.accounts(flavour, own)),
        ("grant", parts.grants(flavour, own)),
        *(("other", part) for part in parts.others(flavour, own)),
        ("session", parts.sessions(flavour, own)),
    ]
    if not measured:
        asked.append(("size", parts.has_tables(database)))
    elif sees_all(connection.rights):
        asked.append(("size", parts.sizes(flavour, database)))
    books = [("mark", parts.marks([database, *own]))]
    if ledger:
        books += [("ledger", parts.ledger(database)), ("unfinished", parts.unfinished(database))]
    try:
        rows = await connection.run(parts.together([*asked, *books]))
    except pymysql.MySQLError as error:
        if number_of(error) not in NOT_THERE:
            raise
        # There is no database of the operator's yet, and thus no mark.
        rows = await connection.run(parts.together(asked))
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(text_of(row[0]), []).append(row[1:])
    return Single(
        Catalog(
            flavour=flavour,
            databases=frozenset(text_of(row[0]) for row in found.get("database", ())),
            accounts=_by_name(parts.read_account(flavour, row) for row in found.get("account", ())),
            grants=_grouped(parts.read_grant(flavour, row) for row in found.get("grant", ())),
            others=_others(found.get("other", ())),
            sessions=_numbers(found.get("session", ())),
            marks=_by_object(parts.read_mark(row) for row in found.get("mark", ())),
            sizes=_sizes(found.get("size", ())),
            measured=measured and sees_all(connection.rights),
        ),
        _ledger(found.get("ledger", ())),
        _unfinished(found.get("unfinished", ())),
    )


async def read_flavour(connection: Connection) -> Flavour:
    """Which server it is."""
    rows = await connection.run(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({literals(VARIABLES)})")
    return Flavour.of_variables({str(name).lower(): str(value) for name, value in rows})


async def read_changes(connection: Connection, flavour: Flavour) -> dict[str, int]:
    """By database, a number that moves with its tables: see :func:`.parts.changes`."""
    return _sizes(await connection.run(parts.changes(flavour).text))


def _by_name(accounts: Iterable[Account | None]) -> dict[str, list[Account]]:
    found: dict[str, list[Account]] = {}
    for account in accounts:
        if account is not None:
            found.setdefault(account.name, []).append(account)
    return found


def _grouped(grants: Iterable[tuple[str, Grant]]) -> dict[str, list[Grant]]:
    found: dict[str, list[Grant]] = {}
    for user, grant in grants:
        found.setdefault(user, []).append(grant)
    return found


def _others(rows: Iterable[Row]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for user, what, *_ in rows:
        found.setdefault(text_of(user), set()).add(text_of(what))
    return {user: frozenset(whats) for user, whats in found.items()}


def _by_object(marks: Iterable[MarkRow | None]) -> dict[tuple[Kind, str], MarkRow]:
    return {(mark.kind, mark.name): mark for mark in marks if mark is not None}


def _numbers(rows: Iterable[Row]) -> dict[str, int]:
    return {text_of(name): int(number or 0) for name, number, *_ in rows}


def _sizes(rows: Iterable[Row]) -> dict[str, int]:
    return {parts.decode(name): number for name, number in _numbers(rows).items()}


def _ledger(rows: Iterable[Row]) -> tuple[Applied, ...]:
    ordered = sorted(rows, key=lambda row: int(row[0]))
    return tuple(Applied(*(text_of(value) for value in row[1:4])) for row in ordered)


def _unfinished(rows: Sequence[Row]) -> tuple[Unfinished, str] | None:
    if not rows:
        return None
    version, migration, undo, checksum = rows[0][:4]
    return Unfinished(text_of(version), text_of(migration), bool(int(undo)), 0), text_of(checksum)
