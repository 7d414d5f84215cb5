"""MySQL: statements, quoting, patterns, versions and plans, without a server."""

from __future__ import annotations

import pymysql
import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import DatabaseState, Desired, Isolation, Ownership, Presence
from tenantry_operator.engines.mysql import hardening, sql
from tenantry_operator.engines.mysql.catalog import Catalog
from tenantry_operator.engines.mysql.errno import connect_error, translate
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.lexer import line_of, split
from tenantry_operator.engines.mysql.names import own_accounts
from tenantry_operator.engines.mysql.parts import Grant, processes
from tenantry_operator.engines.mysql.plan import plan
from tenantry_operator.engines.mysql.privileges import of_grants
from tenantry_operator.engines.mysql.view import View
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.tenants.naming import names_for


@pytest.mark.parametrize(
    ("text", "statements", "kinds"),
    [
        ("", [], ""),
        (" ;; -- nothing\n; # at all", [], ""),
        ("SELECT 1;SELECT 2", ["SELECT 1", "SELECT 2"], "dd"),
        ("SELECT 1--1;", ["SELECT 1--1"], "d"),
        ("-- a;b\nSELECT 1 # c;d\n/* e;f */;", ["SELECT 1"], "d"),
        ("SELECT 'a\\';b', `c;``d`; DO 0", ["SELECT 'a\\';b', `c;``d`", "DO 0"], "dd"),
        ('SELECT "a"";b\\";c"; DO 0', ['SELECT "a"";b\\";c"', "DO 0"], "dd"),
        ("/*!40101 SET NAMES utf8mb4 */; /*M! SET @a = 1 */", ["/*!40101 SET NAMES utf8mb4 */"], "ss"),
        ("CREATE TABLE event (begin INT, `end` INT); DO 0", None, "ed"),
        ("CREATE TEMPORARY TABLE t (i INT)", None, "d"),
        ("BEGIN NOT ATOMIC DO 0; DO 1; END; DO 2", ["BEGIN NOT ATOMIC DO 0; DO 1; END", "DO 2"], "ed"),
        ("BEGIN; DO 0; COMMIT", None, "rdr"),
        ("SET autocommit = 1; SET @a = 1; SET STATEMENT x = 1 FOR DO 0", None, "rse"),
        ("DELIMITER //\nSELECT 1 //", None, "r"),
        (
            "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.x = IF(1, 2, 3); DO 0",
            ["CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.x = IF(1, 2, 3)", "DO 0"],
            "ed",
        ),
        (
            """CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE p(IN n INT)
            BEGIN
              l: LOOP
                IF n > 1 THEN LEAVE l; END IF;
                CASE n WHEN 1 THEN SET n = CASE WHEN 1 THEN 2 END; ELSE BEGIN END; END CASE;
                WHILE n < 1 DO SELECT a.end, a.begin FROM a; END WHILE;
              END LOOP l;
            END; DO 0""",
            None,
            "ed",
        ),
    ],
)
def test_statements_end_where_they_end(text: str, statements: list[str] | None, kinds: str | None) -> None:
    kinds_by_letter = {"d": "data", "s": "session", "e": "definition", "r": "refused"}
    found = split(text)
    if statements is not None:
        assert [statement.text for statement in found][: len(statements)] == statements
    if kinds is not None:
        assert [statement.kind.value for statement in found] == [kinds_by_letter[kind] for kind in kinds]
    for statement in found:
        assert text[statement.start :].startswith(statement.text)


def test_lines_are_counted_from_one() -> None:
    text = "DO 0;\n\n  DO 1"
    assert [line_of(text, statement.start) for statement in split(text)] == [1, 3]


def test_what_is_quoted_stays_in_its_quotes() -> None:
    assert sql.name("a`b") == "`a``b`"
    assert sql.literal("a'b\\") == r"'a\'b\\'"
    assert sql.literal(None) == "NULL"
    assert sql.pattern("a_b%c") == r"`a\_b\%c`"
    assert sql.account("a'b") == r"'a\'b'@'%'"
    assert sql.literals([]) == "NULL"
    with pytest.raises(ValueError, match="identifier"):
        sql.name("a\0b")


def test_a_native_hash_is_the_servers() -> None:
    # As MariaDB's SELECT PASSWORD('mariadb') answers: its manual, PASSWORD.
    assert sql.native_hash("mariadb") == "*54958E764CE10E50764C2EECBB71D01F08549980"


@pytest.mark.parametrize(
    ("text", "mariadb", "version", "too_old"),
    [
        ("10.11.6-MariaDB-0+deb12u1", True, (10, 11, 6), False),
        ("5.5.5-10.5.2-MariaDB", True, (10, 5, 2), True),
        ("11.4.2-MariaDB", True, (11, 4, 2), False),
        ("8.0.36", False, (8, 0, 36), False),
        ("5.7.44-log", False, (5, 7, 44), True),
        ("nonsense", False, (0, 0, 0), True),
    ],
)
def test_versions(text: str, mariadb: bool, version: tuple[int, int, int], too_old: bool) -> None:
    found = Flavour.of(text)
    assert (found.mariadb, found.version, found.too_old) == (mariadb, version, too_old)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"version": "9.7.4-2", "log_bin": "ON"}, Flavour(False, (9, 7, 4), False, False, "", False)),
        (
            {
                "version": "8.4.0",
                "performance_schema": "ON",
                "partial_revokes": "ON",
                "mandatory_roles": "`r`@`%`",
            },
            Flavour(False, (8, 4, 0), True, True, "`r`@`%`", True),
        ),
        (
            {"version": "11.8.9-MariaDB", "log_bin": "ON", "log_bin_trust_function_creators": "ON"},
            Flavour(True, (11, 8, 9), False, False, "", True),
        ),
    ],
)
def test_settings_that_matter(variables: dict[str, str], expected: Flavour) -> None:
    assert Flavour.of_variables(variables) == expected


