"""Row isolation: what makes shared tables safe to share, and what stands against it. Pure, but for reading.

Every table gets the tenant column, two restrictive policies and one permissive. Restrictive policies hold
whatever other policies a blueprint brings: one for the logins, by the session's login alone; one for the
owner role, as which a blueprint's SECURITY DEFINER functions and views act, that also lets the
administrator through while migrations run. Source: PostgreSQL documentation, "Row Security Policies".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.statements import Rendered, Script

TENANT_POLICY = "tenantry_tenant"
OWNER_POLICY = "tenantry_owner"
ACCESS_POLICY = "tenantry_access"
ADMIN_POLICY = "tenantry_admin"
OWN_POLICIES = frozenset({TENANT_POLICY, OWNER_POLICY, ACCESS_POLICY, ADMIN_POLICY})


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
    policies: tuple[str, ...]
    empty: bool = True

    @property
    def is_table(self) -> bool:
        """Whether rows are stored in it, or in its partitions."""
        return self.kind in ("r", "p")

    def column(self, name: str) -> Column | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


def unsafe_objects(relations: Sequence[Relation], tenant_column: str) -> list[str]:
    """What row security cannot protect at all, in words. Nothing overrides it."""
    found = []
    for relation in relations:
        column = relation.column(tenant_column)
        if relation.kind == "m":
            found.append(f"materialized view {relation.name} would show all tenants' rows: make it a view")
        elif relation.kind == "f":
            found.append(f"foreign table {relation.name} has no row security: make it a table")
        elif relation.is_table and column is not None and column.type not in ("text", "character varying"):
            found.append(
                f"table {relation.name}: column {tenant_column} is of type {column.type}: make it "
                f"{tenant_column} text NOT NULL DEFAULT tenantry.tenant_id()"
            )
        elif relation.is_table and column is None and not relation.empty:
            found.append(
                f"table {relation.name} has rows that belong to no tenant: insert none in migrations, or "
                f"declare {tenant_column} and say whose they are"
            )
    return found


def unsafe_keys(relations: Sequence[Relation], tenant_column: str) -> list[str]:
    """Keys by which tenants could collide or probe each other, with what to write instead."""
    found = []
    for relation in relations:
        if not relation.is_table or relation.partition:
            continue
        for key in relation.uniques:
            if tenant_column not in key.columns and not _is_generated(relation, key):
                shown = ", ".join(column or "..." for column in key.columns)
                found.append(
                    f"unique key {key.name} of table {relation.name} ({shown}): "
                    f"write ({tenant_column}, {shown}){_declare(relation, tenant_column)}"
                )
        for key in relation.references:
            pairs = zip(key.columns, key.target_columns, strict=True)
            if (tenant_column, tenant_column) not in pairs:
                here, there = ", ".join(key.columns), ", ".join(key.target_columns)
                found.append(
                    f"foreign key {key.name} of table {relation.name} ({here}): write FOREIGN KEY "
                    f"({tenant_column}, {here}) REFERENCES {key.target} ({tenant_column}, {there}), with a "
                    f"unique key ({tenant_column}, {there}) there{_declare(relation, tenant_column)}"
                )
    return found


def _declare(relation: Relation, tenant_column: str) -> str:
    if relation.column(tenant_column) is not None:
        return ""
    return f", and declare {tenant_column} text NOT NULL DEFAULT tenantry.tenant_id()"


def _is_generated(relation: Relation, key: Key) -> bool:
    """Whether no tenant can choose the key: a column of it is generated, and no tenant may write it."""
    columns = (relation.column(name) for name in key.columns)
    return any(column is not None and column.generated in ("identity", "serial", "uuid") for column in columns)


def protected_columns(relation: Relation, tenant_column: str) -> frozenset[str]:
    """Columns that a tenant may not write: numbers of a key that all tenants share.

    Whoever could choose them could take the next number and make everybody else's insert fail. UUIDs may
    be chosen: there is no next one.
    """
    return frozenset(
        name
        for key in relation.uniques
        if tenant_column not in key.columns
        for name in key.columns
        if (column := relation.column(name)) is not None and column.generated in ("identity", "serial")
    )


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who uses a shared schema."""

    schema: str
    tenant_column: str
    owner: str
    admin: str
    group: str
    read_only_group: str
    allow_unsafe_keys: bool = False


