"""A tenant's login attacks its neighbour, the operator and the server, under every isolation.

What PostgreSQL cannot close is in the documentation: the names in the catalogs of a shared database and
their statistics, NOTIFY channels, advisory locks, and LOCK TABLE on shared tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Desired, Isolation
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.tenants.naming import connect_group_of, group_of, read_only_group_of

SHOP = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE items (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),
  name text NOT NULL,
  parent bigint,
  UNIQUE (tenant_id, id),
  UNIQUE (tenant_id, name),
  FOREIGN KEY (tenant_id, parent) REFERENCES items (tenant_id, id)
);
CREATE SEQUENCE numbers;
CREATE VIEW names AS SELECT tenant_id, name FROM items;
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM items';
CREATE FUNCTION all_names() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
'BEGIN RETURN QUERY SELECT name FROM items; END';
CREATE PROCEDURE forget() LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM items';
"""


@dataclass
class Scene:
    """Two tenants of one blueprint, and one of another."""

    shop: Any
    acme: Desired
    globex: Desired
    stranger: Desired

    @contextlib.contextmanager
    def as_acme(self, **options: Any) -> Iterator[psycopg.Connection[Any]]:
        with self.shop.login(self.acme, **options) as session:
            yield session


@pytest.fixture(params=[Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])
async def scene(request: pytest.FixtureRequest, blueprint: Callable[..., Any]) -> Scene:
    shop = blueprint(request.param, SHOP)
    other = blueprint(request.param, SHOP)
    made = Scene(shop, await shop.make("acme"), await shop.make("globex"), await other.make("initech"))
    for tenant, database in ((made.acme, shop), (made.globex, shop), (made.stranger, other)):
        with database.login(tenant) as session:
            session.execute("INSERT INTO items (name) VALUES (%s)", (f"secret of {tenant.tenant_id}",))
    return made


def refused(session: psycopg.Connection[Any], statement: str) -> psycopg.Error:
    """The statement fails for lack of rights, not for a mistake in the test."""
    with pytest.raises(psycopg.Error) as caught:
        session.execute(statement)
    session.rollback()
    assert caught.value.sqlstate in ("42501", "0A000", "28000"), f"{statement}: {caught.value}"
    return caught.value


async def test_only_its_own_database_can_be_connected_to(scene: Scene) -> None:
    with scene.shop.server.superuser() as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
    others = [name for (name,) in rows if name != scene.acme.names.database]
    assert {"postgres", "template1", scene.stranger.names.database} <= set(others)
    for database in others:
        login = scene.shop.server.login(scene.acme.names.login_a, database)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"), login:
            pytest.fail(f"it connected to {database}")


async def test_no_other_role_can_be_taken(scene: Scene) -> None:
    installation = Installation(scene.acme.installation)
    roles = {
        *scene.globex.names.logins[:1],
        scene.globex.names.owner,
        scene.acme.names.owner,
        group_of(scene.acme.names.owner),
        group_of(scene.globex.names.owner),
        scene.shop.server.username,
        "postgres",
        "pg_read_all_data",
        *installation.roles[:3],
    }
    if scene.acme.isolation is not Isolation.DATABASE:
        roles.add(connect_group_of(scene.acme.names.database))
    if scene.acme.isolation is Isolation.ROW:
        roles.add(read_only_group_of(scene.acme.names.owner))
    with scene.as_acme() as session:
        for role in roles:
            refused(session, f'SET ROLE "{role}"')
            refused(session, f'SET SESSION AUTHORIZATION "{role}"')
            refused(session, f"SELECT set_config('role', '{role}', false)")
            refused(session, f'GRANT "{role}" TO CURRENT_USER')


