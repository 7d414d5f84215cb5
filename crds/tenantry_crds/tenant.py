"""Tenant: who the tenant is, its lifecycle state, plan, limits, databases and services."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import DeletionPolicy, Isolation, Limit, SpecModel
from tenantry_crds.fields import (
    Code,
    Day,
    DnsLabel,
    FreeForm,
    PublicId,
    Rule,
    VersionName,
    list_atomic,
    list_map,
    list_set,
    text,
)
from tenantry_crds.kind import Column, Kind, condition_columns, label_name_rule
from tenantry_crds.tenant_status import TenantStatus


class TenantState(StrEnum):
    """Where in its life a tenant should be."""

    DRAFT = "Draft"
    ACTIVE = "Active"
    SUSPENDED = "Suspended"
    ARCHIVED = "Archived"
    DELETED = "Deleted"


class Ddl(StrEnum):
    """Whether a tenant's login may change the schema."""

    FORBIDDEN = "Forbidden"
    ALLOWED = "Allowed"


class TenantPlan(SpecModel):
    """The plan a tenant is on."""

    code: Code
    """The code of a Plan."""
    effective_from: Day | None = None
    """The day from which the plan was agreed. Recorded only: its limits hold at once."""


class TenantProfile(SpecModel):
    """Who the tenant is, for people and for the REST contracts. Recorded, never interpreted."""

    type: Annotated[str, text(63)] | None = None
    """What kind of organisation it is, such as ``UNIVERSITY``."""
    description: Annotated[str, text(4096)] | None = None
    """A description for people."""
    legal_name: Annotated[str, text(255)] | None = None
    """The name it is registered under."""
    legal_status: Annotated[str, text(63)] | None = None
    """Its legal form, such as ``PUBLIC``."""
    domain: Annotated[str, text(253)] | None = None
    """Its internet domain."""
    logo_url: Annotated[str, text(2048)] | None = None
    """Where its logo is."""
    contact_email: Annotated[str, text(320)] | None = None
    """Its general e-mail address."""
    contact_phone: Annotated[str, text(63)] | None = None
    """Its general telephone number."""
    registration_number: Annotated[str, text(63)] | None = None
    """Its number in a public register."""
    plugin_repo: Annotated[str, text(2048)] | None = None
    """The repository of its plugins."""


class Contact(SpecModel):
    """A person to turn to. Recorded, never interpreted."""

    role: Annotated[str, text(63)]
    """What the person is to the tenant, such as ``owner`` or ``billing``."""
    name: Annotated[str, text(255)] | None = None
    """The person's name."""
    email: Annotated[str, text(320)] | None = None
    """The person's e-mail address."""


class ExternalId(SpecModel):
    """What another system calls the tenant. Recorded, never interpreted."""

    system_key: Annotated[str, text(63)]
    """The other system."""
    id_value: Annotated[str, text(255)]
    """The tenant's id there."""


class Tag(SpecModel):
    """A tag that people and clients search by."""

    tag_key: Annotated[str, text(63)]
    """The tag's name."""
    tag_value: Annotated[str, text(255)] = ""
    """The tag's value; it may be empty."""


class Residency(SpecModel):
    """The rule that says where the tenant's data may lie."""

    policy_id: Code
    """The policy's id. Recorded; ``spec.regions`` is what placement goes by."""
    effective_from: Day | None = None
    """The day from which the policy was agreed. Recorded only."""


class TenantDatabase(SpecModel):
    """A database of the tenant, made from a blueprint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.ddl) || self.ddl != 'Allowed' || !has(self.isolation) || self.isolation != 'Row'",
            "ddl: tenants of the isolation Row share their tables; leave ddl out, or use another isolation",
            ".ddl",
        ),
    )

    name: Annotated[str, Field(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")] = ""
    """The database's name within the tenant; left out or empty: the blueprint's name. Its credentials are in
    the Secret ``<tenant>-<name>-db``."""
    blueprint: DnsLabel
    """The Blueprint in the tenant's namespace. It stays the same as long as the database exists."""
    version: VersionName | None = None
    """The BlueprintVersion to stay at. Left out: the database follows the blueprint's current version."""
    isolation: Isolation | None = None
    """How the data is set apart. Left out: as the blueprint says. Changing it is a move; while moves are not
    available the tenant reports ``MoveNotSupported`` and nothing is touched. ``Instance``: a server of its own,
    which is made for it unless ``instance`` names one."""
    instance: DnsLabel | None = None
    """The DatabaseInstance to be on, in the tenant's namespace or the operator's. Left out: placement
    chooses. Changing it is a move, as with ``isolation``."""
    ddl: Ddl = Ddl.FORBIDDEN
    """Whether the tenant's own login may change the schema. Left out: ``Forbidden``. Tables that tenants share,
    under the isolation ``Row``, are never theirs to change."""

    @property
    def effective_name(self) -> str:
        """The name, which by default is the blueprint's."""
        return self.name or self.blueprint


class TenantService(SpecModel):
    """A service of the tenant, made from a service blueprint."""

    name: DnsLabel
    """The service's name within the tenant. Its Deployment is ``<tenant>-<name>``."""
    blueprint: DnsLabel
    """The Blueprint, one with ``spec.service``, in the tenant's namespace."""
    replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many pods run it. Left out: as the blueprint says."""


class BackupPolicy(SpecModel):
    """When the tenant is backed up. Not acted on yet."""

    schedule: Annotated[
        str, Field(max_length=100, pattern=r"^(@(hourly|daily|weekly|monthly|yearly)|([^ ]+ +){4}[^ ]+)$")
    ]
    """When, in cron's five fields and UTC: ``0 3 * * *``."""
    keep: Annotated[int, Field(ge=1, le=10_000)] = 7
    """How many backups are kept."""