@pytest.mark.parametrize(
    ("flavour", "table"),
    [
        (Flavour(True, (11, 8, 9), performance_schema=True), "information_schema.processlist"),
        (Flavour(False, (8, 0, 21)), "information_schema.processlist"),
        (Flavour(False, (9, 7, 4)), "performance_schema.processlist"),
        # It is empty then.
        (Flavour(False, (9, 7, 4), performance_schema=False), "information_schema.processlist"),
    ],
)
def test_where_sessions_are_seen(flavour: Flavour, table: str) -> None:
    assert processes(flavour) == table


def test_patterns_are_literal_where_rights_can_be_revoked_in_part() -> None:
    assert Flavour(False, (9, 7, 4)).pattern("a_b") == r"`a\_b`"
    literal = Flavour(False, (9, 7, 4), partial_revokes=True)
    assert literal.pattern("a_b") == "`a_b`"
    assert hardening.open_to_everybody(_catalog("shop%", flavour=literal), "shop__acme") is None
    assert hardening.open_to_everybody(_catalog("shop__acme", flavour=literal), "shop__acme") == "shop__acme"


def _catalog(*patterns: str, flavour: Flavour | None = None) -> Catalog:
    grants = {"": [Grant("%", pattern, frozenset({"SELECT"})) for pattern in patterns]}
    return Catalog(flavour or Flavour(True, (10, 11, 0)), frozenset(), {}, grants, {}, {}, {})


@pytest.mark.parametrize(
    ("pattern", "database", "matches"),
    [
        ("test", "test", True),
        ("test", "test__acme", False),
        ("test\\_%", "test__acme", True),
        ("test\\_%", "testing", False),
        ("te_t%", "text__acme", True),
        ("%", "shop__acme", True),
        ("shop.*", "shop__acme", False),
    ],
)
def test_what_everybody_may_use_is_told_by_its_pattern(pattern: str, database: str, matches: bool) -> None:
    found = hardening.open_to_everybody(_catalog("other", pattern), database)
    assert found == (pattern if matches else None)


def test_rights_are_read_from_what_the_server_says_of_them() -> None:
    grants = (
        "GRANT PROCESS, CREATE USER, CONNECTION ADMIN ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*AB'",
        "GRANT ALL PRIVILEGES ON `%`.* TO `a`@`%` WITH GRANT OPTION",
        "GRANT CONNECTION_ADMIN,ROLE_ADMIN ON *.* TO `a`@`%`",
    )
    assert of_grants(grants) == {"PROCESS", "CREATE USER", "CONNECTION ADMIN", "ROLE ADMIN"}


def test_errors_mean_what_they_mean() -> None:
    def error(number: int, text: str = "x") -> pymysql.MySQLError:
        return pymysql.err.OperationalError(number, text)

    assert isinstance(translate(error(1205), "here"), Retryable)
    assert isinstance(translate(error(2013), "here"), Retryable)
    assert isinstance(translate(error(1227), "here"), Stalled)
    assert isinstance(connect_error(error(1045), "there"), Stalled)
    assert isinstance(connect_error(error(2003), "there"), Retryable)
    secret = translate(error(1064, "near '*HASH' at line 1"), "here")
    assert "HASH" not in str(secret)


def _desired(**changes: object) -> Desired:
    names = names_for(Isolation.DATABASE, "shop", "acme", "main", engine=DatabaseEngine.MYSQL)
    values = {"presence": Presence.LIVE, "login": names.login_a, **changes}
    return Desired("i", "ns/acme", "acme", "main", Isolation.DATABASE, names, "ns/shop", **values)  # type: ignore[arg-type]


def test_accounts_fit_into_mysqls_names_and_stay_apart() -> None:
    long = names_for(Isolation.DATABASE, "a" * 40, "b" * 60, "main", engine=DatabaseEngine.MYSQL)
    other = names_for(Isolation.DATABASE, "a" * 40, "b" * 59, "main", engine=DatabaseEngine.MYSQL)
    found = [*own_accounts(long), *own_accounts(other)]
    assert len(set(found)) == 8
    assert max(map(len, found)) <= 32


def test_nothing_is_planned_when_nothing_differs() -> None:
    view = View("database x", data=True, made=True, lost=False, marked=True)
    state = DatabaseState(Ownership.OURS, exists=True, detail=view)
    assert plan(_desired(), state, None) == ()
    assert [step.name for step in plan(_desired(presence=Presence.ABSENT), state, None)] == [
        "drop-database",
        "drop-accounts",
    ]
    with pytest.raises(Stalled, match="NameTaken"):
        plan(_desired(), DatabaseState(Ownership.STRANGER, "database x"), None)