def render_secure(sharing: Sharing, relations: Iterable[Relation]) -> Script:
    """Makes the relations of a shared schema safe to share. For a steward with the owner's rights.

    May be repeated; what is right already is not changed.
    """
    script = Script()
    for relation in relations:
        if relation.is_table:
            script.add(_render_column(sharing, relation))
            script.add(_render_policies(sharing, relation))
            script.add(_render_table_grants(sharing, relation))
        elif relation.kind == "v":
            name = _name(sharing, relation)
            script.format("ALTER VIEW {name} SET (security_invoker = true)", name=name)
            script.add(_render_revoke(sharing, name))
            script.format(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {group};\n"
                "GRANT SELECT, DELETE ON {name} TO {read_only}",
                name=name,
                group=sql.Identifier(sharing.group),
                read_only=sql.Identifier(sharing.read_only_group),
            )
    return script


def _name(sharing: Sharing, relation: Relation) -> sql.Identifier:
    return sql.Identifier(sharing.schema, relation.name)


def _render_column(sharing: Sharing, relation: Relation) -> Script:
    name, column = _name(sharing, relation), sql.Identifier(sharing.tenant_column)
    known = relation.column(sharing.tenant_column)
    script = Script()
    if relation.partition:
        return script
    if known is None:
        script.format(
            "ALTER TABLE {name} ADD COLUMN {column} text NOT NULL DEFAULT tenantry.tenant_id();\n"
            "CREATE INDEX ON {name} ({column})",
            name=name,
            column=column,
        )
        return script
    if not known.default:
        script.format(
            "ALTER TABLE {name} ALTER COLUMN {column} SET DEFAULT tenantry.tenant_id()", name=name, column=column
        )
    if not known.required:
        script.format("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL", name=name, column=column)
    return script


def _render_policies(sharing: Sharing, relation: Relation) -> Script:
    name = _name(sharing, relation)
    script = Script()
    for policy in sorted(OWN_POLICIES & set(relation.policies)):
        script.format("DROP POLICY {policy} ON {name}", policy=sql.Identifier(policy), name=name)
    script.format(
        # The sub-selects are evaluated once per query, not once per row.
        "ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n"
        "CREATE POLICY {tenant} ON {name} AS RESTRICTIVE TO {group}, {read_only}\n"
        "  USING ({column} = (SELECT tenantry.tenant_id()));\n"
        "CREATE POLICY {owner_policy} ON {name} AS RESTRICTIVE TO {owner}\n"
        "  USING ({column} = (SELECT tenantry.tenant_id()) OR (SELECT session_user) = {admin_name});\n"
        "CREATE POLICY {admin_policy} ON {name} FOR SELECT TO {admin} USING (true)",
        name=name,
        column=sql.Identifier(sharing.tenant_column),
        tenant=sql.Identifier(TENANT_POLICY),
        owner_policy=sql.Identifier(OWNER_POLICY),
        admin_policy=sql.Identifier(ADMIN_POLICY),
        group=sql.Identifier(sharing.group),
        read_only=sql.Identifier(sharing.read_only_group),
        owner=sql.Identifier(sharing.owner),
        admin=sql.Identifier(sharing.admin),
        admin_name=sql.Literal(sharing.admin),
    )
    # Permissive policies of the blueprint's own decide what a tenant sees of its own rows.
    roles = [sharing.owner] if set(relation.policies) - OWN_POLICIES else [
        sharing.owner,
        sharing.group,
        sharing.read_only_group,
    ]
    return script.format(
        "CREATE POLICY {access} ON {name} TO {roles} USING (true)",
        access=sql.Identifier(ACCESS_POLICY),
        name=name,
        roles=sql.SQL(", ").join([sql.Identifier(role) for role in roles]),
    )


