"""The administrator of a PostgreSQL that Tenantry runs, made by the image's superuser.

It may make databases and roles, end sessions and read statistics; it is no superuser. At the same time what PUBLIC
reaches by default is closed.
"""

from __future__ import annotations

from dataclasses import replace

import psycopg
from psycopg import sql

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.postgres.sqlstate import connect_error, describe
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.instances.manifests.postgres import SUPERUSER

_TIMEOUT = 5


async def make(access: Access, superuser_password: str, what: str) -> bool:
    """Makes the administrator, or mends it, when it cannot log in.

    :param access: the administrator's.
    :param what: the instance, in messages.
    :returns: whether anything was done.
    :raises Stalled: SuperuserRefused, when the superuser's password is not the server's.
    :raises Retryable: when the server cannot be reached.
    """
    if await _logs_in(access):
        return False
    superuser = replace(access, username=SUPERUSER, password=superuser_password)
    databases = ["template1", *([access.database] if access.database else []), "postgres"]
    try:
        for database in databases:
            async with await _connect(superuser, database) as connection, connection.transaction():
                await _close(connection, database)
                if database == "postgres":  # last: from then on it can log in, and nobody looks again
                    await _administer(connection, access)
    except psycopg.OperationalError as error:
        translated = connect_error(error, f"{access.host}:{access.port}", "postgres")
        if isinstance(translated, Stalled):
            raise Stalled(
                "SuperuserRefused",
                f"{what}: its PostgreSQL refuses the superuser's password in the Secret of the administrator: put "
                "back the one that it was made with",
            ) from None
        if isinstance(translated, ReconcileError):
            raise translated from None
        raise Retryable("ServerChanging", f"{what}: {translated}") from None
    except psycopg.Error as error:
        raise Retryable("AdminNotMade", f"{what}: its administrator was not made: {describe(error)}") from None
    return True


async def _logs_in(access: Access) -> bool:
    try:
        await (await _connect(access, "postgres")).close()
    except psycopg.OperationalError as error:
        translated = connect_error(error, f"{access.host}:{access.port}", "postgres")
        if isinstance(translated, Stalled):
            return False
        if isinstance(translated, ReconcileError):
            raise translated from None
        return False
    return True


async def _connect(access: Access, database: str) -> psycopg.AsyncConnection[tuple[object, ...]]:
    return await psycopg.AsyncConnection.connect(
        host=access.host,
        port=access.port,
        user=access.username,
        password=access.password,
        dbname=database,
        sslmode=access.sslmode,
        gssencmode="disable",
        connect_timeout=_TIMEOUT,
        application_name="tenantry",
        options="-c search_path=pg_catalog,pg_temp -c statement_timeout=30000",
    )


async def _close(connection: psycopg.AsyncConnection[tuple[object, ...]], database: str) -> None:
    name = sql.Identifier(database)
    await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")


async def _administer(connection: psycopg.AsyncConnection[tuple[object, ...]], access: Access) -> None:
    admin = sql.Identifier(access.username)
    found = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [access.username])
    if await found.fetchone() is None:
        await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(admin))
    # The verifier rather than the password: statements may end up in the server's log.
    verifier = connection.pgconn.encrypt_password(
        access.password.encode(), access.username.encode(), b"scram-sha-256"
    ).decode()
    statements = [
        sql.SQL(
            "ALTER ROLE {} LOGIN NOSUPERUSER CREATEDB CREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}"
        ).format(admin, sql.Literal(verifier)),
        sql.SQL("ALTER ROLE {} SET createrole_self_grant = 'set, inherit'").format(admin),
        sql.SQL("GRANT pg_signal_backend, pg_read_all_stats TO {}").format(admin),
        sql.SQL("GRANT SET ON PARAMETER temp_file_limit TO {} WITH GRANT OPTION").format(admin),
        sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(admin),
    ]
    if access.database:
        statements.append(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(access.database), admin))
    for statement in statements:
        await connection.execute(statement)
