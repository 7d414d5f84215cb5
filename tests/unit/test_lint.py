"""What linting finds in migrations, with the real squawk; and what becomes of a squawk that fails."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tenantry_operator.blueprints import squawk
from tenantry_operator.blueprints.findings import Finding, FindingKind
from tenantry_operator.blueprints.lint import lint, refused
from tenantry_operator.engines.base import Migration
from tenantry_operator.errors import Retryable

ROOT = Path(__file__).parents[2]
D, B, I, A = FindingKind  # noqa: E741 - short, for the tables below


def transacted(*texts: str) -> list[Migration]:
    return [Migration("1.1", f"m{number}", text) for number, text in enumerate(texts)]


def untransacted(text: str, name: str = "m0") -> Migration:
    return Migration("1.1", name, text, transactional=False)


async def rules(*migrations: Migration, created: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(finding.migration, finding.rule) for finding in await lint(migrations, created=created)]


async def refusals(*migrations: Migration, created: tuple[str, ...] = ()) -> list[str]:
    return [finding.rule for finding in refused(await lint(migrations, created=created), ())]


@pytest.mark.parametrize(
    ("text", "rule", "kind"),
    [
        ("DROP TABLE orders", "ban-drop-table", D),
        ("ALTER TABLE orders DROP COLUMN note", "ban-drop-column", D),
        ("ALTER TYPE address DROP ATTRIBUTE zip", "ban-drop-column", D),
        ("DROP SCHEMA old", "ban-drop-schema", D),
        ("DROP SEQUENCE numbers", "ban-drop-sequence", D),
        ("DROP DATABASE shop", "ban-drop-database", D),
        ("TRUNCATE orders", "truncate", D),
        ("TRUNCATE orders CASCADE", "ban-truncate-cascade", D),
        ("DELETE FROM orders", "delete-without-where", D),
        (
            "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone WHERE id > 1",
            "delete-without-where",
            D,
        ),
        ("WITH old AS (SELECT 1 WHERE true) DELETE FROM orders USING old", "delete-without-where", D),
        ("DROP OWNED BY clerk", "drop-owned", D),
        ("DROP TYPE mood CASCADE", "drop-cascade", D),
        ("DROP VIEW sales /* all of it */ CASCADE", "drop-cascade", D),
        ("DROP TYPE mood", "ban-drop-type", B),
        ("DROP VIEW sales", "ban-drop-view", B),
        ("ALTER TABLE orders RENAME COLUMN note TO remark", "renaming-column", B),
        ("ALTER TABLE orders RENAME TO purchases", "renaming-table", B),
        ("ALTER TABLE orders ALTER COLUMN id TYPE bigint", "changing-column-type", B),
        ("ALTER TABLE orders ALTER COLUMN note SET NOT NULL", "adding-not-nullable-field", B),
        ("ALTER TABLE orders ADD COLUMN note text NOT NULL", "adding-required-field", B),
        ("ALTER TABLE orders ADD COLUMN key uuid DEFAULT gen_random_uuid()", "adding-field-with-default", B),
        ("ALTER TABLE orders ADD COLUMN n bigint CHECK (n > 0)", "constraint-missing-not-valid", B),
        ("ALTER TABLE orders ADD CONSTRAINT n CHECK (n > 0)", "constraint-missing-not-valid", B),
        ("ALTER TABLE orders ADD COLUMN a text, ADD COLUMN n bigserial", "exclusive-lock", B),
        ("ALTER TABLE orders SET UNLOGGED", "exclusive-lock", B),
        ("CLUSTER orders USING orders_pkey", "exclusive-lock", B),
        ("REFRESH MATERIALIZED VIEW sales", "exclusive-lock", B),
        ("LOCK TABLE orders", "exclusive-lock", B),
        ("ALTER DOMAIN cents SET NOT NULL", "constraint-missing-not-valid", B),
        ("CREATE INDEX orders_note ON orders (note)", "require-concurrent-index-creation", B),
        ("DROP INDEX orders_note", "require-concurrent-index-deletion", B),
        ("UPDATE orders SET note = ''", "update-without-where", B),
        ("UPDATE orders SET note = (SELECT n FROM notes WHERE id = 1)", "update-without-where", B),
        ("REVOKE SELECT ON orders FROM PUBLIC", "ban-revoke", B),
        ("SELECT 1 FROM", "syntax-error", I),
        ("UPDATE orders SET a = 1, a = 2 WHERE id = 3", "ban-duplicate-column-assignments", I),
        ("CREATE TABLE orders (id int)", "prefer-bigint-over-int", A),
        ("CREATE TABLE orders (note varchar(10))", "prefer-text-field", A),
        ("ALTER TABLE orders DROP CONSTRAINT orders_note", "ban-drop-constraint", A),
        ("-- squawk-ignore ban-everything\nSELECT 1", "unused-ignore", A),
    ],
)
async def test_a_rule_is_of_its_kind(text: str, rule: str, kind: FindingKind) -> None:
    found = await lint(transacted(text))
    assert {finding.kind for finding in found if finding.rule == rule} == {kind}


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM orders WHERE id = 1",
        "UPDATE orders SET note = '' WHERE note IS NULL",
        "WITH a AS (SELECT 1) UPDATE orders SET n = 1 WHERE id = 2",
        "INSERT INTO orders VALUES (1) ON CONFLICT (id) DO UPDATE SET note = excluded.note",
        "SELECT * FROM orders FOR UPDATE",
        "CREATE RULE r AS ON INSERT TO orders DO ALSO (UPDATE counts SET n = n + 1; DELETE FROM notes)",
        "CREATE TRIGGER t BEFORE UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM orders; END",
        "SELECT 'DROP TABLE orders; COMMIT; TRUNCATE orders'",
        "-- DROP TABLE orders;\nSELECT $$ COMMIT; VACUUM $$",
        "ALTER TABLE orders ADD CONSTRAINT n CHECK (n > 0) NOT VALID",
        "ALTER TABLE orders ADD COLUMN note text",
        "ALTER TABLE orders VALIDATE CONSTRAINT n",
        'SELECT 1 AS "drop owned", 2 AS "vacuum"',
    ],
)
async def test_what_is_harmless_is_let_pass(text: str) -> None:
    assert await lint(transacted(text)) == ()


async def test_nothing_is_found_in_nothing() -> None:
    assert await lint([]) == ()
    assert await lint(transacted("", " \n", "-- later")) == ()


async def test_timeouts_and_transactions_are_the_operators() -> None:
    text = "ALTER TABLE orders ADD COLUMN note text; COMMENT ON COLUMN orders.note IS 'x'"
    assert await lint(transacted(text)) == ()


@pytest.mark.parametrize(
    "command", ["BEGIN", "start transaction", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT a", "RELEASE a"]
)
async def test_a_migration_leaves_transactions_to_the_operator(command: str) -> None:
    assert ("m0", "transaction-control") in await rules(*transacted(f"SELECT 1;\n{command};"))
    assert ("m0", "transaction-control") in await rules(untransacted(f"{command};"))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY i ON orders (note)",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON orders (note)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY orders",
        "REINDEX (VERBOSE, CONCURRENTLY) TABLE orders",
        "VACUUM orders",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "CREATE DATABASE other",
        "ALTER TABLE orders DETACH PARTITION orders_1999 CONCURRENTLY",
    ],
)
async def test_what_cannot_run_in_a_transaction_is_told_where_it_can(statement: str) -> None:
    (finding,) = [f for f in await lint(transacted(statement)) if f.rule == "not-in-transaction"]
    assert finding.kind is I
    assert "transactional: false" in finding.message
    assert ("m0", "not-in-transaction") not in await rules(untransacted(statement))


@pytest.mark.parametrize(
    ("statement", "repeatable"),
    [
        ("CREATE INDEX CONCURRENTLY i ON orders (note)", True),
        ("CREATE INDEX CONCURRENTLY ON orders (note)", False),
        ("DROP INDEX CONCURRENTLY i", True),
        ("REINDEX TABLE CONCURRENTLY orders", True),
        ("VACUUM orders", True),
        ("ANALYZE orders", True),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY sales", True),
        ("ALTER TABLE orders ADD COLUMN IF NOT EXISTS note text", True),
        ("ALTER TABLE orders VALIDATE CONSTRAINT n", True),
        ("CREATE OR REPLACE VIEW sales AS SELECT 1", True),
        ("ALTER TABLE orders ADD COLUMN note text", False),
        ("INSERT INTO orders VALUES (1)", False),
    ],
)
async def test_what_must_not_run_twice_is_told_apart(statement: str, repeatable: bool) -> None:
    found = await lint([untransacted(statement)])
    assert [finding.kind for finding in found if finding.rule == "not-repeatable"] == ([] if repeatable else [A])
    assert ("m0", "not-repeatable") not in await rules(*transacted(statement))


async def test_what_the_version_makes_itself_may_be_changed_and_dropped() -> None:
    made = (
        "CREATE TABLE Notes (id bigint); CREATE VIEW all_notes AS SELECT * FROM notes; CREATE TYPE mood AS ENUM ()"
    )
    changed = """
        CREATE INDEX ON notes (id);
        ALTER TABLE ONLY "notes" ADD COLUMN at timestamptz NOT NULL, ADD PRIMARY KEY (id);
        ALTER TABLE notes ADD FOREIGN KEY (id) REFERENCES orders (id);
        UPDATE notes SET at = now();
        WITH a AS (DELETE FROM notes RETURNING *) SELECT * FROM a;
        TRUNCATE notes;
        DROP VIEW all_notes;
        DROP TYPE mood;
        DROP TABLE notes"""
    assert await refusals(*transacted(f"{made};{changed}")) == []
    assert await refusals(*transacted(made, changed)) == []
    assert await refusals(untransacted(made), *transacted(changed)[1:], untransacted(changed, "m1")) == []
    assert "ban-drop-table" in await refusals(*transacted(changed))


async def test_tables_known_to_be_new_may_be_changed_and_dropped() -> None:
    text = "CREATE INDEX ON notes (id); DROP TABLE shop.lines"
    assert await refusals(*transacted(text), created=("notes", "shop.lines")) == []
    assert await refusals(*transacted(text), created=("lines", "shop.notes")) == [
        "ban-drop-table",
        "require-concurrent-index-creation",
    ]


async def test_a_table_that_may_have_been_there_may_be_locked_but_not_dropped() -> None:
    texts = ("CREATE TABLE IF NOT EXISTS notes (id bigint)", "CREATE INDEX ON notes (id); DROP TABLE notes")
    assert await refusals(*transacted(*texts)) == ["ban-drop-table"]


@pytest.mark.parametrize(
    "between",
    [
        "DROP TABLE orders",
        "ALTER TABLE orders RENAME TO newer",
        "SET search_path = other",
        "ALTER TABLE orders ATTACH PARTITION older DEFAULT",
    ],
)
async def test_an_old_table_does_not_pass_for_a_new_one(between: str) -> None:
    texts = ("CREATE TABLE orders (id bigint) PARTITION BY HASH (id)", f"{between}; DROP TABLE orders")
    assert "ban-drop-table" in await refusals(*transacted(*texts))


async def test_other_tables_are_not_new_because_of_one_in_the_statement() -> None:
    texts = ("CREATE TABLE notes (id bigint)", "DROP TABLE notes, orders")
    assert await refusals(*transacted(*texts)) == ["ban-drop-table"]
    texts = ("CREATE TABLE notes (id bigint)", "TRUNCATE notes CASCADE")
    assert await refusals(*transacted(*texts)) == ["ban-truncate-cascade"]


async def test_a_constraint_is_not_validated_in_the_migration_that_adds_it() -> None:
    add, check = (
        "ALTER TABLE orders ADD CONSTRAINT n CHECK (n IS NOT NULL) NOT VALID;",
        "ALTER TABLE orders VALIDATE CONSTRAINT n",
    )
    assert await rules(*transacted(add + check)) == [("m0", "constraint-missing-not-valid")]
    assert await rules(*transacted(add), untransacted(check, "m1")) == []
    assert await rules(untransacted(add + check)) == [("m0", "not-repeatable")]


async def test_findings_name_the_migration_and_the_line() -> None:
    first = "SELECT 'ä', '\n';\r\n/* ö\n */ ALTER TABLE orders\r  ADD COLUMN a text,\r\n  DROP COLUMN ü;"
    found = await lint(transacted(first, "\n\nDELETE\nFROM orders; DROP TABLE\norders"))
    assert [(f.migration, f.rule, f.line) for f in found] == [
        ("m0", "ban-drop-column", 6),
        ("m1", "delete-without-where", 3),
        ("m1", "ban-drop-table", 4),
    ]


async def test_what_destroys_comes_first_then_by_migration_and_line() -> None:
    found = await lint(
        transacted(
            "CREATE TABLE a (id int);\nUPDATE orders SET a = 1;\nDROP TABLE x;\nDELETE FROM x",
            "COMMIT;\nDROP TABLE y",
        )
    )
    assert [(f.kind, f.migration, f.line) for f in found] == [
        (D, "m0", 3),
        (D, "m0", 4),
        (D, "m1", 2),
        (B, "m0", 2),
        (I, "m1", 1),
        (A, "m0", 1),
    ]


def test_refused_is_what_nobody_acknowledged_and_no_advice() -> None:
    found = [Finding("m", kind.lower(), kind, 1, "") for kind in FindingKind]
    assert refused(found, ()) == tuple(found[:3])
    assert refused(found, {"blocking", "advice", "other"}) == (found[0], found[2])
    assert refused([], {"blocking"}) == ()


async def test_squawks_own_comments_are_heeded_in_their_migration_only() -> None:
    assert await rules(*transacted("-- squawk-ignore ban-drop-table\nDROP TABLE a;\nDROP TABLE b")) == [
        ("m0", "ban-drop-table")
    ]
    assert await rules(*transacted("-- squawk-ignore-file\nDROP TABLE a", "DROP TABLE b")) == [
        ("m1", "ban-drop-table")
    ]


async def test_no_configuration_of_the_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".squawk.toml").write_text("excluded_rules = [\n")
    monkeypatch.chdir(tmp_path)
    assert await rules(*transacted("DROP TABLE a")) == [("m0", "ban-drop-table")]


async def test_a_syntax_error_hides_nothing() -> None:
    found = await lint(transacted("SELECT é FROM;\nDROP TABLE a;\nSELECT 1 2 3;\nALTER TABLE b DROP COLUMN c"))
    assert [(f.rule, f.line) for f in found] == [
        ("ban-drop-table", 2),
        ("ban-drop-column", 4),
        ("syntax-error", 1),
        ("syntax-error", 3),
    ]


async def test_a_statement_has_one_syntax_error() -> None:
    assert await rules(*transacted("SELECT 1 2 3 a b c FROM WHERE")) == [("m0", "syntax-error")]


async def test_a_text_without_an_end_does_not_spill_into_the_next() -> None:
    for text in ("SELECT 'a", "SELECT $x$ a", "/* a", 'SELECT "a', "SELECT (1"):
        found = await rules(*transacted(text, "DROP TABLE a"))
        assert ("m0", "syntax-error") in found
        assert ("m1", "ban-drop-table") in found


@pytest.mark.parametrize("character", ["\0", "\ud800"])
async def test_what_postgresql_cannot_take_is_pointed_at(character: str) -> None:
    found = await lint(transacted(f"SELECT 1;\nSELECT '{character}';\nDROP TABLE a"))
    assert [(f.rule, f.kind, f.line) for f in found] == [("ban-drop-table", D, 3), ("unfit-text", I, 2)]


async def test_a_carriage_return_ends_a_comment() -> None:
    found = await lint(transacted("-- nothing to see\rTRUNCATE orders"))
    assert [(f.rule, f.line) for f in found] == [("truncate", 2)]


async def test_messages_have_a_bound() -> None:
    found = await lint(transacted(f"CREATE TABLE {'a' * 5000} ()"))
    assert [(f.rule, len(f.message)) for f in found] == [("identifier-too-long", 400)]


async def test_half_a_megabyte_is_read_while_the_loop_goes_on() -> None:
    statement = "CREATE TABLE t{0} (id bigint PRIMARY KEY, note text NOT NULL DEFAULT 'ä');\n"
    text = "".join(statement.format(number) for number in range(7000))
    text = text[: 512 * 1024 - 13].rpartition("\n")[0] + "\nDROP TABLE a"
    assert len(text) > 500 * 1024
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    turning = asyncio.create_task(turn())
    found = await lint(transacted(text))
    turning.cancel()
    assert [(f.rule, f.line) for f in found] == [("ban-drop-table", text.count("\n") + 1)]
    assert turns > 20


async def test_a_version_may_have_256_migrations() -> None:
    texts = ["CREATE TABLE t (id bigint)", *(["CREATE INDEX ON t (id)"] * 254), "DROP TABLE other"]
    assert await rules(*transacted(*texts)) == [("m255", "ban-drop-table")]


async def test_an_empty_database_has_nothing_to_lose() -> None:
    spec = yaml.safe_load((ROOT / "examples/shop/shop-1.0.yaml").read_text())["spec"]
    migrations = [Migration(spec["version"], step["name"], step["sql"]) for step in spec["migrations"]]
    assert len(migrations) > 1
    assert await refusals(*migrations) == []


def test_squawk_knows_the_rules_that_are_decided_upon() -> None:
    names = {*squawk._KINDS, *squawk._INCLUDED.split(","), *squawk._EXCLUDED.split(",")}
    names -= {"syntax-error", "unused-ignore", "too-many-findings"}  # which it does not let be switched off
    command = [squawk._program(), "--exclude", ",".join(names)]
    done = subprocess.run(command, check=False, input="DROP TABLE a", text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Puts a program in squawk's place."""
    program = folder / "squawk"
    program.write_text(f"#!{sys.executable} -S\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import sys; sys.exit('no such option')", "not understood"),
        ("import sys; print('no such option', file=sys.stderr); sys.exit(2)", "ended with 2: no such option"),
        ("import os; os.abort()", "ended with -6: it says nothing"),
        ("import time; time.sleep(60)", "longer than 0.5 seconds"),
        ("import os; os.system('sleep 60')", "longer than 0.5 seconds"),
        ("print('All is well')", "not understood: b'All is well"),
        ("print('[]'); print('[]')", "not understood"),
        ("print('{}')", "not understood"),
        ("print('[1]')", "not understood"),
        ("print('[')", "not understood"),
        ("print(b'\\xff')", "not understood"),
        ("import sys; print('[]'); sys.exit(1)", "not understood"),
        ('import sys; print(\'[{"line": 0, "column": 0}]\'); sys.exit(1)', "not understood"),
        (
            'import sys; print(\'[{"line": 7, "column": 0, "message": "", "help": null, '
            '"rule_name": "x"}]\'); sys.exit(1)',
            "not understood",
        ),
        ("", "not understood"),
    ],
)
async def test_a_squawk_that_fails_is_never_taken_for_one_that_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    stand_in(monkeypatch, tmp_path, body)
    if "sleep" in body:
        monkeypatch.setattr(squawk, "_TIMEOUT", 0.5)
    begun = time.monotonic()
    with pytest.raises(Retryable, match=message) as caught:
        await lint(transacted("DROP TABLE a"))
    assert caught.value.reason == "LintFailed"
    assert "migration m0 of version 1.1" in caught.value.message
    assert time.monotonic() - begun < 30


