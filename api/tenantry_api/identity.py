"""The names of a tenant: its public id, the object's name, its UUID, a slug made of a name. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import uuid

_NAMESPACE = uuid.UUID("6c0f0a3e-6a3b-5d7e-9b34-5d0c4a0a6b1d")
LONGEST = 63


def uuid_of(namespace: str, name: str) -> str:
    """The UUID of a Tenant: derived from where it is, so that it is the same after a restore."""
    return str(uuid.uuid5(_NAMESPACE, f"{namespace}/{name}"))


def name_of(tenant_id: str, *, taken: bool = False) -> str:
    """The name of the object for a public id: those may hold underscores.

    :param taken: the plain name is another tenant's: a hash is appended.
    """
    name = tenant_id.replace("_", "-").strip("-") or "tenant"
    if not taken:
        return name[:LONGEST].rstrip("-")
    suffix = hashlib.sha256(tenant_id.encode()).hexdigest()[:8]
    return f"{name[: LONGEST - 9].rstrip('-')}-{suffix}"


def slug_of(name: str, *, number: int = 1) -> str:
    """A public id made of a name for people; "tenant" of one without a letter or digit.

    :param number: from 2 on it is appended, to make it another one.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "tenant"
    suffix = f"-{number}" if number > 1 else ""
    return f"{slug[: LONGEST - len(suffix)].rstrip('-')}{suffix}"