_NAME_OF = "({0}.name == '' ? {0}.blueprint : {0}.name)"
_DATABASE_RULES = (
    Rule(
        f"self.all(a, self.exists_one(b, {_NAME_OF.format('a')} == {_NAME_OF.format('b')}))",
        "databases: two databases have the same name (left out, it is the blueprint's name); "
        "give each a name of its own",
    ),
    Rule(
        f"oldSelf.all(o, self.all(n, {_NAME_OF.format('n')} != {_NAME_OF.format('o')} "
        "|| n.blueprint == o.blueprint))",
        "databases: the blueprint of a database cannot be changed; add a database with another name "
        "for the new blueprint, and take the old one out when its data is no longer needed",
    ),
)


class TenantSpec(SpecModel):
    """What the tenant should be."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.state != 'Draft' || oldSelf.state == 'Draft'",
            "state: a tenant that has left Draft cannot go back to it; use Suspended to refuse its logins",
            ".state",
        ),
    )

    id: PublicId | None = None
    """The tenant's public id: it names databases and is the value of the tenant column. Left out: the
    object's name. It never changes."""
    display_name: Annotated[str, text(255)] | None = None
    """The name that people see."""
    state: TenantState = TenantState.ACTIVE
    """``Draft``: nothing exists yet. ``Active``: data live, logins on. ``Suspended``: data in place, logins
    refused. ``Archived``: data exported and dropped; not available before backups are, nothing is dropped.
    ``Deleted``: as Suspended until ``retentionDays`` have passed, then by ``deletionPolicy``."""
    plan: TenantPlan | None = None
    """The plan whose limits hold. Left out: no limits but the tenant's own."""
    parent: DnsLabel | None = None
    """Another Tenant of the namespace that this one belongs to. Recorded only."""
    profile: TenantProfile | None = None
    """Who the tenant is."""
    contacts: Annotated[tuple[Contact, ...], list_atomic(max_items=64)] = Field(default_factory=tuple)
    """Whom to turn to."""
    external_ids: Annotated[tuple[ExternalId, ...], list_map("systemKey", "idValue", max_items=64)] = Field(
        default_factory=tuple
    )
    """What other systems call the tenant."""
    tags: Annotated[tuple[Tag, ...], list_map("tagKey", max_items=64)] = Field(default_factory=tuple)
    """Tags to search by."""
    regions: Annotated[tuple[Annotated[str, text(63)], ...], list_set(max_items=32)] = Field(default_factory=tuple)
    """The regions its data may lie in, as in ``DatabaseInstance.spec.region``. Empty: any."""
    residency: Residency | None = None
    """The residency policy."""
    settings: FreeForm = Field(default_factory=dict)
    """Free-form settings of the product. Never interpreted."""
    security_config: FreeForm = Field(default_factory=dict)
    """Free-form security settings of the product. Never interpreted."""
    limits: Annotated[tuple[Limit, ...], list_map("resource", max_items=64)] = Field(default_factory=tuple)
    """Limits of this tenant, in place of the plan's for the same resource."""
    databases: Annotated[
        tuple[TenantDatabase, ...], list_map("blueprint", "name", max_items=32, rules=_DATABASE_RULES)
    ] = Field(default_factory=tuple)
    """The tenant's databases. One that is taken out goes by ``deletionPolicy``."""
    services: Annotated[tuple[TenantService, ...], list_map("name", max_items=32)] = Field(default_factory=tuple)
    """The tenant's services: they run while the tenant is ``Active``, and start when its databases are there.
    One that is taken out is removed."""
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    """What becomes of data that is to go. ``Retain``: it stays, logins refused, and a Tenant of the same name
    and namespace finds it again. ``Archive``: exported, verified, dropped; not available before backups are,
    nothing is dropped. ``Delete``: dropped."""
    retention_days: Annotated[int, Field(ge=0, le=36500)] = 30
    """For how many days a ``Deleted`` tenant keeps its data."""
    rotation_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    """How old its passwords get, in days: then they are rotated. A tenth of them may be missing, so that not
    all tenants rotate at once. Left out: only the annotation ``tenantry.dev/rotate`` rotates them."""
    backup: BackupPolicy | None = None
    """When the tenant is backed up. Not acted on yet."""


_EFFECTIVE_ID = "(has({0}.spec.id) ? {0}.spec.id : {0}.metadata.name)"

TENANT = Kind(
    kind="Tenant",
    plural="tenants",
    short_names=("tn",),
    description="A tenant of the product: who it is, its lifecycle state, plan, limits and databases.",
    spec=TenantSpec,
    status=TenantStatus,
    columns=(
        Column("State", ".spec.state"),
        Column("Phase", ".status.phase"),
        Column("Plan", ".spec.plan.code"),
        *condition_columns(),
        Column("ID", ".status.id", priority=1),
        Column("Binding", ".status.binding.name", priority=1),
    ),
    rules=(
        label_name_rule("Tenant"),
        Rule(
            f"{_EFFECTIVE_ID.format('self')} == {_EFFECTIVE_ID.format('oldSelf')}",
            "spec.id: the id of a tenant never changes (left out, it is metadata.name); put the old id back, "
            "or create another Tenant",
            ".spec.id",
        ),
        Rule(
            "!has(self.spec.parent) || self.spec.parent != self.metadata.name",
            "spec.parent: a tenant cannot be its own parent; name another Tenant or leave it out",
            ".spec.parent",
        ),
    ),
    selectable=(".spec.id", ".spec.state", ".spec.plan.code", ".spec.parent", ".status.phase"),
)
