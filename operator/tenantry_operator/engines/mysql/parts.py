"""What is asked of a server's tables, one part each, and how the rows are read. Pure.

Every part is asked for by itself when a whole server is observed, and in one query with the others when it is
about one tenant: see :func:`together`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.names import BOOKS, Kind
from tenantry_operator.engines.mysql.privileges import COLUMNS, MARIADB_COLUMNS
from tenantry_operator.engines.mysql.sql import literal, literals, short_digest

Row = Sequence[Any]
EVERYBODY = ("", "PUBLIC")
"""Whose rights are everybody's: accounts without a name, and MariaDB's role of all."""
_ENCODED = re.compile(r"@([0-9a-f]{4})")


@dataclass(frozen=True, slots=True)
class Part:
    """A query of some columns."""

    columns: tuple[str, ...]
    source: str
    """All that comes after the columns."""

    @property
    def text(self) -> str:
        """The query."""
        return f"SELECT {', '.join(self.columns)} {self.source}"


def together(parts: Iterable[tuple[str, Part]]) -> str:
    """One query of several parts: each row begins with its part's word. All values come as bytes, or as None.

    As bytes, since the server's own tables are in several character sets, which do not go together.
    """
    found = list(parts)
    width = max(len(part.columns) for _, part in found)

    def one(word: str, part: Part) -> str:
        columns = [literal(word), *(f"CAST({column} AS BINARY)" for column in part.columns)]
        return Part((*columns, *["NULL"] * (width - len(part.columns))), part.source).text

    return " UNION ALL ".join(one(word, part) for word, part in found)


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
class MarkRow:
    """A line of ``marks``."""

    kind: Kind
    name: str
    mark: Mark
    made: bool
    """Its object was there; before that, it may be or not."""
    kept: bool = False
    """A login that was retired, and stays as the definer of what it made."""
    read_only: bool = False
    """On a database: writes are refused."""
    secret: str | None = None
    """On a login: a digest of what the server stored for its password."""


def text_of(value: object) -> str:
    """A value as text, whatever the server made of it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _users(names: Sequence[str] | None, column: str = "User") -> str:
    return "" if names is None else f" WHERE {column} IN ({literals(names)})"


def _and_everybody(names: Sequence[str] | None) -> Sequence[str] | None:
    return None if names is None else [*names, *EVERYBODY]


def accounts(flavour: Flavour, names: Sequence[str] | None) -> Part:
    """Accounts.

    :param names: those that are of interest, and what is everybody's; None: all.
    """
    where = _users(_and_everybody(names))
    if flavour.mariadb:
        return Part(("User", "Host", "Priv"), f"FROM mysql.global_priv{where}")
    columns = "+".join(f"({column} = 'Y')" for column in COLUMNS.values())
    rights = (
        f"{columns} + (Super_priv = 'Y') + (File_priv = 'Y') "
        "+ (Process_priv = 'Y') + (Reload_priv = 'Y') + (Create_user_priv = 'Y') + (Shutdown_priv = 'Y') "
        "+ (Show_db_priv = 'Y') + (Repl_slave_priv = 'Y') + (Repl_client_priv = 'Y') "
        "+ (Create_tablespace_priv = 'Y') + (Create_role_priv = 'Y') + (Drop_role_priv = 'Y') + (SELECT COUNT(*) "
        "FROM mysql.global_grants g WHERE g.USER = u.User AND g.HOST = u.Host)"
    )
    known = ("account_locked = 'Y'", "max_user_connections", "COALESCE(authentication_string, '')")
    return Part(("User", "Host", *known, rights), f"FROM mysql.user u{where}")


def read_account(flavour: Flavour, row: Row) -> Account | None:
    """An account; None for a role, unless it is everybody's."""
    if flavour.mariadb:
        return _of_mariadb(*row[:3])
    user, host, locked, limit, secret, rights = row[:6]
    stored = short_digest(text_of(secret))
    return Account(text_of(user), text_of(host), bool(int(locked)), int(limit), 0.0, stored, bool(int(rights)))


def _of_mariadb(user: object, host: object, text: object) -> Account | None:
    try:
        found: dict[str, Any] = json.loads(text_of(text))
    except ValueError:
        found = {}
    if found.get("is_role") and user not in ("PUBLIC", b"PUBLIC"):
        return None
    return Account(
        name=text_of(user),
        host=text_of(host),
        locked=bool(found.get("account_locked")),
        connections=int(found.get("max_user_connections") or 0),
        statement_timeout=float(found.get("max_statement_time") or 0),
        secret=stored_secret(found.get("plugin"), found.get("authentication_string"), found.get("auth_or")),
        is_global=bool(found.get("access")),
    )


def stored_secret(plugin: object, stored: object, ways: object = None) -> str:
    """The digest of what MariaDB stores for a password.

    :param ways: several ways to log in, of which the tenant could have added one.
    """
    return short_digest(json.dumps([plugin, stored, ways]))


def grants(flavour: Flavour, names: Sequence[str] | None) -> Part:
    """Rights on databases, those of everybody included."""
    columns = MARIADB_COLUMNS if flavour.mariadb else COLUMNS
    # One column of letters: there may be very many rows.
    letters = f"CONCAT({', '.join(columns.values())})"
    return Part(("User", "Host", "Db", letters), "FROM mysql.db" + _users(_and_everybody(names)))


