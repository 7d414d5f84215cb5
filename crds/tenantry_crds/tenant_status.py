"""The status of a Tenant: what was made for it, and what it uses."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tenantry_crds.common import ObjectStatus, StatusModel
from tenantry_crds.fields import ShortStatus, StatusText, Timestamp, list_atomic, list_map

MAX_OBJECTS = 32
"""Objects that a status lists; the others are counted."""


class Binding(StatusModel):
    """Where the credentials are, as the Service Binding specification has it."""

    name: ShortStatus | None = None
    """The Secret's name."""


class TenantRolloutStatus(StatusModel):
    """What the last Rollout did to a database."""

    name: ShortStatus
    """The Rollout's name."""
    uid: ShortStatus | None = None
    """Its uid."""
    version: ShortStatus | None = None
    """The version it was to bring."""
    previous: ShortStatus | None = None
    """The version that the data was at before."""
    result: ShortStatus | None = None
    """``Migrated``, ``RolledBack``, ``Failed``, ``RollBackFailed`` or ``Frozen``."""
    round: ShortStatus | None = None
    """In which round of the Rollout it failed."""
    reason: ShortStatus | None = None
    """Why it failed, in one word."""
    message: Annotated[str, StatusText(2048)] | None = None
    """Why it failed, and what to do."""


class SchemaDrift(StatusModel):
    """How a schema differs from what its version has: somebody else changed it."""

    objects: Annotated[tuple[Annotated[str, StatusText(512)], ...], list_atomic(max_items=MAX_OBJECTS)] = Field(
        default_factory=tuple
    )
    """Objects that were added, changed, or are missing."""
    count: Annotated[int, Field(ge=0)] | None = None
    """How many there are altogether."""
    since: Timestamp | None = None
    """When it was first seen."""
    digest: ShortStatus | None = None
    """A hash of the differences; it moves when anything else is changed."""
    fingerprint: ShortStatus | None = None
    """A hash of the whole schema as it was seen last."""


class TenantDatabaseStatus(StatusModel):
    """A database of the tenant as it was made. Its instance and names stay as they were chosen."""

    name: ShortStatus
    """The name in ``spec.databases``; where that is empty, the blueprint's."""
    blueprint: ShortStatus | None = None
    """The Blueprint it was made from."""
    engine: ShortStatus | None = None
    """The kind of server."""
    isolation: ShortStatus | None = None
    """How its data is set apart."""
    instance: ShortStatus | None = None
    """The DatabaseInstance it is on."""
    instance_namespace: ShortStatus | None = None
    """The namespace of that DatabaseInstance."""
    database: ShortStatus | None = None
    """The database's name on the server."""
    schema_name: Annotated[ShortStatus | None, Field(alias="schema")] = None
    """The schema's name on the server; null where the tenant has a whole database."""
    owner: ShortStatus | None = None
    """The role that owns the tenant's objects on the server. It cannot log in."""
    login: ShortStatus | None = None
    """The login that the Secret holds."""
    retired_login: ShortStatus | None = None
    """The login before it, until its sessions are ended and it is dropped."""
    retire_at: Timestamp | None = None
    """When the retired login goes."""
    version: ShortStatus | None = None
    """The blueprint version the data is at."""
    digest: ShortStatus | None = None
    """Digest of the migrations that were applied."""
    rollout: TenantRolloutStatus | None = None
    """What the last Rollout did to it."""
    schema_drift: SchemaDrift | None = None
    """How its schema differs from its version; null: it does not."""
    acknowledged_schema: ShortStatus | None = None
    """The ``digest`` of differences that were accepted by the annotation ``tenantry.dev/acknowledge``."""
    secret: ShortStatus | None = None
    """The Secret with its credentials, in the tenant's namespace."""
    phase: ShortStatus | None = None
    """The state in one word, for people."""
    message: Annotated[str, StatusText(4096)] | None = None
    """What is in the way, if anything."""
    bytes: Annotated[int, Field(ge=0)] | None = None
    """Its size."""
    connections: Annotated[int, Field(ge=0)] | None = None
    """Sessions of its login."""
    node: ShortStatus | None = None
    """Where Citus has it, as ``host:port``; null: the server is one machine, or it has no tables yet."""
    read_only: bool | None = None
    """Whether writing is refused because it is over its storage limit."""
    counted_writes: Annotated[int, Field(ge=0)] | None = None
    """The server's counter of writes when usage was counted last: it is counted again when it moved."""
    removing: bool | None = None
    """Whether it was taken out of the spec and is going by the deletion policy."""


