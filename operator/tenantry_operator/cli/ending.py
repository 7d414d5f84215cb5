"""How a command ends: exit codes, and trouble that is told in one line."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Exit codes. They are for scripts, so they never change."""

    DONE = 0
    """It worked; a watched rollout is Completed; ``diff`` found nothing to do."""
    FAILED = 1
    """A rollout ended without its goal; ``diff`` found something to do; an answer was no."""
    TROUBLE = 2
    """Wrong usage, or the cluster cannot be reached, refuses, or lacks what was named."""
    PAUSED = 3
    """A watched rollout goes on only when somebody does something."""
    TIMEOUT = 4
    """``--timeout`` was reached."""
    INTERRUPTED = 130
    """Ctrl-C."""


CODES_HELP = (
    "Exit codes: 0 Completed; 1 Failed, RolledBack or Cancelled; 2 wrong usage, or trouble with the cluster; "
    "3 Paused, or stalled before it began; 4 --timeout was reached; 130 interrupted. Without --watch, all that "
    "has not failed is 0."
)


class Trouble(Exception):
    """What keeps a command from its work.

    :param message: what is wrong, with which object, and what to do. It is printed as one line.
    """

    def __init__(self, message: str, code: Code = Code.TROUBLE) -> None:
        super().__init__(one_line(message))
        self.code = code


def one_line(text: str) -> str:
    """The text with every stretch of white space made a single space."""
    return " ".join(text.split())
