"""Which schemas differ in structure, and in what: for any number of schemas of a database.

A fingerprint is a hash of the definitions of all objects of a schema, neutral to the schema's name. To write them
down is work for the server, so it is done once for all schemas that are alike (see :mod:`likeness`). Tenants of
one blueprint version are nearly all alike.

Not covered: rows, owners, privileges, comments, and what tunes and does not define (storage parameters of
tables, statistics targets, tablespaces, replica identity). Names of not-null constraints and of identity columns'
sequences are the server's own choice and do not count. What an extension made counts as the extension with its
version.
Fingerprints compare within one major version of PostgreSQL: each writes definitions in its own way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import psycopg

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.definitions import OF, digest, read_definitions, settings
from tenantry_operator.engines.postgres.likeness import read_likeness

_FEW = 4
"""So many schemas are read one after the other, without looking which are alike."""
_ATTEMPTS = 8
"""Of schemas that are alike: how many are tried, when one cannot be read."""
UNLIKE_AT_ONCE = 200
"""How many kinds of schema are written down in one call: the server's process keeps in memory, about 20 KB each,
what it learns of every relation."""

_SCHEMAS = """
SELECT n.nspname::text FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
"""

# xmin is the transaction that wrote a line of a catalog: it stays when lines are frozen or moved. Lines of
# pg_class are written anew by TRUNCATE, REINDEX, VACUUM FULL and GRANT, so there the values count. Every line is
# in the sum once, with its own number: exclusive or brings it in and takes it out again.
_CHANGES = """
SELECT n.nspname::text, coalesce(x.number, 0)
FROM pg_catalog.pg_namespace n LEFT JOIN (
    SELECT y.space, pg_catalog.bit_xor(y.number) AS number FROM (
        SELECT c.relnamespace AS space, pg_catalog.bit_xor(p.number) AS number FROM (
            SELECT a.attrelid AS relation, pg_catalog.hash_record_extended(ROW(a.xmin, a.attrelid, a.attnum), 1)
                   AS number FROM pg_catalog.pg_attribute a WHERE a.attnum > 0
            UNION ALL
            SELECT i.indrelid, pg_catalog.hash_record_extended(ROW(i.xmin, i.indexrelid), 2)
            FROM pg_catalog.pg_index i
            UNION ALL
            SELECT t.tgrelid, pg_catalog.hash_record_extended(ROW(t.xmin, t.oid), 3)
            FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal OR t.tgenabled <> 'O'
            UNION ALL
            SELECT w.ev_class, pg_catalog.hash_record_extended(ROW(w.xmin, w.oid), 4) FROM pg_catalog.pg_rewrite w
            UNION ALL
            SELECT p.polrelid, pg_catalog.hash_record_extended(ROW(p.xmin, p.oid), 5) FROM pg_catalog.pg_policy p
            UNION ALL
            SELECT q.seqrelid, pg_catalog.hash_record_extended(ROW(q.xmin, q.seqrelid), 6)
            FROM pg_catalog.pg_sequence q
            UNION ALL
            SELECT h.inhrelid, pg_catalog.hash_record_extended(ROW(h.xmin, h.inhrelid, h.inhseqno), 7)
            FROM pg_catalog.pg_inherits h
            UNION ALL
            SELECT f.ftrelid, pg_catalog.hash_record_extended(ROW(f.xmin, f.ftrelid), 8)
            FROM pg_catalog.pg_foreign_table f
        ) p JOIN pg_catalog.pg_class c ON c.oid = p.relation GROUP BY c.relnamespace
        UNION ALL
        SELECT c.relnamespace, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(c.oid, c.relname,
                   c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relispartition, c.relam,
                   c.reloptions), 9))
        FROM pg_catalog.pg_class c GROUP BY c.relnamespace
        UNION ALL
        SELECT c.connamespace, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(c.xmin, c.oid), 10))
        FROM pg_catalog.pg_constraint c WHERE c.contype <> 'n' OR NOT c.convalidated OR c.connoinherit
        GROUP BY c.connamespace
        UNION ALL
        SELECT t.typnamespace, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(t.xmin, t.oid), 11))
        FROM pg_catalog.pg_type t WHERE t.typrelid = 0 AND t.typcategory <> 'A' GROUP BY t.typnamespace
        UNION ALL
        SELECT t.typnamespace, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(e.xmin, e.oid), 12))
        FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid GROUP BY t.typnamespace
        UNION ALL
        SELECT p.pronamespace, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(p.xmin, p.oid), 13))
        FROM pg_catalog.pg_proc p GROUP BY p.pronamespace
        UNION ALL
        SELECT o.space, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(o.xmin, o.oid, o.seed), 14)) FROM (
            SELECT stxnamespace AS space, xmin, oid, 1 AS seed FROM pg_catalog.pg_statistic_ext
            UNION ALL SELECT oprnamespace, xmin, oid, 2 FROM pg_catalog.pg_operator
            UNION ALL SELECT collnamespace, xmin, oid, 3 FROM pg_catalog.pg_collation
            UNION ALL SELECT cfgnamespace, xmin, oid, 4 FROM pg_catalog.pg_ts_config
            UNION ALL SELECT dictnamespace, xmin, oid, 5 FROM pg_catalog.pg_ts_dict
            UNION ALL SELECT extnamespace, xmin, oid, 6 FROM pg_catalog.pg_extension
            UNION ALL
            SELECT t.cfgnamespace, m.xmin, t.oid, 7 + m.maptokentype * 100 + m.mapseqno
            FROM pg_catalog.pg_ts_config_map m JOIN pg_catalog.pg_ts_config t ON t.oid = m.mapcfg
        ) o GROUP BY o.space
    ) y GROUP BY y.space
) x ON x.space = n.oid
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
"""


async def schemas_of(connection: Connection) -> list[str]:
    """The schemas of a database that are not the server's or ``tenantry``."""
    return [name for (name,) in await (await connection.execute(_SCHEMAS)).fetchall()]


