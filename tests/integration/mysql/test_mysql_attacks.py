"""What a tenant's own login tries, and does not get."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pymysql
import pytest

from tenantry_operator.engines.base import Presence
from tenantry_operator.engines.mysql.names import definer_of, reader_of
from tenantry_operator.errors import Retryable
from tests.integration.engines.harness import PASSWORD, Refused
from tests.integration.engines.mysql_harness import ADMIN, Client, Harness, MariaDb

ITEMS = "CREATE TABLE items (name VARCHAR(100) PRIMARY KEY, value TEXT)"
BOTH = pytest.mark.parametrize("ddl", [False, True])


async def client(harness: Harness, desired: Any) -> Client:
    return await harness.client(desired, desired.names.login_a, PASSWORD)


@BOTH
async def test_all_that_every_engine_is_attacked_with(
    ddl: bool, blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme", ddl=ddl), await shop.make("globex", ddl=ddl)
    with shop.login(globex) as neighbour:
        neighbour.execute("INSERT INTO items VALUES ('secret', 'of globex')")
        own = await client(harness, acme)
        attacks = await harness.attacks(own, globex)
        assert len(attacks) > 15
        for what, attack in attacks.items():
            try:
                found = await attack()
            except Refused:
                continue
            assert not found, f"{what}: {found!r}"
        await own.close()
        neighbour.execute("SELECT value FROM items")
        assert neighbour.fetchall() == (("of globex",),)
    assert await shop.is_settled(acme)
    assert await shop.is_settled(globex)


@BOTH
async def test_names_that_are_alike_are_not_the_same(
    ddl: bool, blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    # In GRANT an underscore stands for any character.
    acme = await shop.make("a_b", ddl=ddl)
    others = [await shop.make("axb", ddl=ddl), await shop.make("a-b", ddl=ddl)]
    own = await client(harness, acme)
    for other in others:
        with pytest.raises(Refused):
            own.run(f"SELECT * FROM `{other.names.database}`.items")
        with pytest.raises(Refused):
            own.run(f"USE `{other.names.database}`")
    with pytest.raises(Refused):
        own.run(f"CREATE DATABASE `{acme.names.database.replace('_', 'x')}`")
    await own.close()


@BOTH
async def test_nobody_elses_session_is_seen_or_ended(
    ddl: bool, blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme", ddl=ddl), await shop.make("globex", ddl=ddl)
    own = await client(harness, acme)
    with shop.login(globex) as neighbour:
        neighbour.execute("SELECT CONNECTION_ID()")
        number = neighbour.fetchone()[0]
        for statement in (f"KILL {number}", f"KILL QUERY {number}"):
            with pytest.raises(Refused):
                own.run(statement)
        if not harness.server.mysql:
            # It ends those that one may end: none.
            own.run(f"KILL USER '{globex.names.login_a}'")
        assert {row[1] for row in own.run("SHOW PROCESSLIST")} == {acme.names.login_a}
        neighbour.execute("SELECT 1")
    await own.close()


@BOTH
async def test_a_login_cannot_free_itself(ddl: bool, blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make("acme", ddl=ddl)
    definer, login = definer_of(acme.names), acme.names.login_a
    own = await client(harness, acme)
    for statement in (
        f"ALTER USER '{login}'@'%' ACCOUNT UNLOCK",
        "ALTER USER CURRENT_USER() WITH MAX_USER_CONNECTIONS 1000",
        f"ALTER USER '{definer}'@'%' ACCOUNT UNLOCK",
        f"SET PASSWORD FOR '{definer}'@'%' = {harness.server.password('x')}",
        f"SET PASSWORD FOR '{ADMIN}'@'%' = {harness.server.password('x')}",
        f"SET ROLE '{definer}'",
        f"CREATE DEFINER = '{definer}'@'%' VIEW v AS SELECT * FROM items",
        f"CREATE DEFINER = '{ADMIN}'@'%' VIEW v AS SELECT * FROM {harness.server.accounts}",
        f"CREATE DEFINER = '{ADMIN}'@'%' TRIGGER t BEFORE INSERT ON items FOR EACH ROW SET @a = 1",
        "CREATE EVENT later ON SCHEDULE EVERY 1 SECOND DO DELETE FROM items",
        "FLUSH PRIVILEGES",
        "INSTALL SONAME 'auth_socket'",
        "CREATE FUNCTION lib_mysqludf RETURNS STRING SONAME 'x.so'",
        "SHUTDOWN",
        "CHANGE MASTER TO MASTER_HOST = 'x'",
        "SET GLOBAL general_log = 1",
        "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'localhost')",
        "SELECT * FROM mysql.db",
        "SELECT * FROM information_schema.innodb_sys_tablespaces",
    ):
        with pytest.raises(Refused):
            own.run(statement)
    await own.close()
    assert await shop.is_settled(acme)


async def test_names_at_their_longest_work(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    tenants = [await shop.make(name) for name in ("a_" * 28 + "b", "a_" * 28 + "c", "z" * 63)]
    assert len({acme.names.database for acme in tenants}) == 3
    for acme in tenants:
        with shop.login(acme) as session:
            session.execute("INSERT INTO items VALUES ('a', %s)", (acme.tenant_id,))
            session.execute("SELECT value FROM items")
            assert session.fetchall() == ((acme.tenant_id,),)
            session.execute("SHOW DATABASES")
            found = {name for (name,) in session.fetchall()} - {"performance_schema"}
            assert found == {acme.names.database, "information_schema"}
        assert await shop.is_settled(acme)


async def test_what_is_defined_reaches_no_neighbour(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme", ddl=True), await shop.make("globex", ddl=True)
    theirs = f"`{globex.names.database}`"
    own = await client(harness, acme)
    of_mariadb = (f"EXECUTE IMMEDIATE 'SELECT * FROM {theirs}.items'", f"BACKUP LOCK {theirs}.items")
    own.run("SET foreign_key_checks = 0")
    own.run("CREATE TABLE own (name VARCHAR(100) PRIMARY KEY)")
    for statement in (
        f"CREATE TABLE probe (name VARCHAR(100), FOREIGN KEY (name) REFERENCES {theirs}.items (name))",
        f"CREATE TABLE probe (name VARCHAR(100), FOREIGN KEY (name) REFERENCES {theirs}.to_come (name))",
        f"ALTER TABLE own ADD FOREIGN KEY (name) REFERENCES {theirs}.items (name)",
        f"CREATE TABLE probe LIKE {theirs}.items",
        f"CREATE TABLE probe (name VARCHAR(100)) ENGINE = MRG_MyISAM UNION = ({theirs}.items)",
        f"CREATE VIEW probe AS SELECT * FROM {theirs}.items",
        f"RENAME TABLE own TO {theirs}.stolen",
        f"RENAME TABLE {theirs}.items TO stolen",
        f"CREATE TRIGGER {theirs}.probe BEFORE INSERT ON {theirs}.items FOR EACH ROW SET @a = 1",
        f"CREATE TEMPORARY TABLE {theirs}.probe (i INT)",
        f"HANDLER {theirs}.items OPEN",
        f"LOCK TABLES {theirs}.items WRITE",
        f"CHECK TABLE {theirs}.items",
        f"ANALYZE TABLE {theirs}.items",
        f"CHECKSUM TABLE {theirs}.items",
        f"TRUNCATE {theirs}.items",
        f"DROP TABLE IF EXISTS {theirs}.to_come",
        "FLUSH TABLES WITH READ LOCK",
        "FLUSH TABLES items FOR EXPORT",
        "SHOW ENGINE INNODB STATUS",
        "SELECT * FROM mysql.innodb_table_stats",
        *(() if shop.server.mysql else of_mariadb),
    ):
        with pytest.raises(Refused, match="denied"):
            own.run(statement)
    # A view is only a text until somebody with the right to its tables looks at it.
    own.run("CREATE VIEW transactions AS SELECT * FROM information_schema.innodb_trx")
    with pytest.raises(Refused):
        own.run("SELECT * FROM transactions")
    own.run("CREATE PROCEDURE peep() SELECT * FROM " + theirs + ".items")
    with pytest.raises(Refused, match="denied"):
        own.run("CALL peep()")
    await own.close()
    assert await shop.is_settled(globex)


async def test_who_defines_something_for_long_holds_up_nobody(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    """MariaDB's description of a table waits for whoever makes it, and leaves out what it does not get."""
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme", ddl=True), await shop.make("globex")
    known = (await shop.state(acme)).structure
    assert known is not None
    own = await client(harness, acme)
    slow = asyncio.create_task(asyncio.to_thread(own.run, "CREATE TABLE slow AS SELECT SLEEP(60) AS a"))
    try:
        deadline = time.monotonic() + 30
        while not (running := _sleeping(shop.server)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        other = harness.engine("test")
        try:
            snapshot = await other.observe()
            assert snapshot.database(globex).structure is not None
            # MySQL tells how it was defined before, and waits for nobody.
            told = [snapshot.database(acme).structure, getattr(await other.structure(acme), "fingerprint", None)]
            assert told == ([known, known] if shop.server.mysql else [None, None])
        finally:
            await other.close()
        assert not slow.done(), "the operator waited for it"
    finally:
        for number in _sleeping(shop.server):
            shop.server.query(f"KILL {number}")
        with contextlib.suppress(Refused):
            await slow
    assert running
    # To MySQL, a SLEEP that is killed has come to its end.
    shop.server.query(f"DROP TABLE IF EXISTS `{acme.names.database}`.slow")
    await own.close()
    assert (await shop.engine.observe()).database(acme).structure == known


def _sleeping(server: MariaDb) -> list[int]:
    rows = server.query("SELECT id FROM information_schema.processlist WHERE info LIKE 'CREATE TABLE slow%'")
    return [int(number) for (number,) in rows]


async def test_a_login_defines_nothing_unless_it_may(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make("acme")
    own = await client(harness, acme)
    for statement in (
        "CREATE TABLE t (i INT)",
        "ALTER TABLE items ADD COLUMN x INT",
        "DROP TABLE items",
        "TRUNCATE items",
        "CREATE VIEW v AS SELECT 1",
        "CREATE PROCEDURE p() SELECT 1",
        "CREATE INDEX i ON items (name)",
        f"DROP DATABASE `{acme.names.database}`",
    ):
        with pytest.raises(Refused, match="denied"):
            own.run(statement)
    own.run("CREATE TEMPORARY TABLE t (i INT)")
    await own.close()


async def test_the_operators_accounts_cannot_be_guessed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make("acme")
    await shop.engine.usage(acme, {"items": "SELECT COUNT(*) AS count FROM items"})
    for account in (definer_of(acme.names), reader_of(acme.names)):
        for password in ("", PASSWORD, account):
            with pytest.raises(pymysql.MySQLError), shop.server.login(account, None, password):
                pass


async def test_no_password_is_in_the_servers_log(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    log = shop.server.folder / "general.log"
    shop.server.query(f"SET GLOBAL general_log_file = '{log}'")
    shop.server.query("SET GLOBAL general_log = 1")
    try:
        await shop.make("acme")
        await shop.make("globex")
    finally:
        shop.server.query("SET GLOBAL general_log = 0")
    text = log.read_text(encoding="utf-8", errors="replace")
    assert "CREATE USER" in text
    assert PASSWORD not in text


async def test_a_prepared_transaction_that_was_left_holds_up_its_own_tenant_only(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.login(acme) as session:
        for statement in ("XA START 'x'", "INSERT INTO items VALUES ('a', 'b')", "XA END 'x'", "XA PREPARE 'x'"):
            session.execute(statement)
    absent = shop.desired("acme", presence=Presence.ABSENT, login=None, chain=None)
    try:
        with pytest.raises(Retryable, match="LockTimeout"):
            await shop.bring(absent)
        assert await shop.is_settled(globex)
    finally:
        shop.server.query("XA ROLLBACK 'x'")
    await shop.bring(absent)
    assert await harness.leftovers(acme) == []
