"""What became of a tenant's services, and what the status says of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tenantry_operator.conditions import Condition
from tenantry_operator.errors import ReconcileError, Waiting
from tenantry_operator.services.observe import Phase

Object = dict[str, Any]

_AT_REST = {Phase.RUNNING, Phase.STOPPED}


@dataclass(slots=True)
class ServiceOutcome:
    """What became of one service."""

    name: str
    record: Object
    """Its entry in ``status.services``."""
    error: ReconcileError | None = None
    said: str = ""
    """What is in the way of pods that are being replaced."""
    mended: bool = False
    """Whether somebody else had changed its Deployment or Service."""
    look_again: float | None = None
    """Seconds after which it is worth a look, when nothing else asks for one."""
    done: list[str] = field(default_factory=list)
    """What was written."""

    @property
    def updating(self) -> bool:
        """Whether pods are being replaced while others do the work."""
        return self.error is None and self.record.get("phase") == Phase.UPDATING


def condition(outcomes: Sequence[ServiceOutcome], reason: str) -> Condition | None:
    """The condition ``ServicesReady``; None for a tenant without services.

    :param reason: why they are as they should be.
    """
    if not outcomes:
        return None
    failures = [outcome for outcome in outcomes if outcome.error is not None]
    if failures:
        first = failures[0].error
        assert first is not None  # noqa: S101 - only outcomes with an error are in the list
        others = ", ".join(sorted(outcome.name for outcome in failures))
        message = first.message if len(failures) == 1 else f"not as they should be: {others}"
        return Condition("ServicesReady", False, first.reason, message)
    running = all(outcome.record.get("phase") in _AT_REST or outcome.updating for outcome in outcomes)
    return Condition("ServicesReady", running and reason == "Ready", reason)


def updating(outcomes: Sequence[ServiceOutcome]) -> Waiting | None:
    """What is still to come although the tenant is served: pods that are being replaced."""
    found = sorted((outcome for outcome in outcomes if outcome.updating), key=lambda outcome: outcome.name)
    if not found:
        return None
    said = [outcome.name + (f" ({outcome.said})" if outcome.said else "") for outcome in found]
    return Waiting("ServicesUpdating", f"pods are being replaced: {', '.join(said)}")
