"""The steps that distribute a tenant's schema over the nodes of Citus, and take it away from them."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from tenantry_operator.engines.base import Desired
from tenantry_operator.engines.postgres.citus import is_installed, run_on_nodes
from tenantry_operator.engines.postgres.connections import PROPAGATION, Connection
from tenantry_operator.engines.postgres.plan import PostgresStep
from tenantry_operator.engines.postgres.runner import Runner
from tenantry_operator.engines.postgres.scram import StoredCredentials
from tenantry_operator.engines.postgres.statements import APP_TABLES, Script, render_as_steward
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import group_of

_TAKEN = "tenantry: name taken"

# Only for the operator's own commands on a node: a node would send them on to all others.
_NOT_SENT_ON = sql.SQL("PERFORM pg_catalog.set_config({setting}, 'off', true)").format(
    setting=sql.Literal(PROPAGATION)
)


def render_sync(desired: Desired) -> str:
    """What makes a tenant's roles on a node, and lets the coordinator's sessions of them in. May be repeated.

    Both logins are made, used or not: a login that is exchanged needs no node. None has a password there, the
    owner neither: only the coordinator is let in without one. Whether a login works, and what it may do, is
    decided on the coordinator before a node hears of it. A role of the name with another comment is a
    stranger's, unless Citus has just made it: it copies comments with roles.
    """
    names, group = desired.names, group_of(desired.names.owner)
    mark = desired.mark
    body = sql.SQL(
        "DECLARE\n"
        "  tenantry_role text;\n"
        "  tenantry_comment text;\n"
        "BEGIN\n"
        "{local};\n"
        "FOREACH tenantry_role IN ARRAY {roles}::text[] LOOP\n"
        "  IF pg_catalog.to_regrole(pg_catalog.quote_ident(tenantry_role)) IS NULL THEN\n"
        "    EXECUTE pg_catalog.format('CREATE ROLE %I', tenantry_role);\n"
        "    EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', tenantry_role, {mark});\n"
        "  END IF;\n"
        "  tenantry_comment := pg_catalog.shobj_description(\n"
        "    pg_catalog.to_regrole(pg_catalog.quote_ident(tenantry_role)), 'pg_authid');\n"
        "  IF tenantry_comment IS NULL OR NOT pg_catalog.starts_with(tenantry_comment, '{{\"tenantry\":1,')\n"
        "     OR (tenantry_comment::jsonb)->>'installation' IS DISTINCT FROM {installation}\n"
        "     OR (tenantry_comment::jsonb)->>'tenant' IS DISTINCT FROM {tenant}\n"
        "     OR (tenantry_comment::jsonb)->>'database' IS DISTINCT FROM {database} THEN\n"
        "    RAISE EXCEPTION USING MESSAGE = {taken}, DETAIL = tenantry_role;\n"
        "  END IF;\n"
        "  IF tenantry_role <> {group} THEN\n"
        "    EXECUTE pg_catalog.format('ALTER ROLE %I LOGIN PASSWORD NULL', tenantry_role);\n"
        "  END IF;\n"
        "END LOOP;\n"
        "GRANT {group_name} TO {login_a}, {login_b} WITH INHERIT TRUE, SET FALSE;\n"
        "GRANT {owner} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\n"
        "IF EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner\n"
        "           WHERE n.nspname = {schema} AND r.rolname = {owner_name}) THEN\n"
        "  GRANT USAGE ON SCHEMA {schema_name} TO {group_name};\n"
        "  GRANT {tables} ON ALL TABLES IN SCHEMA {schema_name} TO {group_name};\n"
        "END IF;\n"
        "END"
    ).format(
        roles=sql.Literal([names.owner, group, *names.logins]),
        local=_NOT_SENT_ON,
        taken=sql.Literal(_TAKEN),
        tables=sql.SQL(APP_TABLES),
        mark=sql.Literal(mark.encode()),
        installation=sql.Literal(mark.installation),
        tenant=sql.Literal(mark.tenant),
        database=sql.Literal(mark.database),
        group=sql.Literal(group),
        group_name=sql.Identifier(group),
        login_a=sql.Identifier(names.login_a),
        login_b=sql.Identifier(names.login_b),
        owner=sql.Identifier(names.owner),
        owner_name=sql.Literal(names.owner),
        schema=sql.Literal(names.schema),
        schema_name=sql.Identifier(names.schema or ""),
    )
    return _do(body)


def render_forget(desired: Desired) -> str:
    """What drops a tenant's roles on a node, as far as they bear its mark. May be repeated."""
    names, mark = desired.names, desired.mark
    body = sql.SQL(
        "DECLARE\n"
        "  tenantry_role text;\n"
        "BEGIN\n"
        "{local};\n"
        "FOR tenantry_role IN\n"
        "  SELECT r.rolname FROM pg_catalog.pg_roles r\n"
        "  WHERE r.rolname = ANY ({roles}::name[])\n"
        "    AND pg_catalog.starts_with(pg_catalog.shobj_description(r.oid, 'pg_authid'), '{{\"tenantry\":1,')\n"
        "    AND (pg_catalog.shobj_description(r.oid, 'pg_authid')::jsonb)->>'installation' = {installation}\n"
        "    AND (pg_catalog.shobj_description(r.oid, 'pg_authid')::jsonb)->>'tenant' = {tenant}\n"
        "    AND (pg_catalog.shobj_description(r.oid, 'pg_authid')::jsonb)->>'database' = {database}\n"
        "LOOP\n"
        "  EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER WITH INHERIT TRUE, SET TRUE', tenantry_role);\n"
        "  EXECUTE pg_catalog.format('DROP OWNED BY %I CASCADE', tenantry_role);\n"
        "  EXECUTE pg_catalog.format('DROP ROLE %I', tenantry_role);\n"
        "END LOOP;\n"
        "END"
    ).format(
        local=_NOT_SENT_ON,
        roles=sql.Literal([names.owner, group_of(names.owner), *names.logins]),
        installation=sql.Literal(mark.installation),
        tenant=sql.Literal(mark.tenant),
        database=sql.Literal(mark.database),
    )
    return _do(body)


