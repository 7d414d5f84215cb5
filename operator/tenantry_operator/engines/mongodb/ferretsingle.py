"""What the PostgreSQL behind FerretDB says of one tenant, in one query."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenantry_operator.engines.mongodb.ferretcatalog import SchemaRow
from tenantry_operator.engines.postgres.catalog import Facts, MemberRow, RoleRow, ServerCatalog
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.errors import Retryable

# Rows of a kind each, as JSON, so that they are one answer.
_SINGLE = """
SELECT 'role', pg_catalog.to_jsonb(x) FROM (
  SELECT r.rolname AS name,
         d.description AS mark,
         r.rolcanlogin AS login,
         r.rolconnlimit AS connections,
         r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls AS privileged,
         r.rolinherit AS inherit,
         coalesce(r.rolvaliduntil <> 'infinity', false) AS expires,
         s.setconfig AS config,
         (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) AS sessions
  FROM pg_catalog.pg_roles r
  LEFT JOIN pg_catalog.pg_shdescription d
         ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
  LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
  WHERE r.rolname = ANY (%(roles)s::text[])) x
UNION ALL
SELECT 'member', pg_catalog.to_jsonb(x) FROM (
  SELECT r.rolname AS role,
         m.rolname AS member,
         g.rolname AS grantor,
         a.inherit_option AS inherit,
         a.set_option AS set,
         a.admin_option AS admin
  FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
  JOIN pg_catalog.pg_roles m ON m.oid = a.member
  JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
  WHERE NOT (m.rolname = current_user AND a.admin_option AND NOT a.inherit_option AND NOT a.set_option)
    AND (a.roleid = ANY (ARRAY(SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolname = ANY (%(roles)s::text[])))
      OR a.member = ANY (ARRAY(SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolname = ANY (%(roles)s::text[]))))
) x
UNION ALL
SELECT 'schema', pg_catalog.to_jsonb(x) FROM (
  SELECT n.nspname AS name,
         d.description AS mark,
         n.nspacl::text[] AS acl,
         m.oid IS NOT NULL AS metadata,
         m.relacl::text[] AS metadata_acl,
         t.writes,
         t.size
  FROM pg_catalog.pg_namespace n
  LEFT JOIN pg_catalog.pg_description d
         ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objsubid = 0
  LEFT JOIN pg_catalog.pg_class m
         ON m.relnamespace = n.oid AND m.relname = '_ferretdb_database_metadata' AND m.relkind = 'r'
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(pg_catalog.pg_stat_get_tuples_inserted(c.oid)
                        + pg_catalog.pg_stat_get_tuples_updated(c.oid)
                        + pg_catalog.pg_stat_get_tuples_deleted(c.oid)), 0) AS writes,
           coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0) AS size
    FROM pg_catalog.pg_depend o
    JOIN pg_catalog.pg_class c ON c.oid = o.objid AND c.relkind IN ('r', 'm')
    WHERE o.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND o.refobjid = n.oid
      AND o.classid = 'pg_catalog.pg_class'::pg_catalog.regclass) t
  WHERE n.nspname = %(schema)s) x
"""

_MARK = """
SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') FROM pg_catalog.pg_roles r WHERE r.rolname = %s
"""


# Of tenants, who may connect as members of one role; those of others are not the operator's to end.
_END_HOLDERS = """
SELECT pg_catalog.pg_terminate_backend(a.pid)
FROM pg_catalog.pg_stat_activity a
JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE NOT r.rolsuper AND r.rolname <> current_user AND pg_catalog.pg_has_role(r.oid, %(connect)s, 'MEMBER')
  AND a.pid IN (
    SELECT l.pid
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s
      AND l.database = (
        SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
"""
_PATIENCE = 15.0
"""Seconds to wait for sessions to end."""


@dataclass(frozen=True, slots=True)
class Single:
    """One tenant."""

    roles: ServerCatalog
    schema: SchemaRow | None
    size: int


async def observe_single(connection: Connection, facts: Facts, roles: Sequence[str], schema: str) -> Single:
    """Reads what belongs to a tenant.

    :param facts: of the server, from before.
    :param roles: its own.
    :param schema: its database.
    """
    cursor = await connection.execute(_SINGLE, {"roles": list(roles), "schema": schema})
    rows: dict[str, list[dict[str, Any]]] = {"role": [], "member": [], "schema": []}
    for kind, row in await cursor.fetchall():
        rows[kind].append(row)
    members: dict[str, list[MemberRow]] = {}
    memberships: dict[str, list[MemberRow]] = {}
    for member in (MemberRow(**row) for row in rows["member"]):
        members.setdefault(member.role, []).append(member)
        memberships.setdefault(member.member, []).append(member)
    found, size = None, 0
    for row in rows["schema"]:
        size = int(row.pop("size"))
        found = SchemaRow(**row)
    known = {row["name"]: RoleRow(**row) for row in rows["role"]}
    return Single(ServerCatalog(facts, known, members, memberships, {}), found, size)


async def mark_of_role(connection: Connection, role: str) -> tuple[bool, str | None]:
    """Whether a role is there, and its comment."""
    row = await (await connection.execute(_MARK, (role,))).fetchone()
    return row is not None, row[0] if row is not None else None


async def end_holders(connection: Connection, schema: str, connect: str, where: str) -> None:
    """Ends all sessions of tenants that hold a lock on something in a schema, until there are none.

    :param connect: the role by which tenants may connect.
    :raises Retryable: SessionsRemain, when some do not end.
    """
    deadline = time.monotonic() + _PATIENCE
    asked = {"schema": schema, "connect": connect}
    while await (await connection.execute(_END_HOLDERS, asked)).fetchall():
        if time.monotonic() > deadline:
            raise Retryable("SessionsRemain", f"{where}: sessions that hold something there do not end")
        await asyncio.sleep(0.02)
