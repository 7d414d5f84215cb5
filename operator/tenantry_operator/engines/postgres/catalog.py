"""What the server's catalogs say: a fixed number of queries, whatever the number of tenants.

Source: PostgreSQL documentation, "System Catalogs". Every relation and function is written with its
schema, as nothing that a tenant made may come in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import class_row

from tenantry_operator.engines.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class RoleRow:
    """A role."""

    name: str
    mark: str | None
    login: bool
    connections: int
    """CONNECTION LIMIT; -1: none."""
    privileged: bool
    """Has an attribute that no tenant's role has: SUPERUSER, CREATEDB, CREATEROLE, REPLICATION, BYPASSRLS."""
    inherit: bool
    expires: bool
    config: Sequence[str] | None
    sessions: int


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A membership, other than a steward's in a role that it created."""

    role: str
    member: str
    grantor: str
    inherit: bool
    set: bool
    admin: bool


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """A database, as it looks from outside."""

    name: str
    owner: str
    mark: str | None
    acl: Sequence[str] | None
    open: bool
    sessions: int
    writes: int
    relations: Mapping[str, int] | None
    """For a tenant's own database: how many relations a role owns (``o/<role>``) or was granted anything on
    (``a/<role>``). This is how a revoked grant is seen from outside."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The server as a whole, and what the administrator may do there."""

    admin: str
    version: str
    version_number: int
    max_connections: int
    sessions: int
    create_role: bool
    create_database: bool
    signal: bool
    statistics: bool
    temp_file_limit: bool


@dataclass(frozen=True, slots=True)
class ServerCatalog:
    """What is kept for the server as a whole."""

    facts: Facts
    roles: Mapping[str, RoleRow]
    members: Mapping[str, Sequence[MemberRow]]
    """By role: who is a member of it."""
    memberships: Mapping[str, Sequence[MemberRow]]
    """By member: what it is a member of."""
    databases: Mapping[str, DatabaseRow]


_FACTS = """
SELECT current_user::text AS admin,
       current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_number,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid IS NOT NULL)::int AS sessions,
       r.rolcreaterole OR r.rolsuper AS create_role,
       r.rolcreatedb OR r.rolsuper AS create_database,
       pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AS signal,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS statistics,
       pg_catalog.has_parameter_privilege('temp_file_limit', 'SET WITH GRANT OPTION') AS temp_file_limit
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""

_ROLES = """
SELECT r.rolname::text AS name,
       d.description AS mark,
       r.rolcanlogin AS login,
       r.rolconnlimit AS connections,
       r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls AS privileged,
       r.rolinherit AS inherit,
       coalesce(r.rolvaliduntil <> 'infinity', false) AS expires,
       s.setconfig AS config,
       coalesce(a.sessions, 0)::int AS sessions
FROM pg_catalog.pg_roles r
LEFT JOIN pg_catalog.pg_shdescription d
       ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid AND s.setdatabase = 0
LEFT JOIN (SELECT usesysid, count(*) AS sessions FROM pg_catalog.pg_stat_activity GROUP BY usesysid) a
       ON a.usesysid = r.oid
WHERE %(names)s::text[] IS NULL OR r.rolname = ANY (%(names)s::text[])
"""

_MEMBERS = """
SELECT r.rolname::text AS role,
       m.rolname::text AS member,
       g.rolname::text AS grantor,
       a.inherit_option AS inherit,
       a.set_option AS set,
       a.admin_option AS admin
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles r ON r.oid = a.roleid
JOIN pg_catalog.pg_roles m ON m.oid = a.member
JOIN pg_catalog.pg_roles g ON g.oid = a.grantor
WHERE NOT (m.rolname = ANY (%(own)s::text[]) AND a.admin_option AND NOT a.inherit_option AND NOT a.set_option)
"""

# Two indexes, on roleid and on member, serve the two halves.
_SOME_MEMBERS = sql.SQL("{members} AND (a.roleid = ANY ({roles}) OR a.member = ANY ({roles}))").format(
    members=sql.SQL(_MEMBERS),
    roles=sql.SQL(
        "ARRAY(SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolname = ANY (%(names)s::text[]))::oid[]"
    ),
)

_DATABASES = """
SELECT d.datname::text AS name,
       o.rolname::text AS owner,
       c.description AS mark,
       d.datacl::text[] AS acl,
       d.datallowconn AS open,
       coalesce(s.numbackends, 0)::int AS sessions,
       coalesce(s.tup_inserted + s.tup_updated + s.tup_deleted, 0)::bigint AS writes,
       p.relations
FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_roles o ON o.oid = d.datdba
LEFT JOIN pg_catalog.pg_shdescription c
       ON c.objoid = d.oid AND c.classoid = 'pg_catalog.pg_database'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(g.key, g.relations) AS relations
    FROM (
        SELECT h.deptype::text || '/' || r.rolname AS key, count(DISTINCT h.objid) AS relations
        FROM pg_catalog.pg_shdepend h JOIN pg_catalog.pg_roles r ON r.oid = h.refobjid
        WHERE h.dbid = d.oid AND h.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND h.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND h.deptype IN ('o', 'a')
          AND o.rolname = d.datname
        GROUP BY h.deptype, r.rolname
    ) g
) p ON true
WHERE %(names)s::text[] IS NULL OR d.datname = ANY (%(names)s::text[])
"""


async def observe_server(
    connection: Connection,
    own_roles: Sequence[str],
    *,
    roles: Sequence[str] | None = None,
    members: Sequence[str] | None = None,
    databases: Sequence[str] | None = None,
) -> ServerCatalog:
    """Reads what is kept for the server as a whole.

    :param own_roles: administrator, keeper and stewards, whose administration of roles is left out.
    :param roles: only these; None: all.
    :param members: only memberships of and in these; None: all.
    :param databases: only these; None: all.
    """
    names = None if roles is None else list(roles)
    async with connection.cursor(row_factory=class_row(Facts)) as facts_cursor:
        facts = await (await facts_cursor.execute(_FACTS)).fetchone()
    if facts is None:
        raise LookupError("the administrator's role is not in pg_roles")
    parameters = {"names": names}
    # The driver makes every value anew: names and marks that say the same are kept once.
    texts: dict[str, str] = {}

    def one(text: str) -> str:
        return texts.setdefault(text, text)

    role_rows = [
        RoleRow(one(row[0]), None if row[1] is None else one(row[1]), *row[2:])
        for row in await (await connection.execute(_ROLES, parameters)).fetchall()
    ]
    query = sql.SQL(_MEMBERS) if members is None else _SOME_MEMBERS
    own = {"names": None if members is None else list(members), "own": list(own_roles)}
    member_rows = [
        MemberRow(one(row[0]), one(row[1]), one(row[2]), *row[3:])
        for row in await (await connection.execute(query, own)).fetchall()
    ]
    async with connection.cursor(row_factory=class_row(DatabaseRow)) as database_cursor:
        names = None if databases is None else list(databases)
        database_rows = await (await database_cursor.execute(_DATABASES, {"names": names})).fetchall()
    by_role: dict[str, list[MemberRow]] = {}
    by_member: dict[str, list[MemberRow]] = {}
    for row in member_rows:
        by_role.setdefault(row.role, []).append(row)
        by_member.setdefault(row.member, []).append(row)
    return ServerCatalog(
        facts=facts,
        roles={row.name: row for row in role_rows},
        members=by_role,
        memberships=by_member,
        databases={row.name: row for row in database_rows},
    )
