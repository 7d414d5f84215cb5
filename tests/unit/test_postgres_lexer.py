"""Where statements begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.engines.postgres.lexer import line_of, split

ATOMIC = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END"
TEXTS = {
    "SELECT 1": ["SELECT 1"],
    "SELECT 1;": ["SELECT 1"],
    ";;SELECT 1;;": ["SELECT 1"],
    "SELECT ';'; SELECT 2": ["SELECT ';'", "SELECT 2"],
    "SELECT 'it''s;'; SELECT 2": ["SELECT 'it''s;'", "SELECT 2"],
    r"SELECT E'\';'; SELECT 2": [r"SELECT E'\';'", "SELECT 2"],
    r"SELECT '\'; SELECT 2": [r"SELECT '\'", "SELECT 2"],
    'SELECT ";" FROM a; SELECT 2': ['SELECT ";" FROM a', "SELECT 2"],
    "SELECT 1 -- no; comment\n; SELECT 2": ["SELECT 1", "SELECT 2"],
    "/* a; /* nested; */ still; */ SELECT 1; SELECT 2": ["SELECT 1", "SELECT 2"],
    "DO $$ BEGIN; END $$; SELECT 2": ["DO $$ BEGIN; END $$", "SELECT 2"],
    "DO $a$ $$; $a$; SELECT $1;": ["DO $a$ $$; $a$", "SELECT $1"],
    "SELECT a$b$c; SELECT 2": ["SELECT a$b$c", "SELECT 2"],
    "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3": [
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "SELECT 3",
    ],
    f"{ATOMIC}; SELECT 3": [ATOMIC, "SELECT 3"],
    "BEGIN; SELECT 1; END; SELECT 2": ["BEGIN", "SELECT 1", "END", "SELECT 2"],
    "": [],
    "-- nothing": [],
}


@pytest.mark.parametrize("text", TEXTS)
def test_statements_are_found(text: str) -> None:
    assert [statement.text for statement in split(text)] == TEXTS[text]


@given(st.text(alphabet="a1'\"$;-/*()E\\\n \tbegindo", max_size=60))
def test_any_text_can_be_split_and_is_quoted_as_it_is(text: str) -> None:
    end = 0
    for statement in split(text):
        assert statement.text
        assert text[statement.start :].startswith(statement.text)
        assert statement.start >= end
        end = statement.start + len(statement.text)


def test_lines_are_counted_from_one() -> None:
    assert [line_of("a\nb\n", offset) for offset in (0, 1, 2, -1)] == [1, 1, 2, 1]