async def read_fingerprints(connection: Connection, schemas: Sequence[str] | None = None) -> Mapping[str, str]:
    """By schema: a hash of 16 hexadecimal digits of the structure of everything in it.

    A schema is left out when it is not there, or could not be read: somebody holds a lock on a table, or is
    changing something just now, or the server cannot write down what is in it. So are the smallest groups when
    there are more than :data:`UNLIKE_AT_ONCE` that differ. What is left out is to be asked for again, by name.

    What changes while it is read may be seen by halves. Who reads the changes (:func:`read_changes`) before the
    fingerprints sees the change there the next time.

    :param schemas: only these; None: all that are not the server's or ``tenantry``.
    :raises psycopg.Error: when the connection is lost, or statement_timeout passes.
    """
    names = await schemas_of(connection) if schemas is None else list(dict.fromkeys(schemas))
    found: dict[str, str] = {}
    if len(names) <= _FEW:
        for name in names:
            value = await _agreed(connection, [name], None)
            if value is not None:
                found[name] = value
        return found
    alike: dict[str, list[str]] = {}
    for name, likeness in (await read_likeness(connection, names)).items():
        alike.setdefault(likeness, []).append(name)
    groups = sorted(alike.items(), key=lambda group: -len(group[1]))[:UNLIKE_AT_ONCE]
    for likeness, members in groups:
        value = await _agreed(connection, members, likeness)
        if value is not None:
            found.update(dict.fromkeys(members, value))
    return found


async def read_objects(connection: Connection, schema: str) -> Mapping[str, str]:
    """By object, in words without a tenant's name ("column orders.total"): a hash of its definition.

    For objects of a table, or view, the words of that follow the hash. Empty when there is no such schema.

    :raises psycopg.Error: also when, at the second attempt, a table is still locked, something is dropped just
        then, or the server cannot write down what is in the schema.
    """
    try:
        found = await read_definitions(connection, schema)
    except psycopg.Error:
        if connection.closed:
            raise
        found = await read_definitions(connection, schema)
    return found or {}


async def read_changes(connection: Connection) -> Mapping[str, int]:
    """By schema: a number that moves when anything in it is created, altered or dropped.

    It does not when rows are written, or by VACUUM, ANALYZE, REINDEX, TRUNCATE, or grants on tables and sequences.
    It does by grants on columns, types and routines, by REINDEX CONCURRENTLY, and by some of what a fingerprint
    does not cover. What happens in other schemas does not move it.

    :raises psycopg.Error: when the connection is lost, or statement_timeout passes.
    """
    async with settings(connection, {"jit": "off"}):
        return dict(await (await connection.execute(_CHANGES)).fetchall())


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    """What differs, in words and sorted: ``table extra: added``, ``column orders.total: missing``. Pure.

    What belongs to a table, or view, that is itself added or missing is left out, and so is the order of the
    columns of a table with columns added or missing.

    :param expected: as :func:`read_objects` gives it.
    :param found: the same, of another schema.
    """
    alone = expected.keys() ^ found.keys()
    tables = {
        _owner(side[words]) for side in (expected, found) for words in alone & side.keys() if _is_column(words)
    }
    lines = []
    for words in expected.keys() | found.keys():
        if expected.get(words) == found.get(words):
            continue
        owners = {_owner(side[words]) for side in (expected, found) if words in side}
        if owners <= alone or (words.startswith("column order of ") and owners <= tables):
            continue
        how = "changed" if words not in alone else "added" if words in found else "missing"
        lines.append(f"{words}: {how}")
    return tuple(sorted(lines))


def _owner(value: str) -> str:
    return value.partition(OF)[2]


def _is_column(words: str) -> bool:
    return words.startswith("column ") and not words.startswith("column order of ")


async def _agreed(connection: Connection, alike: Sequence[str], likeness: str | None) -> str | None:
    """The fingerprint that two of them have, or the only one has twice.

    Who changes his schema and takes it back while it is read makes nobody else's look different: the server writes
    down what is there at that moment, and later nothing shows that it was another.

    :param likeness: of all of them; None: it does not matter.
    """
    # Any of them will do, so nobody can know which one to lock.
    chosen = random.sample(alike, min(len(alike), _ATTEMPTS))
    seen: dict[str, str] = {}
    for name in chosen if len(chosen) > 2 else chosen * 3:
        value = await _attempt(connection, name, likeness)
        if value is not None and value in seen and (len(alike) == 1 or seen[value] != name):
            return value
        if value is not None:
            seen[value] = name
    return None


async def _attempt(connection: Connection, name: str, likeness: str | None) -> str | None:
    """The fingerprint of a schema, if it can be read and is still as it was."""
    try:
        objects = await read_definitions(connection, name)
    except psycopg.Error:
        if connection.closed:
            raise
        return None
    if objects is None:
        return None
    if likeness is not None and (await read_likeness(connection, [name])).get(name) != likeness:
        return None
    return digest(sorted(objects.items()))
