"""What the catalogs say inside of one database: a fixed number of queries per schema that tenants share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.postgres.citus import CitusCatalog
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.rowcatalog import Relation, read_relations
from tenantry_operator.engines.postgres.rowsizes import read_shares


@dataclass(frozen=True, slots=True)
class SchemaRow:
    """A schema of a shared database."""

    name: str
    owner: str
    mark: str | None
    acl: Sequence[str] | None
    objects: Mapping[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    """How many objects there are by kind (r: relation, S: sequence, f: routine) and access list."""
    defaults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The owner's default privileges by kind."""
    bytes: int = 0
    writes: int = 0
    """Rows inserted, updated and deleted."""
    counter: int = 0
    """Moves whenever the size may have changed."""


@dataclass(frozen=True, slots=True)
class SharedCatalog:
    """What is kept in a database that tenants share, or in one tenant's own."""

    prepared: bool
    schemas: Mapping[str, SchemaRow]
    registrations: Mapping[str, str]
    """The tenant id by login."""
    relations: Mapping[str, tuple[Relation, ...]] = field(default_factory=dict)
    """What is in the schemas that tenants share row by row."""
    shares: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of those, the bytes by tenant id: an estimate."""
    citus: CitusCatalog | None = None
    """Where the tenants' schemas are distributed by Citus: what it has of them."""


_SCHEMAS = """
SELECT n.nspname::text, o.rolname::text, d.description, n.nspacl::text[]
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
WHERE n.nspname !~ '^pg_' AND (%(names)s::text[] IS NULL OR n.nspname = ANY (%(names)s::text[]))
"""

# Counters that move whenever a size may have changed: rows written, vacuumed, or a file exchanged.
_OBJECTS = sql.SQL("""
SELECT n.nspname::text, k.kind, k.acl::text[], (count(*) FILTER (WHERE k.owner IN (n.nspowner, o.oid)))::int,
       sum(k.pages)::bigint * 8192, sum(k.writes)::bigint, sum(k.other)::bigint
FROM (
    SELECT c.relnamespace AS namespace,
           c.relowner AS owner,
           CASE c.relkind WHEN 'S' THEN 'S' WHEN 'i' THEN 'i' ELSE 'r' END AS kind,
           c.relacl AS acl,
           c.relpages AS pages,
           CASE c.relkind WHEN 'r' THEN pg_catalog.pg_stat_get_tuples_inserted(c.oid)
                + pg_catalog.pg_stat_get_tuples_updated(c.oid) + pg_catalog.pg_stat_get_tuples_deleted(c.oid)
           ELSE 0 END AS writes,
           CASE c.relkind WHEN 'r' THEN c.relfilenode::bigint + pg_catalog.pg_stat_get_vacuum_count(c.oid)
                + pg_catalog.pg_stat_get_autovacuum_count(c.oid)
           WHEN 'i' THEN c.relfilenode::bigint
           ELSE 0 END AS other
    FROM {relations}
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i')
    UNION ALL
    SELECT p.pronamespace, p.proowner, 'f', p.proacl, 0, 0, 0 FROM {routines}
) k
JOIN pg_catalog.pg_namespace n ON n.oid = k.namespace
LEFT JOIN (
    SELECT d.datdba AS oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
) o ON n.nspowner = 'pg_database_owner'::pg_catalog.regrole
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
GROUP BY n.nspname, k.kind, k.acl
""")
_ALL_OBJECTS = _OBJECTS.format(
    relations=sql.SQL("pg_catalog.pg_class c"), routines=sql.SQL("pg_catalog.pg_proc p")
)

# There is no index by schema but that of the dependencies: without it, every look at one tenant would read
# the catalogs of all.
_IN_SCHEMA = sql.SQL("""
    pg_catalog.pg_depend d
    JOIN {catalog} {alias} ON {alias}.oid = d.objid AND d.classid = {name}::pg_catalog.regclass
     AND d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
     AND d.refobjid = ANY (ARRAY(SELECT m.oid FROM pg_catalog.pg_namespace m WHERE m.nspname = ANY (%(names)s)))
""")
_SOME_OBJECTS = _OBJECTS.format(
    relations=_IN_SCHEMA.format(
        catalog=sql.SQL("pg_catalog.pg_class"), alias=sql.SQL("c"), name=sql.Literal("pg_catalog.pg_class")
    ),
    routines=_IN_SCHEMA.format(
        catalog=sql.SQL("pg_catalog.pg_proc"), alias=sql.SQL("p"), name=sql.Literal("pg_catalog.pg_proc")
    ),
)

