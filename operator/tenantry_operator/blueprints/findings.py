"""What linting finds in a migration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """How bad it is, the worst first."""

    DESTRUCTIVE = "Destructive"
    """Data is lost."""
    BLOCKING = "Blocking"
    """A table is locked while it is read or rewritten, or applications of the version before miss something."""
    INVALID = "Invalid"
    """It fails when it is run, or ends otherwise than it says."""
    ADVICE = "Advice"
    """It works, and could be better."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that deserves a second look."""

    migration: str
    """The migration's name."""
    rule: str
    """What it breaks: a rule of squawk's, or one of the operator's own."""
    kind: FindingKind
    line: int | None
    """The line in the migration, from 1; None: the migration as a whole."""
    message: str
    """What is wrong, and what to write instead; at most 400 characters."""
