"""The errors a reconcile may end with.

::

    ReconcileError            what was wrong, with which object, what to do
    ├── Stalled               a person must mend it: bad SQL, a name owned by a stranger
    ├── Waiting               it may still come by itself: a missing Blueprint, Plan, Secret, instance
    └── Retryable             a passing fault: server unreachable, lock timeout, conflict

Every error carries a ``reason`` (a CamelCase word for conditions and metrics) and a message for people.
Messages never hold passwords or connection strings: they end up in status and Events.
"""

from __future__ import annotations

from typing import Self


class ReconcileError(Exception):
    """A reconcile that did not reach its goal.

    :param reason: CamelCase word, the ``reason`` of the condition.
    :param message: what is wrong, with which object, and what to do; no secrets.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message

    def about(self, what: str) -> Self:
        """This error, with ``what`` named in its message."""
        if what not in self.message:
            self.message = f"{what}: {self.message}"
            self.args = (f"{self.reason}: {self.message}",)
        return self


class Stalled(ReconcileError):
    """Only a person can mend it. It is tried again when its cause changes, and rarely otherwise."""


class Waiting(ReconcileError):
    """Something the object refers to is not there yet. After a while it also counts as stalled."""


class Retryable(ReconcileError):
    """A passing fault. It is tried again with exponential backoff.

    :param delay: seconds to wait at least, when the fault tells.
    """

    def __init__(self, reason: str, message: str, delay: float | None = None) -> None:
        super().__init__(reason, message)
        self.delay = delay