async def test_a_squawk_that_does_not_start_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, "print('[]')")
    (tmp_path / "squawk").chmod(0o644)
    with pytest.raises(Retryable, match="squawk does not start"):
        await lint(transacted("DROP TABLE a"))


async def test_a_squawk_that_is_not_there_is_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await rules(*transacted("DROP TABLE a")) == [("m0", "ban-drop-table")], "its package says where it is"

    def no_package(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", no_package)
    with pytest.raises(Retryable, match="install the Python package squawk-cli") as caught:
        await lint(transacted("DROP TABLE a"))
    assert caught.value.reason == "LintFailed"


async def test_more_than_can_be_read_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk, "_MOST_OUTPUT", 100_000)
    found = await lint(transacted("DROP TABLE a;\n" * 5000, "DROP TABLE b"))
    assert [(f.migration, f.rule, f.kind, f.line) for f in found] == [
        ("m1", "ban-drop-table", D, 1),
        ("m0", "too-many-findings", I, None),
    ]


async def test_squawk_learns_nothing_of_the_operators_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    seen = tmp_path / "environment"
    stand_in(
        monkeypatch, tmp_path, f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ))); print('[]')"
    )
    assert await lint(transacted("SELECT 1")) == ()
    assert "RAYON_NUM_THREADS" in seen.read_text()
    assert "DATABASE_PASSWORD" not in seen.read_text()
    assert "PATH" not in seen.read_text()


async def test_squawk_ends_with_whoever_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = tmp_path / "pid"
    stand_in(
        monkeypatch,
        tmp_path,
        f"import os, time; open({str(noted)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(60)",
    )
    asking = asyncio.create_task(lint(transacted("DROP TABLE a")))
    for _ in range(500):
        await asyncio.sleep(0.02)
        if noted.exists() and noted.read_text().endswith("."):
            break
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()[:-1]), 0)
