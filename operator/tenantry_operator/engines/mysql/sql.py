"""Texts of SQL: names, strings, accounts. Pure.

The administrator's sessions have a sql_mode of their own, in which a backslash escapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pymysql.converters import escape_string

SQL_MODE = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Of the administrator's sessions."""


def name(text: str) -> str:
    """An identifier, quoted.

    :raises ValueError: for what can be none.
    """
    if not text or "\0" in text:
        raise ValueError("not an identifier")
    return "`" + text.replace("`", "``") + "`"


def literal(value: str | int | None) -> str:
    """A value, quoted."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    return f"'{escape_string(value)}'"


def literals(values: Iterable[str]) -> str:
    """Values for IN; what nothing equals when there are none."""
    return ", ".join(literal(value) for value in values) or "NULL"


def account(login: str) -> str:
    """An account, from whichever host."""
    return f"{literal(login)}@'%'"


def pattern(database: str) -> str:
    """A database in GRANT and REVOKE, where ``_`` and ``%`` stand for anything."""
    return name(database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))


def native_hash(password: str) -> str:
    """What mysql_native_password stores: the password itself is never sent, nor can it stand in a log."""
    inner = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def short_digest(text: str) -> str:
    """What tells two stored passwords apart without being one."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
