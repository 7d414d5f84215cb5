"""Which schemas of a database are alike: one query for all, that takes no lock and cannot be held up.

What a schema is made of is read as the catalogs have it: names, flags, and expressions in the server's own form,
"pg_node_tree". That form names objects by their numbers. A number of an object of the same schema is exchanged
for the object's name; all else stays. Schemas of which everything is then equal differ in nothing but their own
names, so what the server writes of one ("Deparsing": pg_get_viewdef and the like) it would write of all. The
opposite does not hold: dropped columns leave gaps in the numbers of those behind, and two schemas that are unlike
here may still be equal in what they say.

The server's functions that write definitions are not for this: they open every relation, which costs its process
20 KB each for as long as it lives; those for views keep a lock on each relation until the transaction ends, more
than the server has room for; and a tenant who locks a table makes them wait.

Source: PostgreSQL documentation, "System Catalogs", and src/backend/nodes/outfuncs.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.definitions import ONE_BY_ONE, SETTINGS, settings
from tenantry_operator.engines.postgres.traits import TRAITS
from tenantry_operator.tenants.naming import GROUP_SUFFIX

_FEW = 32
"""Schemas that are looked for one by one rather than among all there are."""
_ALL_AT_ONCE = {"work_mem": "8MB", "enable_mergejoin": "off", "max_parallel_workers_per_gather": "0"}
_LONGEST = 4_000_000
"""Bytes of an expression in the server's form. A longer one is compared as it is: nobody's version has such."""

# The number of an object that was made by initdb or later. Of a constant whose type is such, or regclass (2205)
# or regconfig (3734), the value, too, may be the number of an object: it stands in brackets, byte by byte.
_NUMBER = r"[1-9]\d\d\d\d+|consttype (?:2205|3734|[1-9]\d\d\d\d+) [^]}]*\]"
_ENCODING = "pg_catalog.getdatabaseencoding()"
_LOCATION = r" :(?:location|stmt_location|stmt_len) \d+"

_VALUE = r"""CASE WHEN m.found ~ ':constvalue 4 \[( -?\d{1,3}){8} \]$' THEN (
    SELECT pg_catalog.sum((b.byte::int & 255)::bigint << (8 * (b.n::int - 1)))::text
    FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.split_part(m.found, '[ ', 2), ' '))
         WITH ORDINALITY AS b (byte, n) WHERE b.n <= 4) END"""

# SET search_path FROM CURRENT writes the schema's name into a function's settings.
_SETTINGS = r"""(
    SELECT pg_catalog.string_agg(pg_catalog.sha256(pg_catalog.convert_to(CASE
        WHEN g.setting ~ '^search_path=' THEN (
            SELECT pg_catalog.string_agg(CASE e.part WHEN p.quoted THEN '=' ELSE e.part END, ', ' ORDER BY e.n)
            FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.substr(g.setting, 13), ', '))
                 WITH ORDINALITY AS e (part, n))
        ELSE g.setting END, pg_catalog.getdatabaseencoding())), '' ORDER BY g.n)
    FROM pg_catalog.unnest(p.proconfig) WITH ORDINALITY AS g (setting, n))"""

_EXPRESSIONS = (
    *(
        ("r", "relpartbound"),
        ("d", "adbin"),
        ("c", "conbin"),
        ("i", "indexprs"),
        ("i", "indpred"),
        ("t", "tgqual"),
    ),
    *(("p", "polqual"), ("p", "polwithcheck"), ("w", "ev_qual"), ("w", "ev_action"), ("p", "partexprs")),
    *(("k", "typdefaultbin"), ("p", "proargdefaults"), ("p", "prosqlbody"), ("x", "stxexprs")),
)
"""Alias and column of what is in the server's form."""


async def read_likeness(connection: Connection, schemas: Sequence[str]) -> Mapping[str, str]:
    """By schema: what is equal for schemas that are alike, whatever their number. Those that exist."""
    few = len(schemas) <= _FEW
    query = _compose(connection.info.server_version, few=few)
    async with settings(connection, {**SETTINGS, **(ONE_BY_ONE if few else _ALL_AT_ONCE)}):
        rows = await (await connection.execute(query, {"names": list(schemas)})).fetchall()
    return dict(rows)


def _compose(version: int, *, few: bool) -> sql.Composed:
    return TRAITS.format(
        relations=_RELATIONS_OF_FEW
        if few
        else sql.SQL("space s JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid"),
        types=_source("pg_type", "t", "typnamespace", few=few),
        routines=_source("pg_proc", "p", "pronamespace", few=few),
        group=sql.Literal(GROUP_SUFFIX),
        number=sql.Literal(_NUMBER),
        value=sql.SQL(_VALUE),
        settings=sql.SQL(_SETTINGS),
        encoding=sql.SQL(_ENCODING),
        own=sql.Literal(["oid", "collname", "collnamespace", "collowner", "collversion"]),
        newer=sql.SQL(", c.conenforced, c.conperiod" if version >= 180000 else ""),
        short_plain=_short("o", "plain"),
        short_rest=_short("o", "rest"),
        short_words=_short("x", "words"),
        **{column: _expression(alias, column, version) for alias, column in _EXPRESSIONS},
    )


def _source(catalog: str, alias: str, column: str, *, few: bool) -> sql.Composed:
    """Where the rows of a catalog come from."""
    values = {
        "catalog": sql.Identifier("pg_catalog", catalog),
        "alias": sql.Identifier(alias),
        "column": sql.Identifier(column),
        "name": sql.Literal(f"pg_catalog.{catalog}"),
    }
    if not few:
        return sql.SQL("space s JOIN {catalog} {alias} ON {alias}.{column} = s.oid").format(**values)
    return sql.SQL(
        "space s JOIN pg_catalog.pg_depend i ON i.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass\n"
        "AND i.refobjid = s.oid AND i.classid = {name}::pg_catalog.regclass\n"
        "JOIN {catalog} {alias} ON {alias}.oid = i.objid"
    ).format(**values)


# There is no index by schema but that of the dependencies; the relation of a composite type has none of its own.
_RELATIONS_OF_FEW = sql.SQL("""
    space s CROSS JOIN LATERAL (
        SELECT d.objid AS oid FROM pg_catalog.pg_depend d
        WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = s.oid
          AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT t.typrelid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_type t ON t.oid = d.objid
        WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = s.oid
          AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.typrelid <> 0
    ) i JOIN pg_catalog.pg_class c ON c.oid = i.oid""")


def _expression(alias: str, column: str, version: int) -> sql.Composed:
    """An expression in the server's form, or what stands for it."""
    written = sql.SQL("{}::text").format(sql.Identifier(alias, column))
    text = written
    if version < 170000:
        text = sql.SQL("pg_catalog.regexp_replace({}, {}, '', 'g')").format(written, sql.Literal(_LOCATION))
    return sql.SQL(
        "CASE WHEN pg_catalog.octet_length({written}) > {longest}\n"
        "THEN pg_catalog.sha256(pg_catalog.convert_to({written}, {encoding}))::text ELSE {text} END"
    ).format(written=written, longest=sql.Literal(_LONGEST), text=text, encoding=sql.SQL(_ENCODING))


def _short(alias: str, column: str) -> sql.Composed:
    """A text, or its hash: thousands of them are to fit into one."""
    return sql.SQL(
        "CASE WHEN pg_catalog.octet_length({text}) > 400\n"
        "THEN pg_catalog.sha256(pg_catalog.convert_to({text}, {encoding}))::text ELSE {text} END"
    ).format(text=sql.Identifier(alias, column), encoding=sql.SQL(_ENCODING))
