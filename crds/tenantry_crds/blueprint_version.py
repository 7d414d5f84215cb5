"""BlueprintVersion: one immutable version of a blueprint, as ordered migrations."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from tenantry_crds.common import ConfigMapKeyRef, ObjectStatus, SpecModel, StatusModel
from tenantry_crds.fields import (
    AnyValue,
    DnsLabel,
    NonNegativeInt,
    Rule,
    ShortStatus,
    StatusText,
    Timestamp,
    VersionName,
    list_atomic,
    list_map,
)
from tenantry_crds.kind import Column, Kind, condition_columns

MAX_SQL = 524_288
MAX_FINDINGS = 64
"""Findings that a status lists; the others are counted."""


class Migration(SpecModel):
    """One step towards the version: exactly one of ``sql``, ``commands`` and ``configMapRef``."""

    # CEL does not see lists of free-form entries, thus not commands: the schema itself has to say it.
    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [name]} for name in ("sql", "commands", "configMapRef")]}
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.sql) || !has(self.configMapRef)",
            "migrations: give each migration exactly one of sql, commands and configMapRef",
        ),
    )

    name: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]
    """The migration's name, unique in the version. The ledger of each tenant keeps it."""
    sql: Annotated[str, Field(min_length=1, max_length=MAX_SQL)] | None = None
    """SQL statements; at most 524288 characters, more fits into a ConfigMap."""
    commands: Annotated[tuple[AnyValue, ...], Field(min_length=1), list_atomic(max_items=1024)] | None = None
    """For MongoDB: JSON documents. For Redis: argument lists."""
    config_map_ref: ConfigMapKeyRef | None = None
    """SQL statements in a ConfigMap of the namespace. Once applied they must not be edited."""
    rollback: Annotated[str, Field(min_length=1, max_length=MAX_SQL)] | None = None
    """SQL statements that undo the migration, for going back to an older version. Of ``commands``: a list
    of commands as JSON."""
    transactional: bool = True
    """Whether it runs in a transaction. Left out: true. False for what cannot, such as CREATE INDEX
    CONCURRENTLY: its statements then run one by one, and after a crash or a failure it goes on with the one
    that did not end. The same goes for its ``rollback``."""


class BlueprintVersionSpec(SpecModel):
    """One version. It never changes once it is there."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self == oldSelf",
            "spec: a BlueprintVersion never changes; create another one with a new version",
        ),
        Rule(
            "!has(self.from) || self.from != self.version",
            "from: a version cannot come from itself; name the version before it, or leave it out",
            ".from",
        ),
    )

    blueprint: DnsLabel
    """The Blueprint it belongs to, in the same namespace."""
    version: VersionName
    """The version's name, such as "1.1"."""
    from_version: Annotated[VersionName | None, Field(alias="from")] = None
    """The version before it. Left out: it starts from an empty database."""
    migrations: Annotated[tuple[Migration, ...], list_map("name", max_items=256)] = Field(default_factory=tuple)
    """The steps from ``from`` to this version, in order; possibly none."""


class MigrationStatus(StatusModel):
    """A migration as it was read."""

    name: ShortStatus
    """The migration's name."""
    checksum: ShortStatus | None = None
    """SHA-256 of its text, hexadecimal."""


class LintFinding(StatusModel):
    """A statement that deserves a second look."""

    migration: ShortStatus
    """The migration it is in."""
    rule: ShortStatus
    """The rule it breaks: what ``tenantry.dev/acknowledge`` names."""
    line: NonNegativeInt | None = None
    """The line in the migration, from 1."""
    kind: ShortStatus | None = None
    """``Destructive``, ``Blocking``, ``Invalid`` or ``Advice``."""
    message: Annotated[str, StatusText(512)] | None = None
    """What is wrong with it, and what to write instead."""


class DryRunStatus(StatusModel):
    """What came of applying the version to a scratch copy."""

    result: ShortStatus | None = None
    """``Passed``, ``Failed`` or ``NotRun``."""
    message: Annotated[str, StatusText(2048)] | None = None
    """What failed, or why it was not run."""
    instance: ShortStatus | None = None
    """The DatabaseInstance it ran on."""
    digest: ShortStatus | None = None
    """The digest of the migrations that were run."""
    finished_at: Timestamp | None = None
    """When."""


class StructureStatus(StatusModel):
    """What the version's schema looks like on servers of one major version."""

    server: ShortStatus
    """Engine and major version."""
    digest: ShortStatus | None = None
    """The digest of the migrations that made it."""
    fingerprint: ShortStatus | None = None
    """A hash of all definitions: a tenant's schema with another one is not as the version has it."""
    message: Annotated[str, StatusText(512)] | None = None
    """Why it could not be found out. Drift of the schemas of its tenants is not seen then."""


class BlueprintVersionStatus(ObjectStatus):
    """Whether the version can be used."""

    digest: ShortStatus | None = None
    """Digest of all migrations from the start of the chain to this version."""
    migrations: Annotated[tuple[MigrationStatus, ...], list_map("name", max_items=256)] = Field(
        default_factory=tuple
    )
    """The migrations as they were read, those from ConfigMaps included."""
    findings: Annotated[tuple[LintFinding, ...], list_atomic(max_items=MAX_FINDINGS)] = Field(
        default_factory=tuple
    )
    """What linting found, what destroys data first."""
    finding_count: NonNegativeInt | None = None
    """How much it found altogether."""
    dry_run: DryRunStatus | None = None
    """What came of applying it to a scratch copy of the blueprint."""
    structures: Annotated[tuple[StructureStatus, ...], list_map("server", max_items=8)] = Field(
        default_factory=tuple
    )
    """What it looks like, by which drift of its tenants' schemas is seen."""


BLUEPRINT_VERSION = Kind(
    kind="BlueprintVersion",
    plural="blueprintversions",
    short_names=("bpv",),
    description="One immutable version of a Blueprint: its migrations, in order.",
    spec=BlueprintVersionSpec,
    status=BlueprintVersionStatus,
    columns=(
        Column("Blueprint", ".spec.blueprint"),
        Column("Version", ".spec.version"),
        Column("From", ".spec.from"),
        Column("Findings", ".status.findingCount", type="integer"),
        *condition_columns(),
        Column("Digest", ".status.digest", priority=1),
    ),
    selectable=(".spec.blueprint", ".spec.version", ".spec.from"),
)
