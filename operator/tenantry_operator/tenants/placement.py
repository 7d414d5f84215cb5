"""Which database server a new tenant database goes to. Pure.

A choice is made once: it is recorded in ``status.databases[].instance`` and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tenantry_operator.errors import Stalled, Waiting


@dataclass(frozen=True, slots=True)
class Candidate:
    """A DatabaseInstance as placement sees it."""

    key: tuple[str, str]
    """Namespace and name."""
    engine: str
    shared: bool
    dedicated: bool
    """For one tenant."""
    region: str | None
    ready: bool
    cordoned: bool
    capacity: int | None
    """How many tenants it may hold; None: no bound."""
    tenants: int

    @property
    def name(self) -> str:
        """How messages call it."""
        return "/".join(self.key)

    @property
    def full(self) -> bool:
        """Whether it holds as many tenants as it may."""
        return self.capacity is not None and self.tenants >= self.capacity


def choose(candidates: Iterable[Candidate], *, engine: str, regions: Sequence[str]) -> Candidate:
    """The least loaded shared instance of the engine that is ready, in a region of the tenant's, below
    capacity and not cordoned.

    :param regions: allowed regions; empty: any.
    :raises Waiting: when there is none, with what stands in the way of each.
    """
    obstacles = []
    fitting = []
    for candidate in candidates:
        if candidate.engine != engine or not candidate.shared:
            continue
        obstacle = _obstacle(candidate, regions)
        if obstacle is None:
            fitting.append(candidate)
        else:
            obstacles.append(f"{candidate.name} {obstacle}")
    if fitting:
        return min(fitting, key=lambda c: (c.tenants, c.key))
    if obstacles:
        raise Waiting("NoInstance", f"no shared {engine} instance can take the tenant: {'; '.join(obstacles)}")
    raise Waiting(
        "InstanceNotFound",
        f"there is no shared {engine} DatabaseInstance in the tenant's namespace or the operator's; create one",
    )


def check_pin(candidate: Candidate, *, engine: str, regions: Sequence[str], resident: bool) -> None:
    """Whether a database may be on the instance its Tenant pins it to. A pin overrides cordon and load.

    :param resident: the database is there already, so capacity does not matter.
    :raises Stalled: for an instance of another engine or region.
    :raises Waiting: for one that is full.
    """
    if candidate.engine != engine:
        raise Stalled(
            "InstanceMismatch",
            f"instance {candidate.name} is {candidate.engine}, the blueprint needs {engine}: pin another one",
        )
    if regions and candidate.region not in regions:
        raise Stalled(
            "RegionMismatch",
            f"instance {candidate.name} is in region {candidate.region or '(none)'}, the tenant allows "
            f"{', '.join(regions)}: pin another instance or extend spec.regions",
        )
    if not resident and candidate.full:
        raise Waiting("InstanceFull", f"instance {candidate.name} holds {candidate.tenants} tenants: its capacity")


def check_dedication(candidate: Candidate, *, alone: bool, others: Sequence[str]) -> None:
    """Whether a pin suits the server's role.

    :param alone: the tenant is to have the server to itself.
    :param others: the other tenants on it.
    :raises Stalled: for a server that others are to share, where the tenant is to be alone.
    :raises Waiting: for a dedicated server that is another tenant's.
    """
    if alone and not candidate.dedicated:
        raise Stalled(
            "InstanceMismatch",
            f"instance {candidate.name} is none for one tenant, as isolation Instance needs: pin one of the role "
            "Dedicated, or none",
        )
    if candidate.dedicated and others:
        raise Waiting(
            "InstanceFull",
            f"instance {candidate.name} is for one tenant, and that is {', '.join(sorted(others))}: pin another",
        )


def _obstacle(candidate: Candidate, regions: Sequence[str]) -> str | None:
    if regions and candidate.region not in regions:
        return f"is in region {candidate.region or '(none)'}, not in {', '.join(regions)}"
    if candidate.cordoned:
        return "is cordoned"
    if not candidate.ready:
        return "is not ready"
    if candidate.full:
        return f"is full ({candidate.tenants} of {candidate.capacity} tenants)"
    return None
