"""What a Tenant's status says of drift of its schemas, and whether that was accepted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION

Object = dict[str, Any]


def new_acknowledgement(tenant: Object) -> str | None:
    """The value of the annotation, when it was not acted on yet."""
    value = ((tenant["metadata"].get("annotations") or {}).get(ACKNOWLEDGE_ANNOTATION) or "")[:253]
    handled = ((tenant.get("status") or {}).get("handled") or {}).get("acknowledge")
    return value if value and value != handled else None


def acknowledge(tenant: Object, known: Mapping[str, Object], record: Object) -> None:
    """Accepts the differences that the status told of when the annotation got a new value.

    :param known: the entries in ``status.databases`` as they were, by name.
    """
    drift = known.get(record["name"], {}).get("schemaDrift") or {}
    if new_acknowledgement(tenant) is not None and drift.get("digest") and record.get("schemaDrift"):
        record["acknowledgedSchema"] = drift["digest"]


def is_unaccepted(tenant: Object, record: Object) -> bool:
    """Whether a database differs from its version, and nobody has accepted that."""
    digest = (record.get("schemaDrift") or {}).get("digest")
    if digest is None or record.get("acknowledgedSchema") == digest:
        return False
    return new_acknowledgement(tenant) is None


def describe(record: Object) -> str:
    """The differences in a sentence."""
    drift = record["schemaDrift"]
    objects, count = drift.get("objects") or [], drift.get("count") or 0
    more = f" and {count - 5} more" if count > 5 else ""
    version = record.get("version")
    return f"database {record['name']} differs from version {version}: {'; '.join(objects[:5])}{more}"
