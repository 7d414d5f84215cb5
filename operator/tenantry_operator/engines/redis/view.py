"""What was observed of one tenant's keys and logins, as the planner needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoginView:
    """One login that carries the tenant's mark."""

    name: str
    enabled: bool
    connections: int
    read_only: bool
    fingerprint: str | None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One tenant database, as observed."""

    where: str
    claimed: bool
    """The prefix has the tenant's mark."""
    built: bool = False
    """There is data, be it at a version or on its way to its first one."""
    logins: Mapping[str, LoginView] = field(default_factory=dict)

    @property
    def lost(self) -> bool:
        """The data was there: a login is only made once it is."""
        return not self.built and bool(self.logins)
