"""DatabaseInstance: a database server, where it runs, and how many tenants it takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import (
    ComputeResources,
    DatabaseEngine,
    LocalSecretRef,
    ObjectStatus,
    SpecModel,
    StatusModel,
)
from tenantry_crds.fields import NonNegativeInt, Port, PositiveInt, Quantity, Rule, ShortStatus, text
from tenantry_crds.kind import Column, Kind, condition_columns, label_name_rule
from tenantry_crds.pods import PodSettings


class InstanceRole(StrEnum):
    """What a server is for."""

    SHARED = "Shared"
    DEDICATED = "Dedicated"
    WORKSPACE = "Workspace"


class TlsMode(StrEnum):
    """How far a connection is encrypted and its server verified, as in libpq's ``sslmode``."""

    DISABLE = "Disable"
    PREFER = "Prefer"
    REQUIRE = "Require"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"


class InstanceDeletionPolicy(StrEnum):
    """What becomes of a server's volumes when the resource is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Capacity(SpecModel):
    """How much a server takes."""

    tenants: PositiveInt | None = None
    """The most tenant databases that are placed on it. Left out: no limit."""


class Sharding(StrEnum):
    """What distributes the tenants of one PostgreSQL server over several machines."""

    CITUS = "Citus"


class PostgresSettings(SpecModel):
    """What only PostgreSQL has."""

    sharding: Sharding | None = None
    """``Citus``: the server is the coordinator of Citus; tenants with isolation ``Schema`` become distributed
    schemas, all others stay on the coordinator. Left out: everything is on this one server."""


class Tls(SpecModel):
    """How the operator's and the tenants' connections are protected. Certificates are in ``adminSecret``."""

    mode: TlsMode | None = None
    """How far. Left out: ``VerifyFull`` when ``adminSecret`` holds ``ca.crt``, else ``Prefer``."""


class FerretDBBackend(SpecModel):
    """The PostgreSQL server in which FerretDB keeps its data."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:._-]+$")]
    """Its host name or address, as the operator reaches it."""
    port: Port | None = None
    """Its port. Left out: 5432."""
    admin_secret: LocalSecretRef
    """The Secret of an administrator of it, as ``spec.external.adminSecret`` on PostgreSQL."""
    database: Annotated[str, Field(min_length=1, max_length=63)] = "ferretdb"
    """The database that FerretDB uses: the one in its ``FERRETDB_POSTGRESQL_URL``."""
    tls: Tls | None = None
    """How connections are protected."""


class ExternalServer(SpecModel):
    """A server that somebody else runs, such as a managed service."""

    host: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9:._-]+$")]
    """Its host name or address, as the operator and the tenants' programs reach it."""
    port: Port | None = None
    """Its port. Left out: the engine's usual one (5432, 3306, 27017, 6379)."""
    admin_secret: LocalSecretRef
    """The Secret of an administrator with the keys ``username``, ``password``, and optionally ``ca.crt``,
    ``tls.crt`` and ``tls.key``. On PostgreSQL it needs CREATEDB and CREATEROLE, not a superuser."""
    tls: Tls | None = None
    """How connections are protected."""
    ferretdb: FerretDBBackend | None = None
    """With the engine MongoDB, when the server is FerretDB: the PostgreSQL server behind it. Left out: a server
    that keeps its data itself."""


class ServerParts(SpecModel):
    """What a server that runs in the cluster is made of."""

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """The container image. Left out: the usual one of the engine."""
    storage: Quantity | None = None
    """The size of its volume, such as ``10Gi``. It can grow, if the storage class allows, and never shrinks."""
    storage_class_name: Annotated[str, text(253)] | None = None
    """The storage class of its volume. Left out: the cluster's default."""
    resources: ComputeResources | None = None
    """Its CPU and memory."""


class RunnableServer(PodSettings, ServerParts):
    """A server that runs in the cluster."""


class StatefulSetServer(RunnableServer):
    """A server of one pod that Tenantry runs as a StatefulSet. The last part of the image's repository tells what
    it is: ``postgres*``; ``mariadb*`` or ``mysql*``; ``redis*`` or ``valkey*``; ``mongo*`` or ``ferretdb*``."""


class CloudNativePGServer(RunnableServer):
    """A PostgreSQL cluster that the operator CloudNativePG runs."""

    instances: Annotated[int, Field(ge=1, le=32)] = 1
    """How many servers, of which one is the primary."""


