"""From PostgreSQL's SQLSTATEs to the operator's errors.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import psycopg

from tenantry_operator.engines.base import Stale
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

_UNREACHABLE = {"57P01", "57P02", "57P03", "57P04", "57P05", "25P03"}
_BUSY = {
    "40001": "SerializationFailure",
    "40P01": "Deadlock",
    "55P03": "LockTimeout",
    "55006": "ObjectInUse",
    "57014": "Timeout",
    "54001": "ServerBusy",
}
_CHANGED = {
    "42710": "an object of that name exists already",
    "42P04": "a database of that name exists already",
    "42P06": "a schema of that name exists already",
    "42P07": "a table of that name exists already",
    "42723": "a function of that name exists already",
    "42704": "an object is gone",
    "3D000": "the database is gone",
    "3F000": "the schema is gone",
    "23505": "a line exists already",
    "42P01": "a table is gone",
    "42883": "a function is gone",
}
_LOGIN_REFUSED = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "no password supplied",
    "authentication failed",
    "pg_hba.conf rejects connection",
    "certificate",
)
_NO_ROLE = ("role ", "does not exist")


def describe(error: psycopg.Error) -> str:
    """An error in one line, with its SQLSTATE: for messages that people read.

    Neither the statement nor its parameters are in it, as they may hold what is nobody's business.
    """
    primary = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    return f"{primary}{detail} [SQLSTATE {error.sqlstate}]" if error.sqlstate else primary


def is_of_server(error: psycopg.Error) -> bool:
    """Whether an error is about the server or the connection, and not about what was asked for."""
    state = error.sqlstate or ""
    if not state:
        return isinstance(error, psycopg.OperationalError)
    return state in _UNREACHABLE or state.startswith(("08", "53"))


def answered(error: psycopg.Error) -> bool:
    """Whether it was the server that refused a connection: then it is there."""
    return "FATAL" in str(error)


def connect_error(error: psycopg.Error, server: str, database: str) -> ReconcileError | Stale:
    """What a failed attempt to connect means.

    libpq gives no SQLSTATE for it, so the text decides; a text that is not known counts as passing.
    """
    text = " ".join(str(error).split())
    lowered = text.lower()
    if f'database "{database}" does not exist' in text or "is not currently accepting connections" in text:
        return Stale(f"database {database} on {server}: {text}")
    refused = any(words in lowered for words in _LOGIN_REFUSED) or all(words in lowered for words in _NO_ROLE)
    if refused:
        return Stalled(
            "AdminLoginRefused",
            f"server {server} refuses the administrator's login: {text}. "
            "Mend the adminSecret of the DatabaseInstance, or the server",
        )
    return Retryable("ServerUnreachable", f"server {server} cannot be reached: {text}")


def translate(error: psycopg.Error, what: str) -> ReconcileError | Stale:
    """What an error means for a reconcile.

    :param what: which object was worked on, where: "database shop, schema acme on 10.0.0.5:5432".
    """
    state = error.sqlstate or ""
    text = describe(error)
    if state in _CHANGED:
        return Stale(f"{what}: {_CHANGED[state]}: {text}")
    if state.startswith("53"):
        return Retryable("ServerOutOfResources", f"{what}: {text}")
    if is_of_server(error):
        return Retryable("ServerUnreachable", f"{what}: the server was lost: {text}")
    if state in _BUSY:
        return Retryable(_BUSY[state], f"{what}: {text}")
    if state.startswith("28"):
        return Stalled("AdminLoginRefused", f"{what}: {text}")
    if state == "42501":
        return Stalled(
            "AdminLacksRights", f"{what}: {text}. Give the administrator that right, or the object to it"
        )
    if state == "2BP01":
        return Stalled("ObjectsDependOnIt", f"{what}: {text}. Drop or reassign what depends on it")
    if "tuple concurrently" in text:
        # PostgreSQL has no SQLSTATE of its own for two changes of one catalog row at the same time.
        return Retryable("SerializationFailure", f"{what}: {text}")
    return Stalled("ServerRefused", f"{what}: {text}")
