"""Who runs a database server, and what the operator asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from tenantry_crds.database_instance import DatabaseInstanceSpec, InstanceDeletionPolicy
from tenantry_operator.cache import Key, key_of
from tenantry_operator.conditions import Condition
from tenantry_operator.engines.access import Access

Object = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """A DatabaseInstance as the providers read it."""

    obj: Object

    @cached_property
    def spec(self) -> DatabaseInstanceSpec:
        """Its spec."""
        return DatabaseInstanceSpec.model_validate(self.obj["spec"])

    @cached_property
    def key(self) -> Key:
        """Namespace and name."""
        return key_of(self.obj)

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.key[0]

    @property
    def name(self) -> str:
        """Its name."""
        return self.key[1]

    @property
    def what(self) -> str:
        """How messages call it."""
        return f"DatabaseInstance {'/'.join(self.key)}"

    @property
    def uid(self) -> str:
        """Its uid."""
        uid: str = self.obj["metadata"]["uid"]
        return uid

    @property
    def status(self) -> Object:
        """Its status."""
        return self.obj.get("status") or {}

    @property
    def drops_data(self) -> bool:
        """Whether its data goes with it."""
        return self.spec.deletion_policy is InstanceDeletionPolicy.DELETE


@dataclass(frozen=True, slots=True)
class Notes:
    """What a provider has to say of a server that is up."""

    conditions: tuple[Condition, ...] = ()
    fields: tuple[tuple[str, Any], ...] = ()
    """Fields of the status."""


class Provider(Protocol):
    """One way to run servers. Everything may be repeated: a crash in between does no harm."""

    async def access(self, instance: Instance) -> Access:
        """How the server is reached now. Makes and changes nothing.

        :raises Waiting: InstanceStarting, SecretNotFound and the like, when it is not up.
        :raises Stalled: when it cannot be used.
        """

    async def ensure(self, instance: Instance) -> None:
        """Makes, or mends, what the server consists of, and looks whether it is up.

        :raises Waiting: InstanceStarting, with what stands in the way as Kubernetes tells it.
        :raises Stalled: for what a person must mend.
        """

    async def prepare(self, instance: Instance) -> bool:
        """Makes the administrator that the operator works with, when the server refuses it.

        :returns: whether anything was done.
        """

    def notes(self, instance: Instance) -> Notes:
        """What else is to be said of a server that is up."""

    async def sleep(self, instance: Instance) -> None:
        """Scales the server to zero; its data stays."""

    async def remove(self, instance: Instance) -> None:
        """Removes what the server consists of, and its data if ``spec.deletionPolicy`` says so.

        :raises Waiting: Removing, as long as something is left.
        """
