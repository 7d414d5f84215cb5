"""The queries that observe a server: their number does not depend on its tenants.

Databases are measured by their files (tablespaces), which is cheap, always fresh, and what a disk has to hold:
what was deleted counts until the table is rebuilt. Tables of other storage engines than InnoDB are not in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tenantry_operator.engines.mysql.books import Kind, MarkRow, read_marks
from tenantry_operator.engines.mysql.connections import Connection, Row, unhurried
from tenantry_operator.engines.mysql.flavour import VARIABLES, Flavour
from tenantry_operator.engines.mysql.names import BOOKS
from tenantry_operator.engines.mysql.privileges import COLUMNS, MARIADB_COLUMNS
from tenantry_operator.engines.mysql.sql import literals, short_digest

_ENCODED = re.compile(r"@([0-9a-f]{4})")
ANYWHERE = "%"


_GLOBAL = re.compile(r"GRANT (.*?) ON \*\.\* TO ")


def rights_of(grants: Iterable[str]) -> frozenset[str]:
    """The rights on the whole server in what SHOW GRANTS answers, with spaces: ``CREATE USER``."""
    found: set[str] = set()
    for grant in grants:
        match = _GLOBAL.match(grant)
        if match is not None:
            found |= {word.strip().replace("_", " ") for word in match.group(1).split(",")}
    return frozenset(found)


def sees_all(rights: frozenset[str]) -> bool:
    """Whether the administrator sees the sessions of others, and sizes."""
    return not rights.isdisjoint({"PROCESS", "ALL PRIVILEGES"})


@dataclass(frozen=True, slots=True)
class Facts:
    """The server as a whole."""

    flavour: Flavour
    sessions: int
    max_connections: int
    rights: frozenset[str]
    """The administrator's own, on the whole server. What SHOW GRANTS answers is not kept: a hash is in it."""
    prepared: bool
    """The operator's database is there."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account, without its password."""

    name: str
    host: str
    locked: bool
    connections: int
    """MAX_USER_CONNECTIONS; 0: no limit."""
    statement_timeout: float
    """MAX_STATEMENT_TIME in seconds; 0: no limit, or MySQL, which has none."""
    secret: str
    """A digest of what is stored for its password."""
    is_global: bool
    """It has rights on the whole server."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights on a database."""

    host: str
    pattern: str
    privileges: frozenset[str]


@dataclass(frozen=True, slots=True)
class Catalog:
    """What was read of a server."""

    facts: Facts
    databases: frozenset[str]
    accounts: Mapping[str, Sequence[Account]]
    grants: Mapping[str, Sequence[Grant]]
    others: Mapping[str, frozenset[str]]
    """By account: databases and roles on which it has rights otherwise: on tables, routines, as a role."""
    sessions: Mapping[str, int]
    marks: Mapping[tuple[Kind, str], MarkRow]
    sizes: Mapping[str, int] = field(default_factory=dict)


async def observe_server(
    connection: Connection,
    flavour: Flavour,
    *,
    databases: Sequence[str] | None = None,
    accounts: Sequence[str] | None = None,
) -> Catalog:
    """Reads a server.

    :param databases: those that are of interest; None: all. Likewise ``accounts``.
    """
    facts = await _facts(connection, flavour)
    named = "" if databases is None else f"WHERE schema_name IN ({literals(databases)})"
    schemata = await connection.run(f"SELECT schema_name FROM information_schema.schemata {named}")
    return Catalog(
        facts=facts,
        databases=frozenset(str(row[0]) for row in schemata),
        accounts=_by_name(await read_accounts(connection, flavour, accounts)),
        grants=await _grants(connection, flavour, accounts),
        others=await _others(connection, flavour, accounts),
        sessions=await _sessions(connection, flavour),
        marks={
            (row.kind, row.name): row
            for row in (
                await read_marks(connection, None if databases is None else [*databases, *(accounts or ())])
                if facts.prepared
                else ()
            )
        },
        sizes=await _sizes(connection, flavour, databases) if sees_all(facts.rights) else {},
    )