def _do(body: sql.Composable) -> str:
    return "DO " + sql.Literal(body.as_string(None)).as_string(None)


def _render_as_owner(steward: str, desired: Desired, admin: str, work: Script) -> Script:
    """The administrator does something with the owner's rights, and Citus sends it to the nodes."""
    owner, role = sql.Identifier(desired.names.owner), sql.Identifier(admin)
    script = render_as_steward(steward, desired.names.owner)
    script.format("GRANT {owner} TO {admin} WITH INHERIT TRUE, SET TRUE", owner=owner, admin=role)
    script.format("SET LOCAL ROLE NONE").add(_render_sent("on")).add(work).add(_render_sent("off"))
    script.add(render_as_steward(steward))
    return script.format(
        "REVOKE {owner} FROM {admin} GRANTED BY CURRENT_USER;\n"
        "REVOKE {owner} FROM CURRENT_USER GRANTED BY CURRENT_USER",
        owner=owner,
        admin=role,
    )


def _render_sent(value: LiteralString) -> sql.Composed:
    return sql.SQL("SET LOCAL {} = " + value).format(sql.SQL(PROPAGATION))


def render_distribute(steward: str, desired: Desired, admin: str) -> Script:
    """Has Citus move a schema's tables to a node of its choice. Does nothing to one that is distributed.

    Citus copies rows by inserting them, as whoever distributes, on the node. So what a tenant may have written
    is not evaluated on the way: with rows, there are no functions that inserting one would call. Citus allows
    triggers in distributed schemas, but not that there are some already while it makes one.
    """
    work = Script().format(
        "DO {check};\n"
        "SET LOCAL citus.enable_unsafe_triggers = on;\n"
        "SELECT citus_schema_distribute({schema}::pg_catalog.regnamespace)",
        check=sql.Literal(
            _CHECK.format(schema=sql.Literal(desired.names.schema), message=sql.Literal(_EVALUATED)).as_string(
                None
            )
        ),
        schema=sql.Literal(sql.Identifier(desired.names.schema or "").as_string(None)),
    )
    return _render_as_owner(steward, desired, admin, work)


_EVALUATED = "tenantry: functions"

# The server's own functions are in no dependency. Triggers for other events than INSERT (4) see nothing.
_CHECK = sql.SQL("""
DECLARE
  tenantry_object text;
BEGIN
  SELECT pg_catalog.pg_describe_object(d.classid, d.objid, 0) INTO tenantry_object
  FROM pg_catalog.pg_depend d
  LEFT JOIN pg_catalog.pg_constraint k
         ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.oid = d.objid
  LEFT JOIN pg_catalog.pg_attrdef a
         ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid
  LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid = d.objid
  LEFT JOIN pg_catalog.pg_class c
         ON c.oid = CASE d.classid WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN d.objid
                    ELSE coalesce(a.adrelid, t.tgrelid) END
  JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(k.connamespace, c.relnamespace)
  WHERE n.nspname = {schema}
    AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)
    AND (t.oid IS NULL OR ((t.tgtype & 4) <> 0 AND NOT t.tgisinternal))
    AND (d.classid <> 'pg_catalog.pg_class'::pg_catalog.regclass OR c.relkind IN ('i', 'I'))
    AND EXISTS (
      SELECT FROM pg_catalog.pg_class r
      WHERE r.relnamespace = n.oid AND r.relkind = 'r' AND pg_catalog.pg_relation_size(r.oid) > 0)
  LIMIT 1;
  IF tenantry_object IS NOT NULL THEN
    RAISE EXCEPTION USING MESSAGE = {message}, DETAIL = tenantry_object;
  END IF;
END
""")


