"""Leaving a server alone that does not answer."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_operator.errors import Retryable


@dataclass(slots=True)
class Breaker:
    """Fails fast while a server is away: after some failures in a row it is only tried now and then."""

    failures_allowed: int
    pause: float
    longest_pause: float
    failures: int = 0
    open_until: float = 0.0
    last: str = ""

    def check(self, now: float) -> None:
        """:raises Retryable: while the server is left alone."""
        if now < self.open_until:
            left = self.open_until - now
            raise Retryable("ServerUnreachable", self.last, delay=left)
        if self.open_until:
            # One attempt decides; the others wait for its outcome.
            self.open_until = now + self.pause

    def failed(self, now: float, message: str) -> None:
        """An attempt to connect failed."""
        self.failures += 1
        self.last = message
        if self.failures >= self.failures_allowed:
            exponent = min(self.failures - self.failures_allowed, 16)
            self.open_until = now + min(self.pause * 2**exponent, self.longest_pause)

    def succeeded(self) -> None:
        """The server is there."""
        self.failures, self.open_until = 0, 0.0
