"""What a database engine does for a tenant: observe, plan (pure), apply.

Values here are engine-neutral. An engine turns a :class:`Desired` database and an observed
:class:`DatabaseState` into a tuple of steps, and executes them. Whether anything is to be done is
thus a question of pure code: an empty tuple means the database is as desired, and costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tenantry_crds.common import Isolation
from tenantry_operator.engines.chain import Chain, Migration
from tenantry_operator.engines.structure import Deviation, Structure

__all__ = [
    "Belonging",
    "Chain",
    "Credentials",
    "DatabaseState",
    "Desired",
    "Deviation",
    "Engine",
    "Isolation",
    "LoginLimits",
    "LoginState",
    "Mark",
    "Migration",
    "Names",
    "Ownership",
    "Pace",
    "Presence",
    "ServerReport",
    "ServerState",
    "Stale",
    "Step",
    "Structure",
    "UsageRow",
]


class Presence(StrEnum):
    """What is to become of a tenant's database."""

    LIVE = "Live"
    """It exists and its login works."""
    REFUSED = "Refused"
    """What exists stays in place; logins are refused and open sessions ended. Nothing is created."""
    ABSENT = "Absent"
    """Data and logins are dropped, as far as they carry the tenant's mark."""


class Ownership(StrEnum):
    """Whose a database (or schema, or role) of a wanted name is, by its mark."""

    FREE = "Free"
    """Nothing of that name exists."""
    OURS = "Ours"
    """It carries this tenant's mark."""
    OTHER_TENANT = "OtherTenant"
    """It carries the mark of another tenant of this installation: a longer name is to be used."""
    STRANGER = "Stranger"
    """It has no mark, or one of another installation: it is never touched."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The ownership mark, kept as the comment of every object that is made for a tenant.

    By namespace and name rather than uid, so that a Tenant created again adopts what it left behind.
    ``tenant`` is empty on objects that tenants share. ``version`` and ``digest`` say which blueprint
    version the data is at; they are only on what holds the data. ``target`` is there while the data is on its
    way to another version in more than one transaction. ``fingerprint`` is on logins: that of the password
    that was set last.
    """

    installation: str
    tenant: str
    database: str
    blueprint: str
    version: str | None = None
    digest: str | None = None
    target: str | None = None
    fingerprint: str | None = None

    def encode(self) -> str:
        """The mark as the text of a comment."""
        value = {
            "tenantry": 1,
            "installation": self.installation,
            "tenant": self.tenant,
            "database": self.database,
            "blueprint": self.blueprint,
            "version": self.version,
            "digest": self.digest,
            "target": self.target,
            "fingerprint": self.fingerprint,
        }
        return json.dumps({k: v for k, v in value.items() if v is not None}, separators=(",", ":"))

    @classmethod
    def decode(cls, comment: str | None) -> Mark | None:
        """The mark in a comment; None for no comment or one that is not a mark."""
        if not comment or not comment.startswith('{"tenantry":1,'):
            return None
        try:
            value = json.loads(comment)
            return cls(
                installation=value["installation"],
                tenant=value["tenant"],
                database=value["database"],
                blueprint=value["blueprint"],
                version=value.get("version"),
                digest=value.get("digest"),
                target=value.get("target"),
                fingerprint=value.get("fingerprint"),
            )
        except (ValueError, KeyError):
            return None

    @property
    def built(self) -> bool:
        """Whether there is data, be it at a version or on its way to its first one."""
        return self.version is not None or self.target is not None

    def same_owner(self, other: Mark) -> bool:
        """Whether both marks name the same tenant database, at whatever version."""
        return (self.installation, self.tenant, self.database) == (
            other.installation,
            other.tenant,
            other.database,
        )


@dataclass(frozen=True, slots=True)
class Names:
    """The server's objects of one tenant database. See :mod:`tenantry_operator.tenants.naming`."""

    database: str
    schema: str | None
    """None where the tenant has the whole database to itself."""
    owner: str
    login_a: str
    login_b: str

    @property
    def logins(self) -> tuple[str, str]:
        """The two logins that rotation alternates."""
        return (self.login_a, self.login_b)


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """What the database itself enforces on a login; None: no limit."""

    connections: int | None = None
    statement_timeout_ms: int | None = None
    temp_files_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login and its new password. The password is never logged: it is left out of the repr."""

    login: str
    password: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`."""
        return fingerprint(self.password)