async def test_its_own_role_cannot_be_given_more(scene: Scene) -> None:
    with scene.as_acme() as session:
        for attribute in (
            "SUPERUSER",
            "CREATEDB",
            "CREATEROLE",
            "BYPASSRLS",
            "REPLICATION",
            "CONNECTION LIMIT 99",
        ):
            refused(session, f"ALTER ROLE CURRENT_USER {attribute}")
        refused(session, "ALTER ROLE CURRENT_USER SET temp_file_limit = -1")
        refused(session, "SET temp_file_limit = -1")
        refused(session, f"COMMENT ON ROLE \"{scene.acme.names.login_a}\" IS 'mine'")
        refused(session, f"COMMENT ON DATABASE \"{scene.acme.names.database}\" IS 'mine'")


async def test_nothing_can_be_created_but_temporary_tables(scene: Scene) -> None:
    schema = scene.acme.names.schema or "public"
    with scene.as_acme() as session:
        for where in {schema, "public", "tenantry", "pg_catalog"}:
            refused(session, f'CREATE TABLE "{where}".mine (id int)')
            refused(session, f'CREATE VIEW "{where}".mine AS SELECT 1')
            refused(session, f"CREATE FUNCTION \"{where}\".mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        refused(session, "CREATE SCHEMA mine")
        refused(session, "CREATE DATABASE mine")
        refused(session, "CREATE ROLE mine")
        refused(session, "CREATE PUBLICATION mine FOR ALL TABLES")
        refused(session, "ALTER TABLE items ADD COLUMN mine int")
        refused(session, "DROP TABLE items")
        refused(session, "CREATE TRIGGER mine BEFORE INSERT ON items EXECUTE FUNCTION total()")
        refused(session, "CREATE INDEX ON items (name)")
        refused(session, "CREATE RULE mine AS ON INSERT TO items DO NOTHING")
        refused(session, "COMMENT ON TABLE items IS 'mine'")
        session.execute("CREATE TEMPORARY TABLE scratch (id int)")


async def test_the_operators_tables_are_closed(scene: Scene) -> None:
    with scene.as_acme() as session:
        for table in ("ledger", "logins", "acting"):
            refused(session, f"SELECT * FROM tenantry.{table}")
            refused(session, f"DELETE FROM tenantry.{table}")
            refused(session, f"COPY tenantry.{table} TO STDOUT")
        for steward in Installation(scene.acme.installation).stewards[:4]:
            with pytest.raises(psycopg.Error, match=r"permission denied|does not exist"):
                session.execute(f"SELECT tenantry.{steward}('SELECT 1')")
        refused(session, "INSERT INTO tenantry.logins VALUES (CURRENT_USER, 'globex')")
        refused(session, "INSERT INTO tenantry.acting VALUES ('globex')")
        refused(session, "UPDATE tenantry.logins SET tenant_id = 'globex'")
        refused(
            session, "CREATE OR REPLACE FUNCTION tenantry.tenant_id() RETURNS text LANGUAGE sql AS $$SELECT 'x'$$"
        )


async def test_who_it_is_cannot_be_forged(scene: Scene) -> None:
    with scene.as_acme() as session:
        session.execute("CREATE TEMPORARY TABLE logins (login name, tenant_id text)")
        session.execute("INSERT INTO pg_temp.logins VALUES (session_user, 'globex')")
        session.execute("CREATE TEMPORARY TABLE acting AS SELECT 'globex' AS tenant_id")
        session.execute("CREATE FUNCTION pg_temp.nameeq(name, name) RETURNS boolean LANGUAGE sql AS 'SELECT true'")
        session.execute("CREATE OPERATOR pg_temp.= (LEFTARG = name, RIGHTARG = name, FUNCTION = pg_temp.nameeq)")
        for path in ("pg_temp", "pg_temp, pg_catalog", "pg_temp, tenantry, public"):
            session.execute(f"SET search_path = {path}")
            assert session.execute("SELECT tenantry.tenant_id()").fetchone() == ("acme",)
        session.execute("SET application_name = 'globex'")
        assert session.execute("SELECT tenantry.tenant_id()").fetchone() == ("acme",)


async def test_files_programs_and_sessions_of_the_server_are_closed(scene: Scene) -> None:
    with scene.as_acme() as session, scene.shop.login(scene.globex) as neighbour:
        refused(session, "COPY items TO PROGRAM 'cat'")
        refused(session, "COPY items TO '/tmp/stolen'")
        refused(session, "SELECT pg_read_file('PG_VERSION')")
        refused(session, "SELECT pg_ls_dir('.')")
        refused(session, "SELECT lo_import('/etc/passwd')")
        refused(session, "SELECT * FROM pg_authid")
        refused(session, "ALTER SYSTEM SET work_mem = '1GB'")
        pid = neighbour.info.backend_pid
        refused(session, f"SELECT pg_terminate_backend({pid})")
        refused(session, f"SELECT pg_cancel_backend({pid})")
        query = session.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
        assert query == ("<insufficient privilege>",)


async def test_other_servers_cannot_be_reached_from_the_server(scene: Scene) -> None:
    with scene.shop.server.superuser(scene.acme.names.database) as connection:
        connection.execute("CREATE FOREIGN DATA WRAPPER distance")
        connection.execute("CREATE SERVER elsewhere FOREIGN DATA WRAPPER distance OPTIONS (host 'elsewhere')")
        connection.execute("CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (password 'secret')")
        connection.execute("CREATE SCHEMA far")
        connection.execute("CREATE FOREIGN TABLE far.table (id int) SERVER elsewhere")
    with scene.as_acme() as session:
        refused(session, "CREATE FOREIGN DATA WRAPPER own")
        refused(session, "CREATE SERVER own FOREIGN DATA WRAPPER distance")
        refused(session, "CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere")
        refused(session, "CREATE FOREIGN TABLE pg_temp.near (id int) SERVER elsewhere")
        refused(session, "ALTER SERVER elsewhere OPTIONS (SET host 'here')")
        refused(session, "SELECT * FROM far.table")
        shown = session.execute("SELECT umoptions FROM pg_user_mappings WHERE srvname = 'elsewhere'").fetchall()
        assert shown == [(None,)], "the password of a mapping is shown"
    with scene.shop.server.superuser(scene.acme.names.database) as connection:
        connection.execute("DROP SCHEMA far CASCADE; DROP FOREIGN DATA WRAPPER distance CASCADE")


async def test_large_objects_are_the_makers_own(scene: Scene) -> None:
    with scene.shop.login(scene.globex) as neighbour:
        row = neighbour.execute("SELECT lo_from_bytea(0, 'secret')").fetchone()
        assert row is not None
        oid = row[0]
        assert neighbour.execute("SELECT lo_get(%s)", (oid,)).fetchone() == (b"secret",)
    with scene.as_acme() as session:
        if scene.acme.isolation is Isolation.DATABASE:
            with pytest.raises(psycopg.errors.UndefinedObject):
                session.execute(f"SELECT lo_get({oid})")
            return
        refused(session, f"SELECT lo_get({oid})")
        refused(session, f"SELECT lo_put({oid}, 0, 'gone')")
        refused(session, f"SELECT lo_unlink({oid})")
        refused(session, f"GRANT SELECT ON LARGE OBJECT {oid} TO CURRENT_USER")
        refused(session, "SELECT * FROM pg_largeobject")


async def test_the_neighbours_schema_is_closed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.SCHEMA, SHOP)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.login(globex) as session:
        session.execute("INSERT INTO items (name) VALUES ('secret')")
    with shop.login(acme) as session:
        for statement in (
            "SELECT * FROM globex.items",
            "TABLE globex.names",
            "INSERT INTO globex.items (name) VALUES ('x')",
            "UPDATE globex.items SET name = 'x'",
            "DELETE FROM globex.items",
            "TRUNCATE globex.items",
            "COPY globex.items TO STDOUT",
            "COPY (SELECT * FROM globex.items) TO STDOUT",
            "BEGIN; LOCK TABLE globex.items",
            "MERGE INTO globex.items i USING items o ON i.id = o.id WHEN MATCHED THEN DELETE",
            "SELECT globex.total()",
            "SELECT globex.all_names()",
            "CALL globex.forget()",
            "SELECT nextval('globex.numbers')",
            "SELECT last_value FROM globex.numbers",
            "SELECT 'good'::globex.mood",
            "SELECT 'globex.items'::regclass",
            "CREATE TEMPORARY TABLE probe (i globex.mood)",
            "CREATE TEMPORARY TABLE probe (LIKE globex.items)",
            "PREPARE probe AS SELECT * FROM globex.items",
            "DECLARE probe CURSOR WITH HOLD FOR SELECT * FROM globex.items",
            "EXPLAIN SELECT * FROM globex.items",
            "SELECT * FROM globex.items TABLESAMPLE SYSTEM (100)",
            "GRANT SELECT ON globex.items TO CURRENT_USER",
            "ALTER SCHEMA globex OWNER TO CURRENT_USER",
            "DROP SCHEMA globex CASCADE",
        ):
            refused(session, statement)
        session.execute("SET search_path = globex, acme")
        assert session.execute("SELECT count(*) FROM items").fetchone() == (0,)
        row = session.execute("SELECT oid FROM pg_class WHERE relname = 'items' LIMIT 1").fetchone()
        assert row is not None
        assert session.execute("SELECT count(*) FROM pg_stats WHERE schemaname = 'globex'").fetchone() == (0,)


