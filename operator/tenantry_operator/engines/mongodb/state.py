"""A snapshot of one server, and what it says of each tenant database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

from tenantry_operator.engines.base import Belonging, DatabaseState, Desired, Isolation
from tenantry_operator.engines.mongodb.accounts import Catalog


class MongoState:
    """A snapshot of one server."""

    def __init__(self, taken_at: float, catalog: Catalog) -> None:
        self.taken_at = taken_at
        self.report = catalog.report
        self.catalog = catalog

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database."""
        return self.catalog.find(desired).state()

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant."""
        return self._belongings.get(tenant, ())

    def blueprints(self) -> Collection[str]:
        """The blueprints of all tenants."""
        return {mark.blueprint for _, mark in self.catalog.marks() if mark.tenant}

    def tenants(self) -> Collection[str]:
        """All tenants whose marks are on the server."""
        return self._belongings.keys()

    @cached_property
    def _belongings(self) -> dict[str, list[Belonging]]:
        found: dict[str, list[Belonging]] = {}
        for database, mark in self.catalog.marks():
            if not mark.tenant:
                continue
            belongings = found.setdefault(mark.tenant, [])
            belonging = Belonging(replace(mark, fingerprint=None), Isolation.DATABASE, database, None)
            # The mark of the data comes first; what outlives it has marks of its own.
            if not any((known.database, known.mark.database) == (database, mark.database) for known in belongings):
                belongings.append(belonging)
        return found