def fingerprint(password: str) -> str:
    """What tells two passwords apart and nothing else: 64 bits of a hash of 256 random ones, hexadecimal.

    With it, what was set on the server is compared with what stands in the Secret.
    """
    return hashlib.sha256(b"tenantry password " + password.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long migrating one tenant database may take, in seconds."""

    lock_timeout: float
    """To wait for a lock that others hold."""
    timeout: float
    """Altogether."""


@dataclass(frozen=True, slots=True)
class Desired:
    """One tenant database as it should be."""

    installation: str
    tenant: str
    """``<namespace>/<name>`` of the Tenant."""
    tenant_id: str
    """The tenant's public id: the value of the tenant column under Row isolation."""
    entry: str
    """The name in ``spec.databases``."""
    isolation: Isolation
    names: Names
    blueprint: str
    """``<namespace>/<name>`` of the Blueprint."""
    presence: Presence
    chain: Chain | None = None
    """What the data should be at; None: leave the version as it is."""
    installed: Chain | None = None
    """What it is at, when that is another version: what of it is not in ``chain`` is undone."""
    pace: Pace | None = None
    """How long migrating may take; None: as the connection has it."""
    login: str | None = None
    """The login that should work; None: none yet (presence other than Live)."""
    retired: tuple[str, ...] = ()
    """Logins whose time is over: their sessions are ended and they are dropped."""
    read_only: bool = False
    """Over the storage quota: reading and deleting only."""
    limits: LoginLimits = LoginLimits()
    ddl: bool = False
    row_column: str = "tenant_id"
    allow_unsafe_keys: bool = False
    recreate: bool = False
    """The data is known to be lost and may be made anew, empty."""

    @property
    def mark(self) -> Mark:
        """The mark on this database's objects."""
        return Mark(self.installation, self.tenant, self.entry, self.blueprint)


@dataclass(frozen=True, slots=True)
class LoginState:
    """An observed login that carries the tenant's mark."""

    name: str
    enabled: bool
    connections: int = 0
    fingerprint: str | None = None
    """Of the password that was set last, where it is known."""


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """What was observed of one tenant database, engine-neutral."""

    ownership: Ownership
    conflict: str | None = None
    """For STRANGER and OTHER_TENANT: which object it is, in words for a message."""
    exists: bool = False
    """Whether the data is there (the database or schema; under Row also the tenant's registration)."""
    version: str | None = None
    digest: str | None = None
    target: str | None = None
    """The version it was being brought to when something came in between."""
    logins: tuple[LoginState, ...] = ()
    bytes: int | None = None
    connections: int = 0
    node: str | None = None
    """``host:port`` of the machine that has it, where a server is made of several."""
    writes: int | None = None
    """A counter that moves whenever the tenant's rows are written, None where it is not known: usage
    queries are only worth running when it moved."""
    drift: tuple[str, ...] = ()
    """What differs from how the operator leaves things, in words: "login x: CONNECTION LIMIT 5"."""
    structure: str | None = None
    """The fingerprint of its :class:`Structure`, None where it is not known just now."""
    detail: object = None
    """The engine's own view, for its planner."""


class Step(Protocol):
    """One thing an engine does. ``name`` is its word in logs, tests and metrics."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One row of a usage query."""

    label: str
    count: int
    latest: str | None = None


@dataclass(frozen=True, slots=True)
class Belonging:
    """A tenant database found on a server by its mark."""

    mark: Mark
    isolation: Isolation
    database: str
    schema: str | None


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The server as a whole, for the status of its DatabaseInstance."""

    version: str
    bytes: int
    connections: int
    max_connections: int
    unhardened: tuple[str, ...] = ()
    """Statements that an administrator can run to close what PUBLIC still reaches."""
    missing: tuple[str, ...] = ()
    """Features that the administrator's rights do not allow, in words, with the statement that does."""


class ServerState(Protocol):
    """A snapshot of one server, taken with a number of queries that does not depend on its tenants."""

    @property
    def taken_at(self) -> float:
        """When, in seconds of :func:`time.monotonic`, the snapshot was begun."""

    @property
    def report(self) -> ServerReport:
        """The server as a whole."""

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database. Pure; costs no query."""

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant (``<namespace>/<name>``): how a Tenant that was created again,
        or lost its status, finds its data."""

    def blueprints(self) -> Collection[str]:
        """``<namespace>/<name>`` of the blueprints of all tenants that have a database of their own."""

    def tenants(self) -> Collection[str]:
        """``<namespace>/<name>`` of all tenants whose marks are on the server."""


class Engine(Protocol):
    """One database server, as the operator uses it. All methods may raise the errors of
    :mod:`tenantry_operator.errors`: ``Retryable`` when the server cannot be reached, ``Stalled`` for
    what a person must mend."""

    async def observe(self) -> ServerState:
        """Takes a snapshot of the whole server."""

    async def observe_one(self, desired: Desired) -> DatabaseState:
        """Looks at one tenant database, fresh. For when a snapshot turned out to be out of date."""

    def plan(self, desired: Desired, state: DatabaseState, credentials: Credentials | None) -> tuple[Step, ...]:
        """The steps from ``state`` to ``desired``; empty when there are none. Pure.

        :param credentials: a password to set on ``desired.login``; None: leave passwords alone.
        """

    async def apply(self, desired: Desired, steps: Sequence[Step], credentials: Credentials | None) -> None:
        """Executes steps in order. Every step may be repeated after a crash.

        :raises Stale: when the server is not as the plan assumed; observe and plan again.
        """

    async def rehearse(self, desired: Desired, chains: Sequence[Chain]) -> Mapping[str, Structure]:
        """Makes a scratch database, brings it along chains one after the other, and drops it.

        :returns: by the digest of a chain, the structure that a database has which comes by it from the start.
        :raises Stalled: for what fails, as it would for a tenant.
        """

    async def structure(self, desired: Desired) -> Structure | None:
        """How the objects of a tenant database are defined now; None where that cannot be told just now."""

    def compare(self, expected: Structure, found: Structure) -> Deviation:
        """What differs, as far as it matters. Pure."""

    async def keep_templates(self, chains: Mapping[str, Chain]) -> None:
        """Keeps what new tenants with a database of their own are copied from.

        :param chains: by blueprint (``<namespace>/<name>``), what new tenants get.
        """

    async def usage(self, desired: Desired, queries: Mapping[str, str]) -> Mapping[str, tuple[UsageRow, ...]]:
        """Runs usage queries read-only, as the tenant's owner and within the tenant's data only."""

    async def close(self) -> None:
        """Closes all connections."""


class Stale(Exception):
    """The server changed since it was observed: something to create exists, or to alter is gone."""
