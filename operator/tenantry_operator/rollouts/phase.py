"""The phases of a Rollout. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tenantry_crds.common import RESUME_ANNOTATION


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


def round_of(obj: dict[str, Any]) -> str:
    """What makes failures count no more when it changes: the spec's generation, and the annotation."""
    meta = obj["metadata"]
    resume = (meta.get("annotations") or {}).get(RESUME_ANNOTATION) or ""
    return f"{meta.get('generation', 0)}/{resume}"[:253]
