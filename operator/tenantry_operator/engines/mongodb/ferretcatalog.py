"""What the PostgreSQL behind FerretDB says: a fixed number of queries, whatever the number of tenants.

FerretDB keeps each database as a schema of one PostgreSQL database, and passes logins on: they are roles.
Marks are the comments of schemas and roles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from tenantry_operator.engines.base import Desired, LoginState, Mark, Ownership, ServerReport
from tenantry_operator.engines.mongodb.view import Found, View
from tenantry_operator.engines.postgres import acl
from tenantry_operator.engines.postgres.catalog import MemberRow, RoleRow, ServerCatalog
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.tenants.naming import (
    MIGRATOR_SUFFIX,
    READ_ONLY_SUFFIX,
    connect_group_of,
    migrator_of,
    read_only_group_of,
)

METADATA = "_ferretdb_database_metadata"
"""The table of a schema in which FerretDB keeps what collections and indexes there are."""


@dataclass(frozen=True, slots=True)
class SchemaRow:
    """A schema of FerretDB's database."""

    name: str
    mark: str | None
    acl: Sequence[str] | None
    metadata: bool
    """FerretDB made its table in there: it is a database of FerretDB's."""
    metadata_acl: Sequence[str] | None
    writes: int


@dataclass(frozen=True, slots=True)
class Rights:
    """What the administrator may do in FerretDB's database."""

    superuser: bool
    create: bool
    let_in: bool


_SCHEMAS = """
SELECT n.nspname::text AS name,
       d.description AS mark,
       n.nspacl::text[] AS acl,
       m.oid IS NOT NULL AS metadata,
       m.relacl::text[] AS metadata_acl,
       coalesce(w.writes, 0)::bigint AS writes
FROM pg_catalog.pg_namespace n
LEFT JOIN pg_catalog.pg_description d
       ON d.objoid = n.oid AND d.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objsubid = 0
LEFT JOIN pg_catalog.pg_class m
       ON m.relnamespace = n.oid AND m.relname = '_ferretdb_database_metadata' AND m.relkind = 'r'
LEFT JOIN (SELECT s.schemaname, sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del) AS writes
           FROM pg_catalog.pg_stat_user_tables s
           WHERE %(names)s::text[] IS NULL OR s.schemaname = ANY (%(names)s::text[])
           GROUP BY s.schemaname) w
       ON w.schemaname = n.nspname
WHERE n.nspname NOT LIKE 'pg\\_%%' AND (%(names)s::text[] IS NULL OR n.nspname = ANY (%(names)s::text[]))
"""

_RIGHTS = """
SELECT r.rolsuper AS superuser,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS create,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CONNECT WITH GRANT OPTION') AS let_in
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user
"""


async def read_schemas(connection: Connection, names: Sequence[str] | None) -> dict[str, SchemaRow]:
    """The schemas of FerretDB's database.

    :param names: only these; None: all.
    """
    async with connection.cursor(row_factory=class_row(SchemaRow)) as cursor:
        parameters = {"names": None if names is None else list(names)}
        rows = await (await cursor.execute(_SCHEMAS, parameters)).fetchall()
    return {row.name: row for row in rows}


async def read_rights(connection: Connection) -> Rights:
    """What the administrator may do in FerretDB's database."""
    async with connection.cursor(row_factory=class_row(Rights)) as cursor:
        row = await (await cursor.execute(_RIGHTS)).fetchone()
    if row is None:
        raise LookupError("the administrator's role is not in pg_roles")
    return row


@dataclass(frozen=True, slots=True)
class Group:
    """The roles of a tenant database that carry rights, and where it is."""

    owner: str
    read_only: str
    connect: str
    migrator: str

    @classmethod
    def of(cls, desired: Desired, database: str) -> Group:
        """:param database: PostgreSQL's, which FerretDB keeps all in."""
        owner = desired.names.owner
        return cls(owner, read_only_group_of(owner), connect_group_of(database), migrator_of(owner))


