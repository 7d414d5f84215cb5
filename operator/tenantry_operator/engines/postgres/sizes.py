"""Sizes, measured only where something changed.

To measure a relation the server opens it and looks at each of its files: for tens of thousands of tables
that takes seconds, and memory in the server's process. So a schema or database is measured again when its
counters moved, a limited number of them at a time, those that waited longest first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from tenantry_operator.engines.postgres.connections import Connection

AT_ONCE = 500
"""Schemas or databases that are measured in one sweep, per database or server."""
LONGEST = 900.0
"""Seconds after which something is measured again although its counters did not move."""

_DATABASES = """
SELECT d.datname::text, pg_catalog.pg_database_size(d.oid)
FROM pg_catalog.pg_database d
WHERE d.datname = ANY (%s)
  AND (pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
       OR pg_catalog.has_database_privilege(d.oid, 'CONNECT'))
"""

_SCHEMAS = """
SELECT n.nspname::text, coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_depend d
       ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid
      AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'm')
WHERE n.nspname = ANY (%s)
GROUP BY n.nspname
"""


@dataclass(frozen=True, slots=True)
class _Measured:
    counter: int
    bytes: int
    at: float


@dataclass(slots=True)
class Sizes:
    """What was measured of the schemas of a database, or of the databases of a server."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Measured] = field(default_factory=dict)

    def due(self, counters: Mapping[str, int]) -> list[str]:
        """What is to be measured now; what is not listed any more is forgotten.

        :param counters: of everything there is; they move when its size may have changed.
        """
        now = self.clock()
        self._known = {name: known for name, known in self._known.items() if name in counters}
        waiting = []
        for name, counter in counters.items():
            known = self._known.get(name)
            if known is None:
                waiting.append((float("-inf"), name))
            elif known.counter != counter or now - known.at > LONGEST:
                waiting.append((known.at, name))
        return [name for _, name in sorted(waiting)[:AT_ONCE]]

    def take(self, counters: Mapping[str, int], measured: Mapping[str, int]) -> None:
        """Takes in what was measured."""
        now = self.clock()
        for name, size in measured.items():
            self._known[name] = _Measured(counters.get(name, 0), size, now)

    def forget(self, name: str) -> None:
        """Has something measured again although its counters did not move."""
        known = self._known.get(name)
        if known is not None:
            self._known[name] = replace(known, counter=-1)

    def all(self) -> dict[str, int]:
        """Bytes by name, as far as they are known."""
        return {name: known.bytes for name, known in self._known.items()}


async def measure_databases(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Bytes by database, as far as the administrator may know them."""
    rows = await (await connection.execute(_DATABASES, (list(names),))).fetchall()
    return {name: size for name, size in rows if size is not None}


async def measure_schemas(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Bytes by schema of the connection's database."""
    return dict(await (await connection.execute(_SCHEMAS, (list(names),))).fetchall())
