"""What everybody on a server still reaches, and what the administrator lacks, with the statements that help."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from tenantry_operator.engines.postgres import acl
from tenantry_operator.engines.postgres.catalog import DatabaseRow, Facts


def unhardened(facts: Facts, databases: Mapping[str, DatabaseRow], maintenance: str) -> tuple[str, ...]:
    """Statements for a superuser that close the databases which PUBLIC may connect to.

    An access list that was never changed (NULL) gives PUBLIC the rights CONNECT and TEMPORARY.

    :param maintenance: the database that the administrator connects to, and needs the right for.
    """
    statements = []
    for database in sorted(databases.values(), key=lambda row: row.name):
        public = acl.rights(database.acl).get(acl.PUBLIC, ()) if database.acl is not None else "c"
        if not database.open or "c" not in public:
            continue
        name = sql.Identifier(database.name)
        if database.name == maintenance:
            grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(facts.admin))
            statements.append(grant.as_string(None))
        revoke = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name)
        statements.append(revoke.as_string(None))
    return tuple(statements)


def missing(facts: Facts) -> tuple[str, ...]:
    """What the administrator may not do, what that is for, and the statement that allows it."""
    admin = sql.Identifier(facts.admin)
    wanted = [
        (facts.create_role, "making logins", "ALTER ROLE {} CREATEROLE"),
        (facts.create_database, "making databases", "ALTER ROLE {} CREATEDB"),
        (facts.signal, "ending the sessions of suspended tenants", "GRANT pg_signal_backend TO {}"),
        (facts.statistics, "sizes and statistics", "GRANT pg_read_all_stats TO {}"),
        (
            facts.temp_file_limit,
            "limiting temporary files",
            "GRANT SET ON PARAMETER temp_file_limit TO {} WITH GRANT OPTION",
        ),
    ]
    return tuple(
        f"{what}: {sql.SQL(statement).format(admin).as_string(None)}" for has, what, statement in wanted if not has
    )


def missing_behind_ferretdb(facts: Facts, database: str, create: bool, let_in: bool) -> tuple[str, ...]:
    """What the administrator of the PostgreSQL behind FerretDB may not do, as :func:`missing` has it.

    :param create: it may make schemas in FerretDB's database.
    :param let_in: it may let others connect to that database.
    """
    admin, name = sql.Identifier(facts.admin), sql.Identifier(database)
    wanted = [
        (facts.create_role, "making logins", "ALTER ROLE {admin} CREATEROLE"),
        (create, "making databases", "GRANT CREATE ON DATABASE {name} TO {admin}"),
        (let_in, "letting tenants in", "GRANT CONNECT ON DATABASE {name} TO {admin} WITH GRANT OPTION"),
        (facts.signal, "ending the sessions of suspended tenants", "GRANT pg_signal_backend TO {admin}"),
        (facts.statistics, "sizes and statistics", "GRANT pg_read_all_stats TO {admin}"),
    ]
    return tuple(
        f"{what}: {sql.SQL(statement).format(admin=admin, name=name).as_string(None)}"
        for has, what, statement in wanted
        if not has
    )
