"""Accounts with passwords. They live in one Secret, a key each, so that the facade may read that one and no other.

The value of a key is JSON::

    {"email": "...", "role": "INSTITUTION_ADMIN", "tenant": "<the tenant's id>", "fullName": "...",
     "passwordHash": "<argon2>"}

The first account comes from the settings.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

from tenantry_api.identity import uuid_of
from tenantry_api.problems import Problem, Unauthenticated
from tenantry_api.settings import Settings
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import SECRETS, KubeClient, NotFound

_log = structlog.get_logger(__name__)

_KEPT = 10.0
"""Seconds for which the accounts that were read are believed."""
_FREE = 5
_LONGEST_PAUSE = 60.0
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Account:
    """Who may log in."""

    email: str
    role: str
    tenant: str = ""
    """The public id of the tenant that it belongs to."""
    full_name: str = ""
    password_hash: str = ""

    @property
    def id(self) -> str:
        """The account's UUID."""
        return uuid_of("accounts", self.email.lower())


@dataclass(slots=True)
class _Failures:
    count: int = 0
    last: float = 0.0


class Accounts:
    """The accounts, and who just failed to log in."""

    def __init__(self, settings: Settings, kube: KubeClient) -> None:
        self._settings = settings
        self._kube = kube
        self._hasher = PasswordHash((Argon2Hasher(),))
        self._known: dict[str, Account] = {}
        self._read_at = 0.0
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._hashing = asyncio.Semaphore(2)
        self._decoy = ""

    async def login(self, email: str, password: str, where: str) -> Account:
        """The account of an e-mail address and password.

        :param where: the caller's address: who tries many is slowed, and so is who is tried by many.
        :raises Unauthenticated: when they do not belong together.
        :raises Problem: 429, when it failed too often.
        """
        names = (f"account {email.lower()[:320]}", f"address {where}")
        for name in names:
            self._check_pace(name)
        account = await self._find(email)
        if await self._matches(account, password):
            for name in names:
                self._failures.pop(name, None)
            assert account is not None  # noqa: S101 - who is nobody matches nothing
            return account
        for name in names:
            self._note_failure(name)
        raise Unauthenticated("Incorrect email or password")

    async def _matches(self, account: Account | None, password: str) -> bool:
        async with self._hashing:
            if not self._decoy:
                # So that an account that is not there, or is the first, takes as long as a wrong password.
                self._decoy = await asyncio.to_thread(self._hasher.hash, "nobody has this password")
            known = account.password_hash if account is not None else self._decoy
            try:
                fits = await asyncio.to_thread(self._hasher.verify, password, known or self._decoy)
            except UnknownHashError:
                return False
        if account is not None and not known:
            first = self._settings.admin_password.get_secret_value()
            return bool(first) and hmac.compare_digest(password.encode(), first.encode())
        return fits and account is not None

    def _check_pace(self, name: str) -> None:
        failures = self._failures.get(name)
        if failures is None or failures.count < _FREE:
            return
        pause = min(_LONGEST_PAUSE, 2.0 ** (failures.count - _FREE))
        left = failures.last + pause - time.monotonic()
        if left > 0:
            raise Problem(
                "Too many failed logins; try again later",
                status=429,
                code="too_many_requests",
                headers={"Retry-After": str(int(left) + 1)},
            )

    def _note_failure(self, name: str) -> None:
        failures = self._failures.pop(name, None) or _Failures()
        if time.monotonic() - failures.last > 10 * _LONGEST_PAUSE:
            failures.count = 0
        failures.count, failures.last = failures.count + 1, time.monotonic()
        self._failures[name] = failures
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    async def _find(self, email: str) -> Account | None:
        first = self._settings.admin_email
        if first and hmac.compare_digest(email.lower().encode(), first.lower().encode()):
            return Account(email=first, role="SUPER_ADMIN", full_name="Administrator")
        if time.monotonic() - self._read_at > _KEPT:
            await self._read()
        return self._known.get(email.lower())

    async def _read(self) -> None:
        settings = self._settings
        try:
            secret = await self._kube.get(SECRETS, settings.namespace, settings.accounts_secret)
        except NotFound:
            secret = {}
        except ReconcileError as error:
            _log.warning("the accounts were not read; those known before count", error=str(error))
            return
        found = {}
        for key, value in (secret.get("data") or {}).items():
            account = _account(key, b64decode(value))
            if account is not None:
                found[account.email.lower()] = account
        self._known, self._read_at = found, time.monotonic()


def _account(key: str, raw: bytes) -> Account | None:
    try:
        value: dict[str, Any] = orjson.loads(raw)
        account = Account(
            email=str(value["email"]),
            role=str(value["role"]),
            tenant=str(value.get("tenant") or ""),
            full_name=str(value.get("fullName") or ""),
            password_hash=str(value["passwordHash"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning(
            "an account cannot be read: it is JSON with email, role, passwordHash", key=key, error=repr(error)
        )
        return None
    if not account.password_hash:
        _log.warning("an account has no passwordHash", key=key)
        return None
    return account