class TenantServiceStatus(StatusModel):
    """A service of the tenant."""

    name: ShortStatus
    """The name in ``spec.services``."""
    blueprint: ShortStatus | None = None
    """The Blueprint it is made from."""
    deployment: ShortStatus | None = None
    """Its Deployment, and its Service when it has a port."""
    address: ShortStatus | None = None
    """``<host>:<port>``, as pods of the cluster reach it; null: it has no port."""
    image: Annotated[str, StatusText(1024)] | None = None
    """The container image."""
    replicas: Annotated[int, Field(ge=0)] | None = None
    """How many pods there are to be."""
    ready: Annotated[int, Field(ge=0)] | None = None
    """How many pods are ready."""
    phase: ShortStatus | None = None
    """The state in one word, for people: ``Pending``, ``Starting``, ``Running``, ``Updating``, ``Stopping``,
    ``Stopped`` or ``Failed``."""
    message: Annotated[str, StatusText(4096)] | None = None
    """What is in the way, if anything."""
    generation: Annotated[int, Field(ge=0)] | None = None
    """The generation of the Deployment that the operator wrote: another one was written by somebody else."""


class UsageBreakdown(StatusModel):
    """A part of what is used."""

    label: Annotated[str, StatusText(253)]
    """What the part is."""
    count: Annotated[int, Field(ge=0)] | None = None
    """How much of it."""
    latest: Annotated[str, StatusText(63)] | None = None
    """The latest moment in it, as the usage query has it."""


class UsageStatus(StatusModel):
    """How much of a resource the tenant uses."""

    resource: ShortStatus
    """The resource's name."""
    used: Annotated[int, Field(ge=0)] | None = None
    """How much is used; for ``storage`` in bytes."""
    limit: Annotated[int, Field(ge=0)] | None = None
    """The most it may be; null: no limit."""
    source: ShortStatus | None = None
    """``Measured`` on the server, counted by a ``Query``, or ``Reported`` by the product."""
    updated_at: Timestamp | None = None
    """When it was found out."""
    breakdown: Annotated[tuple[UsageBreakdown, ...], list_atomic(max_items=256)] = Field(default_factory=tuple)
    """What it is made of."""


class TenantStatus(ObjectStatus):
    """What was made for the tenant, and how it is."""

    phase: ShortStatus | None = None
    """The state in one word, for people: ``Draft``, ``Provisioning``, ``Ready``, ``Suspended``,
    ``Archived``, ``Deleted``, ``Moving``, ``Restoring`` or ``Failed``."""
    id: ShortStatus | None = None
    """The tenant's public id."""
    binding: Binding | None = None
    """The Secret of a tenant that has exactly one database (a "provisioned service")."""
    databases: Annotated[tuple[TenantDatabaseStatus, ...], list_map("name", max_items=64)] = Field(
        default_factory=tuple
    )
    """The tenant's databases, those that are going included."""
    services: Annotated[tuple[TenantServiceStatus, ...], list_map("name", max_items=64)] = Field(
        default_factory=tuple
    )
    """The tenant's services."""
    usage: Annotated[tuple[UsageStatus, ...], list_map("resource", max_items=64)] = Field(default_factory=tuple)
    """What the tenant uses, by resource."""
    handled: Annotated[dict[str, Annotated[str, StatusText(253)]], Field(max_length=16)] = Field(
        default_factory=dict
    )
    """The values of one-time annotations (``rotate``, ``recreate``, ``acknowledge``) that were acted on."""
    waiting_since: Timestamp | None = None
    """Since when something it refers to has been missing."""
    deleted_at: Timestamp | None = None
    """When the state ``Deleted`` was reached; ``retentionDays`` count from then."""

    def database(self, name: str) -> TenantDatabaseStatus | None:
        """The entry of a database by its effective name; None when there is none yet."""
        return next((d for d in self.databases if d.name == name), None)
