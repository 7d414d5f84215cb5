"""What is read of tables that tenants share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection

TENANT_POLICY = "tenantry_tenant"
OWNER_POLICY = "tenantry_owner"
ACCESS_POLICY = "tenantry_access"
ADMIN_POLICY = "tenantry_admin"
OWN_POLICIES = frozenset({TENANT_POLICY, OWNER_POLICY, ACCESS_POLICY, ADMIN_POLICY})


@dataclass(frozen=True, slots=True)
class Policy:
    """A row security policy."""

    permissive: bool
    command: str
    """As in pg_policy.polcmd: ``*`` for all, ``r`` for SELECT."""
    roles: tuple[str, ...]
    """In alphabetical order; PUBLIC is ""."""
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A unique or exclusion key, or a foreign key."""

    name: str
    columns: tuple[str, ...]
    """Expressions are ""."""
    target: str | None = None
    """Of a foreign key: the table it points at."""
    target_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a shared table."""

    name: str
    type: str
    required: bool
    """NOT NULL."""
    default: bool
    generated: str
    """How values come about: "identity", "serial", "uuid", "stored" (computed), or "" by the application."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of the shared schema."""

    name: str
    kind: str
    """As in pg_class.relkind."""
    partition: bool
    columns: tuple[Column, ...]
    uniques: tuple[Key, ...]
    references: tuple[Key, ...]
    policies: Mapping[str, Policy] = field(default_factory=dict)
    forced: bool = False
    """Row security is enabled, and forced on the owner too."""
    acl: tuple[str, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether rows are stored in it, or in its partitions."""
        return self.kind in ("r", "p")

    def column(self, name: str) -> Column | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


_RELATIONS = """
SELECT c.relname::text, c.relkind::text, c.relispartition,
  coalesce((
    SELECT jsonb_agg(jsonb_build_array(
        a.attname, pg_catalog.format_type(a.atttypid, NULL), a.attnotnull, d.adbin IS NOT NULL,
        CASE
          WHEN a.attidentity <> '' THEN 'identity'
          WHEN a.attgenerated <> '' THEN 'stored'
          WHEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%' THEN 'serial'
          WHEN a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype
            AND pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~ '(gen_random_uuid|uuidv4|uuidv7|uuid_generate_v[14])'
          THEN 'uuid'
          ELSE '' END) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'),
  coalesce((
    SELECT jsonb_agg(jsonb_build_array(i.indexrelid::pg_catalog.regclass::text, (
        SELECT jsonb_agg(coalesce(a.attname, '') ORDER BY k.n)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
        WHERE k.n <= i.indnkeyatts)) ORDER BY i.indexrelid)
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)), '[]'),
  coalesce((
    SELECT jsonb_agg(jsonb_build_array(
        f.conname, (
        SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
        (SELECT t.relname FROM pg_catalog.pg_class t WHERE t.oid = f.confrelid), (
        SELECT jsonb_agg(a.attname ORDER BY k.n) FROM unnest(f.confkey) WITH ORDINALITY AS k (attnum, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum)) ORDER BY f.oid)
    FROM pg_catalog.pg_constraint f
    WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0), '[]'),
  coalesce((
    SELECT jsonb_object_agg(p.polname, jsonb_build_array(p.polpermissive, p.polcmd::text, (
        SELECT jsonb_agg(coalesce(r.rolname, '') ORDER BY r.rolname)
        FROM unnest(p.polroles) AS k (oid) LEFT JOIN pg_catalog.pg_roles r ON r.oid = k.oid),
        pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)))
    FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), '{}'),
  c.relrowsecurity AND c.relforcerowsecurity,
  coalesce(c.relacl::text[], '{}')
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.oid
"""


async def read_relations(connection: Connection, schema: str) -> tuple[Relation, ...]:
    """The relations of a shared schema."""
    parameters = {"schema": sql.Identifier(schema).as_string(None)}
    rows = await (await connection.execute(_RELATIONS, parameters)).fetchall()
    relations = []
    for name, kind, partition, columns, uniques, references, policies, forced, items in rows:
        relations.append(
            Relation(
                name=name,
                kind=kind,
                partition=partition,
                columns=tuple(Column(*column) for column in columns),
                uniques=tuple(Key(key, tuple(names)) for key, names in uniques),
                references=tuple(
                    Key(key, tuple(here), target, tuple(there)) for key, here, target, there in references
                ),
                policies={
                    policy: Policy(permissive, command, tuple(roles), using, check)
                    for policy, (permissive, command, roles, using, check) in policies.items()
                },
                forced=forced,
                acl=tuple(items),
            )
        )
    return tuple(relations)


_SEQUENCES = """
SELECT c.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind = 'S'
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'i')
"""


async def read_sequences(connection: Connection, schema: str) -> list[str]:
    """The sequences of a shared schema that no identity column owns, as the server quotes them."""
    parameters = {"schema": sql.Identifier(schema).as_string(None)}
    return [name for (name,) in await (await connection.execute(_SEQUENCES, parameters)).fetchall()]
