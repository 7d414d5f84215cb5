"""What the catalogs say inside of one database: a fixed number of queries per schema that tenants share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tenantry_operator.engines.base import Mark
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


_SCHEMAS = """
SELECT n.nspname::text, o.rolname::text, d.description, n.nspacl::text[]
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
WHERE n.nspname !~ '^pg_' AND (%(names)s::text[] IS NULL OR n.nspname = ANY (%(names)s::text[]))
"""

_OBJECTS = """
SELECT n.nspname::text, k.kind, k.acl::text[], (count(*) FILTER (WHERE k.owner = n.nspowner))::int,
       sum(k.bytes)::bigint, sum(k.writes)::bigint
FROM (
    SELECT c.relnamespace AS namespace,
           c.relowner AS owner,
           CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END AS kind,
           c.relacl AS acl,
           CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_total_relation_size(c.oid) ELSE 0 END AS bytes,
           CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_stat_get_tuples_inserted(c.oid)
                + pg_catalog.pg_stat_get_tuples_updated(c.oid) + pg_catalog.pg_stat_get_tuples_deleted(c.oid)
           ELSE 0 END AS writes
    FROM pg_catalog.pg_class c
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT p.pronamespace, p.proowner, 'f', p.proacl, 0, 0 FROM pg_catalog.pg_proc p
) k
JOIN pg_catalog.pg_namespace n ON n.oid = k.namespace
WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
  AND (%(names)s::text[] IS NULL OR n.nspname = ANY (%(names)s::text[]))
GROUP BY n.nspname, k.kind, k.acl
"""

_DEFAULTS = """
SELECT r.rolname::text, a.defaclobjtype::text, a.defaclacl::text[]
FROM pg_catalog.pg_default_acl a JOIN pg_catalog.pg_roles r ON r.oid = a.defaclrole
WHERE a.defaclnamespace = 0 AND (%(owners)s::text[] IS NULL OR r.rolname = ANY (%(owners)s::text[]))
"""


async def observe_shared(
    connection: Connection, installation: str, *, schemas: Sequence[str] | None = None
) -> SharedCatalog:
    """Reads what is kept in the database of the connection.

    :param schemas: only these; None: all.
    """
    names = None if schemas is None else list(schemas)
    parameters = {"names": None if names is None else [*names, "tenantry"]}
    rows = await (await connection.execute(_SCHEMAS, parameters)).fetchall()
    counted = await (await connection.execute(_OBJECTS, {"names": names})).fetchall()
    defaults = await observe_defaults(connection, None if names is None else [row[1] for row in rows])
    prepared = any(row[0] == "tenantry" for row in rows)
    registered = []
    if prepared:
        cursor = await connection.execute("SELECT login::text, tenant_id FROM tenantry.logins")
        registered = await cursor.fetchall()
    objects: dict[str, dict[tuple[str, tuple[str, ...]], int]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name, kind, acl, count, size, writes in counted:
        if count:
            objects.setdefault(name, {})[kind, tuple(acl or ())] = count
        before = sizes.get(name, (0, 0))
        sizes[name] = (before[0] + size, before[1] + writes)
    relations: dict[str, tuple[Relation, ...]] = {}
    shares: dict[str, dict[str, int]] = {}
    for name, _, comment, _ in rows:
        mark = Mark.decode(comment)
        if mark is not None and mark.installation == installation and not mark.tenant:
            # Once per blueprint with Row isolation, however many tenants share it.
            relations[name] = await read_relations(connection, name)
            shares[name] = await read_shares(connection, name, relations[name])
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
                bytes=sizes.get(name, (0, 0))[0],
                writes=sizes.get(name, (0, 0))[1],
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