_REGISTRATIONS = """
SELECT l.login::text, l.tenant_id FROM tenantry.logins l
WHERE %(logins)s::text[] IS NULL OR l.login = ANY (%(logins)s::text[])
"""

_DEFAULTS = """
SELECT r.rolname::text, a.defaclobjtype::text, a.defaclacl::text[]
FROM pg_catalog.pg_default_acl a JOIN pg_catalog.pg_roles r ON r.oid = a.defaclrole
WHERE a.defaclnamespace = 0 AND (%(owners)s::text[] IS NULL OR r.rolname = ANY (%(owners)s::text[]))
"""


async def observe_shared(
    connection: Connection,
    installation: str,
    *,
    schemas: Sequence[str] | None = None,
    logins: Sequence[str] | None = None,
) -> SharedCatalog:
    """Reads what is kept in the database of the connection. Sizes are the server's own estimates.

    :param schemas: only these; None: all.
    :param logins: only the registrations of these; None: all.
    """
    names = None if schemas is None else list(schemas)
    parameters = {"names": None if names is None else [*names, "tenantry"]}
    rows = await (await connection.execute(_SCHEMAS, parameters)).fetchall()
    query = _ALL_OBJECTS if names is None else _SOME_OBJECTS
    counted = await (await connection.execute(query, {"names": names})).fetchall()
    defaults = await observe_defaults(connection, None if names is None else [row[1] for row in rows])
    prepared = any(row[0] == "tenantry" for row in rows)
    registered = []
    if prepared:
        some = None if logins is None else list(logins)
        registered = await (await connection.execute(_REGISTRATIONS, {"logins": some})).fetchall()
    objects: dict[str, dict[tuple[str, tuple[str, ...]], int]] = {}
    sums: dict[str, tuple[int, int, int]] = {}
    for name, kind, acl, count, size, writes, other in counted:
        if count and kind != "i":
            objects.setdefault(name, {})[kind, tuple(acl or ())] = count
        before = sums.get(name, (0, 0, 0))
        sums[name] = (before[0] + size, before[1] + writes, before[2] + other)
    relations: dict[str, tuple[Relation, ...]] = {}
    shares: dict[str, dict[str, int]] = {}
    for name, _, comment, _ in rows:
        mark = Mark.decode(comment)
        if mark is not None and mark.installation == installation and not mark.tenant:
            # Once per blueprint with Row isolation, however many tenants share it.
            relations[name] = await read_relations(connection, name)
            bytes_by_tenant = await read_shares(connection, name, relations[name])
            if bytes_by_tenant is not None:
                shares[name] = bytes_by_tenant
    return SharedCatalog(
        prepared=prepared,
        relations=relations,
        shares=shares,
        schemas={
            name: SchemaRow(
                name=name,
                owner=owner,
                mark=mark,
                acl=acl,
                objects=objects.get(name, {}),
                defaults=defaults.get(owner, {}),
                bytes=sums.get(name, (0, 0, 0))[0],
                writes=sums.get(name, (0, 0, 0))[1],
                counter=sum(sums.get(name, (0, 0, 0))[1:]),
            )
            for name, owner, mark, acl in rows
        },
        registrations=dict(registered),
    )


async def observe_defaults(
    connection: Connection, owners: Sequence[str] | None
) -> dict[str, dict[str, Sequence[str]]]:
    """Default privileges, by who makes an object and its kind.

    :param owners: only these; None: all.
    """
    names = None if owners is None else list(owners)
    found: dict[str, dict[str, Sequence[str]]] = {}
    for owner, kind, items in await (await connection.execute(_DEFAULTS, {"owners": names})).fetchall():
        found.setdefault(owner, {})[kind] = items
    return found