async def test_definer_functions_of_the_blueprint_stay_with_the_tenant(scene: Scene) -> None:
    with scene.as_acme() as session:
        assert session.execute("SELECT all_names()").fetchall() == [("secret of acme",)]
        session.execute("CREATE TEMPORARY VIEW items AS SELECT * FROM names")
        session.execute("DROP VIEW pg_temp.items")
        session.execute("CALL forget()")
    with scene.shop.login(scene.globex) as neighbour:
        assert neighbour.execute("SELECT name FROM items").fetchall() == [("secret of globex",)]


async def test_a_tenant_with_ddl_rights_stays_in_its_schema(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.SCHEMA, SHOP)
    acme, globex = await shop.make("acme", ddl=True), await shop.make("globex")
    with shop.login(acme) as session:
        session.execute("CREATE TABLE mine (id int)")
        assert session.execute("SELECT tableowner::text FROM pg_tables WHERE tablename = 'mine'").fetchone() == (
            acme.names.owner,
        )
        session.execute("ALTER TABLE items ADD COLUMN extra int")
        session.execute(
            "CREATE FUNCTION spy() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS "
            "'BEGIN RETURN QUERY SELECT name FROM globex.items; END'"
        )
        for statement in (
            "SELECT * FROM spy()",
            "CREATE SCHEMA mine",
            "CREATE TABLE public.mine (id int)",
            "CREATE TABLE tenantry.mine (id int)",
            "CREATE TABLE globex.mine (id int)",
            f'SET ROLE "{globex.names.owner}"',
            "ALTER TABLE items ADD CONSTRAINT probe FOREIGN KEY (id) REFERENCES globex.items (id)",
            "CREATE TABLE probe (id bigint REFERENCES globex.items (id))",
            "CREATE TABLE probe () INHERITS (globex.items)",
            "CREATE VIEW probe AS SELECT * FROM globex.items",
            f'ALTER DATABASE "{acme.names.database}" SET work_mem = 64',
            "CREATE EXTENSION pg_trgm",
            "SELECT * FROM tenantry.ledger",
        ):
            with pytest.raises(psycopg.Error):
                session.execute(statement)
            session.rollback()
        session.execute(f'GRANT CONNECT ON DATABASE "{acme.names.database}" TO PUBLIC')
    assert await shop.is_settled(acme), "a right was granted"
    with shop.login(globex) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("SELECT acme.spy()")
