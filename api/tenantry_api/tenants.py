"""A Tenant as the dialects read it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from tenantry_api.identity import uuid_of
from tenantry_crds.common import GROUP
from tenantry_operator.conditions import find

Object = dict[str, Any]
T = TypeVar("T")

NUMBER_LABEL = f"{GROUP}/number"
"""The tenant's whole number, given once in the order of creation."""
UPDATED = "updatedAt"
"""A key of the objects in the cache, beside metadata: when somebody last changed one."""
CHANGED_ANNOTATION = f"{GROUP}/changed"
"""When the facade last changed its spec: ``managedFields`` do not tell of what was only taken out."""
REQUESTS_ANNOTATION = f"{GROUP}/requests"
"""The last requests with an Idempotency-Key that changed it, with what was answered."""


class Tenant:
    """A Tenant object; what it lacks is "", None or empty."""

    __slots__ = ("__dict__", "obj")

    def __init__(self, obj: Object) -> None:
        self.obj = obj

    def remembered(self, name: str, make: Callable[[], T]) -> T:
        """What was made of this version of the Tenant; the cache keeps it until the Tenant changes.

        :param name: what it is, and everything else that it depends on.
        """
        memory: dict[str, Any] = self.__dict__.setdefault("memory", {})
        if name not in memory:
            memory[name] = make()
        found: T = memory[name]
        return found

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        meta = self.obj["metadata"]
        return (meta["namespace"], meta["name"])

    @property
    def meta(self) -> Object:
        """The object's metadata."""
        meta: Object = self.obj["metadata"]
        return meta

    @property
    def spec(self) -> Object:
        """What it should be."""
        spec: Object = self.obj.get("spec") or {}
        return spec

    @property
    def status(self) -> Object:
        """What it is."""
        return self.obj.get("status") or {}

    @property
    def id(self) -> str:
        """The public id."""
        return str(self.spec.get("id") or self.meta["name"])

    @cached_property
    def uuid(self) -> str:
        """The UUID."""
        return uuid_of(*self.key)

    @property
    def number(self) -> int | None:
        """The whole number; None: it was not given one yet."""
        text = (self.meta.get("labels") or {}).get(NUMBER_LABEL) or ""
        plain = text.isascii() and text.isdecimal() and len(text) < 16 and not text.startswith("0")
        return int(text) if plain else None

    @property
    def display_name(self) -> str:
        """The name for people; without one, the id."""
        return str(self.spec.get("displayName") or self.id)

    @property
    def legal_name(self) -> str:
        """The name it is registered under; without one, the display name."""
        return str(self.profile.get("legalName") or self.display_name)

    @property
    def profile(self) -> Object:
        """Who the tenant is."""
        return self.spec.get("profile") or {}

    @property
    def state(self) -> str:
        """``Draft``, ``Active``, ``Suspended``, ``Archived`` or ``Deleted``."""
        return str(self.spec.get("state") or "Active")

    @property
    def is_going(self) -> bool:
        """Whether the object is being deleted."""
        return "deletionTimestamp" in self.meta

    @property
    def is_ready(self) -> bool:
        """Whether it is what its spec says, at the spec's present generation."""
        ready = find(self.obj, "Ready") or {}
        seen = self.status.get("observedGeneration", -1) >= self.meta.get("generation", 0)
        return seen and ready.get("status") == "True"

    @property
    def is_stalled(self) -> bool:
        """Whether a person has to do something."""
        stalled = find(self.obj, "Stalled") or {}
        seen = self.status.get("observedGeneration", -1) >= self.meta.get("generation", 0)
        return seen and stalled.get("status") == "True"

    @property
    def trouble(self) -> str:
        """What is in the way, in words; "" when nothing is."""
        ready = find(self.obj, "Ready") or {}
        return "" if ready.get("status") == "True" else str(ready.get("message") or "")

    @property
    def is_moving(self) -> bool:
        """Whether it is being moved or restored."""
        return self.status.get("phase") in ("Moving", "Restoring")

    @property
    def created_at(self) -> str:
        """When it was created."""
        return str(self.meta["creationTimestamp"])

    @property
    def updated_at(self) -> str:
        """When somebody last changed what it should be; never before it was created."""
        return max(self.created_at, str(self.obj.get(UPDATED) or ""))

    @property
    def usage(self) -> Mapping[str, Object]:
        """What it uses, by resource."""
        return {entry["resource"]: entry for entry in self.status.get("usage") or []}

    @property
    def databases(self) -> Mapping[str, Object]:
        """Its databases as they were made, by name."""
        return {entry["name"]: entry for entry in self.status.get("databases") or []}

    @property
    def services(self) -> Mapping[str, Object]:
        """Its services as they were made, by name."""
        return {entry["name"]: entry for entry in self.status.get("services") or []}
