"""The references of the benchmarks: what of them needs no server."""

from __future__ import annotations

import re

import pytest

from benchmarks import by_hand, recorded
from benchmarks.measure import Statement
from benchmarks.references import tables
from benchmarks.references.alter import STATEMENT, Altered, Way, best, scripts
from benchmarks.references.migrate import REQUIREMENTS, ways
from benchmarks.references.replay import message
from benchmarks.workload import example
from tenantry_crds.common import DatabaseEngine
from tenantry_crds.kinds import BY_KIND
from tenantry_operator.engines.postgres.lexer import split


def test_a_blueprint_has_as_many_tables_as_were_asked_for() -> None:
    for count in (1, 20, 33, 200):
        assert len(re.findall(r"^CREATE TABLE ", tables.script(count), re.MULTILINE)) == count


def test_every_table_has_a_key_two_to_four_columns_and_an_index_or_two() -> None:
    for number in range(1, tables.TABLES + 1):
        create, *indexes = tables.statements(number)
        columns = [line for line in create.splitlines() if line.startswith("  ")]
        assert "PRIMARY KEY" in columns[0]
        assert 2 <= len(columns) - 1 <= 4
        assert 1 <= len(indexes) <= 2
        assert all(index.startswith("CREATE INDEX ") for index in indexes)


def test_tables_refer_only_to_tables_before_them() -> None:
    found = [
        (number, int(target))
        for number in range(1, tables.TABLES + 1)
        for target in re.findall(r"REFERENCES t(\d+) ", tables.statements(number)[0])
    ]
    assert len(found) > 50
    assert all(target < number for number, target in found)


def test_psql_and_tenantry_get_the_same_ddl() -> None:
    version = tables.manifests("wide")[1][1]["spec"]
    assert "".join(step["sql"] for step in version["migrations"]) == tables.script()


def test_psql_sends_the_ddl_in_one_message() -> None:
    text = message(33)
    assert len(split(text.replace("\\;", ""))) == 1
    assert [s.text for s in split(text.replace("\\;", ";"))] == [s.text for s in split(tables.script(33))]


def test_the_manifests_are_valid() -> None:
    for resource, obj in tables.manifests("wide"):
        spec = BY_KIND[resource.kind].spec.model_validate(obj["spec"])
        assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == obj["spec"]


def test_statements_are_dealt_out_to_all_processes_and_quoted() -> None:
    schemas = ["a", 'b"; DROP', "c", "d", "e"]
    texts = scripts(STATEMENT, schemas, "note", 2)
    sent = [statement.text for text in texts for statement in split(text)]
    assert [len(split(text)) for text in texts] == [3, 2]
    assert 'ALTER TABLE "b""; DROP".orders ADD COLUMN "note" text' in sent


def test_no_more_processes_are_used_than_there_are_statements() -> None:
    assert len(scripts(STATEMENT, ["a"], "note", 4)) == 1


def test_the_best_is_the_fastest_by_the_median_of_its_kind() -> None:
    steady = Altered(Way(1), 100, (1.0, 1.0, 1.0))
    lucky = Altered(Way(2), 100, (0.1, 2.0, 2.0))
    together = Altered(Way(1, one_transaction=True), 100, (0.5, 0.5, 0.5))
    assert best([lucky, together, steady]) is steady
    assert best([lucky, together, steady], one_transaction=True) is together


def test_several_processes_never_share_a_pool() -> None:
    assert [way for way in ways(8) if way.executor == "multiprocessing" and way.pooled] == []
    assert {way.processes for way in ways(8)} >= {8, 16}


def test_requirements_have_hashes_and_no_hosts() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    assert text.count("==") <= text.count("--hash=sha256:")
    assert not re.search(r"https?://|--index-url|--find-links", text)


def test_by_hand_the_same_databases_get_the_same_messages_in_the_same_order() -> None:
    sent = [
        Statement(1, "postgres", True, 'CREATE ROLE "a"'),
        Statement(1, "postgres", True, "SELECT 1"),
        Statement(1, "postgres", False, "SELECT $1"),
        Statement(2, "a", True, "BEGIN;\nCREATE TABLE t ();\nCOMMIT;"),
        Statement(1, "postgres", True, "COMMENT ON ROLE a IS 'x'"),
    ]
    assert by_hand.script(sent).splitlines() == [
        '\\connect "postgres"',
        'CREATE ROLE "a";',
        '\\connect "a"',
        "BEGIN \\;",
        "CREATE TABLE t () \\;",
        "COMMIT;",
        '\\connect "postgres"',
        "COMMENT ON ROLE a IS 'x';",
    ]


@pytest.mark.parametrize("engine", DatabaseEngine)
def test_every_engine_has_an_example_to_be_measured_with(engine: DatabaseEngine) -> None:
    described, version = (obj["spec"] for _, obj in example(str(engine)))
    assert described["engine"] == str(engine)
    assert (version["version"], bool(version["migrations"])) == (described["version"], True)


@pytest.mark.parametrize(
    ("commands", "changes"),
    [
        ([("HGET", "a", "b")], False),
        ([("ACL", "GETUSER", "x")], False),
        ([("ACL", "SETUSER", "x", "on")], True),
        ([("ACL", "SETUSER", "check"), ("ACL", "DRYRUN", "check", "GET", "x")], False),
        ([("HSET", "a", "b", "c")], True),
        ([("EVAL", "return 1", 0)], True),
    ],
)
def test_redis_commands_that_change_nothing_are_not_sent_again(
    commands: list[tuple[str, ...]], changes: bool
) -> None:
    tenant = recorded.Tenant()
    with recorded.taken_down(tenant):
        recorded.of_redis(commands)
    assert (len(tenant.changes), tenant.looks) == (int(changes), int(not changes))
