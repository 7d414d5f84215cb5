"""Row isolation under attack: the tables are shared, and hold whatever the session does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

from tenantry_operator.engines.base import Isolation

SHOP = """
CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email text NOT NULL,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),
  UNIQUE (tenant_id, id),
  UNIQUE (tenant_id, email)
);
CREATE TABLE orders (
  id serial PRIMARY KEY,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id(),
  customer bigint NOT NULL,
  total int NOT NULL DEFAULT 0,
  FOREIGN KEY (tenant_id, customer) REFERENCES customers (tenant_id, id) ON DELETE CASCADE
);
CREATE TABLE notes (note text);
CREATE TABLE parts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), day date NOT NULL DEFAULT '2026-01-01');
CREATE TABLE logs (day date NOT NULL, line text) PARTITION BY RANGE (day);
CREATE TABLE logs_2026 PARTITION OF logs FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE VIEW addresses AS SELECT email FROM customers;
CREATE FUNCTION emails() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT email FROM customers';
CREATE FUNCTION wipe() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM customers';
CREATE FUNCTION dynamic(query text) RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
'BEGIN RETURN QUERY EXECUTE query; END';
"""


@pytest.fixture
async def shop(blueprint: Callable[..., Any]) -> AsyncIterator[Any]:
    made = blueprint(Isolation.ROW, SHOP)
    for tenant in ("acme", "globex"):
        desired = await made.make(tenant)
        with made.login(desired) as session:
            session.execute("INSERT INTO customers (email) VALUES (%s)", (f"me@{tenant}",))
            session.execute("INSERT INTO orders (customer, total) SELECT id, 10 FROM customers")
            session.execute("INSERT INTO notes VALUES (%s)", (f"note of {tenant}",))
            session.execute("INSERT INTO parts DEFAULT VALUES")
            session.execute("INSERT INTO logs VALUES ('2026-05-01', %s)", (f"log of {tenant}",))
    with made.server.superuser(made.name) as connection:
        connection.execute("ANALYZE")
    yield made
    with made.server.superuser(made.name) as connection:
        for table in ("customers", "orders", "notes", "parts", "logs"):
            row = connection.execute(
                f"SELECT count(*) FROM {made.name}.{table} WHERE tenant_id = 'globex'"
            ).fetchone()
            assert row == (1,), f"{table}: what globex has was changed"


async def test_reading_shows_own_rows_only(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        for statement in (
            "SELECT email FROM customers",
            "SELECT email FROM ONLY customers",
            "TABLE addresses",
            "SELECT emails()",
            "SELECT dynamic('SELECT email FROM customers')",
            "SELECT email FROM customers WHERE tenant_id = 'globex' OR true",
            "SELECT email FROM customers TABLESAMPLE SYSTEM (100)",
            "SELECT c.email FROM orders o FULL JOIN customers c ON true WHERE c.email IS NOT NULL",
            "WITH RECURSIVE r AS (SELECT email FROM customers UNION SELECT email FROM r) TABLE r",
        ):
            assert session.execute(statement).fetchall() == [("me@acme",)], statement
        assert session.execute("SELECT note FROM notes").fetchall() == [("note of acme",)]
        assert session.execute("SELECT line FROM logs").fetchall() == [("log of acme",)]
        with session.cursor().copy("COPY customers (email) TO STDOUT") as copy:
            assert b"".join(copy) == b"me@acme\n"


async def test_nothing_that_a_session_sets_opens_more(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        for setting in (
            "SET search_path = pg_temp, public",
            "SET tenantry.tenant_id = 'globex'",
            "SET tenantry.acting = 'globex'",
            "SET application_name = 'globex'",
            "SET session_replication_role = replica",
            "SET ROLE NONE",
            "RESET ROLE",
            "RESET ALL",
            "DISCARD ALL",
        ):
            try:
                session.execute(setting)
            except psycopg.errors.InsufficientPrivilege:
                continue
            assert session.execute(f"SELECT email FROM {shop.name}.customers").fetchall() == [("me@acme",)]
        session.execute("SET row_security = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            session.execute(f"SELECT * FROM {shop.name}.customers")
        # The functions of the blueprint act as the tables' owner: they are not let off either.
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            session.execute(f"SET search_path = {shop.name}; SELECT emails()")


async def test_others_rows_cannot_be_written(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        for statement in (
            "INSERT INTO customers (tenant_id, email) VALUES ('globex', 'x')",
            "UPDATE customers SET tenant_id = 'globex'",
            "INSERT INTO notes (note, tenant_id) VALUES ('x', 'globex')",
            "INSERT INTO logs VALUES ('2026-06-01', 'x', 'globex')",
            "MERGE INTO customers c USING (SELECT 1) s ON false WHEN NOT MATCHED THEN "
            "INSERT (tenant_id, email) VALUES ('globex', 'x')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                session.execute(statement)
        assert session.execute("UPDATE customers SET email = 'x' WHERE tenant_id = 'globex'").rowcount == 0
        assert session.execute("DELETE FROM customers WHERE tenant_id = 'globex'").rowcount == 0
        session.execute("SELECT wipe()")
        session.execute("DELETE FROM notes")


async def test_tables_and_policies_cannot_be_changed(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        for statement in (
            "TRUNCATE customers",
            "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE customers NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY tenantry_tenant ON customers",
            "ALTER POLICY tenantry_tenant ON customers USING (true)",
            "CREATE POLICY mine ON customers USING (true)",
            "ALTER VIEW addresses SET (security_invoker = false)",
            "CREATE TRIGGER spy AFTER INSERT ON customers EXECUTE FUNCTION wipe()",
            "SELECT * FROM logs_2026",
            "INSERT INTO logs_2026 VALUES ('2026-01-01', 'x', 'acme')",
            "SELECT setval('orders_id_seq', 1)",
            "SELECT last_value FROM orders_id_seq",
            "SELECT nextval('customers_id_seq')",
            f"SET ROLE {shop.name}",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)


async def test_numbers_of_shared_keys_cannot_be_chosen(shop: Any) -> None:
    """Whoever takes the next number makes the neighbour's insert fail, and learns which are taken."""
    with shop.login(shop.desired()) as session:
        for statement in (
            "INSERT INTO customers (id, email) OVERRIDING SYSTEM VALUE VALUES (3, 'x')",
            "INSERT INTO orders (id, customer) SELECT 3, id FROM customers",
            "UPDATE orders SET id = 3",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
        session.execute("INSERT INTO customers (email) VALUES ('me@globex')")


async def test_foreign_keys_cannot_be_used_to_probe(shop: Any) -> None:
    with shop.login(shop.desired("globex")) as session:
        row = session.execute("SELECT id FROM customers").fetchone()
    with shop.login(shop.desired()) as session, pytest.raises(psycopg.errors.ForeignKeyViolation):
        session.execute("INSERT INTO orders (customer) VALUES (%s)", row)


async def test_functions_in_conditions_see_own_rows_only(shop: Any) -> None:
    """A cheap function of the tenant's own would be evaluated first, but for the security barrier."""
    with shop.login(shop.desired()) as session:
        notices: list[str] = []
        session.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        session.execute(
            "CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "'BEGIN RAISE NOTICE ''%'', $1; RETURN true; END'"
        )
        session.execute("SELECT count(*) FROM customers WHERE pg_temp.spy(email)")
        session.execute("SELECT count(*) FROM addresses WHERE pg_temp.spy(email)")
        session.execute("UPDATE customers SET email = email WHERE pg_temp.spy(email)")
        assert set(notices) == {"me@acme"}


async def test_statistics_do_not_show_others_values(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        assert session.execute("SELECT count(*) FROM pg_stats WHERE tablename = 'customers'").fetchone() == (0,)


async def test_a_prepared_statement_stays_with_its_session(shop: Any) -> None:
    with shop.login(shop.desired()) as session:
        session.execute("PREPARE mine AS SELECT email FROM customers")
        for _ in range(7):
            assert session.execute("EXECUTE mine").fetchall() == [("me@acme",)]
        session.execute("SET plan_cache_mode = force_generic_plan")
        assert session.execute("EXECUTE mine").fetchall() == [("me@acme",)]


async def test_a_permissive_policy_of_the_blueprint_opens_nothing(shop: Any) -> None:
    shop.edition("1.1", "CREATE POLICY everything ON customers TO PUBLIC USING (true) WITH CHECK (true)")
    await shop.bring(shop.desired())
    with shop.login(shop.desired()) as session:
        assert session.execute("SELECT email FROM customers").fetchall() == [("me@acme",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("INSERT INTO customers (tenant_id, email) VALUES ('globex', 'x')")
    assert await shop.is_settled(shop.desired())
