"""From the error numbers of MySQL and MariaDB to the operator's errors.

Sources: MySQL's "Server Error Message Reference" and MariaDB's "MariaDB Error Code Reference"; numbers below
1900 and the client's own, from 2000, are common to both.
"""

from __future__ import annotations

import ssl

import pymysql

from tenantry_operator.engines.base import Stale
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

_SYNTAX = 1064
NO_SUCH_THREAD = 1094
NO_SUCH_TABLE = 1146
NOT_THERE = frozenset({1049, NO_SUCH_TABLE})
"""No such database, no such table: what a table is whose database is not there depends on the server."""
NOTHING_TO_REVOKE = frozenset({1133, 1141, NO_SUCH_TABLE, 1147})
"""No such account, grant, table, or grant on a table."""
_AWAY = frozenset({1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 2014})
"""Shutting down, killed, aborted, lost, out of step."""
_FULL = frozenset({1021, 1037, 1038, 1040, 1041, 1114, 1135, 1203, 1226})
"""Disk, memory, connections."""
BUSY = {
    1205: "LockTimeout",
    1213: "Deadlock",
    1317: "Timeout",
    1969: "Timeout",
    3024: "Timeout",
    3572: "LockTimeout",
    4031: "Timeout",
}
TIMEOUTS = frozenset({1317, 1969, 3024})
_CHANGED = {
    1007: "a database of that name exists already",
    1008: "the database is gone",
    1049: "the database is gone",
    1062: "a line exists already",
    1133: "an account is gone",
    1141: "a grant is gone",
    NO_SUCH_TABLE: "a table is gone",
    1396: "an account exists already, or is gone",
}
_LACKING = frozenset({1044, 1095, 1142, 1143, 1227, 1370, 1410, 1419})
_LOGIN_REFUSED = frozenset({1045, 1130, 1251, 1524, 1698, 1820, 1862, 3118, 4151})
_TLS = frozenset({2026, 3159})


def number_of(error: Exception) -> int:
    """The number of an error; 0 when it has none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def describe(error: Exception) -> str:
    """An error in one line, with its number: for messages that people read."""
    number = number_of(error)
    text = " ".join(str(error.args[1] if number and len(error.args) > 1 else error).split())[:500]
    return f"{text or type(error).__name__} [error {number}]" if number else text or type(error).__name__


def is_of_server(error: Exception) -> bool:
    """Whether an error is about the server or the connection, and not about what was asked for."""
    number = number_of(error)
    return number in _AWAY or number in _FULL or (not number and not isinstance(error, pymysql.MySQLError))


def answered(error: Exception) -> bool:
    """Whether it was the server that refused a connection: then it is there."""
    number = number_of(error)
    return number in _LOGIN_REFUSED or number in (1044, 1049) or number in _FULL


def connect_error(error: Exception, server: str) -> ReconcileError | Stale:
    """What a failed attempt to connect means."""
    text, number, cause = describe(error), number_of(error), error.__cause__
    if cause is not None:
        text = f"{text}: {' '.join(str(cause).split())}"
    if number in (1044, 1049):
        return Stale(f"a database on {server}: {text}")
    if number in _LOGIN_REFUSED or number in _TLS or isinstance(cause, ssl.SSLCertVerificationError):
        return Stalled(
            "AdminLoginRefused",
            f"server {server} refuses the administrator's login: {text}. "
            "Mend the adminSecret of the DatabaseInstance, or the server",
        )
    if number in _FULL:
        return Retryable("ServerOutOfResources", f"server {server}: {text}")
    return Retryable("ServerUnreachable", f"server {server} cannot be reached: {text}")


def translate(error: Exception, what: str) -> ReconcileError | Stale:
    """What an error means for a reconcile.

    :param what: which object was worked on, where: "database shop__acme on 10.0.0.5:3306".
    """
    number, text = number_of(error), describe(error)
    if number == _SYNTAX:
        # The server repeats a part of the statement, which may be what nobody is to see.
        return Stalled(
            "ServerRefused", f"{what}: it does not understand a statement of the operator's [error 1064]"
        )
    if number in _FULL:
        return Retryable("ServerOutOfResources", f"{what}: {text}")
    if is_of_server(error):
        return Retryable("ServerUnreachable", f"{what}: the server was lost: {text}")
    if number in BUSY:
        return Retryable(BUSY[number], f"{what}: {text}")
    if number in _CHANGED:
        return Stale(f"{what}: {_CHANGED[number]}: {text}")
    if number in _LOGIN_REFUSED:
        return Stalled("AdminLoginRefused", f"{what}: {text}")
    if number in _LACKING:
        return Stalled("AdminLacksRights", f"{what}: {text}. Give the administrator that right")
    return Stalled("ServerRefused", f"{what}: {text}")
