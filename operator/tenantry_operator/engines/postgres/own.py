"""Grants and structures inside of tenants' own databases.

From outside only the number of relations with grants is seen. A look inside takes a connection to each
database, so every sweep looks into a few: those whose counters moved, since a change of a grant moves them
too, those that waited longest first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import psycopg
import structlog

from tenantry_operator.engines.base import Mark, Stale
from tenantry_operator.engines.postgres import logins
from tenantry_operator.engines.postgres.catalog import DatabaseRow, ServerCatalog
from tenantry_operator.engines.postgres.connections import Connections
from tenantry_operator.engines.postgres.expected import compare_schema
from tenantry_operator.engines.postgres.inside import observe_defaults, observe_shared
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA
from tenantry_operator.engines.postgres.structures import read_changes_of_all, read_fingerprint
from tenantry_operator.engines.postgres.view import Finding
from tenantry_operator.engines.rounds import Rounds
from tenantry_operator.errors import ReconcileError
from tenantry_operator.tenants.naming import group_of

AT_ONCE = 10
"""Databases that are looked into in one sweep of a server."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Inside:
    """What a look into a tenant's own database found."""

    findings: tuple[Finding, ...]
    registrations: Mapping[str, str]
    """The tenant id by login."""
    changes: str = ""
    """Moves when anything is created, altered or dropped."""
    structure: str | None = None
    """The fingerprint of all that is in the database, after those changes."""


class OwnDatabases:
    """What differs inside of tenants' own databases, as far as it is known."""

    def __init__(self, connections: Connections, installation: str) -> None:
        self._connections = connections
        self._installation = installation
        self._found: Rounds[Inside | None] = Rounds(AT_ONCE)
        self._touched: dict[str, float] = {}

    def known(self, database: str) -> Inside | None:
        """What was found when the database was last looked into; None when it was not, or could not be."""
        return self._found.get(database)

    def all(self) -> dict[str, Inside]:
        """What is known, by database."""
        return {name: found for name, found in self._found.all().items() if found is not None}

    def forget(self, database: str) -> None:
        """What was found inside of a database is about to change, or has just changed."""
        self._found.forget(database)
        self._touched[database] = time.monotonic()

    async def look(self, catalog: ServerCatalog, taken_at: float) -> None:
        """Looks into some of the databases.

        :param taken_at: when the catalog was read, by :func:`time.monotonic`.
        """
        self._touched = {name: at for name, at in self._touched.items() if at >= taken_at}
        counters = {row.name: row.writes for row in catalog.databases.values() if self._is_built(row)}
        for name in self._found.due(counters):
            row = catalog.databases[name]
            role = catalog.roles.get(group_of(row.owner))
            read_only = role is not None and logins.read_only(role.config)
            found: Inside | None
            try:
                found = await self._look_into(row, read_only=read_only)
            except (ReconcileError, Stale, psycopg.Error) as error:
                # Who may connect, and whether anybody may, is seen from outside.
                _log.info("a tenant's database was not looked into", database=name, error=str(error))
                found = None
            if name not in self._touched:
                # Else the catalog is from before a change, and what is inside perhaps from after it.
                self._found.take(counters, {name: found})

    def _is_built(self, row: DatabaseRow) -> bool:
        mark = Mark.decode(row.mark)
        if not row.open or mark is None or mark.installation != self._installation:
            return False
        return bool(mark.tenant) and mark.built

    async def _look_into(self, row: DatabaseRow, *, read_only: bool) -> Inside:
        known = self._found.get(row.name)
        async with self._connections.use(row.name, keep=False) as connection:
            catalog = await observe_shared(connection, self._installation)
            defaults = await observe_defaults(connection, [row.owner])
            changes = await read_changes_of_all(connection)
            if known is not None and known.changes == changes and known.structure is not None:
                structure: str | None = known.structure
            else:
                structure = await read_fingerprint(connection)
        found: list[Finding] = []
        for schema in catalog.schemas.values():
            if schema.owner == row.owner or schema.name == PUBLIC_SCHEMA:
                # Schema public is the server's, what is in it the tenant's.
                acl = [item for item in schema.acl or () if not item.startswith("pg_database_owner=")]
                own = replace(schema, owner=row.owner, acl=acl, defaults=defaults.get(row.owner, {}))
                found.extend(compare_schema(own, group_of(row.owner), read_only=read_only))
        return Inside(tuple(found), dict(catalog.registrations), changes, structure)
