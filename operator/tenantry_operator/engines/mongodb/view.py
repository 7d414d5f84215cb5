"""What was observed of one tenant database, as the planner needs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry_operator.engines.base import DatabaseState, LoginState, Mark, Ownership


@dataclass(frozen=True, slots=True)
class View:
    """One tenant database, as observed. Only objects that are the tenant's own by their mark count."""

    where: str
    """The database in words, for messages."""
    data: bool = False
    """The database is there, built to the end."""
    there: bool = False
    """The database is there, even if it was not built to the end."""
    begun: bool = False
    """Something of it is there, marked, even if it was not built to the end."""
    lost: bool = False
    """It held data once, by a mark that outlived it, and is gone."""
    read_only: bool = False
    logins: Mapping[str, LoginState] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    """What differs, in words; one step mends all of it."""
    beyond: tuple[str, ...] = ()
    """What differs and only somebody with more rights than the administrator could mend."""


@dataclass(frozen=True, slots=True)
class Found:
    """A tenant database in a snapshot, before it is a :class:`DatabaseState`."""

    ownership: Ownership
    conflict: str | None = None
    view: View | None = None
    mark: Mark | None = None
    """The mark on the data."""
    bytes: int | None = None
    writes: int | None = None

    def state(self) -> DatabaseState:
        """The engine-neutral form."""
        view = self.view
        if view is None:
            return DatabaseState(self.ownership, self.conflict)
        mark = self.mark if view.data else None
        return DatabaseState(
            ownership=self.ownership,
            exists=view.data,
            version=mark.version if mark is not None else None,
            digest=mark.digest if mark is not None else None,
            target=mark.target if mark is not None else None,
            logins=tuple(view.logins.values()),
            bytes=self.bytes if view.data else None,
            connections=sum(login.connections for login in view.logins.values()),
            writes=self.writes if view.data else None,
            drift=(*view.findings, *view.beyond),
            detail=view,
        )
