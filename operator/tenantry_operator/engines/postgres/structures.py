"""The structures of tenants' databases: of shared databases round by round, of a single one in full.

A fingerprint is reported only together with the changes of its schema that it was read after: one that may
be from before a change is not known, rather than old.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psycopg
import structlog

from tenantry_operator.engines.postgres.connections import Connection, Connections
from tenantry_operator.engines.postgres.definitions import OF, digest
from tenantry_operator.engines.postgres.fingerprint import (
    differences,
    read_changes,
    read_fingerprints,
    read_objects,
    schemas_of,
)
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA
from tenantry_operator.engines.rounds import Rounds
from tenantry_operator.engines.structure import Deviation, Structure

AT_ONCE = 500
"""Schemas of a database that are read in one sweep."""
_MANY = 20
"""Schemas whose reading leaves so much in the memory of the server's process that the session ends."""
_REST = 20
"""Asking a database what changed takes at most one part in so many of the time."""
_ORDER = "column order of "

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Shared:
    """What is known of one shared database."""

    rounds: Rounds[str | None]
    next_look: float = 0.0


@dataclass(slots=True)
class SharedStructures:
    """Fingerprints of the schemas of shared databases, as far as they are known."""

    connections: Connections
    _known: dict[str, _Shared] = field(default_factory=dict)

    async def look(self, database: str, schemas: Collection[str]) -> Mapping[str, str]:
        """The fingerprints of schemas that are as they are now.

        What changed is read, some at a time, the longest waiting first. Empty when it is too early to ask again.

        :param schemas: those that are of interest.
        """
        known = self._known.setdefault(database, _Shared(Rounds(AT_ONCE)))
        started = time.monotonic()
        if started < known.next_look or not schemas:
            return {}
        rounds, due = known.rounds, list[str]()
        try:
            async with self.connections.use(database) as connection:
                changes = await read_changes(connection)
            known.next_look = time.monotonic() + _REST * (time.monotonic() - started)
            counters = {name: number for name, number in changes.items() if name in schemas}
            due = rounds.due(counters)
            if due:
                async with self.connections.use(database, keep=len(due) < _MANY) as connection:
                    found = await read_fingerprints(connection, due)
                # What could not be read is asked for again, after those that waited longer.
                rounds.take(counters, {**dict.fromkeys(due), **found})
                for name in due:
                    if name not in found:
                        rounds.again(name)
        except psycopg.Error as error:
            if due:
                rounds.at_once = max(1, len(due) // 2)
            _log.warning("schemas were not compared", database=database, error=str(error), next=rounds.at_once)
            return {}
        return {name: value for name, value in rounds.current(counters).items() if value is not None}

    def forget(self, catalog: Collection[str]) -> None:
        """Forgets databases that are not there any more.

        :param catalog: those that are.
        """
        self._known = {name: known for name, known in self._known.items() if name in catalog}


async def read_changes_of_all(connection: Connection) -> str:
    """A text that moves when anything in the database is created, altered or dropped."""
    return digest(sorted((await read_changes(connection)).items()))


async def read_fingerprint(connection: Connection) -> str | None:
    """The fingerprint of a whole database; None: some of it could not be read just now."""
    names = await schemas_of(connection)
    found = await read_fingerprints(connection, names)
    return _combined(found) if len(found) == len(names) else None


async def read_structure(connection: Connection, schema: str | None) -> Structure | None:
    """The structure of a tenant's database.

    :param schema: the tenant's; None: the whole database is.
    :returns: None when there is nothing, or it could not be read just now.
    :raises psycopg.Error: as :func:`read_objects`.
    """
    names = [schema] if schema is not None else await schemas_of(connection)
    prints: dict[str, str] = {}
    objects: dict[str, str] = {}
    for name in names:
        found = await read_objects(connection, name)
        # The same hash as that of read_fingerprints.
        prints[name] = digest(sorted(found.items()))
        if schema is not None or name == PUBLIC_SCHEMA:
            objects.update(found)
        else:
            objects.update(_elsewhere(name, found))
    return Structure(_combined(prints), objects) if prints else None


def _combined(prints: Mapping[str, str]) -> str:
    """Where there is only one schema, be it a tenant's or public, its fingerprint; they compare."""
    return next(iter(prints.values())) if len(prints) == 1 else digest(sorted(prints.items()))


def _elsewhere(schema: str, objects: Mapping[str, str]) -> dict[str, str]:
    """Objects of a schema other than public: the words name it."""
    place = f" in schema {schema}"
    found = {f"{words}{place}": f"{value}{place}" if OF in value else value for words, value in objects.items()}
    return {f"schema {schema}": "", **found}


def compare(expected: Structure, found: Structure) -> Deviation:
    """What differs. The order of columns alone is no difference: going back to a version changes it. Pure."""
    lines = [line for line in differences(expected.objects, found.objects) if not line.startswith(_ORDER)]
    words = sorted(
        name
        for name in expected.objects.keys() | found.objects.keys()
        if expected.objects.get(name) != found.objects.get(name) and not name.startswith(_ORDER)
    )
    return Deviation(tuple(lines), digest([(name, found.objects.get(name)) for name in words]) if lines else "")
