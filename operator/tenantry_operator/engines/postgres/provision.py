"""The scripts that make a tenant's objects, each one transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration
from tenantry_operator.engines.path import first_stretch
from tenantry_operator.engines.postgres import logins
from tenantry_operator.engines.postgres.catalog import Facts
from tenantry_operator.engines.postgres.installation import Installation, render_delegated
from tenantry_operator.engines.postgres.migrations import render_ledger, render_pace, render_run
from tenantry_operator.engines.postgres.scram import StoredCredentials
from tenantry_operator.engines.postgres.shared import PUBLIC_SCHEMA, render_close_public, render_prepare
from tenantry_operator.engines.postgres.statements import (
    Script,
    render_as_admin,
    render_as_steward,
    render_create_login,
    render_default_privileges,
    render_give_up,
    render_mark,
    render_membership,
)
from tenantry_operator.tenants.naming import connect_group_of, group_of

_TEMPORARY = re.compile(r"\btemp(orary)?\b", re.IGNORECASE)


def data_schema(desired: Desired) -> str:
    """The schema that the tenant's tables are in."""
    return desired.names.schema or PUBLIC_SCHEMA


def versioned(mark: Mark, chain: Chain | None) -> Mark:
    """The mark of what holds the data, with the version it is at."""
    return mark if chain is None else replace(mark, version=chain.version, digest=chain.digest)


def on_the_way(mark: Mark, installed: Chain | None, chain: Chain) -> Mark:
    """The mark of data between two versions, or on its way to its first one."""
    return replace(versioned(mark, installed), target=chain.version)


def first_mark(mark: Mark, chain: Chain | None) -> Mark:
    """The mark of data that was just made: at its version, unless there is more to be run."""
    if chain is not None and len(first_stretch(chain)) < len(chain.migrations):
        return on_the_way(mark, None, chain)
    return versioned(mark, chain)


def render_roles(
    desired: Desired,
    facts: Facts,
    missing: frozenset[str],
    credentials: StoredCredentials | None,
    *,
    owner_mark: Mark | None = None,
) -> Script:
    """Those of a tenant's roles that are missing. For a steward.

    :param owner_mark: on the owner role; with a version once the data is there: that it was there is known
        by it afterwards.
    """
    names, group = desired.names, group_of(desired.names.owner)
    script, marks = Script(), Script()
    # All are made first, and marked then: who may mark them is worked out anew after each that is made.
    for role, mark in ((names.owner, owner_mark or desired.mark), (group, desired.mark)):
        if role in missing:
            script.format("CREATE ROLE {role} NOLOGIN", role=sql.Identifier(role))
        if role in missing or (role == names.owner and owner_mark is not None):
            marks.add(render_mark("ROLE", role, mark))
    if credentials is not None and credentials.login in missing:
        script.add(render_login(desired, facts, credentials))
    return script.add(marks)


def render_login(desired: Desired, facts: Facts, credentials: StoredCredentials) -> Script:
    """A login with its attributes and settings. For a steward."""
    settings = logins.settings(desired, temp_file_limit=facts.temp_file_limit)
    return render_create_login(credentials, desired.mark, desired.limits.connections, settings)


def render_login_memberships(desired: Desired, group: str, login: str) -> Script:
    """What makes a login the tenant's. For a steward that inherits from the owner."""
    script = Script().add(render_membership(group, login))
    if desired.ddl:
        script.format(
            "GRANT {owner} TO {login} WITH INHERIT TRUE, SET TRUE",
            owner=sql.Identifier(desired.names.owner),
            login=sql.Identifier(login),
        )
    return script


def render_registration(desired: Desired) -> Script:
    """Whose the two logins are, for ``tenantry.tenant_id()``. For the administrator."""
    return Script().format(
        "INSERT INTO tenantry.logins (login, tenant_id) VALUES ({a}, {tenant}), ({b}, {tenant})\n"
        "ON CONFLICT (login) DO UPDATE SET tenant_id = excluded.tenant_id",
        a=sql.Literal(desired.names.login_a),
        b=sql.Literal(desired.names.login_b),
        tenant=sql.Literal(desired.tenant_id),
    )


def render_forget_ledger(schema: str) -> Script:
    """Nothing was applied to a schema. For the administrator."""
    return Script().format("DELETE FROM tenantry.ledger WHERE schema = {schema}", schema=sql.Literal(schema))


