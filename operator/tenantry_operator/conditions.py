"""Conditions after kstatus: ``Ready``, ``Reconciling``, ``Stalled``, and the kinds' own. Pure.

Source: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md. A condition's
``lastTransitionTime`` changes only with its status, so that writing the same thing twice is no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting

_LONGEST_MESSAGE = 2048


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as a reconcile found it; ``status`` None means Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str = ""

    @property
    def word(self) -> str:
        """The status as the API spells it."""
        return "Unknown" if self.status is None else str(self.status)


def timestamp(at: datetime | None = None) -> str:
    """A time as the API writes it: RFC 3339, UTC, whole seconds."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """The time in a status or metadata field."""
    return datetime.fromisoformat(text)


def render(
    conditions: Iterable[Condition], known: Sequence[dict[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """The ``status.conditions`` list: in the given order, keeping transition times that still hold."""
    before = {condition.get("type"): condition for condition in known}
    rendered = []
    for condition in conditions:
        old = before.get(condition.type, {})
        kept = old.get("status") == condition.word and old.get("lastTransitionTime")
        rendered.append(
            {
                "type": condition.type,
                "status": condition.word,
                "reason": condition.reason,
                "message": condition.message[:_LONGEST_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": kept or timestamp(now),
            }
        )
    return rendered


def ready(reason: str, message: str = "") -> list[Condition]:
    """All is as desired."""
    return [
        Condition("Ready", True, reason, message),
        Condition("Reconciling", False, reason),
        Condition("Stalled", False, reason),
    ]


def reconciling(reason: str, message: str) -> list[Condition]:
    """Work is under way."""
    return [
        Condition("Ready", False, reason, message),
        Condition("Reconciling", True, reason, message),
        Condition("Stalled", False, reason),
    ]


def failed(error: ReconcileError, *, waited: float = 0.0, stalled_after: float = 300.0) -> list[Condition]:
    """The conditions of a reconcile that ended in an error.

    :param waited: seconds since this error was first met; Waiting turns into Stalled after
        ``stalled_after`` seconds, and still goes on by itself when what it waits for appears.
    """
    stalled = isinstance(error, Stalled) or (isinstance(error, Waiting) and waited >= stalled_after)
    return [
        Condition("Ready", False, error.reason, error.message),
        Condition("Reconciling", not isinstance(error, Stalled), error.reason, error.message),
        Condition("Stalled", stalled, error.reason, error.message if stalled else ""),
    ]


def worst(errors: Iterable[ReconcileError]) -> ReconcileError | None:
    """The error to show for the whole: what a person must mend comes first, then waiting, then retries."""
    ranked = sorted(errors, key=_rank)
    return ranked[0] if ranked else None


def _rank(error: ReconcileError) -> int:
    for rank, kind in enumerate((Stalled, Waiting, Retryable)):
        if isinstance(error, kind):
            return rank
    return 3


def find(obj: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """A condition of an object by type, or None."""
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition.get("type") == kind:
            found: dict[str, Any] = condition
            return found
    return None


def is_true(obj: dict[str, Any], kind: str) -> bool:
    """Whether a condition of an object is True."""
    return (find(obj, kind) or {}).get("status") == "True"


def waited(obj: dict[str, Any], error: ReconcileError) -> float:
    """For how many seconds an object has been in the same trouble, by its Ready condition."""
    ready_condition = find(obj, "Ready")
    if ready_condition is None or ready_condition.get("status") == "True":
        return 0.0
    if ready_condition.get("reason") != error.reason:
        return 0.0
    return (datetime.now(UTC) - parse_timestamp(ready_condition["lastTransitionTime"])).total_seconds()
