"""A snapshot of one server, and what it says of each tenant database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from tenantry_operator.engines.base import (
    Belonging,
    DatabaseState,
    Desired,
    Isolation,
    Mark,
    ServerReport,
)
from tenantry_operator.engines.postgres.catalog import ServerCatalog
from tenantry_operator.engines.postgres.inside import SchemaRow, SharedCatalog
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.look import Look
from tenantry_operator.engines.postgres.own import Inside


class PostgresState:
    """A snapshot of one server."""

    def __init__(
        self,
        taken_at: float,
        report: ServerReport,
        installation: Installation,
        catalog: ServerCatalog,
        shared: Mapping[str, SharedCatalog],
        sizes: Mapping[str, int],
        own: Mapping[str, Inside],
        structures: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        """:param structures: fingerprints by shared database and schema."""
        self.taken_at = taken_at
        self.report = report
        self.catalog = catalog
        self.shared = shared
        self._installation = installation
        self.own = own
        self._structures = structures or {}
        self._sizes = sizes
        self._own_roles = frozenset({*installation.roles, catalog.facts.admin})

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database."""
        return Look(self, desired).state()

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant."""
        return self._belongings.get(tenant, ())

    def blueprints(self) -> Collection[str]:
        """The blueprints of all tenants that have a database of their own."""
        marks = (Mark.decode(database.mark) for database in self.catalog.databases.values())
        return {
            mark.blueprint
            for mark in marks
            if mark is not None and mark.tenant and mark.installation == self._installation.id
        }

    def tenants(self) -> Collection[str]:
        """All tenants whose marks are on the server."""
        return self._belongings.keys()

    @cached_property
    def _belongings(self) -> dict[str, list[Belonging]]:
        found: dict[str, list[Belonging]] = {}

        def add(comment: str | None, isolation: Isolation, database: str, schema: str | None) -> None:
            mark = Mark.decode(comment)
            if mark is not None and mark.tenant:
                # A tenant's two logins have one mark each, which differ in the fingerprint alone.
                belonging = Belonging(replace(mark, fingerprint=None), isolation, database, schema)
                if belonging not in found.setdefault(mark.tenant, []):
                    found[mark.tenant].append(belonging)

        for database in self.catalog.databases.values():
            add(database.mark, Isolation.DATABASE, database.name, None)
        for name, shared in self.shared.items():
            for schema in shared.schemas.values():
                add(schema.mark, Isolation.SCHEMA, name, schema.name)
            rows = [schema.name for schema in shared.schemas.values() if self._is_shared(schema)]
            if not rows:
                continue
            schemas = {self._owner_of(schema.mark) for schema in shared.schemas.values()}
            for login in shared.registrations:
                role = self.catalog.roles.get(login)
                if role is not None and self._owner_of(role.mark) not in schemas:
                    add(role.mark, Isolation.ROW, name, rows[0])
        return found

    def _is_shared(self, schema: SchemaRow) -> bool:
        mark = Mark.decode(schema.mark)
        return mark is not None and mark.installation == self._installation.id and not mark.tenant

    @staticmethod
    def _owner_of(comment: str | None) -> tuple[str, str] | None:
        mark = Mark.decode(comment)
        return (mark.tenant, mark.database) if mark is not None else None

    @property
    def own_roles(self) -> frozenset[str]:
        """Administrator, keeper and stewards."""
        return self._own_roles

    @property
    def installation(self) -> Installation:
        """Whose snapshot it is."""
        return self._installation

    def structure(self, database: str, schema: str | None) -> str | None:
        """The fingerprint of a tenant's database, when it is known."""
        if schema is not None:
            return self._structures.get((database, schema))
        inside = self.own.get(database)
        return inside.structure if inside is not None else None

    def size(self, database: str) -> int | None:
        """Bytes of a database, when they were measured."""
        return self._sizes.get(database)
