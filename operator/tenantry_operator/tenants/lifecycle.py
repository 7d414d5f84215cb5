"""What a tenant's state asks of its databases. Pure.

Retention counts from ``status.deletedAt``, the time at which the state Deleted was reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tenantry_crds.common import DeletionPolicy
from tenantry_crds.tenant import TenantState
from tenantry_operator.engines.base import Presence
from tenantry_operator.errors import ReconcileError, Stalled


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to become of a tenant's databases.

    ``reason`` is that of ``Ready=True`` once it is reached, ``phase`` the word for people. An ``error``
    is shown although the databases are brought to ``presence``: something the state asks for is not there.
    """

    presence: Presence
    reason: str
    phase: str
    error: ReconcileError | None = None
    look_again: float | None = None
    """Seconds until time alone changes the goal."""


_ARCHIVE_LATER = (
    "exporting a tenant to an object store is not supported yet, so nothing was dropped and the logins "
    "are refused; {advice}"
)


def _archive_unsupported(advice: str) -> Stalled:
    return Stalled("ArchiveNotSupported", _ARCHIVE_LATER.format(advice=advice))


def goal(
    state: TenantState,
    policy: DeletionPolicy,
    retention: timedelta,
    *,
    deleted_at: datetime | None,
    now: datetime,
) -> Goal:
    """The goal of a Tenant that is to stay."""
    match state:
        case TenantState.ACTIVE:
            return Goal(Presence.LIVE, "Ready", "Ready")
        case TenantState.DRAFT:
            return Goal(Presence.REFUSED, "Draft", "Draft")
        case TenantState.SUSPENDED:
            return Goal(Presence.REFUSED, "Suspended", "Suspended")
        case TenantState.ARCHIVED:
            error = _archive_unsupported("set spec.state to Suspended, or back to Active")
            return Goal(Presence.REFUSED, "Archived", "Suspended", error)
        case TenantState.DELETED:
            left = ((deleted_at or now) + retention - now).total_seconds()
            if left > 0:
                return Goal(Presence.REFUSED, "Deleted", "Deleted", look_again=left)
            return _after_retention(policy)


def _after_retention(policy: DeletionPolicy) -> Goal:
    match policy:
        case DeletionPolicy.RETAIN:
            return Goal(Presence.REFUSED, "Deleted", "Deleted")
        case DeletionPolicy.DELETE:
            return Goal(Presence.ABSENT, "Deleted", "Deleted")
        case DeletionPolicy.ARCHIVE:
            error = _archive_unsupported("set spec.deletionPolicy to Retain or Delete")
            return Goal(Presence.REFUSED, "Deleted", "Deleted", error)


def removal(policy: DeletionPolicy) -> Goal:
    """The goal when the Tenant, or one database of it, is taken away."""
    match policy:
        case DeletionPolicy.RETAIN:
            return Goal(Presence.REFUSED, "Retained", "Deleted")
        case DeletionPolicy.DELETE:
            return Goal(Presence.ABSENT, "Deleted", "Deleted")
        case DeletionPolicy.ARCHIVE:
            error = _archive_unsupported("set spec.deletionPolicy to Retain or Delete to let it go")
            return Goal(Presence.REFUSED, "ArchiveNotSupported", "Deleted", error)
