"""What one schema is made of: by object, its definition as the server writes it, free of the schema's own name.

The server writes names with their schema, as nothing but pg_catalog is in the search path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.objects import OBJECTS, SPACE
from tenantry_operator.engines.postgres.ownnames import OWN, OwnName
from tenantry_operator.tenants.naming import group_of

LOCK_TIMEOUT = 0.2
"""Seconds to wait for a table that somebody has locked for himself."""
TIMEOUT = 30.0
"""Seconds that the definitions of one schema may take."""
OF = " of "
"""Between the hash of a definition and the words of what it belongs to."""

# What may be set for a role or database and changes what the server writes, or how long it takes to.
SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "quote_all_identifiers": "off",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "jit": "off",
    "lock_timeout": f"{LOCK_TIMEOUT * 1000:.0f}",
}
ONE_BY_ONE = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}
"""For what concerns few of many schemas: by index, whatever the statistics say."""

_QUERIES = {"view": 0, "materialized view": 0, "policy": None, "function": 2, "procedure": 2}
"""Kinds of object with texts that are queries, or may have some, and which of its texts that is; None: all."""


async def read_definitions(connection: Connection, schema: str) -> dict[str, str] | None:
    """By object in words: a hash of its definition, and whose it is. None: there is no such schema.

    Opens all relations of the schema and locks them, against being dropped or altered, until it ends.

    :raises psycopg.Error: also when somebody locked a table, or dropped something at the same time.
    """
    async with settings(connection, {**SETTINGS, **ONE_BY_ONE, "statement_timeout": f"{TIMEOUT * 1000:.0f}"}):
        space = await (await connection.execute(SPACE, (schema,))).fetchone()
        if space is None:
            return None
        objects = await (await connection.execute(OBJECTS, {"schema": space[0]})).fetchall()
    own, owner = OwnName(space[1]), space[2]
    roles = {owner: f"{OWN}owner", group_of(owner): f"{OWN}group"}
    found: dict[str, list[str]] = {}
    for kind, name, arguments, parent, facts, texts, special in objects:
        free = [
            None if text is None else _take_out(own, (kind, name, parent or ""), n, text)
            for n, text in enumerate(texts or ())
        ]
        if kind == "policy":
            rest = sorted(roles.get(role, role) for role in special)
        else:
            rest = sorted(map(own.take_out_of_setting, special or ()))
        words = f"{kind} {name}{own.take_out(arguments).replace(OWN, '')}"
        value = digest([facts, free, rest]) + (f"{OF}{parent}" if parent else "")
        found.setdefault(words, []).append(value)
    # Two functions that differ in arguments of types of the same name, in the schema and out of it.
    return {words: " and ".join(sorted(values)) for words, values in found.items()}


def _take_out(own: OwnName, whose: tuple[str, str, str], number: int, text: str) -> str:
    kind, name, parent = whose
    if kind in ("trigger", "rule"):
        return own.take_out_of_statement(text)
    if kind in _QUERIES and _QUERIES[kind] in (None, number):
        return own.take_out_of_query(text, parent.partition(" ")[2] if kind == "policy" else name)
    return own.take_out(text)


@asynccontextmanager
async def settings(connection: Connection, values: Mapping[str, str]) -> AsyncIterator[None]:
    """A transaction that only reads, with settings of its own."""
    async with connection.transaction():
        wanted = {"transaction_read_only": "on", **values}
        await connection.execute(
            "SELECT pg_catalog.set_config(s.name, s.value, true)\n"
            "FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS s (name, value)",
            (list(wanted), list(wanted.values())),
        )
        yield


def digest(content: Any) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
