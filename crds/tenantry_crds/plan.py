"""Plan: limits and database settings that tenants share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import Limit, ObjectStatus, SpecModel
from tenantry_crds.fields import (
    Code,
    Duration,
    FreeForm,
    NonNegativeInt,
    Quantity,
    Rule,
    list_map,
)
from tenantry_crds.kind import Column, Kind, Scope, condition_columns, label_name_rule


class Enforcement(StrEnum):
    """What happens to a tenant over its storage limit."""

    READ_ONLY = "ReadOnly"
    WARN = "Warn"


class PlanDatabase(SpecModel):
    """What the database itself enforces, for each database of a tenant."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.statementTimeout) || (duration(self.statementTimeout) >= duration('1ms') "
            "&& duration(self.statementTimeout) <= duration('596h'))",
            "statementTimeout: it is at least 1ms and at most 596h; leave it out for no limit",
            ".statementTimeout",
        ),
    )

    connections: Annotated[int, Field(ge=1, le=262_143)] | None = None
    """The most sessions of a login at a time. Left out: no limit."""
    storage: Quantity | None = None
    """The most the data may take. Left out: no limit."""
    statement_timeout: Duration | None = None
    """How long a statement may run. Left out: no limit. A tenant can change it for its own sessions."""
    temp_files: Quantity | None = None
    """The most a session may take in temporary files. Left out: no limit."""
    enforcement: Enforcement = Enforcement.READ_ONLY
    """Over its storage limit a login can only read and delete (``ReadOnly``), or is only reported
    (``Warn``)."""


class PlanSpec(SpecModel):
    """What tenants on the plan may have."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.limits) || !has(self.database) || self.limits.all(l, "
            "(l.resource != 'storage' || !has(self.database.storage)) && "
            "(l.resource != 'connections' || !has(self.database.connections)))",
            "limits: storage and connections stand in spec.database already; take them out of one of the two",
            ".limits",
        ),
    )

    code: Code | None = None
    """The plan's public code, which ``Tenant.spec.plan.code`` names. Left out: the object's name. Unique."""
    number: NonNegativeInt | None = None
    """The plan's number, for REST contracts that know plans by number. Unique."""
    limits: Annotated[tuple[Limit, ...], list_map("resource", max_items=64)] = Field(default_factory=tuple)
    """The most of each resource a tenant may have."""
    database: PlanDatabase | None = None
    """What the database itself enforces."""
    dedicated: FreeForm = Field(default_factory=dict)
    """Overrides of the chart's template for servers of the isolation ``Instance``."""

    @property
    def effective_database(self) -> PlanDatabase:
        """What the database enforces, with the defaults filled in."""
        return self.database or PlanDatabase()


class PlanStatus(ObjectStatus):
    """Who is on the plan."""

    tenants: NonNegativeInt | None = None
    """How many tenants are on it, in all namespaces."""


PLAN = Kind(
    kind="Plan",
    plural="plans",
    short_names=("plan",),
    description="Limits and database settings that tenants share. Plans belong to the whole cluster.",
    scope=Scope.CLUSTER,
    spec=PlanSpec,
    status=PlanStatus,
    columns=(
        Column("Code", ".spec.code"),
        Column("Number", ".spec.number", type="integer"),
        Column("Connections", ".spec.database.connections", type="integer"),
        Column("Storage", ".spec.database.storage"),
        Column("Tenants", ".status.tenants", type="integer"),
        *condition_columns(),
    ),
    rules=(label_name_rule("Plan"),),
    selectable=(".spec.code", ".spec.number"),
)
