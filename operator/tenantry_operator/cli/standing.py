"""What a Rollout's status tells: whether it is up to date, how far it is, and how watching it ends. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tenantry_crds.quantities import parse_duration
from tenantry_operator.cli.ending import Code
from tenantry_operator.cli.units import since, until
from tenantry_operator.conditions import find
from tenantry_operator.rollouts.phase import FINAL, Phase, phase_of, round_of

Object = dict[str, Any]

_WINDOW = 120.0
"""Seconds of which the pace is taken: what was long ago says little of what is to come."""
_SHORTEST = 3.0
"""Seconds that have to be seen before a pace is taken from them."""


def is_current(obj: Object) -> bool:
    """Whether the status is about the object as it is now: right after ``resume`` it still says Paused."""
    known = (obj.get("status") or {}).get("round")
    return known is None or known == round_of(obj)


def verdict(obj: Object | None, *, stay: bool = False) -> Code | None:
    """How watching a Rollout ends; None: it goes on.

    :param obj: None when it was deleted.
    :param stay: not to end while it is paused.
    """
    if obj is None or phase_of(obj) is Phase.CANCELLED:
        return Code.FAILED
    if not is_current(obj):
        return None
    at = phase_of(obj)
    if at in FINAL:
        return Code.DONE if at is Phase.COMPLETED else Code.FAILED
    return Code.PAUSED if not stay and _halts(obj, at) else None


def _halts(obj: Object, at: Phase) -> bool:
    """Whether it goes on only when somebody does something."""
    if at is Phase.PAUSED:
        # While tenants are under way, what is over its budget may yet be rolled back.
        return not (obj.get("status") or {}).get("running")
    stalled = find(obj, "Stalled") or {}
    seen = stalled.get("observedGeneration") == obj["metadata"].get("generation")
    return at is Phase.PENDING and stalled.get("status") == "True" and seen


def finished(obj: Object) -> int:
    """How many tenants are through, failures included."""
    status = obj.get("status") or {}
    return int(status.get("completed") or 0) + int(status.get("failed") or 0)


def elapsed(obj: Object, at: datetime) -> float | None:
    """Seconds since the first tenant was begun, until the end or now; None: none was begun yet."""
    status = obj.get("status") or {}
    if not status.get("startedAt"):
        return None
    end = status.get("completedAt")
    return since(status["startedAt"], datetime.fromisoformat(end) if end else at)


@dataclass(slots=True)
class Pace:
    """How fast tenants get through, from what was seen of them."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, obj: Object, at: datetime) -> None:
        """Remembers how far a Rollout is now. A pause or soak is no part of its pace."""
        if phase_of(obj) is not Phase.RUNNING:
            self._seen.clear()
            return
        self._seen.append((at.timestamp(), finished(obj)))
        while self._seen[-1][0] - self._seen[0][0] > _WINDOW:
            self._seen.popleft()

    def remaining(self, obj: Object, at: datetime) -> float | None:
        """Seconds that are probably left, soaks included; None where nothing can be said."""
        if phase_of(obj) not in (Phase.RUNNING, Phase.SOAKING):
            return None
        left = int((obj.get("status") or {}).get("total") or 0) - finished(obj)
        rate = self._rate() or _average(obj, at)
        if left > 0 and not rate:
            return None
        return (left / rate if left > 0 and rate else 0.0) + _soaks_left(obj, at)

    def _rate(self) -> float | None:
        """Tenants a second, as far as was watched."""
        if not self._seen:
            return None
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last - first >= _SHORTEST and after > before else None


def _average(obj: Object, at: datetime) -> float | None:
    """Tenants a second since the beginning, without the time that was soaked."""
    spent = elapsed(obj, at)
    if not spent:
        return None
    soaks = _soaks(obj)
    for wave in (obj.get("status") or {}).get("waves") or []:
        if wave.get("soakUntil"):
            spent -= max(0.0, soaks.get(wave["name"], 0.0) - until(wave["soakUntil"], at))
    return finished(obj) / spent if spent >= 1.0 and finished(obj) else None


def _soaks(obj: Object) -> dict[str, float]:
    return {
        wave["name"]: parse_duration(wave["soak"]) for wave in obj["spec"].get("waves") or [] if wave.get("soak")
    }


def _soaks_left(obj: Object, at: datetime) -> float:
    """Seconds of soaking that are still to come."""
    soaks, left = _soaks(obj), 0.0
    waves = (obj.get("status") or {}).get("waves") or []
    for number, wave in enumerate(waves):
        if wave.get("soakUntil"):
            left += until(wave["soakUntil"], at)
        elif number < len(waves) - 1 and wave.get("total"):
            left += soaks.get(wave["name"], 0.0)
    return left