def read_grant(flavour: Flavour, row: Row) -> tuple[str, Grant]:
    """Whose rights, and which."""
    user, host, pattern, letters = (text_of(value) for value in row[:4])
    words = tuple(MARIADB_COLUMNS if flavour.mariadb else COLUMNS)
    return user, Grant(host, pattern, _privileges(words, letters))


@lru_cache(maxsize=256)
def _privileges(words: tuple[str, ...], letters: str) -> frozenset[str]:
    return frozenset(word for word, letter in zip(words, letters, strict=True) if letter == "Y")


def others(flavour: Flavour, names: Sequence[str] | None) -> tuple[Part, ...]:
    """Rights on less than a database, roles, and whom somebody may stand for."""
    where = _users(_and_everybody(names))
    roles = (
        Part(("User", "CONCAT('role ', Role)"), f"FROM mysql.roles_mapping{where}")
        if flavour.mariadb
        else Part(
            ("TO_USER", "CONCAT('role ', FROM_USER)"),
            "FROM mysql.role_edges" + _users(_and_everybody(names), "TO_USER"),
        )
    )
    return (
        Part(("User", "Db"), f"FROM mysql.tables_priv{where}"),
        Part(("User", "Db"), f"FROM mysql.procs_priv{where}"),
        roles,
        Part(("User", "CONCAT('proxy of ', Proxied_user)"), f"FROM mysql.proxies_priv{where}"),
    )


def processes(flavour: Flavour) -> str:
    """The table of sessions; MySQL is about to take the old one out, and the new one can be off."""
    modern = not flavour.mariadb and flavour.version >= (8, 0, 22) and flavour.performance_schema
    return "performance_schema.processlist" if modern else "information_schema.processlist"


def sessions(flavour: Flavour, names: Sequence[str] | None) -> Part:
    """How many sessions each account has."""
    return Part(("user", "COUNT(*)"), f"FROM {processes(flavour)}{_users(names, 'user')} GROUP BY user")


def marks(names: Sequence[str] | None) -> Part:
    """The lines of ``marks``: all, or those on objects of some names."""
    columns = ("kind", "name", "mark", "made", "kept", "read_only", "secret")
    return Part(columns, f"FROM {BOOKS}.marks" + _users(names, "name"))


def read_mark(row: Row) -> MarkRow | None:
    """A line of ``marks``; None for what is no mark."""
    kind, own, text, made, kept, read_only, secret = row[:7]
    mark = Mark.decode(text_of(text))
    if mark is None:
        return None
    return MarkRow(
        Kind(text_of(kind)),
        text_of(own),
        mark,
        made=bool(int(made)),
        kept=bool(int(kept)),
        read_only=bool(int(read_only)),
        secret=None if secret is None else text_of(secret),
    )


def databases(name: str | None) -> Part:
    """The databases of a server, or the one of a name."""
    # Only what is compared by "=" spares the server a look into all of them.
    where = "" if name is None else f" WHERE schema_name = {literal(name)}"
    return Part(("schema_name",), f"FROM information_schema.schemata{where}")


def sizes(flavour: Flavour, name: str | None) -> Part:
    """The sizes of databases by their files."""
    table = "innodb_sys_tablespaces" if flavour.mariadb else "innodb_tablespaces"
    folder = "SUBSTRING_INDEX(name, '/', 1)"
    wanted = "" if name is None else f" AND {folder} = {literal(_encode(name))}"
    return Part(
        (folder, "SUM(file_size)"),
        f"FROM information_schema.{table} WHERE name LIKE '%/%'{wanted} GROUP BY {folder}",
    )


def changes(flavour: Flavour) -> Part:
    """By database, a number that moves when tables are made, altered or dropped. In MariaDB not with every change
    of an index, and with none of a view or routine; in MySQL not twice in a second, and with none of a routine."""
    if flavour.mariadb:
        return Part(
            ("SUBSTRING_INDEX(name, '/', 1)", "SUM(CRC32(CONCAT_WS('|', name, table_id, n_cols)))"),
            "FROM information_schema.innodb_sys_tables WHERE name LIKE '%/%' GROUP BY 1",
        )
    # MySQL's innodb_tables waits for whoever is making a table, in any database.
    return Part(
        ("table_schema", "SUM(CRC32(CONCAT_WS('|', table_name, create_time)))"),
        "FROM information_schema.tables WHERE table_schema NOT IN "
        "('mysql', 'sys', 'information_schema', 'performance_schema') GROUP BY 1",
    )


def has_tables(name: str) -> Part:
    """A row when there is a table in a database. Cheap: nothing is opened, and no other database looked into."""
    return Part(
        (literal(name), "COUNT(*)"),
        f"FROM information_schema.tables WHERE table_schema = {literal(name)} HAVING COUNT(*) > 0",
    )


def ledger(name: str) -> Part:
    """What was applied to a database: position, version, migration, checksum."""
    return Part(
        ("position", "version", "migration", "checksum"),
        f"FROM {BOOKS}.ledger WHERE tenant_database = {literal(name)}",
    )


def unfinished(name: str) -> Part:
    """What was begun in a database and did not end: version, migration, whether it undoes, checksum."""
    return Part(
        ("version", "migration", "undoing", "checksum"),
        f"FROM {BOOKS}.unfinished WHERE tenant_database = {literal(name)}",
    )


def _encode(database: str) -> str:
    """The name of a database as its folder is called."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character == "_")
        else f"@{ord(character):04x}"
        for character in database
    )


def decode(folder: str) -> str:
    """The name of a database by that of its folder."""
    return _ENCODED.sub(lambda match: chr(int(match.group(1), 16)), folder)
