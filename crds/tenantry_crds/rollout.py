"""Rollout: brings a set of tenants to a version of their blueprint, in waves."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import LabelSelector, ObjectStatus, StatusModel
from tenantry_crds.fields import (
    DnsLabel,
    NonNegativeInt,
    Rule,
    ShortStatus,
    StatusText,
    Timestamp,
    VersionName,
    list_atomic,
    list_map,
    list_set,
)
from tenantry_crds.kind import Column, Kind, condition_columns
from tenantry_crds.rollout_policy import RolloutPolicy

MAX_FAILURES = 50
"""Failures that a status lists; the others are counted, and each tenant tells its own."""


class RolloutSpec(RolloutPolicy):
    """Which tenants are to get which version, and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *RolloutPolicy.rules,
        Rule(
            "self.blueprint == oldSelf.blueprint",
            "blueprint: a Rollout is for one blueprint; create another one",
            ".blueprint",
        ),
        Rule(
            "self.version == oldSelf.version",
            "version: the version of a Rollout never changes; create another one",
            ".version",
        ),
        Rule(
            "!has(self.selector) || !has(self.tenants)",
            "tenants: give a selector or a list of tenants, not both",
            ".tenants",
        ),
    )

    blueprint: DnsLabel
    """The Blueprint, in the same namespace."""
    version: VersionName
    """The version that the tenants are to get. An older one than theirs: they go back, by rollback SQL."""
    selector: LabelSelector | None = None
    """Which tenants, by their labels. Without ``selector`` and ``tenants``: all that follow the blueprint.
    Tenants that pin a version are skipped in any case."""
    tenants: Annotated[tuple[DnsLabel, ...], list_set(max_items=1024)] | None = None
    """Which tenants, by name."""
    paused: bool = False
    """True: no further tenant is begun until it is false again."""


class RolloutFailure(StatusModel):
    """A tenant that did not get to the version."""

    tenant: ShortStatus
    """The Tenant's name."""
    database: ShortStatus | None = None
    """Which of its databases."""
    reason: ShortStatus | None = None
    """One CamelCase word for programs."""
    message: Annotated[str, StatusText(512)] | None = None
    """What went wrong and what to do. The Tenant's own status has it in full."""


class WaveStatus(StatusModel):
    """How a wave is."""

    name: ShortStatus
    """The wave's name; ``default`` for the tenants that are in none."""
    total: NonNegativeInt | None = None
    """How many tenants are in it."""
    completed: NonNegativeInt | None = None
    """How many of them have the version."""
    failed: NonNegativeInt | None = None
    """How many of them failed."""
    soak_until: Timestamp | None = None
    """Until when the next wave waits."""


class RolloutStatus(ObjectStatus):
    """How far the rollout is."""

    phase: ShortStatus | None = None
    """The state in one word, for people: ``Pending``, ``Running``, ``Soaking``, ``Paused``, ``RollingBack``,
    ``RolledBack``, ``Completed``, ``Failed`` or ``Cancelled``."""
    message: Annotated[str, StatusText(2048)] | None = None
    """What is going on, or in the way."""
    wave: ShortStatus | None = None
    """The wave that is under way."""
    waves: Annotated[tuple[WaveStatus, ...], list_map("name", max_items=33)] = Field(default_factory=tuple)
    """All waves, in their order."""
    total: NonNegativeInt | None = None
    """How many tenants are to get the version."""
    completed: NonNegativeInt | None = None
    """How many have it."""
    failed: NonNegativeInt | None = None
    """How many did not get there."""
    skipped: NonNegativeInt | None = None
    """How many were left out: those that pin a version, have no data yet, or are archived."""
    running: NonNegativeInt | None = None
    """How many are being migrated."""
    rolled_back: NonNegativeInt | None = None
    """How many went back to the version they had before."""
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many percent are done, failures included."""
    failures: Annotated[tuple[RolloutFailure, ...], list_atomic(max_items=MAX_FAILURES)] = Field(
        default_factory=tuple
    )
    """The first failures; ``failed`` counts them all."""
    started_at: Timestamp | None = None
    """When the first tenant was begun."""
    completed_at: Timestamp | None = None
    """When it ended."""
    round: ShortStatus | None = None
    """Which generation and value of ``tenantry.dev/resume`` the failures are from: those of earlier ones are
    tried again."""


ROLLOUT = Kind(
    kind="Rollout",
    plural="rollouts",
    short_names=("ro",),
    description="Brings a set of tenants to a version of their Blueprint: in waves, with a failure budget.",
    spec=RolloutSpec,
    status=RolloutStatus,
    columns=(
        Column("Blueprint", ".spec.blueprint"),
        Column("Version", ".spec.version"),
        Column("Phase", ".status.phase"),
        Column("Wave", ".status.wave"),
        Column("Progress", ".status.progress", type="integer"),
        Column("Completed", ".status.completed", type="integer"),
        Column("Failed", ".status.failed", type="integer"),
        Column("Total", ".status.total", type="integer"),
        *condition_columns(reason_priority=1),
    ),
    selectable=(".spec.blueprint", ".spec.version"),
)