def render_forget_members(groups: Sequence[str]) -> Script:
    """Nobody has rows in shared tables yet, whoever had some in tables that are gone. For the administrator."""
    return Script().format(
        "DELETE FROM tenantry.logins l USING pg_catalog.pg_roles r, pg_catalog.pg_auth_members m\n"
        "WHERE r.rolname = l.login AND m.member = r.oid AND m.roleid IN (\n"
        "  SELECT g.oid FROM pg_catalog.pg_roles g WHERE g.rolname = ANY ({groups}))",
        groups=sql.Literal(list(groups)),
    )


def render_acting(desired: Desired) -> Script:
    """Until :func:`render_acting_end`, the administrator acts for a tenant: ``tenantry.tenant_id()``."""
    return Script().format(
        "INSERT INTO tenantry.acting (tenant_id) VALUES ({tenant})", tenant=sql.Literal(desired.tenant_id)
    )


def render_acting_end() -> Script:
    """Nobody else is ever to see the line. For the administrator, or a steward."""
    return Script().format("DELETE FROM tenantry.acting")


def render_migrate(
    installation: Installation,
    desired: Desired,
    chain: Chain,
    pending: tuple[Migration, ...],
    mark: Mark,
    *,
    located: int | None = None,
) -> Script:
    """Runs migrations in a tenant's own schema or database. As administrator.

    :param mark: what is written on it at the end.
    """
    names = desired.names
    work = Script().format(
        "GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", owner=sql.Identifier(names.owner)
    )
    work.add(render_run(data_schema(desired), names.owner, pending, pace=desired.pace, located=located))
    if names.schema is None:
        work.add(render_mark("DATABASE", names.database, mark))
    else:
        work.add(render_mark("SCHEMA", names.schema, mark))
    work.add(render_acting_end(), render_give_up(names.owner))
    # The ledger first: what was meanwhile applied by somebody else is not applied again.
    script = render_pace(desired.pace)  # within a function, a new statement timeout comes too late
    script.add(render_ledger(data_schema(desired), chain, pending)).add(render_acting(desired))
    if names.schema is None:
        return script.add(render_as_steward(installation.steward(names.owner)), work)
    return script.add(render_delegated(installation, names.owner, work))


def render_create_schema(
    installation: Installation,
    desired: Desired,
    facts: Facts,
    missing: frozenset[str],
    credentials: StoredCredentials | None,
    *,
    located: int | None = None,
) -> Script:
    """Everything of a tenant under Schema isolation, from nothing: one transaction, one round trip."""
    names, chain = desired.names, desired.chain
    group, schema = group_of(names.owner), data_schema(desired)
    migrations = first_stretch(chain)
    mark = first_mark(desired.mark, desired.chain)
    created = credentials.login if credentials is not None and credentials.login in missing else None
    script = render_registration(desired)
    if names.owner not in missing:
        # Made anew after the data was lost: what was applied is gone with it.
        script.add(render_forget_ledger(schema))
    if chain is not None:
        script.add(render_ledger(schema, chain, migrations))
    if migrations:
        script.add(render_acting(desired))
    work = render_roles(desired, facts, missing, credentials, owner_mark=mark)
    work.format(
        "GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\n"
        "CREATE SCHEMA {schema} AUTHORIZATION {owner};\n"
        "GRANT USAGE ON SCHEMA {schema} TO {group}",
        schema=sql.Identifier(schema),
        owner=sql.Identifier(names.owner),
        group=sql.Identifier(group),
    )
    work.add(render_mark("SCHEMA", schema, mark), render_default_privileges(names.owner, group))
    if created is not None:
        work.add(render_login_memberships(desired, group, created))
    early = any(_TEMPORARY.search(migration.text) for migration in migrations)
    if early:
        work.add(_render_connect(desired))
    if migrations:
        work.add(render_run(schema, names.owner, migrations, located=located), render_acting_end())
    work.add(render_give_up(names.owner))
    if not early:
        work.add(_render_connect(desired))
    if desired.ddl:
        # The setting "role" of such a login is refused inside of a SECURITY DEFINER function.
        return script.add(render_as_steward(installation.steward(names.owner)), work)
    return script.add(render_delegated(installation, names.owner, work))


def _render_connect(desired: Desired) -> Script:
    """Lets a tenant's roles connect to the shared database, and make temporary tables there. For a steward.

    For the end of a transaction, if it can wait: a change of a role's members locks the role until the
    transaction ends, and this role is everybody's.
    """
    return Script().format(
        "GRANT {connect} TO {owner}, {group} WITH INHERIT TRUE, SET FALSE",
        connect=sql.Identifier(connect_group_of(desired.names.database)),
        owner=sql.Identifier(desired.names.owner),
        group=sql.Identifier(group_of(desired.names.owner)),
    )


