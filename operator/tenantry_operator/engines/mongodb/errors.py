"""From MongoDB's and FerretDB's errors to the operator's.

Source: MongoDB manual, "Error Codes". FerretDB 1 passes most errors of its PostgreSQL on as code 1, with the
places in its source before and the SQLSTATE behind the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from tenantry_operator.engines.base import Stale
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

NAMESPACE_NOT_FOUND, INDEX_NOT_FOUND, NAMESPACE_EXISTS, DUPLICATE_KEY = 26, 27, 48, 11000
USER_NOT_FOUND, USER_EXISTS = 11, 51003
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_BUSY = {
    24: "LockTimeout",
    46: "LockTimeout",
    50: "Timeout",
    112: "WriteConflict",
    117: "Busy",
    262: "Timeout",
    11601: "Timeout",
}
_AWAY = frozenset({6, 7, 89, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436})
"""The server is shutting down, is no primary, or was lost."""
_PLACES = re.compile(r"^(?:\[[^\]]*\]\s*)+")
_TAIL = re.compile(r"(?: \(configured timeouts|, Timeout: |, full error: | dup key: ).*", re.DOTALL)
_SQLSTATE = re.compile(r"\(SQLSTATE ([0-9A-Z]{5})\)")
_LONGEST = 400


def text_of(error: PyMongoError) -> str:
    """An error in one line, for messages that people read: without the answer's document."""
    details = getattr(error, "details", None)
    message = details.get("errmsg") if isinstance(details, Mapping) else None
    return tidy(str(message or error))


def tidy(message: str) -> str:
    """A server's message in one line, without FerretDB's places, the driver's settings, and a tenant's values."""
    words = " ".join(_TAIL.sub("", _PLACES.sub("", message)).split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def sqlstate(message: str) -> str | None:
    """The SQLSTATE that FerretDB names in a message."""
    found = _SQLSTATE.search(message)
    return found[1] if found is not None else None


def is_of_server(error: PyMongoError) -> bool:
    """Whether an error is about the server or the connection, and not about what was asked for."""
    if isinstance(error, ConnectionFailure):
        return True
    if not isinstance(error, OperationFailure):
        return False
    state = sqlstate(str(error)) or ""
    return error.code in _AWAY or state[:2] in {"08", "53", "57"} or "failed to connect to" in str(error)


def passing(error: PyMongoError) -> str | None:
    """The reason when an error passes by itself: a lock that others hold, a time that was up."""
    if isinstance(error, (ExecutionTimeout, NetworkTimeout, WTimeoutError)):
        return "Timeout"
    if isinstance(error, OperationFailure):
        states = {"55P03": "LockTimeout", "57014": "Timeout", "40P01": "Deadlock", "40001": "SerializationFailure"}
        return _BUSY.get(error.code or 0) or states.get(sqlstate(str(error)) or "")
    return None


def refused_login(error: PyMongoError) -> bool:
    """Whether the server refuses a login, not what it asked for."""
    if not isinstance(error, OperationFailure):
        return False
    return error.code == _AUTHENTICATION_FAILED or (sqlstate(str(error)) or "")[:2] == "28"


def refused(error: PyMongoError) -> bool:
    """Whether a login lacks the right to what it asked for."""
    if not isinstance(error, OperationFailure):
        return False
    return error.code == _UNAUTHORIZED or sqlstate(str(error)) == "42501"


def translate(error: PyMongoError, what: str) -> ReconcileError | Stale:
    """What an error means for a reconcile.

    :param what: which object was worked on, where: "database shop__acme on 10.0.0.5:27017".
    """
    text = text_of(error)
    if refused_login(error):
        return Stalled(
            "AdminLoginRefused",
            f"{what}: the administrator's login is refused: {text}. Mend the adminSecret of the DatabaseInstance, "
            "or the server",
        )
    reason = passing(error)
    if reason is not None:
        return Retryable(reason, f"{what}: {text}")
    if is_of_server(error):
        return Retryable("ServerUnreachable", f"{what}: the server cannot be reached: {text}")
    if refused(error):
        return Stalled(
            "AdminLacksRights", f"{what}: {text}. Give the administrator that right, or the object to it"
        )
    if isinstance(error, OperationFailure) and error.code in (USER_EXISTS, USER_NOT_FOUND):
        return Stale(f"{what}: {text}")
    return Stalled("ServerRefused", f"{what}: {text}")


def write_errors(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The errors of single documents in the answer to a write."""
    return list(answer.get("writeErrors") or ())
