"""What was observed of one tenant database, as the planner needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry_operator.engines.base import LoginState


@dataclass(frozen=True, slots=True)
class View:
    """One tenant database, as observed. Only what has the tenant's mark counts."""

    where: str
    """The database, in words for messages."""
    data: bool
    """The database is there."""
    made: bool
    """Its mark says that it was made: one that is not may have been left by a crash."""
    lost: bool
    """It was there once, at a version, and is gone."""
    read_only: bool = False
    logins: Mapping[str, LoginState] = field(default_factory=dict)
    """Those that exist and were not retired."""
    unlocked: bool = False
    """A login can log in, one that was retired included."""
    sessions: int = 0
    """Of all its accounts."""
    marked: bool = False
    """There are marks."""
    findings: tuple[str, ...] = ()
