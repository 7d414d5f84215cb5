"""What MySQL has and MariaDB has not: its settings, its ways to log in, its system tables.

Run with ``TENANTRY_TEST_MYSQL`` only.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tenantry_operator.engines.base import Credentials, Presence
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tenantry_operator.engines.mysql.names import definer_of
from tenantry_operator.instances.manifests.mysql import SETTINGS
from tenantry_operator.tenants.credentials import new_password
from tests.integration.engines.harness import PASSWORD, Refused
from tests.integration.engines.mysql_harness import ADMIN, Harness, MariaDb, new_server

ITEMS = "CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"


@pytest.fixture
def started() -> Iterator[Callable[..., MariaDb]]:
    """Starts a server of a test's own, with options and an administrator."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> MariaDb:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="tenantry-my-", dir="/tmp", ignore_cleanup_errors=True)
            )
            server = new_server(Path(folder), *options)
            server.install()
            stack.callback(server.stop)
            server.start()
            server.harden()
            return server

        yield start


@pytest.fixture
async def shop_on(blueprint: Callable[..., Any]) -> Any:
    """Makes a blueprint on such a server."""
    async with contextlib.AsyncExitStack() as stack:

        def make(server: MariaDb, *texts: str) -> Any:
            shop = blueprint(*texts)
            shop.engine, shop.server = MySqlEngine(server.access(), installation="test"), server
            stack.push_async_callback(shop.engine.close)
            return shop

        yield make


async def test_sessions_are_ended_where_the_performance_schema_is_off(
    started: Callable[..., MariaDb], shop_on: Callable[..., Any]
) -> None:
    shop = shop_on(started("--performance-schema=OFF"), ITEMS)
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("SELECT 1")
        assert (await shop.state(acme)).connections == 1
        await shop.bring(shop.desired(presence=Presence.REFUSED, login=None))
        with pytest.raises(pymysql.MySQLError):
            session.execute("SELECT 1")


async def test_names_are_taken_literally_where_rights_can_be_revoked_in_part(
    started: Callable[..., MariaDb], shop_on: Callable[..., Any]
) -> None:
    server = started("--partial-revokes=ON")
    server.query(f"GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION")
    shop = shop_on(server, ITEMS)
    acme, alike = await shop.make("a_b"), await shop.make("axb")
    for desired, other in ((acme, alike), (alike, acme)):
        with shop.login(desired) as session:
            session.execute("INSERT INTO items (name) VALUES ('x')")
            with pytest.raises(pymysql.MySQLError, match="denied"):
                session.execute(f"SELECT * FROM `{other.names.database}`.items")
        assert await shop.is_settled(desired)
    login = acme.names.login_a
    server.query(f"GRANT SELECT ON `{alike.names.database}`.* TO '{login}'@'%'")
    assert await shop.bring(acme) == ["mend-accounts"]
    assert await shop.is_settled(acme)
    # As of before the setting was on: of a database whose name has a backslash.
    escaped = acme.names.database.replace("_", "\\_")
    server.query(f"REVOKE ALL ON `{acme.names.database}`.* FROM '{login}'@'%'")
    server.query(f"GRANT SELECT ON `{escaped}`.* TO '{login}'@'%'")
    assert await shop.bring(acme) == ["mend-accounts"]
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")
    assert await shop.is_settled(acme)


async def test_a_server_as_tenantry_runs_it_lacks_nothing(
    started: Callable[..., MariaDb], shop_on: Callable[..., Any]
) -> None:
    lines = [line.split(" = ") for line in SETTINGS.splitlines() if " = " in line]
    # Off is what it is by default, and the last one counts.
    server = started("--log-bin-trust-function-creators=OFF", *(f"--{name}={value}" for name, value in lines))
    # Its administrator is the image's root.
    server.query(f"CREATE USER 'root'@'%' IDENTIFIED BY '{PASSWORD}'")
    server.query("GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION")
    shop = shop_on(server, f"{ITEMS}; CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW SET NEW.name = 'x'")
    engine = MySqlEngine(server.access(username="root"), installation="test")
    shop.engine = engine
    acme = await shop.make()
    assert await shop.is_settled(acme)
    report = (await engine.observe()).report
    assert (report.missing, report.unhardened) == ((), ())
    server.query("CREATE ROLE everybodys")
    server.query("SET PERSIST mandatory_roles = 'everybodys'")
    assert (await engine.observe()).report.unhardened == ("SET PERSIST mandatory_roles = '';",)
    server.query("SET PERSIST mandatory_roles = ''")
    assert (await engine.observe()).report.unhardened == ()
    await engine.close()


async def test_a_policy_of_passwords_is_kept(started: Callable[..., MariaDb], shop_on: Callable[..., Any]) -> None:
    server = started("--sql-require-primary-key=ON")
    server.query("INSTALL COMPONENT 'file://component_validate_password'")
    assert server.query("SELECT @@validate_password.policy") == [("MEDIUM",)]
    shop = shop_on(server, ITEMS)
    acme = shop.desired()
    password = new_password()
    await shop.bring(acme, Credentials(acme.names.login_a, password))
    await shop.engine.usage(acme, {"items": "SELECT COUNT(*) AS count FROM items"})
    with shop.login(acme, password=password) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")
    assert await shop.is_settled(acme)