class MariaDBServer(RunnableServer):
    """A MariaDB server that the MariaDB operator runs."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.affinity) || !has(self.affinity.podAffinity)",
            "mariaDB.affinity: the MariaDB operator knows no podAffinity; use nodeAffinity or podAntiAffinity",
            ".affinity",
        ),
    )

    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    """How many servers."""


class DatabaseInstanceSpec(SpecModel):
    """What the server is."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.external), has(self.statefulSet), has(self.cloudNativePG), has(self.mariaDB)]"
            ".filter(given, given).size() == 1",
            "spec: give exactly one of external, statefulSet, cloudNativePG and mariaDB: who runs the server",
        ),
        Rule(
            "self.engine == oldSelf.engine",
            "engine: the engine of a DatabaseInstance never changes; create another one",
            ".engine",
        ),
        Rule(
            "!has(self.cloudNativePG) || self.engine == 'PostgreSQL'",
            "cloudNativePG: it runs PostgreSQL only; use another way to run this engine",
            ".cloudNativePG",
        ),
        Rule(
            "!has(self.postgres) || self.engine == 'PostgreSQL'",
            "postgres: it is for the engine PostgreSQL only; leave it out",
            ".postgres",
        ),
        Rule(
            "!has(self.mariaDB) || self.engine == 'MySQL'",
            "mariaDB: it runs the engine MySQL only; use another way to run this engine",
            ".mariaDB",
        ),
        Rule(
            "has(self.external) == has(oldSelf.external) && has(self.statefulSet) == has(oldSelf.statefulSet) "
            "&& has(self.cloudNativePG) == has(oldSelf.cloudNativePG)",
            "spec: who runs a server never changes; create another instance",
        ),
        Rule(
            "!has(self.external) || !has(self.external.ferretdb) || self.engine == 'MongoDB'",
            "external.ferretdb: it is for the engine MongoDB only; take it out",
            ".external.ferretdb",
        ),
    )

    engine: DatabaseEngine
    """The kind of server; it never changes."""
    role: InstanceRole = InstanceRole.SHARED
    """``Shared``: placement puts tenants on it. ``Dedicated``: for one tenant. ``Workspace``: for development
    databases, not acted on yet. A dedicated server that runs in the cluster sleeps while its tenants rest."""
    region: Annotated[str, text(63)] | None = None
    """Where it is, in the words of ``Tenant.spec.regions``."""
    capacity: Capacity | None = None
    """How much it takes."""
    cordoned: bool = False
    """Whether placement leaves it out. Tenants that are on it stay."""
    deletion_policy: InstanceDeletionPolicy = InstanceDeletionPolicy.RETAIN
    """What becomes of its volumes, and of the Secret of its administrator, when this resource is deleted:
    ``Retain`` keeps them for an instance of the same name. A server that holds tenants stays until they are gone.
    For servers that run in the cluster."""
    postgres: PostgresSettings | None = None
    """For the engine PostgreSQL."""
    external: ExternalServer | None = None
    """A server that somebody else runs."""
    stateful_set: StatefulSetServer | None = None
    """A server that Tenantry runs."""
    cloud_native_pg: Annotated[CloudNativePGServer | None, Field(alias="cloudNativePG")] = None
    """A server that CloudNativePG runs."""
    maria_db: Annotated[MariaDBServer | None, Field(alias="mariaDB")] = None
    """A server that the MariaDB operator runs."""


class Endpoint(StatusModel):
    """Where a server is reached."""

    host: ShortStatus | None = None
    """Its host name or address."""
    port: Port | None = None
    """Its port."""


class Volume(StatusModel):
    """The volume that a server was made with."""

    name: ShortStatus | None = None
    """The name of its PersistentVolumeClaim."""
    uid: ShortStatus | None = None
    """The claim's uid: another one means an empty volume."""


class DatabaseInstanceStatus(ObjectStatus):
    """How the server is."""

    endpoint: Endpoint | None = None
    """Where it is reached."""
    version: ShortStatus | None = None
    """The version of its program."""
    volume: Volume | None = None
    """With ``spec.statefulSet``: the volume that the data is on."""
    tenants: NonNegativeInt | None = None
    """How many tenant databases it holds."""
    bytes: Annotated[int, Field(ge=0)] | None = None
    """The size of all its databases."""
    connections: NonNegativeInt | None = None
    """How many sessions it has."""
    max_connections: NonNegativeInt | None = None
    """How many sessions it takes."""


DATABASE_INSTANCE = Kind(
    kind="DatabaseInstance",
    plural="databaseinstances",
    short_names=("dbi",),
    description="A database server that holds tenants: its engine, where it runs, region, role and capacity.",
    spec=DatabaseInstanceSpec,
    status=DatabaseInstanceStatus,
    columns=(
        Column("Engine", ".spec.engine"),
        Column("Role", ".spec.role"),
        Column("Region", ".spec.region"),
        Column("Tenants", ".status.tenants", type="integer"),
        Column("Capacity", ".spec.capacity.tenants", type="integer"),
        *condition_columns(),
        Column("Version", ".status.version", priority=1),
        Column("Host", ".status.endpoint.host", priority=1),
        Column("Cordoned", ".spec.cordoned", type="boolean", priority=1),
    ),
    rules=(
        label_name_rule("DatabaseInstance"),
        Rule(
            "!has(self.spec.statefulSet) || self.metadata.name.size() <= 52",
            "metadata.name: with spec.statefulSet the name is at most 52 characters, since labels are made "
            "from it; choose a shorter name",
        ),
    ),
    selectable=(".spec.engine", ".spec.role", ".spec.region", ".spec.cordoned"),
)
