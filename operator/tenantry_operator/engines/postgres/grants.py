"""Grants inside a database: read, compared and put right, for one schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from tenantry_operator.engines.postgres import acl, expected
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.inside import SchemaRow
from tenantry_operator.engines.postgres.statements import (
    APP_SEQUENCES,
    APP_TABLES,
    READ_ONLY_TABLES,
    Rendered,
    Script,
    render_default_privileges,
)

_READ = """
SELECT CASE c.relkind WHEN 'S' THEN 'S' ELSE 'r' END, c.oid::pg_catalog.regclass::text, c.relacl::text[]
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND d.refobjid = %(schema)s::pg_catalog.regnamespace AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner = %(owner)s::pg_catalog.regrole
UNION ALL
SELECT 'f', p.oid::pg_catalog.regprocedure::text, p.proacl::text[]
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc p ON p.oid = d.objid
WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
  AND d.refobjid = %(schema)s::pg_catalog.regnamespace AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  AND p.proowner = %(owner)s::pg_catalog.regrole
"""

_ON: dict[str, LiteralString] = {"r": "TABLE", "S": "SEQUENCE", "f": "ROUTINE"}
_ON_NEW: dict[str, LiteralString] = {"r": "TABLES", "S": "SEQUENCES", "f": "ROUTINES"}


@dataclass(frozen=True, slots=True)
class Owned:
    """An object of a schema that belongs to the owner role."""

    kind: str
    """r: relation, S: sequence, f: routine."""
    name: str
    """With its schema, quoted; for a routine also the types of its arguments."""
    acl: tuple[str, ...]

    def rights(self, owner: str) -> dict[str, frozenset[str]]:
        """The rights of everybody but the owner."""
        found = acl.rights(self.acl)
        found.pop(owner, None)
        if self.kind == "f" and not self.acl:
            found[acl.PUBLIC] = expected.ROUTINE
        return found


async def read_owned(connection: Connection, schema: str, owner: str) -> tuple[Owned, ...]:
    """The objects of a schema that belong to ``owner``."""
    parameters = {
        "schema": sql.Identifier(schema).as_string(None),
        "owner": sql.Identifier(owner).as_string(None),
    }
    rows = await (await connection.execute(_READ, parameters)).fetchall()
    return tuple(Owned(kind, name, tuple(items or ())) for kind, name, items in rows)


def render_grants(
    schema: SchemaRow, objects: Sequence[Owned], owner: str, group: str, *, read_only: bool
) -> Script:
    """Takes away what nobody should have, gives the group what it should have. With the owner's rights.

    :param schema: with its access list and the owner's default privileges.
    """
    relation_rights = expected.RELATION_READ_ONLY if read_only else expected.RELATION
    wanted = {"r": relation_rights, "S": expected.SEQUENCE, "f": expected.ROUTINE}
    words: dict[str, LiteralString] = {
        "r": READ_ONLY_TABLES if read_only else APP_TABLES,
        "S": APP_SEQUENCES,
        "f": "EXECUTE",
    }
    script = Script()
    on_schema = sql.SQL("SCHEMA {}").format(sql.Identifier(schema.name))
    _revoke(script, on_schema, set(acl.rights(schema.acl)) - {owner, "pg_database_owner"})
    script.format("GRANT USAGE ON {what} TO {group}", what=on_schema, group=sql.Identifier(group))
    for kind, on in _ON.items():
        strangers: dict[str, list[str]] = {}
        differing = []
        for item in objects:
            if item.kind != kind:
                continue
            found = item.rights(owner)
            for grantee in found.keys() - {group}:
                strangers.setdefault(grantee, []).append(item.name)
            if found.get(group) != wanted[kind]:
                differing.append(item.name)
        for grantee, names in strangers.items():
            _revoke(script, _listed(on, names), [grantee])
        if differing:
            what = _listed(on, differing)
            _revoke(script, what, [group])
            script.format("GRANT " + words[kind] + " ON {what} TO {group}", what=what, group=sql.Identifier(group))
    _render_defaults(script, schema.defaults, owner, group)
    return script.add(render_default_privileges(owner, group, read_only=read_only))


def _render_defaults(script: Script, defaults: Mapping[str, Sequence[str]], owner: str, group: str) -> None:
    for kind, items in defaults.items():
        if kind not in _ON_NEW:
            continue
        for grantee in acl.rights(items).keys() - {owner}:
            script.format(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE ALL ON " + _ON_NEW[kind] + " FROM {grantee}",
                owner=sql.Identifier(owner),
                grantee=_grantee(grantee),
            )


def _listed(on: LiteralString, names: Sequence[str]) -> sql.Composed:
    # The server quoted the names: regclass and regprocedure, with nothing but pg_catalog in the search path.
    return sql.SQL(on + " {}").format(Rendered(", ".join(names).encode()))


def _revoke(script: Script, what: sql.Composed, grantees: Iterable[str]) -> None:
    for grantee in sorted(grantees):
        script.format("REVOKE ALL ON {what} FROM {grantee} CASCADE", what=what, grantee=_grantee(grantee))


def _grantee(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == acl.PUBLIC else sql.Identifier(name)
