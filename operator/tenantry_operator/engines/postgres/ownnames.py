"""A schema's own name, taken out of what the server writes. Pure.

"acme.orders" in a definition that belongs to schema acme becomes an orders of the schema itself; the same letters
in a string literal, or within a quoted name, stay as they are. Where a query has a table that is called acme, too,
"acme.total" may be a column: that it is unless it stands where only relations, types or functions can.

Source: src/backend/utils/adt/ruleutils.c: keywords are in capitals, conditions in parentheses, strings in standard
quotes whatever the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

OWN = "\0"
"""Stands for the schema's own name; no text of PostgreSQL has this character."""

_NAME = r'(?:[\w$]+|"[^"]*(?:""[^"]*)*")'
_PATH_ELEMENT = re.compile(_NAME)
_TOKEN = re.compile(rf"'[^']*(?:''[^']*)*'(?:::reg[a-z]+)?|{_NAME}(?:\.{_NAME})*\.?|[(),]")
_QUERY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"})
_EVENT = frozenset({"ON", "BEFORE", "AFTER", "OF", "OR"})
"""What comes before the event of a trigger or a rule, which is no query."""
_RELATIONS = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "USING"})
_VALUES = frozenset(
    "SELECT WHERE SET VALUES RETURNING RETURN GROUP HAVING WINDOW ORDER LIMIT OFFSET WHEN".split()  # noqa: SIM905
)
_ROWS = frozenset({"old", "new", "excluded"})
"""What rows are called in triggers and rules."""


@dataclass(slots=True)
class _Level:
    """Between two parentheses."""

    relations: bool
    """A name is that of a relation, not of a column."""
    query: bool = False
    """Not that of EXTRACT (year FROM total)."""


@dataclass(frozen=True, slots=True)
class OwnName:
    """The name of a schema.

    :param quoted: as the server writes it.
    """

    quoted: str

    def take_out(self, text: str) -> str:
        """A definition without queries, such as a type, a default or an index."""
        return self._exchange(text, None)

    def take_out_of_query(self, text: str, around: str = "") -> str:
        """The definition of a view, a policy, or a function in SQL.

        :param around: the policy's table or the function, quoted: that name, too, may stand before columns and
            arguments.
        """
        aliased = around == self.quoted or self._is_alias(text)
        return self._exchange(text, _Level(relations=False) if aliased else None)

    def take_out_of_statement(self, text: str) -> str:
        """The statement that makes a trigger or a rule."""
        aliased = self.quoted in _ROWS or self._is_alias(text)
        return self._exchange(text, _Level(relations=True) if aliased else None)

    def take_out_of_setting(self, text: str) -> str:
        """A setting of a function: SET search_path FROM CURRENT writes the schema's name into it."""
        name, _, value = text.partition("=")
        if name != "search_path":
            return text
        return f"{name}=" + _PATH_ELEMENT.sub(
            lambda match: OWN if match.group() == self.quoted else match.group(), value
        )

    def _is_alias(self, text: str) -> bool:
        """Whether a table in it may be called like the schema."""
        if f"{self.quoted}." not in text:
            return False
        last = f".{self.quoted}"
        tokens = (match.group() for match in _TOKEN.finditer(text))
        return any(token == self.quoted or token.endswith(last) for token in tokens)

    def _exchange(self, text: str, outermost: _Level | None) -> str:
        prefix = f"{self.quoted}."
        literal = "'" + prefix.replace("'", "''")
        if prefix not in text and literal not in text:
            return text
        pieces, end = [], 0
        for match, relation in _names(text, outermost):
            token = match.group()
            if token.startswith(literal) and not token.endswith("'"):
                exchanged = "'" + OWN + token[len(literal) :]
            elif token.startswith(prefix) and (relation or _is_no_column(text, match)):
                exchanged = OWN + token[len(prefix) :]
            else:
                continue
            pieces += [text[end : match.start()], exchanged]
            end = match.end()
        return "".join([*pieces, text[end:]])


def _names(text: str, outermost: _Level | None) -> Iterator[tuple[re.Match[str], bool]]:
    """Names and literals, and whether a name is surely no column's.

    :param outermost: None: no name is.
    """
    levels, before = [outermost or _Level(relations=True)], ""
    for match in _TOKEN.finditer(text):
        word, level = match.group(), levels[-1]
        if outermost is None or (word in _QUERY and before in _EVENT):
            pass
        elif word in "()":
            inner = level.relations and before in ("", "(", ",", "FROM", "JOIN", "ONLY")
            levels = [*levels, _Level(relations=inner)] if word == "(" else levels[:-1] or [level]
        elif word in _RELATIONS or word in _QUERY or word in _VALUES:
            level.query = level.query or word in _QUERY
            asked = level.query or level.relations
            level.relations = word in _RELATIONS and asked and before != "DISTINCT"
        before = word
        yield match, level.relations


def _is_no_column(text: str, match: re.Match[str]) -> bool:
    """Whether a name in an expression is that of a function, an operator, a type or a collation."""
    start, end = match.span()
    return text.startswith("(", end) or text[:start].endswith(("::", "OPERATOR(", "COLLATE "))
