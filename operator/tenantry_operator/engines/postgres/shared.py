"""Databases that tenants share, and the schema ``tenantry`` that every database of ours has."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.postgres.installation import Installation, render_delegates
from tenantry_operator.engines.postgres.statements import Script, render_create_role, render_mark
from tenantry_operator.tenants.naming import connect_group_of

PUBLIC_SCHEMA = "public"
"""Where the data is when a tenant has the whole database."""


@dataclass(frozen=True, slots=True)
class SharedDatabase:
    """A database that tenants of one blueprint share."""

    installation: Installation
    name: str
    blueprint: str

    @property
    def mark(self) -> Mark:
        """The mark of what belongs to no single tenant of the blueprint."""
        return replace(self.installation.mark, blueprint=self.blueprint)

    @property
    def connect_group(self) -> str:
        """The role whose members may connect."""
        return connect_group_of(self.name)


def render_connect_group(database: SharedDatabase) -> Script:
    """The group that may connect. Stewards add to it, as the keeper administers it."""
    return (
        Script()
        .add(render_create_role(database.connect_group, database.mark))
        .format(
            "GRANT {group} TO {keeper} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
            group=sql.Identifier(database.connect_group),
            keeper=sql.Identifier(database.installation.keeper),
        )
    )


def render_create_database(name: str, owner: str, template: str | None = None) -> bytes:
    """An empty database, or a copy, that nobody can connect to yet. Not for a transaction.

    From template0: nobody can be connected to it, so that no creation stands in another's way.

    :param template: what to copy; nobody can be connected to it either.
    """
    return (
        sql.SQL("CREATE DATABASE {name} OWNER {owner} TEMPLATE {template} ALLOW_CONNECTIONS false")
        .format(
            name=sql.Identifier(name),
            owner=sql.Identifier(owner),
            template=sql.Identifier(template or "template0"),
        )
        .as_bytes(None)
    )


def render_open_shared(database: SharedDatabase) -> Script:
    """Marks a shared database, and lets the group connect, and nobody else. May be repeated."""
    return (
        Script()
        .format(
            "REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
            "GRANT CONNECT, TEMPORARY ON DATABASE {name} TO {group};\n"
            "GRANT CONNECT ON DATABASE {name} TO CURRENT_USER",
            name=sql.Identifier(database.name),
            group=sql.Identifier(database.connect_group),
        )
        .add(render_mark("DATABASE", database.name, database.mark))
        .format("ALTER DATABASE {name} ALLOW_CONNECTIONS true", name=sql.Identifier(database.name))
    )


def render_close_public() -> Script:
    """Nobody but the database's owner uses the schema ``public``, unless it is granted. For the owner."""
    return Script().format("REVOKE ALL ON SCHEMA public FROM PUBLIC")


def render_prepare_shared(installation: Installation) -> Script:
    """Everything in a new shared database."""
    return render_close_public().add(render_prepare(installation), render_delegates(installation))


def render_prepare(installation: Installation) -> Script:
    """The schema ``tenantry``: ledger, logins, and the function that says whose session it is.

    The function is open to everybody and answers from the name of the session's login, which nothing that
    a session can SET changes. Its body was parsed when it was made, so that no search path reaches it. For
    the administrator, who logs in for all tenants, it says whom he acts for: a line in ``tenantry.acting``
    that his own transaction alone can see.
    """
    return Script().format(
        "CREATE SCHEMA tenantry;\n"
        "CREATE TABLE tenantry.ledger (\n"
        "  position bigint GENERATED ALWAYS AS IDENTITY,\n"
        "  schema name NOT NULL,\n"
        "  blueprint text NOT NULL,\n"
        "  version text NOT NULL,\n"
        "  migration text NOT NULL,\n"
        "  checksum text NOT NULL,\n"
        "  applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(),\n"
        "  PRIMARY KEY (schema, version, migration)\n"
        ");\n"
        "CREATE TABLE tenantry.logins (login name PRIMARY KEY, tenant_id text NOT NULL);\n"
        "CREATE TABLE tenantry.acting (tenant_id text NOT NULL);\n"
        "CREATE FUNCTION tenantry.tenant_id() RETURNS text\n"
        "LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER\n"
        "BEGIN ATOMIC\n"
        "  SELECT CASE WHEN session_user = current_user\n"
        "    THEN (SELECT a.tenant_id FROM tenantry.acting a LIMIT 1)\n"
        "    ELSE (SELECT l.tenant_id FROM tenantry.logins l WHERE l.login = session_user)\n"
        "  END;\n"
        "END;\n"
        "COMMENT ON FUNCTION tenantry.tenant_id() IS 'The tenant that this session belongs to';\n"
        "REVOKE ALL ON FUNCTION tenantry.tenant_id() FROM PUBLIC;\n"
        "GRANT EXECUTE ON FUNCTION tenantry.tenant_id() TO PUBLIC;\n"
        "GRANT USAGE ON SCHEMA tenantry TO PUBLIC;\n"
        "GRANT DELETE ON tenantry.acting TO {keeper}",
        keeper=sql.Identifier(installation.keeper),
    )
