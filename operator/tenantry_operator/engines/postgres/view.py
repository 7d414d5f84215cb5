"""What was observed of one tenant database, as the planner needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tenantry_operator.engines.base import LoginState


class Mend(StrEnum):
    """Which step puts a difference right."""

    ROLES = "mend-roles"
    GRANTS = "mend-grants"
    DATABASE = "mend-database"
    NODES = "sync-nodes"
    """On the nodes of Citus."""
    DISTRIBUTE = "distribute"
    NOBODY = "nobody"
    """Only a superuser could."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, in words, and what puts it right."""

    text: str
    mend: Mend


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where Citus has a tenant's schema."""

    installed: bool = False
    """The database has the extension, as far as it was there to be looked at."""
    distributed: bool = False
    node: str | None = None
    """``host:port``, once it has tables."""


@dataclass(frozen=True, slots=True)
class View:
    """One tenant database, as observed. Only objects that are the tenant's own by their mark count."""

    where: str
    """The database or schema, in words for messages."""
    data: bool
    """The database or schema is there; under Row, the shared one."""
    complete: bool = True
    """It was built to the end: under Database, a crash may have come in between."""
    open: bool = True
    """The database accepts connections and bears its mark."""
    lost: bool = False
    """It was there once, by its owner's mark, and is gone."""
    prepared: bool = True
    """The shared database is there with all that tenants share."""
    registered: bool = False
    """Under Row: the tenant has its line in ``tenantry.logins``."""
    read_only: bool = False
    roles: frozenset[str] = frozenset()
    """The tenant's own roles that exist, logins included."""
    missing_roles: frozenset[str] = frozenset()
    """Owner and group roles that do not exist; logins are not in here."""
    logins: Mapping[str, LoginState] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    distribution: Distribution | None = None
    """None: it is not to be distributed."""
