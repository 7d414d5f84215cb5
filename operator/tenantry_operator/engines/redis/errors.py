"""From Redis's error replies to the operator's errors."""

from __future__ import annotations

import re
import ssl

from redis import exceptions

from tenantry_operator.errors import ReconcileError, Retryable, Stalled

# Redis repeats the arguments of what it did not understand.
_ARGUMENTS = re.compile(r",? ?with args beginning with:.*", re.DOTALL)
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_PASSING = {
    "OOM": "ServerOutOfResources",
    "MISCONF": "ServerOutOfResources",
    "BUSY": "ServerBusy",
    "LOADING": "ServerUnreachable",
    "MASTERDOWN": "ServerUnreachable",
    "READONLY": "ServerIsReplica",
    "NOREPLICAS": "ServerOutOfResources",
    "EXECABORT": "ServerBusy",
}


def describe(error: BaseException) -> str:
    """An error in one line, without what may be secret in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _HASH.sub("...", _ARGUMENTS.sub("", text))[:300]


def code(error: BaseException) -> str:
    """The word that an error reply begins with, where the driver left it there."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return "OOM"
    if isinstance(error, exceptions.ReadOnlyError):
        return "READONLY"
    if isinstance(error, exceptions.ExecAbortError):
        return "EXECABORT"
    word = str(error).partition(" ")[0]
    return word if word.isupper() else ""


def connect_error(error: BaseException, server: str) -> ReconcileError:
    """What a failed attempt to connect means."""
    if isinstance(error, exceptions.BusyLoadingError):
        return Retryable("ServerUnreachable", f"server {server} is still loading its data")
    if refused(error):
        return Stalled(
            "AdminLoginRefused",
            f"server {server} refuses the administrator's login: {describe(error)}. "
            "Mend the adminSecret of the DatabaseInstance, or the server",
        )
    return Retryable("ServerUnreachable", f"server {server} cannot be reached: {describe(error)}")


def refused(error: BaseException) -> bool:
    """Whether it was the server, or its certificate, that refused a connection: then it is there."""
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return True
    kinds = (
        exceptions.AuthenticationError,
        exceptions.AuthenticationWrongNumberOfArgsError,
        exceptions.NoPermissionError,
    )
    return isinstance(error, kinds) or "certificate verify failed" in str(error).lower()


def translate(error: BaseException, what: str) -> ReconcileError:
    """What an error means for a reconcile.

    :param what: which object was worked on, where: "database shop__acme on 10.0.0.5:6379".
    """
    text = describe(error)
    if isinstance(error, exceptions.AuthenticationError):
        return Stalled("AdminLoginRefused", f"{what}: {text}")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return Retryable("ServerUnreachable", f"{what}: the server was lost: {text}")
    word = code(error)
    if word in _PASSING:
        return Retryable(_PASSING[word], f"{what}: {text}")
    if isinstance(error, exceptions.NoPermissionError) or word == "NOPERM":
        return Stalled("AdminLacksRights", f"{what}: {text}. Give the administrator that right")
    return Stalled("ServerRefused", f"{what}: {text}")
