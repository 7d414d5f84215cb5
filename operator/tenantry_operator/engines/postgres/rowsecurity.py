"""Row isolation: what makes shared tables safe to share, and what stands against it. Pure.

Every table gets the tenant column, two restrictive policies and one permissive. Restrictive policies hold
whatever other policies a blueprint brings: one for the logins, by the session's login alone; one for the
owner role, as which a blueprint's SECURITY DEFINER functions and views act, that also lets the
administrator through while migrations run. Source: PostgreSQL documentation, "Row Security Policies".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from tenantry_operator.engines.postgres import acl
from tenantry_operator.engines.postgres.rowcatalog import (
    ACCESS_POLICY,
    ADMIN_POLICY,
    OWN_POLICIES,
    OWNER_POLICY,
    TENANT_POLICY,
    Key,
    Policy,
    Relation,
)
from tenantry_operator.engines.postgres.statements import Rendered, Script
from tenantry_operator.tenants.naming import group_of, read_only_group_of


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

    @classmethod
    def of(cls, schema: str, tenant_column: str, admin: str, allow_unsafe_keys: bool) -> Sharing:
        """Of a blueprint's shared schema, which is called like its owner."""
        groups = group_of(schema), read_only_group_of(schema)
        return cls(schema, tenant_column, schema, admin, *groups, allow_unsafe_keys)


def render_secure(sharing: Sharing, relations: Iterable[Relation]) -> Script:
    """Makes the relations of a shared schema safe to share. For a steward with the owner's rights. May be
    repeated."""
    script = Script()
    for relation in relations:
        if relation.is_table:
            script.add(_render_column(sharing, relation))
            script.add(_render_policies(sharing, relation))
            script.add(_render_table_grants(sharing, relation))
        elif relation.kind == "v":
            name = _name(sharing, relation)
            script.format("ALTER VIEW {name} SET (security_invoker = true)", name=name)
            script.add(_render_revoke(sharing, relation))
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


def expected_policies(sharing: Sharing, relation: Relation) -> dict[str, Policy]:
    """Our policies of a table, as the server shows them."""
    column = relation.column(sharing.tenant_column)
    name = _shown(sharing.tenant_column)
    value = f"({name})::text" if column is not None and column.type == "character varying" else name
    mine = f"({value} = ( SELECT tenantry.tenant_id() AS tenant_id))"
    migrating = (
        f'((( SELECT SESSION_USER AS "session_user") = {sql.Literal(sharing.admin).as_string(None)}::name) '
        "AND (( SELECT tenantry.tenant_id() AS tenant_id) IS NULL))"
    )
    groups = tuple(sorted((sharing.group, sharing.read_only_group)))
    # Permissive policies of the blueprint's own decide what a tenant sees of its own rows.
    access = () if relation.policies.keys() - OWN_POLICIES else groups
    return {
        TENANT_POLICY: Policy(False, "*", groups, mine, None),
        OWNER_POLICY: Policy(False, "*", (sharing.owner,), f"({mine} OR {migrating})", None),
        ADMIN_POLICY: Policy(True, "r", (sharing.admin,), "true", None),
        ACCESS_POLICY: Policy(True, "*", tuple(sorted((sharing.owner, *access))), "true", None),
    }


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else sql.Identifier(name).as_string(None)


def differences(sharing: Sharing, relations: Iterable[Relation]) -> list[str]:
    """What of policies and grants differs from how the operator leaves them, in words."""
    found = []
    for relation in relations:
        where = f"{relation.name} of schema {sharing.schema}"
        if relation.is_table:
            if not relation.forced:
                found.append(f"table {where}: row security is not enabled and forced")
            for name, policy in expected_policies(sharing, relation).items():
                if relation.policies.get(name) != policy:
                    found.append(f"table {where}: policy {name} is missing or was changed")
        if relation.kind not in ("r", "p", "v"):
            continue
        rights = acl.rights(relation.acl)
        known = {sharing.owner, sharing.group, sharing.read_only_group, sharing.admin}
        for grantee in rights.keys() - known:
            found.append(f"{where}: {grantee or 'PUBLIC'} has rights on it")
        wanted = frozenset() if relation.partition else frozenset("rd")
        for group in (sharing.group, sharing.read_only_group):
            has = rights.get(group, frozenset())
            if not wanted <= has or not has <= frozenset("arwd") or (relation.partition and has):
                found.append(f"{where}: the rights of {group} were changed")
    return found


def _render_policies(sharing: Sharing, relation: Relation) -> Script:
    """Changing policies locks the table against everybody: nothing is done when they are right."""
    name = _name(sharing, relation)
    script = Script()
    if not relation.forced:
        script.format("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", name=name)
    using: dict[str, LiteralString] = {
        TENANT_POLICY: "{column} = (SELECT tenantry.tenant_id())",
        OWNER_POLICY: (
            "{column} = (SELECT tenantry.tenant_id()) "
            "OR ((SELECT session_user) = {admin} AND (SELECT tenantry.tenant_id()) IS NULL)"
        ),
        ADMIN_POLICY: "true",
        ACCESS_POLICY: "true",
    }
    for policy, wanted in expected_policies(sharing, relation).items():
        if relation.policies.get(policy) == wanted:
            continue
        if policy in relation.policies:
            script.format("DROP POLICY {policy} ON {name}", policy=sql.Identifier(policy), name=name)
        script.format(
            # The sub-selects are evaluated once per query, not once per row.
            "CREATE POLICY {policy} ON {name} AS {kind} FOR {command} TO {roles} USING ({using})",
            policy=sql.Identifier(policy),
            name=name,
            kind=sql.SQL("PERMISSIVE" if wanted.permissive else "RESTRICTIVE"),
            command=sql.SQL("SELECT" if wanted.command == "r" else "ALL"),
            roles=sql.SQL(", ").join([sql.Identifier(role) for role in wanted.roles]),
            using=sql.SQL(using[policy]).format(
                column=sql.Identifier(sharing.tenant_column), admin=sql.Literal(sharing.admin)
            ),
        )
    return script


def _render_revoke(sharing: Sharing, relation: Relation) -> Script:
    """Takes all rights away but the owner's: what is right is granted anew in the same transaction."""
    grantees = {acl.PUBLIC, sharing.group, sharing.read_only_group, *acl.rights(relation.acl)} - {sharing.owner}
    return Script().format(
        "REVOKE ALL ON {name} FROM {grantees} CASCADE",
        name=_name(sharing, relation),
        grantees=sql.SQL(", ").join([_grantee(grantee) for grantee in sorted(grantees)]),
    )


def _grantee(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == acl.PUBLIC else sql.Identifier(name)


def _render_table_grants(sharing: Sharing, relation: Relation) -> Script:
    """TRUNCATE is nobody's: row security does not hold it."""
    name = _name(sharing, relation)
    script = _render_revoke(sharing, relation)
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
