"""SCRAM-SHA-256 verifiers, so that no password is sent to the server or written to its log.

Source: RFC 5802 and RFC 7677; the stored form is PostgreSQL's, "pg_authid", as RFC 5803 has it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64encode
from dataclasses import dataclass, field

from tenantry_operator.engines.base import Credentials

ITERATIONS = 4096
"""RFC 7677's minimum and PostgreSQL's default; the passwords are random, so more would only cost time."""


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """A login, and what the server is to store of its password."""

    login: str
    verifier: str = field(repr=False)
    fingerprint: str


async def store(credentials: Credentials) -> StoredCredentials:
    """What is to be stored. Made in another thread: it takes a millisecond or two of a processor's time."""
    made = await asyncio.to_thread(verifier, credentials.password)
    return StoredCredentials(credentials.login, made, credentials.fingerprint)


def verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL stores for a password.

    :param password: ASCII, for which SASLprep changes nothing.
    :raises ValueError: for a password that is not ASCII.
    """
    if not password.isascii():
        raise ValueError("the password has characters other than ASCII")
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server_key = _hmac(salted, b"Server Key")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _text(value: bytes) -> str:
    return b64encode(value).decode()