def login_settings(desired: Desired, role: str) -> dict[str, str]:
    """What a login's sessions begin with.

    They act as ``role``, so that what one login makes is the next one's, too.
    """
    settings = {"role": role}
    if desired.limits.statement_timeout_ms is not None:
        settings["statement_timeout"] = f"{desired.limits.statement_timeout_ms}ms"
    return settings


@dataclass(frozen=True, slots=True)
class FerretCatalog:
    """A snapshot of the PostgreSQL behind FerretDB."""

    report: ServerReport
    installation: str
    server: str
    database: str
    """PostgreSQL's."""
    roles: ServerCatalog
    schemas: Mapping[str, SchemaRow]
    sizes: Mapping[str, int]

    def find(self, desired: Desired) -> Found:
        """What it says of one tenant database."""
        names = desired.names
        group = Group.of(desired, self.database)
        schema = self.schemas.get(names.database)
        roles = [
            self.roles.roles[name]
            for name in (group.owner, group.read_only, group.migrator, *names.logins)
            if name in self.roles.roles
        ]
        claims = [(f"role {role.name} on the PostgreSQL behind {self.server}", role.mark) for role in roles]
        if schema is not None:
            claims.append((f"database {schema.name} on {self.server}", schema.mark))
        for words, comment in claims:
            ownership = _ownership(desired.mark, Mark.decode(comment))
            if ownership is not Ownership.OURS:
                return Found(ownership, words)
        mark = Mark.decode(schema.mark) if schema is not None else None
        view = self._view(desired, group, schema)
        return Found(
            ownership=Ownership.OURS if roles or schema is not None else Ownership.FREE,
            view=view,
            mark=mark,
            bytes=self.sizes.get(names.database),
            writes=schema.writes if schema is not None else None,
        )

    def _view(self, desired: Desired, group: Group, schema: SchemaRow | None) -> View:
        names = desired.names
        owner = self.roles.roles.get(group.owner)
        built = Mark.decode(owner.mark) if owner is not None else None
        data = schema is not None and schema.metadata and schema.metadata_acl is not None and owner is not None
        logins = {}
        for name in names.logins:
            role = self.roles.roles.get(name)
            if role is not None:
                mark = Mark.decode(role.mark)
                logins[name] = LoginState(name, role.login, role.sessions, mark.fingerprint if mark else None)
        read_only = self.is_read_only(group, names.logins)
        findings: list[str] = []
        beyond: list[str] = []
        if data and schema is not None:
            for name in logins:
                acts_as = group.read_only if read_only else group.owner
                findings += self._login(desired, group, self.roles.roles[name], acts_as)
            findings += self._carriers(group)
            for member in self.strays(desired, group, read_only=read_only):
                target = findings if member.grantor == self.roles.facts.admin else beyond
                target.append(f"role {member.member}: is a member of {member.role}")
            findings += self._lists(group, schema)
            for name in (group.owner, group.read_only, *logins):
                if name in self.roles.roles and self.roles.roles[name].privileged:
                    beyond.append(f"role {name}: has rights over the server")
        return View(
            where=f"database {names.database} on {self.server}",
            data=data,
            there=schema is not None,
            begun=schema is not None or owner is not None or bool(logins),
            lost=schema is None and built is not None and built.built,
            read_only=read_only,
            logins=logins,
            findings=tuple(findings),
            beyond=tuple(beyond),
        )

    def is_read_only(self, group: Group, logins: Sequence[str]) -> bool:
        """Whether the logins may read and delete only."""
        found = [self.roles.roles[name] for name in logins if name in self.roles.roles]
        return bool(found) and all(f"role={group.read_only}" in (role.config or ()) for role in found)

    def _login(self, desired: Desired, group: Group, role: RoleRow, acts_as: str) -> Iterator[str]:
        limit = -1 if desired.limits.connections is None else desired.limits.connections
        if role.connections != limit:
            yield f"login {role.name}: CONNECTION LIMIT {role.connections}"
        wanted = login_settings(desired, acts_as)
        found = dict(entry.split("=", 1) for entry in role.config or ())
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                yield f"login {role.name}: {name} is {found.get(name, 'not set')}"
        if role.expires:
            yield f"login {role.name}: expires"
        for wanted_role, inherit, may_set in ((group.connect, True, False), (acts_as, False, True)):
            if not self._is_member(role.name, wanted_role, inherit, may_set):
                yield f"login {role.name}: is no member of {wanted_role}"

    def _carriers(self, group: Group) -> Iterator[str]:
        for name in (group.owner, group.read_only):
            role = self.roles.roles.get(name)
            if role is None:
                yield f"role {name}: is gone"
                continue
            if role.login:
                yield f"role {name}: can log in"
            if not self._is_member(name, group.connect, inherit=True, may_set=False):
                yield f"role {name}: is no member of {group.connect}"
        if group.migrator in self.roles.roles and not self.roles.roles[group.migrator].sessions:
            yield f"login {group.migrator}: was left"

    def _is_member(self, member: str, role: str, inherit: bool, may_set: bool) -> bool:
        return any(
            (row.role, row.inherit, row.set) == (role, inherit, may_set)
            for row in self.roles.memberships.get(member, ())
        )

    def strays(self, desired: Desired, group: Group, *, read_only: bool) -> list[MemberRow]:
        """Memberships that nobody should have: of the tenant's roles, and in them."""
        acts_as = group.read_only if read_only else group.owner
        wanted = {
            *((name, role) for name in desired.names.logins for role in (group.connect, acts_as)),
            *((name, group.connect) for name in (group.owner, group.read_only)),
            *((group.migrator, role) for role in (group.connect, group.owner)),
        }
        own = (group.owner, group.read_only, *desired.names.logins)
        rows = [row for name in own for row in self.roles.memberships.get(name, ())]
        rows += [row for name in own for row in self.roles.members.get(name, ())]
        known: list[MemberRow] = []
        for row in rows:
            if (row.member, row.role) not in wanted and row.member != self.roles.facts.admin and row not in known:
                known.append(row)
        return known

    def _lists(self, group: Group, schema: SchemaRow) -> Iterator[str]:
        for what, found, wanted in (
            (f"database {schema.name}", schema.acl, self.schema_rights(group)),
            (f"the metadata of database {schema.name}", schema.metadata_acl, metadata_rights(group)),
        ):
            rights = acl.rights(found)
            rights.pop(self.roles.facts.admin, None)
            for grantee in sorted(rights.keys() | wanted.keys()):
                has, should = "".join(sorted(rights.get(grantee, ()))), "".join(sorted(wanted.get(grantee, "")))
                if has != should:
                    yield f"{what}: {grantee or 'PUBLIC'} has the rights {has or 'none'}"

    @staticmethod
    def schema_rights(group: Group) -> dict[str, str]:
        """The rights on a schema by role, in the letters of access lists."""
        return {group.owner: "UC", group.read_only: "U", group.connect: "U"}

    def marks(self) -> list[tuple[str, Mark]]:
        """Databases and the marks of all that was made for them."""
        found = []
        for schema in self.schemas.values():
            mark = Mark.decode(schema.mark)
            if mark is not None and mark.installation == self.installation:
                found.append((schema.name, mark))
        for role in self.roles.roles.values():
            mark = Mark.decode(role.mark)
            if mark is None or mark.installation != self.installation or not mark.database:
                continue
            # Owners are called like their databases; logins have fingerprints.
            if mark.fingerprint is None and not role.name.endswith((READ_ONLY_SUFFIX, MIGRATOR_SUFFIX)):
                found.append((role.name, mark))
        return found


def metadata_rights(group: Group) -> dict[str, str]:
    """The rights on FerretDB's table of a schema.

    All tenants may read all of them: FerretDB reads them once, as whoever comes first after it started.
    """
    return {group.owner: "arwd", group.read_only: "rd", group.connect: "r"}


def _ownership(own: Mark, mark: Mark | None) -> Ownership:
    if mark is None or mark.installation != own.installation:
        return Ownership.STRANGER
    return Ownership.OURS if mark.same_owner(own) else Ownership.OTHER_TENANT