async def test_the_administrator_logs_in_whatever_the_server_remembers(server: MariaDb) -> None:
    # The first of them takes some turns of the loop to be closed.
    for mode in ("prefer", "disable"):
        # What it remembers of passwords is what spares the long way.
        server.query("FLUSH PRIVILEGES")
        engine = MySqlEngine(server.access(sslmode=mode), installation="test")
        assert (await engine.observe()).report.version.startswith("MySQL ")
        await engine.close()


@pytest.mark.parametrize("ddl", [False, True])
async def test_what_only_mysql_has_is_refused(ddl: bool, blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint("CREATE TABLE items (name VARCHAR(100) PRIMARY KEY, value TEXT)")
    acme, globex = await shop.make("acme", ddl=ddl), await shop.make("globex", ddl=ddl)
    own = await harness.client(acme, acme.names.login_a, PASSWORD)
    with shop.login(globex) as neighbour:
        for statement in (
            # A second password would outlive the one that the operator sets.
            "ALTER USER CURRENT_USER() IDENTIFIED BY 'Another-1' RETAIN CURRENT PASSWORD",
            "ALTER USER CURRENT_USER() ATTRIBUTE '{\"a\": 1}'",
            "ALTER USER CURRENT_USER() PASSWORD EXPIRE NEVER",
            "ALTER USER CURRENT_USER() ADD 2 FACTOR IDENTIFIED WITH caching_sha2_password BY 'Another-1'",
            f"SET ROLE '{definer_of(acme.names)}'",
            "CREATE ROLE intruder",
            "SET PERSIST max_connections = 1",
            "SET SESSION sql_log_bin = 0",
            "SET GLOBAL partial_revokes = ON",
            "INSTALL COMPONENT 'file://component_validate_password'",
            "INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
            "CREATE RESOURCE GROUP intruder TYPE = USER",
            "LOCK INSTANCE FOR BACKUP",
            "ALTER INSTANCE RELOAD TLS",
            "RESTART",
            "SHOW BINARY LOGS",
            "SHOW BINARY LOG STATUS",
            "SHOW REPLICAS",
            "CREATE TABLESPACE intruder ADD DATAFILE 'intruder.ibd'",
            "CREATE TABLE intruder (i INT PRIMARY KEY) DATA DIRECTORY = '/tmp'",
            "IMPORT TABLE FROM '/tmp/intruder.sdi'",
            "CREATE SPATIAL REFERENCE SYSTEM 99999 NAME 'x' DEFINITION 'x'",
            "SELECT * FROM mysql.user",
            "SELECT * FROM mysql.role_edges",
            "SELECT * FROM mysql.innodb_table_stats",
            "SELECT * FROM information_schema.innodb_tablespaces",
            "SELECT * FROM performance_schema.threads",
            "SELECT * FROM performance_schema.data_locks",
            "SELECT * FROM performance_schema.events_statements_history",
            "SELECT * FROM performance_schema.user_variables_by_thread",
            "SELECT * FROM performance_schema.metadata_locks",
            "SELECT * FROM performance_schema.accounts",
            "SELECT * FROM sys.session",
            "SELECT * FROM sys.schema_table_statistics",
        ):
            # For want of a right, and not as it is no MySQL.
            with pytest.raises(Refused, match=r"[Aa]ccess denied|command denied|is not granted|privilege"):
                own.run(statement)
        # What everybody may look at shows nothing but one's own.
        for statement in (
            "SELECT user FROM performance_schema.processlist WHERE user <> SUBSTRING_INDEX(USER(), '@', 1)",
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '%globex%'",
            "SELECT table_name FROM information_schema.tables WHERE table_schema LIKE '%globex%'",
            "SELECT grantee FROM information_schema.user_attributes WHERE user <> SUBSTRING_INDEX(USER(), '@', 1)",
            "SELECT 1 FROM performance_schema.session_account_connect_attrs WHERE attr_value = 'tenantry'",
        ):
            with contextlib.suppress(Refused):
                assert own.run(statement) == [], statement
        neighbour.execute("SELECT 1")
    await own.close()
    assert await shop.is_settled(acme)


async def test_what_is_mysqls_own_of_a_structure_is_compared(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        "CREATE TABLE items (name VARCHAR(100) PRIMARY KEY, KEY by_name ((LOWER(name))), KEY same (name))"
    )
    acme, globex = await shop.make("acme"), await shop.make("globex")
    wanted = await shop.engine.structure(acme)
    assert shop.engine.compare(wanted, await shop.engine.structure(globex)).lines == ()
    with shop.server.root(globex.names.database) as root:
        root.execute(
            "ALTER TABLE items DROP KEY by_name, ADD KEY by_name ((UPPER(name))), ALTER INDEX same INVISIBLE"
        )
    assert shop.engine.compare(wanted, await shop.engine.structure(globex)).lines == (
        "index items.by_name: changed",
        "index items.same: changed",
    )
