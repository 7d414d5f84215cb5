"""Putting drift right: attributes, memberships and grants, as they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from psycopg import sql

from tenantry_operator.engines.base import Desired, Isolation
from tenantry_operator.engines.postgres import acl, expected, logins, provision
from tenantry_operator.engines.postgres.catalog import (
    DatabaseRow,
    Facts,
    MemberRow,
    RoleRow,
    ServerCatalog,
    observe_server,
)
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.grants import read_owned, render_grants
from tenantry_operator.engines.postgres.inside import observe_defaults, observe_shared
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.shared import (
    PUBLIC_SCHEMA,
    SharedDatabase,
    render_close_public,
    render_open_shared,
)
from tenantry_operator.engines.postgres.statements import (
    Script,
    render_as_admin,
    render_as_steward,
    render_create_role,
    render_settings,
)
from tenantry_operator.tenants.naming import connect_group_of, group_of, read_only_group_of


async def mend_roles(
    connection: Connection, installation: Installation, desired: Desired, own_roles: frozenset[str]
) -> Script:
    """The script that puts a tenant's roles and their memberships right."""
    names, group = desired.names, group_of(desired.names.owner)
    shared = desired.isolation is Isolation.ROW
    fixed = () if shared else (names.owner, group)
    roles = (*fixed, *names.logins)
    catalog = await observe_server(connection, sorted(own_roles), roles=roles, members=roles, databases=())
    script = render_as_steward(installation.steward(names.login_a if shared else names.owner))
    for name in fixed:
        if name not in catalog.roles:
            script.add(render_create_role(name, desired.mark))
        elif catalog.roles[name].login:
            script.format("ALTER ROLE {name} NOLOGIN", name=sql.Identifier(name))
    present = [login for login in names.logins if login in catalog.roles]
    for login in present:
        script.add(_render_login(desired, catalog.roles[login], catalog.facts))
    connect = None if names.schema is None else connect_group_of(names.database)
    read_only = read_only_group_of(names.owner)
    if shared and any(row.role == read_only for login in present for row in catalog.memberships.get(login, ())):
        group = read_only
    wanted = expected.memberships(desired, group, connect, present)
    script.add(_render_memberships(catalog, roles, wanted, own_roles))
    return script


def _render_login(desired: Desired, role: RoleRow, facts: Facts) -> Script:
    script = Script().format(
        "ALTER ROLE {login} INHERIT CONNECTION LIMIT {limit}",
        login=sql.Identifier(role.name),
        limit=sql.Literal(logins.connection_limit(desired)),
    )
    if role.expires:
        script.format("ALTER ROLE {login} VALID UNTIL 'infinity'", login=sql.Identifier(role.name))
    wanted = logins.settings(desired, temp_file_limit=facts.temp_file_limit)
    found = logins.observed(role.config)
    for name in found.keys() - wanted.keys():
        script.format(
            "ALTER ROLE {login} RESET {name}", login=sql.Identifier(role.name), name=sql.Identifier(name)
        )
    return script.add(
        render_settings(role.name, {name: value for name, value in wanted.items() if found.get(name) != value})
    )


def _render_memberships(
    catalog: ServerCatalog,
    roles: Iterable[str],
    wanted: Mapping[tuple[str, str], bool],
    own_roles: frozenset[str],
) -> Script:
    script = Script()
    rows: set[MemberRow] = set()
    for role in roles:
        rows.update(catalog.members.get(role, ()), catalog.memberships.get(role, ()))
    right = set()
    for row in sorted(rows, key=lambda row: (row.role, row.member, row.grantor)):
        key = (row.role, row.member)
        if key in wanted and row.inherit and row.set == wanted[key] and not row.admin:
            right.add(key)
        elif row.grantor in own_roles:
            script.format(
                "REVOKE {role} FROM {member} GRANTED BY {grantor} CASCADE",
                role=sql.Identifier(row.role),
                member=sql.Identifier(row.member),
                grantor=sql.Identifier(row.grantor),
            )
    for (group, member), settable in wanted.items():
        if (group, member) not in right:
            script.format(
                "GRANT {group} TO {member} WITH INHERIT TRUE, SET {set}",
                group=sql.Identifier(group),
                member=sql.Identifier(member),
                set=sql.SQL("TRUE" if settable else "FALSE"),
            )
    return script


def mend_database(installation: Installation, desired: Desired, facts: Facts, database: DatabaseRow) -> Script:
    """The script that puts a database's access list right. A shared one is mended from inside."""
    names = desired.names
    own = {database.owner, facts.admin}
    if names.schema is None:
        own.add(group_of(names.owner))
    else:
        own.add(connect_group_of(names.database))
    script = Script()
    if names.schema is None:
        script.add(render_as_steward(installation.steward(names.owner), names.owner))
    for grantee in sorted(acl.rights(database.acl).keys() - own - {acl.PUBLIC}):
        script.format(
            "REVOKE ALL ON DATABASE {name} FROM {grantee} CASCADE",
            name=sql.Identifier(names.database),
            grantee=sql.Identifier(grantee),
        )
    if names.schema is None:
        script.add(provision.render_database_rights(desired, facts))
        return script.add(render_as_admin(names.owner))
    script.add(render_open_shared(SharedDatabase(installation, names.database, desired.blueprint)))
    return script.add(render_close_public())


async def mend_grants(
    connection: Connection, installation: Installation, desired: Desired, *, read_only: bool
) -> Script:
    """The script that puts the grants inside a tenant's schema or database right.

    Also refuses and allows writing: the group's settings say which of the two it is.
    """
    names, group = desired.names, group_of(desired.names.owner)
    schemas = None if names.schema is None else [names.schema]
    found = await observe_shared(connection, installation.id, schemas=schemas)
    defaults = await observe_defaults(connection, [names.owner])
    script = provision.render_registration(desired)
    script.add(render_as_steward(installation.steward(names.owner), names.owner))
    for schema in found.schemas.values():
        if schema.owner == names.owner or (names.schema is None and schema.name == PUBLIC_SCHEMA):
            objects = await read_owned(connection, schema.name, names.owner)
            known = replace(schema, defaults=defaults.get(names.owner, {}))
            script.add(render_grants(known, objects, names.owner, group, read_only=read_only))
    if read_only:
        script.format(
            "ALTER ROLE {group} SET {flag} = on",
            group=sql.Identifier(group),
            flag=sql.Identifier(logins.READ_ONLY_FLAG),
        )
    else:
        script.format(
            "ALTER ROLE {group} RESET {flag}",
            group=sql.Identifier(group),
            flag=sql.Identifier(logins.READ_ONLY_FLAG),
        )
    return script.add(render_as_admin(names.owner))


async def read_only_of(connection: Connection, group: str) -> bool:
    """Whether a group's settings say that writes are refused."""
    cursor = await connection.execute(
        "SELECT s.setconfig FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole "
        "WHERE r.rolname = %s AND s.setdatabase = 0",
        (group,),
    )
    row = await cursor.fetchone()
    config: Sequence[str] | None = row[0] if row is not None else None
    return logins.read_only(config)