def _render_revoke(sharing: Sharing, name: sql.Identifier) -> Script:
    return Script().format(
        "REVOKE ALL ON {name} FROM PUBLIC, {group}, {read_only}",
        name=name,
        group=sql.Identifier(sharing.group),
        read_only=sql.Identifier(sharing.read_only_group),
    )


def _render_table_grants(sharing: Sharing, relation: Relation) -> Script:
    """TRUNCATE is nobody's: row security does not hold it."""
    name = _name(sharing, relation)
    script = _render_revoke(sharing, name)
    script.format("GRANT SELECT ON {name} TO {admin}", name=name, admin=sql.Identifier(sharing.admin))
    if relation.partition:
        return script
    group, read_only = sql.Identifier(sharing.group), sql.Identifier(sharing.read_only_group)
    script.format("GRANT SELECT, DELETE ON {name} TO {group}, {ro}", name=name, group=group, ro=read_only)
    protected = frozenset[str]()
    if not sharing.allow_unsafe_keys:
        protected = protected_columns(relation, sharing.tenant_column)
    if not protected:
        return script.format("GRANT INSERT, UPDATE ON {name} TO {group}", name=name, group=group)
    writable = [column.name for column in relation.columns if column.name not in protected]
    if sharing.tenant_column not in writable:
        writable.append(sharing.tenant_column)
    columns = sql.SQL(", ").join([sql.Identifier(column) for column in writable])
    return script.format(
        "GRANT INSERT ({columns}), UPDATE ({columns}) ON {name} TO {group}",
        columns=columns,
        name=name,
        group=group,
    )


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
  coalesce((SELECT array_agg(p.polname::text) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid), '{}')
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.oid
"""


async def read_relations(connection: Connection, schema: str, tenant_column: str) -> tuple[Relation, ...]:
    """The relations of a shared schema. With the owner's rights, before row security holds for new tables."""
    parameters = {"schema": sql.Identifier(schema).as_string(None)}
    rows = await (await connection.execute(_RELATIONS, parameters)).fetchall()
    relations = []
    for name, kind, partition, columns, uniques, references, policies in rows:
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
                policies=tuple(policies),
                empty=await _is_empty(connection, schema, name, kind, columns, tenant_column),
            )
        )
    return tuple(relations)


async def _is_empty(
    connection: Connection, schema: str, name: str, kind: str, columns: Sequence[Sequence[object]], wanted: str
) -> bool:
    """Only asked of tables that lack the tenant column: for the others it does not matter."""
    if kind not in ("r", "p") or any(column[0] == wanted for column in columns):
        return True
    query = sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(sql.Identifier(schema, name))
    row = await (await connection.execute(query)).fetchone()
    return bool(row and row[0])


SEQUENCES = """
SELECT c.oid::pg_catalog.regclass::text
FROM pg_catalog.pg_class c
WHERE c.relnamespace = %(schema)s::pg_catalog.regnamespace AND c.relkind = 'S'
  AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'i')
"""
"""Sequences that no identity column owns."""


def render_sequence_grants(sharing: Sharing, names: Sequence[str]) -> Script:
    """Drawing numbers is allowed, setting them is not: that would be everybody's numbers.

    :param names: quoted by the server.
    """
    script = Script()
    if names:
        script.format(
            "REVOKE ALL ON SEQUENCE {names} FROM PUBLIC, {group}, {read_only};\n"
            "GRANT USAGE ON SEQUENCE {names} TO {group}",
            names=Rendered(", ".join(names).encode()),
            group=sql.Identifier(sharing.group),
            read_only=sql.Identifier(sharing.read_only_group),
        )
    return script
