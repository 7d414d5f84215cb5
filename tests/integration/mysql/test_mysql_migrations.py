"""Migrations: what is committed when, what is known of one that did not come to its end, and how it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from tenantry_operator.engines.base import Chain, Pace, Presence
from tenantry_operator.engines.mysql import migrate as migrate_module
from tenantry_operator.engines.mysql.names import definer_of
from tenantry_operator.errors import Retryable, Stalled

ITEMS = "CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"


class Crash(BaseException):
    """Nothing catches it, as nothing survives SIGKILL."""


def rows(shop: Any, desired: Any, query: str) -> list[tuple[Any, ...]]:
    with shop.server.root(desired.names.database) as root:
        root.execute(query)
        return list(root.fetchall())


def ledger(shop: Any, desired: Any) -> list[tuple[str, str]]:
    return [
        (version, name)
        for version, name in shop.server.query(
            "SELECT version, migration FROM tenantry.ledger WHERE tenant_database = %s ORDER BY position",
            desired.names.database,
        )
    ]


async def test_it_goes_forwards_and_backwards(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    old = shop.chain
    acme = await shop.make()
    new = shop.edition(
        "2.0",
        "ALTER TABLE items ADD COLUMN more INT; INSERT INTO items (name, more) VALUES ('a;b', 1)",
        rollbacks=("ALTER TABLE items DROP COLUMN more",),
    )
    forwards = replace(acme, chain=new, installed=old)
    assert await shop.bring(forwards) == ["migrate"]
    assert rows(shop, acme, "SELECT name, more FROM items") == [("a;b", 1)]
    assert ledger(shop, acme) == [("1.0", "m0"), ("2.0", "m0")]
    assert await shop.is_settled(forwards)
    backwards = replace(acme, chain=old, installed=new)
    assert await shop.bring(backwards) == ["migrate"]
    assert rows(shop, acme, "SHOW COLUMNS FROM items LIKE 'more'") == []
    assert ledger(shop, acme) == [("1.0", "m0")]
    assert (await shop.state(backwards)).version == "1.0"


async def test_what_only_concerns_data_is_all_or_nothing(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", "INSERT INTO items (name) VALUES ('one');\nINSERT INTO nowhere VALUES (1)")
    wanted = replace(acme, chain=shop.chain)
    with pytest.raises(
        Stalled, match=r"m0 of version 2\.0 .*line 2, statement 2: .*nowhere.*Nothing of it is done"
    ):
        await shop.bring(wanted)
    assert rows(shop, acme, "SELECT * FROM items") == []
    state = await shop.state(wanted)
    assert (state.version, state.target) == ("1.0", None)
    # The version before is reached without undoing anything.
    assert await shop.is_settled(acme)


async def test_a_definition_stays_and_it_goes_on_after_it(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    text = """
        INSERT INTO items (name) VALUES ('first');
        CREATE TABLE two (i INT);
        INSERT INTO two VALUES (1);
        INSERT INTO three VALUES (1);
    """
    shop.edition("2.0", text, rollbacks=("DROP TABLE IF EXISTS two; DELETE FROM items WHERE name = 'first'",))
    wanted = replace(acme, chain=shop.chain)
    for _ in range(2):
        with pytest.raises(Stalled, match=r"line 5, statement 4: .*Statements 1 to 2 are done"):
            await shop.bring(wanted)
    state = await shop.state(wanted)
    assert (state.version, state.target) == ("1.0", "2.0")
    assert rows(shop, acme, "SELECT name FROM items") == [("first",)]
    assert rows(shop, acme, "SELECT i FROM two") == []
    with shop.server.root(acme.names.database) as root:
        root.execute("CREATE TABLE three (i INT)")
    assert await shop.bring(wanted) == ["migrate"]
    assert rows(shop, acme, "SELECT name FROM items") == [("first",)]
    assert rows(shop, acme, "SELECT i FROM two") == [(1,)]
    assert await shop.is_settled(wanted)


async def test_one_that_is_half_done_is_undone_on_the_way_back(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition(
        "2.0",
        "CREATE TABLE zero (i INT)",
        "CREATE TABLE two (i INT); INSERT INTO three VALUES (1)",
        rollbacks=("DROP TABLE zero", "DROP TABLE two"),
    )
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.bring(replace(acme, chain=shop.chain))
    assert ledger(shop, acme) == [("1.0", "m0"), ("2.0", "m0")]
    # The operator does not know the chain that was left: the books do.
    assert await shop.bring(acme) == ["migrate"]
    assert rows(shop, acme, "SHOW TABLES") == [("items",)]
    assert ledger(shop, acme) == [("1.0", "m0")]
    assert await shop.is_settled(acme)


@pytest.mark.parametrize(
    "point",
    [
        "migrator-opened",
        "migration-begun",
        "migration-statement",
        "definition-begun",
        "definition-done",
        "migration-written-down",
        "migration-done",
    ],
)
async def test_a_crash_loses_and_repeats_nothing(
    point: str, blueprint: Callable[..., Any], harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        SET @n = 7;
        INSERT INTO items (name) VALUES (CONCAT('before ', @n));
        ALTER TABLE items ADD COLUMN one INT NOT NULL DEFAULT 0;
        UPDATE items SET one = one + 1;
        ALTER TABLE items DROP COLUMN name, ADD COLUMN two INT;
        UPDATE items SET one = one + @n;
        INSERT INTO items (two) VALUES (@n)
    """
    number = 0
    while True:
        shop = blueprint(ITEMS)
        acme = await shop.make()
        shop.edition("2.0", text, "INSERT INTO items (two) VALUES (99)")
        wanted = replace(acme, chain=shop.chain)
        passed = 0

        def reached(name: str, at: int = number) -> None:
            nonlocal passed
            if name == point:
                if passed == at:
                    passed = 10**9
                    raise Crash(name)
                passed += 1

        monkeypatch.setattr(migrate_module, "reached", reached)
        crashed = False
        try:
            await shop.bring(wanted)
        except Crash:
            crashed = True
        monkeypatch.setattr(migrate_module, "reached", lambda name: None)
        successor = harness.engine("test")
        shop.engine = successor
        if crashed:
            assert await shop.bring(wanted) == ["migrate"]
        assert rows(shop, acme, "SELECT one, two FROM items ORDER BY id") == [(8, None), (0, 7), (0, 99)]
        assert ledger(shop, acme) == [("1.0", "m0"), ("2.0", "m0"), ("2.0", "m1")]
        assert await shop.is_settled(wanted)
        await successor.close()
        if not crashed:
            break
        number += 1
    assert number, f"{point} is not passed"


