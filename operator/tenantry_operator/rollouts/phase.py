"""The phases of a Rollout. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a Rollout is, in one word."""

    PENDING = "Pending"
    RUNNING = "Running"
    SOAKING = "Soaking"
    PAUSED = "Paused"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


FINAL = frozenset({Phase.ROLLED_BACK, Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})
"""Nothing goes on by itself; another Rollout of the blueprint may start."""
BACK = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED})


def phase_of(obj: dict[str, Any]) -> Phase:
    """The phase of a Rollout object."""
    try:
        return Phase((obj.get("status") or {}).get("phase") or Phase.PENDING)
    except ValueError:
        return Phase.PENDING
