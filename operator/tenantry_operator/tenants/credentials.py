"""Passwords, the Secret of a database, and which of two logins is whose turn. Pure, but for randomness.

The Secret follows the Service Binding specification for Kubernetes 1.1: type ``servicebinding.io/<type>``
and well-known keys. A Secret that a person edited is noticed by two digests in its annotations: one over
everything but the password, so that it can be compared with what should be there without keeping
passwords in memory, and one over the password.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from tenantry_crds.common import ROTATE_ANNOTATION
from tenantry_operator.conditions import parse_timestamp, timestamp
from tenantry_operator.engines.base import LoginState, Names, fingerprint
from tenantry_operator.engines.binding import Binding, digest
from tenantry_operator.names import (
    DATABASE_LABEL,
    GROUP,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    TENANT_LABEL,
)

Object = dict[str, Any]

_BINDING_ANNOTATION = f"{GROUP}/binding-digest"
_PASSWORD_ANNOTATION = f"{GROUP}/password-digest"
_WRITTEN_ANNOTATION = f"{GROUP}/written-at"
_KINDS: tuple[Callable[[str], bool], ...] = (str.islower, str.isupper, str.isdigit, "-_".__contains__)


def new_password() -> str:
    """A password of 43 characters that need no quoting in a URI: more than 255 random bits.

    It has characters of each kind, as policies of servers ask for.
    """
    while True:
        made = secrets.token_urlsafe(32)
        if all(any(is_kind(character) for character in made) for is_kind in _KINDS):
            return made


def secret_name(tenant: str, entry: str) -> str:
    """The name of the Secret of a tenant's database."""
    return f"{tenant}-{entry}-db"


@dataclass(frozen=True, slots=True)
class SecretSummary:
    """What is remembered of a Secret: nothing secret."""

    name: str
    uid: str
    owner: str
    """The uid of the Tenant that it goes with."""
    username: str
    binding_digest: str
    """Of the data as it is now."""
    intact: bool
    """Whether password and URI are what was written."""
    fingerprint: str
    """Of the password."""
    rotation: str
    """The value of the ``tenantry.dev/rotate`` annotation that these credentials were made for."""
    written_at: datetime


def render_secret(
    name: str, tenant: Object, entry: str, binding: Binding, password: str, *, rotation: str, written_at: datetime
) -> Object:
    """The Secret of a database, owned by its Tenant."""
    meta = tenant["metadata"]
    data = {**binding.data(), "password": password, "uri": binding.uri(password)}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {
                MANAGED_BY_LABEL: MANAGED_BY,
                TENANT_LABEL: meta["name"],
                DATABASE_LABEL: entry,
            },
            "annotations": {
                _BINDING_ANNOTATION: binding.digest(),
                _PASSWORD_ANNOTATION: digest(password),
                _WRITTEN_ANNOTATION: timestamp(written_at),
                ROTATE_ANNOTATION: rotation,
            },
            "ownerReferences": [
                {
                    "apiVersion": tenant["apiVersion"],
                    "kind": tenant["kind"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": f"servicebinding.io/{binding.kind.binding}",
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }


def decode_secret(data: Mapping[str, str]) -> dict[str, str]:
    """The plain values of a Secret's ``data``; what is not base64 or not text is left out."""
    plain = {}
    for key, value in data.items():
        try:
            plain[key] = b64decode(value, validate=True).decode()
        except ValueError:
            continue
    return plain


def summarise(secret: Object) -> SecretSummary:
    """What to remember of a Secret."""
    meta = secret["metadata"]
    annotations = meta.get("annotations") or {}
    plain = decode_secret(secret.get("data") or {})
    password, uri = plain.pop("password", ""), plain.pop("uri", "")
    try:
        written = parse_timestamp(annotations.get(_WRITTEN_ANNOTATION, ""))
    except ValueError:
        written = datetime.fromtimestamp(0, UTC)
    return SecretSummary(
        name=meta["name"],
        uid=meta["uid"],
        owner=next((owner["uid"] for owner in meta.get("ownerReferences") or []), ""),
        username=plain.get("username", ""),
        binding_digest=digest(sorted(plain.items())),
        intact=(
            bool(password)
            and annotations.get(_PASSWORD_ANNOTATION) == digest(password)
            and f":{quote(password, safe='')}@" in uri
        ),
        fingerprint=fingerprint(password),
        rotation=annotations.get(ROTATE_ANNOTATION, ""),
        written_at=written,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """Which login is to work, and whether it needs a new password."""

    login: str
    new_password: bool
    retired: tuple[str, ...] = ()
    """Logins whose time is over."""
    retire_in: float | None = None
    """Seconds until another login's time is over."""
    rotate_in: float | None = None
    """Seconds until the password is too old; None: it never is."""

    @property
    def look_again(self) -> float | None:
        """Seconds until something is to be done about the logins."""
        return min((seconds for seconds in (self.retire_in, self.rotate_in) if seconds is not None), default=None)


def password_lifetime(uid: str, days: int | None) -> float | None:
    """Seconds that a password of a tenant lasts: nine to ten tenths of the days, the same for it each time."""
    if days is None:
        return None
    share = int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return days * 86_400 * (0.9 + 0.1 * share)


def turn(
    names: Names,
    logins: Sequence[LoginState],
    secret: SecretSummary | None,
    *,
    rotation: str,
    now: datetime,
    retire_after: float,
    lifetime: float | None = None,
) -> Turn:
    """Whose turn it is.

    The login in an intact Secret stays until a new rotation is asked for. Otherwise nobody may know the
    passwords, and the other login takes over: one that may still be in use goes on until it is retired.

    :param rotation: the value of the Tenant's ``tenantry.dev/rotate`` annotation, or "".
    :param lifetime: seconds that a password lasts; None: for ever.
    """
    present = {login.name: login for login in logins}
    if secret is not None and secret.username in names.logins:
        other = names.login_b if secret.username == names.login_a else names.login_a
        age = (now - secret.written_at).total_seconds()
        rotate_in = None if lifetime is None else lifetime - age
        if not secret.intact or secret.rotation != rotation or (rotate_in is not None and rotate_in <= 0):
            return Turn(other, new_password=True, rotate_in=lifetime)
        kept = Turn(secret.username, new_password=False, rotate_in=rotate_in)
        if other not in present:
            return kept
        if age < retire_after:
            return replace(kept, retire_in=retire_after - age)
        return replace(kept, retired=(other,))
    if not present:
        return Turn(names.login_a, new_password=True, rotate_in=lifetime)
    unused = min(names.logins, key=lambda name: _use(present.get(name)))
    return Turn(unused, new_password=True, rotate_in=lifetime)


def _use(login: LoginState | None) -> tuple[bool, int]:
    return (login is not None, login.connections if login is not None else 0)