async def read_flavour(connection: Connection) -> Flavour:
    """Which server it is."""
    rows = await connection.run(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({literals(VARIABLES)})")
    return Flavour.of_variables({str(name).lower(): str(value) for name, value in rows})


async def _facts(connection: Connection, flavour: Flavour) -> Facts:
    rows = await connection.run(
        "SELECT @@max_connections, (SELECT COUNT(*) FROM information_schema.tables "
        f"WHERE table_schema = '{BOOKS}' AND table_name = 'unfinished')"
    )
    sessions = await connection.run("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    grants = await connection.run("SHOW GRANTS")
    return Facts(
        flavour=flavour,
        sessions=int(sessions[0][1]),
        max_connections=int(rows[0][0]),
        rights=rights_of(str(row[0]) for row in grants),
        prepared=bool(rows[0][1]),
    )


def _users(names: Sequence[str] | None, *, also: str = "") -> str:
    return "" if names is None else f" WHERE User IN ({literals(names)}){also}"


async def read_accounts(connection: Connection, flavour: Flavour, names: Sequence[str] | None) -> list[Account]:
    """Accounts; roles are none.

    :param names: those that are of interest; None: all.
    """
    if flavour.mariadb:
        rows = await connection.run(f"SELECT User, Host, Priv FROM mysql.global_priv{_users(names)}")
        return [account async for row in unhurried(rows) if (account := _of_mariadb(row)) is not None]
    columns = "+".join(f"({column} = 'Y')" for column in COLUMNS.values())
    rows = await connection.run(
        "SELECT User, Host, account_locked = 'Y', max_user_connections, "
        f"COALESCE(authentication_string, ''), {columns} + (Super_priv = 'Y') + (File_priv = 'Y') "
        "+ (Process_priv = 'Y') + (Reload_priv = 'Y') + (Create_user_priv = 'Y') + (Shutdown_priv = 'Y') "
        "+ (Show_db_priv = 'Y') + (Repl_slave_priv = 'Y') + (Repl_client_priv = 'Y') "
        "+ (Create_tablespace_priv = 'Y') + (Create_role_priv = 'Y') + (Drop_role_priv = 'Y') + (SELECT COUNT(*) "
        "FROM mysql.global_grants g WHERE g.USER = u.User AND g.HOST = u.Host) "
        f"FROM mysql.user u{_users(names)}"
    )
    return [
        Account(user, host, bool(locked), int(limit), 0.0, short_digest(_text(secret)), bool(rights))
        for user, host, locked, limit, secret, rights in rows
    ]


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _of_mariadb(row: Row) -> Account | None:
    user, host, text = row
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        found = {}
    if found.get("is_role"):
        return None
    # Several ways to log in, of which the tenant could have added one, are part of it, too.
    secret = json.dumps([found.get("plugin"), found.get("authentication_string"), found.get("auth_or")])
    return Account(
        name=str(user),
        host=str(host),
        locked=bool(found.get("account_locked")),
        connections=int(found.get("max_user_connections") or 0),
        statement_timeout=float(found.get("max_statement_time") or 0),
        secret=short_digest(secret),
        is_global=bool(found.get("access")),
    )


def _by_name(accounts: Sequence[Account]) -> dict[str, list[Account]]:
    found: dict[str, list[Account]] = {}
    for account in accounts:
        found.setdefault(account.name, []).append(account)
    return found


async def _grants(connection: Connection, flavour: Flavour, names: Sequence[str] | None) -> dict[str, list[Grant]]:
    columns = MARIADB_COLUMNS if flavour.mariadb else COLUMNS
    words = tuple(columns)
    rows = await connection.run(
        # One column of letters: there may be very many rows.
        f"SELECT User, Host, Db, CONCAT({', '.join(columns.values())}) FROM mysql.db"
        + _users(names, also=" OR User IN ('', 'PUBLIC')")
    )
    found: dict[str, list[Grant]] = {}
    async for user, host, pattern, flags in unhurried(rows):
        found.setdefault(str(user), []).append(Grant(str(host), str(pattern), _privileges(words, str(flags))))
    return found


@lru_cache(maxsize=256)
def _privileges(words: tuple[str, ...], flags: str) -> frozenset[str]:
    return frozenset(word for word, flag in zip(words, flags, strict=True) if flag == "Y")


async def _others(
    connection: Connection, flavour: Flavour, names: Sequence[str] | None
) -> dict[str, frozenset[str]]:
    where = _users(names)
    roles = (
        f"SELECT User, CONCAT('role ', Role) FROM mysql.roles_mapping{where}"
        if flavour.mariadb
        else "SELECT TO_USER, CONCAT('role ', FROM_USER) FROM mysql.role_edges" + where.replace("User", "TO_USER")
    )
    rows = await connection.run(
        f"SELECT User, Db FROM mysql.tables_priv{where} UNION SELECT User, Db FROM mysql.procs_priv{where} "
        f"UNION {roles} UNION SELECT User, CONCAT('proxy of ', Proxied_user) FROM mysql.proxies_priv{where}"
    )
    found: dict[str, set[str]] = {}
    for user, what in rows:
        found.setdefault(_text(user), set()).add(_text(what))
    return {user: frozenset(whats) for user, whats in found.items()}


async def _sessions(connection: Connection, flavour: Flavour) -> dict[str, int]:
    rows = await connection.run(f"SELECT user, COUNT(*) FROM {processes(flavour)} GROUP BY user")
    return {str(user): int(count) for user, count in rows}


def processes(flavour: Flavour) -> str:
    """The table of sessions; MySQL is about to take the old one out, and the new one can be off."""
    modern = not flavour.mariadb and flavour.version >= (8, 0, 22) and flavour.performance_schema
    return "performance_schema.processlist" if modern else "information_schema.processlist"


async def _sizes(connection: Connection, flavour: Flavour, databases: Sequence[str] | None) -> dict[str, int]:
    table = "innodb_sys_tablespaces" if flavour.mariadb else "innodb_tablespaces"
    folder = "SUBSTRING_INDEX(name, '/', 1)"
    wanted = "" if databases is None else f" AND {folder} IN ({literals(map(_encode, databases))})"
    rows = await connection.run(
        f"SELECT {folder}, SUM(file_size) FROM information_schema.{table} WHERE name LIKE '%/%'{wanted} "
        f"GROUP BY {folder}"
    )
    return {_decode(str(name)): int(size or 0) for name, size in rows}


async def read_changes(connection: Connection, flavour: Flavour) -> dict[str, int]:
    """By database, a number that moves when tables are made, altered or dropped; not with every change of an
    index, and with none of a view or routine."""
    table = "innodb_sys_tables" if flavour.mariadb else "innodb_tables"
    rows = await connection.run(
        "SELECT SUBSTRING_INDEX(name, '/', 1), SUM(CRC32(CONCAT_WS('|', name, table_id, n_cols))) "
        f"FROM information_schema.{table} WHERE name LIKE '%/%' GROUP BY 1"
    )
    return {_decode(str(name)): int(number) for name, number in rows}


def _encode(database: str) -> str:
    """The name of a database as its folder is called."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character == "_")
        else f"@{ord(character):04x}"
        for character in database
    )


def _decode(folder: str) -> str:
    return _ENCODED.sub(lambda match: chr(int(match.group(1), 16)), folder)
