"""A Tenant as its reconcile reads it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tenantry_crds.tenant import Ddl, TenantSpec
from tenantry_operator.cache import Key
from tenantry_operator.engines.base import Isolation
from tenantry_operator.names import FINALIZER, PLACEMENT_ANNOTATION

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One database of a tenant: as ``spec.databases`` asks for it, or as status remembers it."""

    name: str
    blueprint: str
    version: str | None = None
    isolation: Isolation | None = None
    instance: str | None = None
    ddl: bool = False
    removed: bool = False
    """It is in status but not in spec any more."""


def records_of(tenant: Object) -> dict[str, Object]:
    """The entries of ``status.databases`` of a Tenant object, by name."""
    return {record["name"]: record for record in (tenant.get("status") or {}).get("databases") or []}


def placements_of(obj: Object) -> dict[str, Key]:
    """Which instance each database of a Tenant object is on; what cannot be read is left out."""
    text = (obj["metadata"].get("annotations") or {}).get(PLACEMENT_ANNOTATION)
    found: dict[str, Key] = {}
    for database in (obj.get("status") or {}).get("databases") or []:
        if database.get("instance") and database.get("instanceNamespace"):
            found[database["name"]] = (database["instanceNamespace"], database["instance"])
    if text:
        try:
            value = json.loads(text)
        except ValueError:
            return found
        if isinstance(value, dict):
            for name, instance in value.items():
                namespace, _, simple = str(instance).partition("/")
                if simple:
                    found[name] = (namespace, simple)
    return found


def render_placements(placements: Mapping[str, Key]) -> str:
    """The value of the placement annotation."""
    return json.dumps({name: "/".join(key) for name, key in sorted(placements.items())})


class TenantView:
    """A Tenant object with its spec parsed.

    :raises pydantic.ValidationError: for a spec that the API server should have refused.
    """

    def __init__(self, obj: Object) -> None:
        self.obj = obj
        self.spec = TenantSpec.model_validate(obj["spec"])
        meta = obj["metadata"]
        self.namespace: str = meta["namespace"]
        self.name: str = meta["name"]
        self.key: Key = (self.namespace, self.name)
        self.tenant = f"{self.namespace}/{self.name}"
        self.id: str = self.spec.id or self.name
        self.generation: int = meta.get("generation", 0)
        self.status: Object = obj.get("status") or {}
        self.deleting = "deletionTimestamp" in meta
        self.claimed = FINALIZER in (meta.get("finalizers") or [])
        self.placements = placements_of(obj)

    def annotation(self, name: str) -> str:
        """The value of an annotation, or ""."""
        value: str = (self.obj["metadata"].get("annotations") or {}).get(name) or ""
        return value

    @cached_property
    def known(self) -> dict[str, Object]:
        """The entries of ``status.databases`` by name."""
        return records_of(self.obj)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """The databases of the spec, then those that only status remembers."""
        return tuple(self._entries())

    def _entries(self) -> Iterator[Entry]:
        names = set()
        for database in self.spec.databases:
            name = database.effective_name
            names.add(name)
            yield Entry(
                name=name,
                blueprint=database.blueprint,
                version=database.version,
                isolation=database.isolation,
                instance=database.instance,
                ddl=database.ddl is Ddl.ALLOWED,
            )
        for name, known in self.known.items():
            if name not in names and known.get("blueprint"):
                isolation = known.get("isolation")
                yield Entry(
                    name=name,
                    blueprint=known["blueprint"],
                    isolation=Isolation(isolation) if isolation else None,
                    removed=True,
                )