def render_drop(steward: str, desired: Desired, admin: str) -> Script:
    """Drops a distributed schema on all nodes."""
    schema = sql.Identifier(desired.names.schema or "")
    work = Script().format("DROP SCHEMA IF EXISTS {schema} CASCADE", schema=schema)
    return _render_as_owner(steward, desired, admin, work)


class CitusSteps:
    """Executes the steps that only a server with Citus has."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def check(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """:raises Stalled: CitusNotInstalled, with the statements that make it."""
        name = desired.names.database
        async with self._runner.connections.use(name) as connection:
            if await is_installed(connection):
                return
        database = sql.Identifier(name).as_string(None)
        raise Stalled(
            "CitusNotInstalled",
            f"database {name} on {self._runner.connections.server} has no extension citus (version 12 or newer). "
            f"As a superuser, on every worker: CREATE DATABASE {database}; then in that database of every worker "
            "and of the coordinator: CREATE EXTENSION citus; then on the coordinator: SELECT "
            "citus_set_coordinator_host('<coordinator>', 5432); SELECT citus_add_node('<worker>', 5432) for each",
        )

    async def sync(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Makes a tenant's roles on all nodes.

        :raises Stalled: NameTaken, CitusNodeRefused.
        :raises Retryable: CitusNodeFailed.
        """
        async with self._runner.connections.use(desired.names.database) as connection:
            await self._on_nodes(connection, desired, render_sync(desired))

    async def distribute(
        self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None
    ) -> None:
        """Distributes a tenant's schema.

        :raises Stalled: CitusFunctions, for what would be evaluated while rows are copied.
        """
        script = render_distribute(self._steward(desired), desired, self._runner.connections.admin)
        async with self._runner.connections.use(desired.names.database) as connection:
            try:
                await self._runner.send(connection, script)
            except psycopg.errors.RaiseException as error:
                if error.diag.message_primary != _EVALUATED:
                    raise
                raise Stalled(
                    "CitusFunctions",
                    f"{self._runner.where(desired)} has rows, and {error.diag.message_detail} calls a function "
                    "that is not PostgreSQL's own, which would see them when Citus copies them to a node: drop "
                    "it, and make it again once the schema is distributed",
                ) from None
            reached("schema-distributed")
            # Citus copied the roles as they are on the coordinator: a NOLOGIN owner, passwords.
            await self._on_nodes(connection, desired, render_sync(desired))

    async def drop(self, desired: Desired, step: PostgresStep, credentials: StoredCredentials | None) -> None:
        """Drops a tenant's schema everywhere, and its roles on the nodes. Those here go last: they bear the
        mark by which what is left to do is found."""
        roles = await self._runner.own_roles(desired, [desired.names.owner])
        async with self._runner.connections.use(desired.names.database) as connection:
            if roles:
                script = render_drop(self._steward(desired), desired, self._runner.connections.admin)
                await self._runner.send(connection, script)
                reached("distributed-schema-dropped")
            await self._on_nodes(connection, desired, render_forget(desired))

    def _steward(self, desired: Desired) -> str:
        return self._runner.installation.steward(desired.names.owner)

    async def _on_nodes(self, connection: Connection, desired: Desired, command: str) -> None:
        where = self._runner.where(desired)
        for node, success, result in await run_on_nodes(connection, command):
            if success:
                continue
            if _TAKEN in result:
                raise Stalled(
                    "NameTaken",
                    f"{where}: node {node} has a role named {desired.names.owner}, or like it, that was not made "
                    "for this tenant; it is left alone. Drop or rename it there",
                )
            if "permission denied" in result:
                raise Stalled(
                    "CitusNodeRefused",
                    f"{where}: node {node}: {result}. Give {self._runner.connections.admin} CREATEROLE there, and "
                    "ADMIN OPTION on the roles of this tenant that it did not make itself",
                )
            raise Retryable("CitusNodeFailed", f"{where}: node {node}: {result}")