def render_create_roles(
    installation: Installation,
    desired: Desired,
    facts: Facts,
    missing: frozenset[str],
    credentials: StoredCredentials | None,
) -> Script:
    """The roles of a tenant that gets a database of its own.

    The steward keeps the owner's rights until the database is built, and the administrator may act as
    owner until then, to give it the database.
    """
    names, group = desired.names, group_of(desired.names.owner)
    script = render_as_steward(installation.steward(names.owner))
    script.add(render_roles(desired, facts, missing, credentials))
    if credentials is not None and credentials.login in missing:
        script.add(render_login_memberships(desired, group, credentials.login))
    return script.format(
        "GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", owner=sql.Identifier(names.owner)
    )


def render_open_database(installation: Installation, desired: Desired, facts: Facts) -> Script:
    """Marks a tenant's new database, and lets its logins connect, and nobody else. May be repeated."""
    names = desired.names
    script = render_as_steward(installation.steward(names.owner), names.owner)
    script.add(render_database_rights(desired, facts), render_mark("DATABASE", names.database, desired.mark))
    return script.format("ALTER DATABASE {name} ALLOW_CONNECTIONS true", name=sql.Identifier(names.database))


def render_database_rights(desired: Desired, facts: Facts) -> Script:
    """Who may connect to a tenant's own database. For a steward with the owner's rights."""
    return Script().format(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
        "GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {group};\n"
        "GRANT CONNECT, CREATE ON DATABASE {name} TO {admin}",
        name=sql.Identifier(desired.names.database),
        group=sql.Identifier(group_of(desired.names.owner)),
        admin=sql.Identifier(facts.admin),
    )


def render_build_database(
    installation: Installation,
    desired: Desired,
    pending: tuple[Migration, ...],
    *,
    copied: Script | None = None,
    located: int | None = None,
) -> Script:
    """Everything inside a tenant's own database: one transaction in that database.

    :param pending: the migrations to run.
    :param copied: what gives the objects of a copy to the tenant; None: the database is empty.
    """
    names, chain = desired.names, desired.chain
    group = group_of(names.owner)
    mark = first_mark(desired.mark, chain)
    script = Script()
    if copied is None:
        script.add(render_prepare(installation))
    script.add(render_registration(desired), render_acting(desired))
    script.add(render_as_steward(installation.steward(names.owner), names.owner))
    script.add(render_close_public() if copied is None else copied)
    script.format(
        "GRANT USAGE ON SCHEMA public TO {group};\n"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {group}",
        owner=sql.Identifier(names.owner),
        group=sql.Identifier(group),
    )
    script.add(render_default_privileges(names.owner, group))
    script.add(render_run(PUBLIC_SCHEMA, names.owner, pending, located=located))
    script.add(render_mark("DATABASE", names.database, mark), render_mark("ROLE", names.owner, mark))
    script.add(render_as_admin(names.owner))
    if copied is not None:
        script.format("DROP TABLE tenantry.template;\nUPDATE tenantry.ledger SET applied_at = pg_catalog.now()")
    if chain is not None:
        script.add(render_ledger(PUBLIC_SCHEMA, chain, pending))
    return script.add(render_acting_end())


def render_drop_schema(installation: Installation, desired: Desired, roles: Sequence[str]) -> Script:
    """Drops a tenant's schema, its roles, and all they own in the shared database, large objects included.

    :param roles: those of the tenant's roles that exist.
    """
    names = desired.names
    script = render_forget_ledger(data_schema(desired)).format(
        "DELETE FROM tenantry.logins WHERE login IN ({a}, {b})",
        a=sql.Literal(names.login_a),
        b=sql.Literal(names.login_b),
    )
    script.add(render_as_steward(installation.steward(names.owner)))
    return script.add(_render_drop(sorted(roles, key=lambda role: role != names.owner)))


def _render_drop(roles: Sequence[str]) -> Script:
    """Drops roles with all they own in this database. For their steward.

    One after the other: DROP OWNED trips over default privileges when it drops both who gives them and who
    gets them.
    """
    script = Script()
    for role in roles:
        script.format(
            "GRANT {role} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\nDROP OWNED BY {role} CASCADE",
            role=sql.Identifier(role),
        )
    for role in roles:
        script.format("DROP ROLE {role}", role=sql.Identifier(role))
    return script


def render_drop_logins(desired: Desired, steward: str, names: Sequence[str]) -> Script:
    """Drops a tenant's logins under Row isolation, with what they own: large objects, for one."""
    script = Script().format(
        "DELETE FROM tenantry.logins WHERE login IN ({a}, {b})",
        a=sql.Literal(desired.names.login_a),
        b=sql.Literal(desired.names.login_b),
    )
    return script.add(render_as_steward(steward), _render_drop(names))
