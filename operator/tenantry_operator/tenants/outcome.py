"""What a reconcile saw and did, database by database."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tenantry_operator.cache import Key
from tenantry_operator.engines.base import DatabaseState, Desired
from tenantry_operator.errors import ReconcileError, Retryable
from tenantry_operator.tenants.quotas import Limits

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reconcile worked from: the sweep compares it with later snapshots."""

    home: Key
    desired: Desired
    state: DatabaseState
    limits: Limits | None
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Outcome:
    """What became of one database."""

    entry: str
    record: Object | None
    """Its entry in ``status.databases``; None when it leaves the status."""
    error: ReconcileError | None = None
    behind: ReconcileError | None = None
    """Why it did not get the version that a rollout brought; it works at the one it has."""
    look_again: float | None = None
    seen: Seen | None = None
    drift: tuple[str, ...] = ()
    """What was found to differ and was mended."""
    done: list[str] = field(default_factory=list)
    """The steps that were executed."""

    @property
    def entered(self) -> Object:
        """The entry in the status, to be written to; one that nobody sees when it leaves."""
        return self.record if self.record is not None else {}

    @property
    def state(self) -> DatabaseState | None:
        """What was observed of the database, before anything was done."""
        return self.seen.state if self.seen is not None else None


def known_error(error: Exception) -> ReconcileError:
    """An error that a status can show. A bug shows as one, without what may be secret in its message."""
    if isinstance(error, ReconcileError):
        return error
    return Retryable(
        "InternalError", f"{type(error).__name__}: see the operator's log, and report it; trying again"
    )
