"""Blueprint: an engine and a versioned schema (or a service template), and how usage is counted."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import DatabaseEngine, Isolation, ObjectStatus, SpecModel, StatusModel
from tenantry_crds.fields import (
    NonNegativeInt,
    ResourceName,
    Rule,
    ShortStatus,
    Timestamp,
    VersionName,
    list_atomic,
    list_map,
)
from tenantry_crds.kind import Column, Kind, condition_columns, label_name_rule
from tenantry_crds.rollout_policy import RolloutPolicy
from tenantry_crds.service import ServiceTemplate


class UnsafeKeys(StrEnum):
    """What to do about keys under which tenants of shared tables could collide."""

    REFUSE = "Refuse"
    ALLOW = "Allow"


class RowPolicy(SpecModel):
    """How tables are shared under the isolation ``Row``."""

    column: Annotated[str, Field(max_length=63, pattern=r"^[a-z_][a-z0-9_]*$")] = "tenant_id"
    """The column that says whose a row is. Tables that lack it get it. It never changes."""
    unsafe_keys: UnsafeKeys = UnsafeKeys.REFUSE
    """Unique and foreign keys that leave the tenant column out let tenants collide or probe each other.
    ``Refuse``: such a blueprint stalls, with the list of keys. ``Allow``: it is taken as it is."""


class UsageQuery(SpecModel):
    """Counts a resource in a tenant's own data."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.resource != 'storage' && self.resource != 'connections'",
            "usage resource: storage and connections are measured on the server; name another resource",
            ".resource",
        ),
    )

    resource: ResourceName
    """What is counted, such as ``users``."""
    query: Annotated[str, Field(min_length=1, max_length=16384)]
    """A query with the columns ``label``, ``count`` and, if wanted, ``latest``; one row for each label. It
    runs read-only, as the tenant's owner, and sees the tenant's data only."""


class LintPolicy(StrEnum):
    """What to do about statements that destroy data or block the tenants' sessions."""

    WARN = "Warn"
    REFUSE = "Refuse"


class DriftPolicy(StrEnum):
    """What to do about tenants whose schema was changed by somebody else."""

    REPORT = "Report"
    FREEZE = "Freeze"


class BlueprintRolloutPolicy(RolloutPolicy):
    """How a new current version gets to the tenants that follow it, and what stands in its way."""

    lint: LintPolicy = LintPolicy.WARN
    """``Warn``: what linting finds in a version is shown in the status of its BlueprintVersion. ``Refuse``:
    such a version is not rolled out until the annotation ``tenantry.dev/acknowledge`` of the BlueprintVersion
    names the rules that it breaks."""
    drift: DriftPolicy = DriftPolicy.REPORT
    """``Report``: a tenant whose schema differs from its version says so in its condition ``Drifted``.
    ``Freeze``: it also gets no other version until its annotation ``tenantry.dev/acknowledge`` gets a new
    value."""


_ROW_COLUMN = "(has({0}.row) ? {0}.row.column : 'tenant_id')"


class BlueprintSpec(SpecModel):
    """What tenants get from the blueprint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.engine) != has(self.service)",
            "spec: give exactly one of engine (a database blueprint) and service (a service template)",
        ),
        Rule(
            "has(self.engine) == has(oldSelf.engine) && (!has(self.engine) || self.engine == oldSelf.engine)",
            "engine: the engine of a blueprint never changes; create another Blueprint",
            ".engine",
        ),
        Rule(
            "!has(self.engine) || has(self.version)",
            "version: a database blueprint needs its current version; name a BlueprintVersion",
            ".version",
        ),
        Rule(
            "!has(self.service) || !(has(self.version) || has(self.isolation) || has(self.rollout) "
            "|| has(self.row) || (has(self.usage) && size(self.usage) > 0))",
            "service: version, isolation, rollout, row and usage are of database blueprints; take them out",
            ".service",
        ),
        Rule(
            "!has(self.engine) || self.engine == 'PostgreSQL' || !has(self.isolation) "
            "|| !(self.isolation in ['Row', 'Schema'])",
            "isolation: Row and Schema exist on PostgreSQL only; use Database or Instance",
            ".isolation",
        ),
        Rule(
            f"{_ROW_COLUMN.format('self')} == {_ROW_COLUMN.format('oldSelf')}",
            "row.column: the tenant column never changes (left out, it is tenant_id); "
            "put the old name back, or create another Blueprint",
            ".row",
        ),
    )

    engine: DatabaseEngine | None = None
    """The kind of database; it never changes."""
    version: VersionName | None = None
    """The current version: tenants without a version of their own follow it."""
    isolation: Isolation | None = None
    """How tenants that name no isolation are set apart. Left out: ``Database``."""
    rollout: BlueprintRolloutPolicy | None = None
    """How a new current version gets to the tenants that follow it. A new ``version`` makes the Rollout
    ``<blueprint>-<version>`` with this policy; a Rollout that exists already is changed by itself."""
    usage: Annotated[tuple[UsageQuery, ...], list_map("resource", max_items=32)] = Field(default_factory=tuple)
    """What is counted in the tenants' own data."""
    row: RowPolicy | None = None
    """How tables are shared under the isolation ``Row``."""
    service: ServiceTemplate | None = None
    """In place of ``engine``: a service that tenants get by naming the blueprint in ``spec.services``. It has no
    versions: a change rolls out to all of them at once, by their Deployments' rolling updates."""

    @property
    def effective_isolation(self) -> Isolation:
        """The isolation of tenants that name none."""
        return self.isolation or Isolation.DATABASE

    @property
    def effective_row(self) -> RowPolicy:
        """How tables are shared, with the defaults filled in."""
        return self.row or RowPolicy()

    @property
    def effective_rollout(self) -> BlueprintRolloutPolicy:
        """How versions get to tenants, with the defaults filled in."""
        return self.rollout or BlueprintRolloutPolicy()


class CurrentRollout(StatusModel):
    """The Rollout that a new version made."""

    name: ShortStatus
    """The Rollout's name."""
    uid: ShortStatus | None = None
    """Its uid: one that is made again is another one."""
    version: ShortStatus | None = None
    """The version it brings."""
    created_at: Timestamp | None = None
    """When it was made."""
    phase: ShortStatus | None = None
    """Its phase; ``Cancelled`` when it was deleted before its end."""


class BlueprintStatus(ObjectStatus):
    """How the blueprint's tenants are."""

    current_version: ShortStatus | None = None
    """The version that followers have, once the rollout to it is through."""
    rollout: CurrentRollout | None = None
    """The last Rollout that a new ``spec.version`` made."""
    tenants: NonNegativeInt | None = None
    """How many tenants have a database, or a service, of this blueprint."""
    up_to_date: NonNegativeInt | None = None
    """How many of them are at the version they should be at; of services: how many run as they should."""
    versions: Annotated[tuple[ShortStatus, ...], list_atomic(max_items=1024)] = Field(default_factory=tuple)
    """The versions there are, oldest first."""


BLUEPRINT = Kind(
    kind="Blueprint",
    plural="blueprints",
    short_names=("bp",),
    description="An engine and a versioned schema, or a service template, that tenants are made from.",
    spec=BlueprintSpec,
    status=BlueprintStatus,
    columns=(
        Column("Engine", ".spec.engine"),
        Column("Version", ".spec.version"),
        Column("Tenants", ".status.tenants", type="integer"),
        Column("Up to date", ".status.upToDate", type="integer"),
        *condition_columns(),
        Column("Isolation", ".spec.isolation", priority=1),
    ),
    rules=(label_name_rule("Blueprint"),),
    selectable=(".spec.engine", ".spec.version"),
)
