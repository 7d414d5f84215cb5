"""SQL for the PostgreSQL behind FerretDB. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from psycopg import sql

from tenantry_operator.engines.base import Desired, Mark
from tenantry_operator.engines.mongodb.ferretcatalog import (
    METADATA,
    FerretCatalog,
    Group,
    SchemaRow,
    login_settings,
    metadata_rights,
)
from tenantry_operator.engines.postgres import acl
from tenantry_operator.engines.postgres.scram import StoredCredentials
from tenantry_operator.engines.postgres.statements import Rendered, Script, render_create_role, render_mark
from tenantry_operator.engines.postgres.unfinished import TABLE as UNFINISHED

_RIGHTS = {
    "U": b"USAGE",
    "C": b"CREATE",
    "a": b"INSERT",
    "r": b"SELECT",
    "w": b"UPDATE",
    "d": b"DELETE",
}

_LEDGER = """
CREATE TABLE tenantry.ledger (
  position bigint GENERATED ALWAYS AS IDENTITY,
  schema name NOT NULL,
  blueprint text NOT NULL,
  version text NOT NULL,
  migration text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
  PRIMARY KEY (schema, version, migration)
)
"""


def identifier(name: str) -> sql.Identifier:
    """A name, quoted."""
    return sql.Identifier(name)


_id = identifier


def render_prepare(database: str, connect: str, mark: Mark, *, group: bool, tables: bool) -> Script:
    """What all tenants share: the role that may connect, and the operator's schema.

    :param group: make the role, which is not there.
    :param tables: make the schema, which is not there.
    """
    script = Script()
    if group:
        script.add(render_create_role(connect, mark))
    script.format(
        "GRANT CONNECT ON DATABASE {database} TO {connect}",
        database=sql.Identifier(database),
        connect=sql.Identifier(connect),
    )
    if tables:
        script.format("CREATE SCHEMA tenantry").add(
            render_mark("SCHEMA", "tenantry", mark), Rendered(_LEDGER.encode()), Rendered(UNFINISHED.encode())
        )
    return script


def render_create(desired: Desired, group: Group, missing: Collection[str], *, schema: bool, own: bool) -> Script:
    """The marked roles that carry rights, and the marked, empty schema. Fails when a name is taken.

    :param missing: the roles that are not there.
    :param schema: make the schema, which is not there.
    :param own: the administrator needs the owner's rights for what it sets in its name.
    """
    name, owner = sql.Identifier(desired.names.database), sql.Identifier(group.owner)
    script = Script()
    for role in (group.owner, group.read_only):
        if role in missing:
            script.add(render_create_role(role, desired.mark))
        script.add(render_member(role, group.connect, inherit=True))
    if own:
        script.add(render_borrow(group.owner))
    script.format(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, DELETE ON TABLES TO {read_only}",
        owner=owner,
        read_only=sql.Identifier(group.read_only),
    )
    if own:
        script.add(render_return(group.owner))
    if schema:
        script.add(render_forget(desired.names.database))
        script.format("CREATE SCHEMA {name}", name=name).add(
            render_mark("SCHEMA", desired.names.database, desired.mark),
            render_mark("ROLE", group.owner, desired.mark),
        )
    return script.add(_render_grants("SCHEMA", name, FerretCatalog.schema_rights(group)))


def render_open(desired: Desired, group: Group) -> Script:
    """Rights on FerretDB's table of a schema: with them the database is there."""
    return Script().add(_render_grants("TABLE", _metadata(desired), metadata_rights(group)))


def render_close(desired: Desired, group: Group) -> Script:
    """Takes away from other tenants what :func:`render_open` gave to them."""
    return Script().format(
        "REVOKE ALL ON TABLE {name} FROM {connect}", name=_metadata(desired), connect=_id(group.connect)
    )


def _metadata(desired: Desired) -> sql.Identifier:
    return sql.Identifier(desired.names.database, METADATA)


def _render_grants(kind: str, name: sql.Identifier, rights: Mapping[str, str]) -> Script:
    script = Script()
    for role, letters in rights.items():
        words = b", ".join(_RIGHTS[letter] for letter in letters)
        script.format(
            "GRANT {words} ON {kind} {name} TO {role}",
            words=Rendered(words),
            kind=Rendered(kind.encode()),
            name=name,
            role=sql.Identifier(role),
        )
    return script


def render_member(member: str, role: str, *, inherit: bool) -> Script:
    """Makes a role a member of another: it has its rights, or may take its place."""
    words = "INHERIT TRUE, SET FALSE" if inherit else "INHERIT FALSE, SET TRUE"
    return Script().format(
        "GRANT {role} TO {member} WITH {words}",
        role=sql.Identifier(role),
        member=sql.Identifier(member),
        words=Rendered(words.encode()),
    )


def render_borrow(role: str) -> Script:
    """The administrator has the rights of a tenant's role, until :func:`render_return`."""
    return Script().format("GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", role=_id(role))


def render_return(role: str) -> Script:
    """The administrator has them no longer."""
    return Script().format("REVOKE {role} FROM CURRENT_USER GRANTED BY CURRENT_USER", role=_id(role))


def render_login(
    desired: Desired, group: Group, credentials: StoredCredentials, *, role: str, settings: Mapping[str, str]
) -> Script:
    """A marked login that acts as ``role``. Fails when the name is taken."""
    limit = -1 if desired.limits.connections is None else desired.limits.connections
    script = Script().format(
        "CREATE ROLE {name} LOGIN PASSWORD {verifier} CONNECTION LIMIT {limit}",
        name=_id(credentials.login),
        verifier=sql.Literal(credentials.verifier),
        limit=sql.Literal(limit),
    )
    script.add(render_login_mark(desired, credentials))
    script.add(render_member(credentials.login, group.connect, inherit=True))
    script.add(render_member(credentials.login, role, inherit=False))
    return script.add(render_settings(credentials.login, settings))


