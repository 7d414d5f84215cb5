"""How versions get to tenants: what a Blueprint's policy and a Rollout have in common."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import LabelSelector, SpecModel
from tenantry_crds.fields import Budget, DnsLabel, Duration, PositiveInt, Rule, list_map


class OnFailure(StrEnum):
    """What becomes of a rollout whose failures exceed its budget."""

    PAUSE = "Pause"
    ROLL_BACK = "RollBack"


class Wave(SpecModel):
    """A part of the tenants that get a version before the others."""

    name: DnsLabel
    """The wave's name."""
    selector: LabelSelector | None = None
    """Which tenants are in it, by their labels; left out: all that are in no earlier wave."""
    soak: Duration | None = None
    """How long to wait after it before the next one."""


class RolloutPolicy(SpecModel):
    """How a version gets to tenants."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.timeout) || (duration(self.timeout) >= duration('1s') "
            "&& duration(self.timeout) <= duration('24h'))",
            "timeout: it is at least 1s and at most 24h",
            ".timeout",
        ),
        Rule(
            "!has(self.lockTimeout) || (duration(self.lockTimeout) >= duration('1ms') "
            "&& duration(self.lockTimeout) <= duration('1h'))",
            "lockTimeout: it is at least 1ms and at most 1h",
            ".lockTimeout",
        ),
    )

    max_parallel: PositiveInt = 16
    """How many tenants are migrated at a time."""
    max_parallel_per_server: PositiveInt | None = None
    """How many of them on one database server. Left out: only ``maxParallel`` and the operator's own
    bound of connections per server hold."""
    failure_budget: Budget = 0
    """How many failures are tolerated: a number, or a share of all such as ``10%``, rounded down."""
    on_failure: OnFailure = OnFailure.PAUSE
    """What happens when more tenants fail. ``Pause``: the rest waits until the rollout or its annotation
    ``tenantry.dev/resume`` changes. ``RollBack``: the tenants that were migrated go back to the versions
    they had, by the rollback SQL of every migration, which must be there before the rollout starts."""
    waves: Annotated[tuple[Wave, ...], list_map("name", max_items=32)] = Field(default_factory=tuple)
    """The order of the tenants; those in no wave come last."""
    timeout: Duration = "10m"
    """How long one tenant may take, attempts and waiting for locks included, before it counts as failed."""
    lock_timeout: Duration = "5s"
    """How long a migration waits for a lock that the tenant's own sessions hold. It gives up then, so that
    nobody queues behind it, and is tried again."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """How many times a tenant is tried again after a passing fault: a lock, a deadlock, a lost connection."""