async def test_what_still_runs_for_a_dead_operator_is_ended_first(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", "CREATE TABLE two (i INT)")
    wanted = replace(acme, chain=shop.chain)
    definer = definer_of(acme.names)
    with shop.server.root() as root:
        root.execute(f"ALTER USER '{definer}'@'%' IDENTIFIED BY 'left' ACCOUNT UNLOCK")
    with shop.server.login(definer, acme.names.database, "left") as left:
        await shop.bring(wanted)
        with pytest.raises(pymysql.MySQLError):
            left.execute("SELECT 1")
    assert await shop.is_settled(wanted)


@pytest.mark.parametrize(
    "text",
    ["COMMIT", "BEGIN; DO 0", "START TRANSACTION", "SET autocommit = 0", "LOCK TABLES items WRITE", "USE mysql"],
)
async def test_what_is_the_operators_is_refused(text: str, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", f"CREATE TABLE two (i INT);\n{text}")
    with pytest.raises(Stalled, match="line 2: leave out"):
        await shop.bring(replace(acme, chain=shop.chain))
    assert rows(shop, acme, "SHOW TABLES") == [("items",)]
    assert await shop.is_settled(acme)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE DATABASE intruder",
        "CREATE TABLE tenantry.intruder (i INT)",
        "UPDATE tenantry.marks SET mark = ''",
        "DELETE FROM tenantry.ledger",
        "SELECT * FROM mysql.global_priv",
        "SELECT * FROM mysql.user",
        "CREATE USER intruder",
        "GRANT ALL ON *.* TO CURRENT_USER()",
        "SET GLOBAL max_connections = 1",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE items (name)",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE items (name)",
        "SELECT 1 INTO OUTFILE '/tmp/tenantry-intruder'",
        "CREATE DEFINER = 'tenantry_admin'@'%' PROCEDURE intrude() SELECT 1",
        "CREATE EVENT later ON SCHEDULE EVERY 1 DAY DO DELETE FROM items",
        "SELECT 1; SELECT * FROM information_schema.innodb_sys_tablespaces",
    ],
)
async def test_a_migration_reaches_nothing_else(text: str, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", text)
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.bring(replace(acme, chain=shop.chain))
    assert await shop.is_settled(acme)


async def test_routines_and_triggers_go_on_when_the_migration_is_over(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        f"""{ITEMS};
        CREATE TABLE log (name VARCHAR(50));
        CREATE TRIGGER logging AFTER INSERT ON items FOR EACH ROW
        BEGIN
          IF NEW.name IS NOT NULL THEN
            INSERT INTO log VALUES (NEW.name);
          END IF;
        END;
        CREATE PROCEDURE fill(IN n INT)
        BEGIN
          WHILE n > 0 DO
            INSERT INTO items (name) VALUES (CASE n WHEN 1 THEN 'last' ELSE 'x' END);
            SET n = n - 1;
          END WHILE;
        END;
        CREATE VIEW names AS SELECT name FROM log"""
    )
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("CALL fill(2)")
        session.execute("SELECT * FROM names")
        assert session.fetchall() == (("x",), ("last",))
    with pytest.raises(pymysql.MySQLError), shop.server.login(definer_of(acme.names), acme.names.database):
        pass


async def test_a_locked_table_is_waited_for_a_while(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", "ALTER TABLE items ADD COLUMN more INT")
    wanted = replace(acme, chain=shop.chain, pace=Pace(lock_timeout=1, timeout=20))
    with shop.login(acme) as session:
        session.execute("BEGIN")
        session.execute("SELECT * FROM items")
        with pytest.raises(Retryable, match="MigrationBlocked"):
            await shop.bring(wanted)
        assert (await shop.state(wanted)).target is None
    assert await shop.bring(wanted) == ["migrate"]
    assert await shop.is_settled(wanted)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT SLEEP(20)",
        "INSERT INTO items (name) VALUES ('a'); UPDATE items SET name = SLEEP(20)",
        "CREATE TABLE two AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
        "SELECT COUNT(*) AS i FROM n a, n b, n c, n d",
    ],
)
async def test_a_migration_may_take_so_long_and_no_longer(text: str, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.edition("2.0", text)
    with pytest.raises(Retryable, match="MigrationBlocked"):
        await shop.bring(replace(acme, chain=shop.chain, pace=Pace(lock_timeout=1, timeout=0.3)))
    # It does not go on where nobody waits for it any more.
    sessions = "SELECT id FROM information_schema.processlist WHERE user = %s"
    assert shop.server.query(sessions, definer_of(acme.names)) == []
    assert await shop.is_settled(acme)


async def test_an_edited_migration_is_an_error(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    edited = replace(shop.chain.migrations[0], text=ITEMS + " COMMENT 'edited'")
    chain = Chain.of(acme.blueprint, "1.0", [edited])
    with pytest.raises(Stalled, match="MigrationEdited"):
        await shop.bring(replace(acme, chain=chain))


async def test_a_failing_first_version_leaves_no_login(blueprint: Callable[..., Any], harness: Any) -> None:
    shop = blueprint(f"{ITEMS}; CREATE TABEL x (i INT)")
    with pytest.raises(Stalled, match="line 1, statement 2"):
        await shop.make()
    state = await shop.state(shop.desired())
    assert (state.exists, state.version, state.target, state.logins) == (True, None, "1.0", ())
    absent = shop.desired(presence=Presence.ABSENT, login=None, chain=None)
    await shop.bring(absent)
    assert await harness.leftovers(absent) == []