def render_login_mark(desired: Desired, credentials: StoredCredentials) -> sql.Composed:
    """The mark of a login, with its password's fingerprint."""
    return render_mark("ROLE", credentials.login, replace(desired.mark, fingerprint=credentials.fingerprint))


def render_settings(login: str, settings: Mapping[str, str]) -> Script:
    """What a login's sessions begin with, and nothing else."""
    script = Script().format("ALTER ROLE {login} RESET ALL", login=_id(login))
    for name, value in settings.items():
        script.format(
            "ALTER ROLE {login} SET {name} = {value}", login=_id(login), name=_id(name), value=sql.Literal(value)
        )
    return script


def render_password(desired: Desired, credentials: StoredCredentials) -> Script:
    """Sets a password. Only the verifier reaches the server."""
    script = Script().format(
        "ALTER ROLE {name} PASSWORD {verifier}",
        name=_id(credentials.login),
        verifier=sql.Literal(credentials.verifier),
    )
    return script.add(render_login_mark(desired, credentials))


def render_can_login(names: Collection[str], *, allowed: bool) -> Script:
    """Lets logins in, or refuses them; who is in already stays in."""
    script = Script()
    word = Rendered(b"LOGIN" if allowed else b"NOLOGIN")
    for name in names:
        script.format("ALTER ROLE {name} {word}", name=_id(name), word=word)
    return script


def render_act_as(desired: Desired, group: Group, logins: Collection[str], *, read_only: bool) -> Script:
    """Has logins act as the owner, or as the role that reads and deletes only; in new sessions."""
    role, other = (group.read_only, group.owner) if read_only else (group.owner, group.read_only)
    script = Script()
    for login in logins:
        script.add(render_member(login, role, inherit=False))
        script.format("REVOKE {other} FROM {login}", other=_id(other), login=_id(login))
        script.add(render_settings(login, login_settings(desired, role)))
    return script


def render_mend(
    desired: Desired, group: Group, catalog: FerretCatalog, schema: SchemaRow, *, read_only: bool, own: bool
) -> Script:
    """Gives a tenant's objects the rights and limits they should have."""
    roles = catalog.roles.roles
    missing = [name for name in (group.owner, group.read_only) if name not in roles]
    script = Script()
    admin = catalog.roles.facts.admin
    for row in catalog.strays(desired, group, read_only=read_only):
        if row.grantor == admin:
            script.format("REVOKE {role} FROM {member}", role=_id(row.role), member=_id(row.member))
    script.add(render_create(desired, group, missing, schema=False, own=own))
    script.add(render_can_login([name for name in (group.owner, group.read_only) if name in roles], allowed=False))
    logins = [name for name in desired.names.logins if name in roles]
    for login in logins:
        limit = -1 if desired.limits.connections is None else desired.limits.connections
        script.format("ALTER ROLE {login} CONNECTION LIMIT {limit}", login=_id(login), limit=sql.Literal(limit))
        if roles[login].expires:
            script.format("ALTER ROLE {login} VALID UNTIL 'infinity'", login=_id(login))
        script.add(render_member(login, group.connect, inherit=True))
    script.add(render_act_as(desired, group, logins, read_only=read_only))
    for kind, name, found, wanted in (
        ("SCHEMA", _id(schema.name), schema.acl, FerretCatalog.schema_rights(group)),
        ("TABLE", _metadata(desired), schema.metadata_acl, metadata_rights(group)),
    ):
        for grantee in acl.rights(found):
            if grantee != admin:
                script.format(
                    "REVOKE ALL ON {kind} {name} FROM {grantee}",
                    kind=Rendered(kind.encode()),
                    name=name,
                    grantee=_id(grantee) if grantee else Rendered(b"PUBLIC"),
                )
        script.add(_render_grants(kind, name, wanted))
    return script


def render_retire(login: str, heir: str, *, own: bool) -> Script:
    """Drops a login; what it made goes to its heir."""
    script = Script()
    if own:
        script.add(render_borrow(login), render_borrow(heir))
    script.format(
        "REASSIGN OWNED BY {login} TO {heir};\nDROP OWNED BY {login};\nDROP ROLE {login}",
        login=_id(login),
        heir=_id(heir),
    )
    return script.add(render_return(heir)) if own else script


def render_drop(desired: Desired, roles: Collection[str], *, own: bool) -> Script:
    """Drops what is left of a tenant: its lines, and its roles with all they own."""
    script = render_forget(desired.names.database)
    for role in roles:
        if own:
            script.add(render_borrow(role))
        script.format("DROP OWNED BY {role} CASCADE", role=_id(role))
    for role in roles:
        script.format("DROP ROLE {role}", role=_id(role))
    return script


def render_forget(schema: str) -> Script:
    """Nothing was applied to a schema that is made anew, or gone."""
    return Script().format(
        "DELETE FROM tenantry.ledger WHERE schema = {schema};\n"
        "DELETE FROM tenantry.unfinished WHERE schema = {schema}",
        schema=sql.Literal(schema),
    )


def render_marks(desired: Desired, group: Group, mark: Mark) -> Script:
    """The version of the data, on the data and, for when that is lost, on its owner."""
    return Script().add(
        render_mark("SCHEMA", desired.names.database, mark), render_mark("ROLE", group.owner, mark)
    )
