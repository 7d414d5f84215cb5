"""Where the statements of an SQL text begin and end, and what kind each is. Pure.

The rules are the server's: MySQL's manual, "Language Structure" and "Comments". Quotes are read as in the usual
sql_mode, with the backslash as escape. There is no DELIMITER: the body of a routine, trigger or event ends with
the END of its BEGIN; one of several statements without BEGIN cannot be told apart, and fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_WORD = r"[A-Za-z_$\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*"
_LEXEME = re.compile(
    rf"""
      (?P<comment>\#[^\n]*|--(?=\s|$)[^\n]*|--(?=[\x00-\x1f])[^\n]*)
    | (?P<open>/\*M?!\d*)
    | (?P<block>/\*.*?(?:\*/|\Z))
    | (?P<close>\*/)
    | (?P<string>'(?:[^'\\]|\\.|'')*(?:'|\Z))
    | (?P<double>"(?:[^"\\]|\\.|"")*(?:"|\Z))
    | (?P<name>`(?:[^`]|``)*(?:`|\Z))
    | (?P<variable>@@?{_WORD}|@)
    | (?P<word>{_WORD})
    | (?P<number>[0-9]+)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ROUTINES = frozenset({"procedure", "function", "trigger", "event", "package"})
_OTHERS = frozenset(
    {
        "table",
        "index",
        "view",
        "database",
        "schema",
        "user",
        "role",
        "server",
        "sequence",
        "unique",
        "fulltext",
        "spatial",
        "temporary",
    }
)
_BLOCK_OF_ITS_OWN = ["begin", "not", "atomic"]
_BLOCKS = frozenset({"if", "loop", "repeat", "while", "for"})
"""They are not counted, and neither is their END."""


class StatementKind(Enum):
    """How a statement is run."""

    DATA = "data"
    """In a transaction, with its neighbours. What a CALL commits by itself is not undone."""
    SESSION = "session"
    """It changes the session only, and is repeated in a session that takes over."""
    DEFINITION = "definition"
    """It commits what was before it, and itself."""
    REFUSED = "refused"
    """The operator does that itself, or it would get in its way."""


_DATA = frozenset(
    {
        "select",
        "insert",
        "update",
        "delete",
        "replace",
        "with",
        "do",
        "values",
        "table",
        "call",
        "load",
        "show",
        "describe",
        "desc",
        "explain",
    }
)
_SESSION = frozenset({"set", "prepare", "deallocate"})
_REFUSED = frozenset(
    {
        "begin",
        "start",
        "commit",
        "rollback",
        "savepoint",
        "release",
        "xa",
        "lock",
        "unlock",
        "use",
        "delimiter",
        "source",
        "connect",
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and where in the text it begins."""

    start: int
    text: str
    kind: StatementKind


def split(text: str) -> tuple[Statement, ...]:
    """The statements of a text; comments around them are left out."""
    return tuple(_Splitter(text).statements())


class _Splitter:
    def __init__(self, text: str) -> None:
        self._text = text
        self._start: int | None = None
        self._end = 0
        self._words: list[str] = []
        self._depth = 0
        self._ended = False
        """The last word was END, and what it ends is not known yet."""
        self._dotted = False

    def statements(self) -> list[Statement]:
        found: list[Statement] = []
        for match in _LEXEME.finditer(self._text):
            kind, lexeme = str(match.lastgroup), match.group()
            if kind in ("comment", "block", "space"):
                continue
            word = lexeme.lower() if kind == "word" and not self._dotted else ""
            self._dotted = lexeme == "."
            skipped = self._settle_end(word)
            if lexeme == ";" and self._depth <= 0:
                found += self._take()
                continue
            if self._start is None:
                self._start = match.start()
            self._end = match.end()
            if word:
                self._words.append(word)
                if not skipped:
                    self._count(word)
        self._settle_end("")
        return found + self._take()

    def _take(self) -> list[Statement]:
        start, words = self._start, self._words
        self._start, self._words, self._depth, self._ended = None, [], 0, False
        if start is None:
            return []
        return [Statement(start, self._text[start : self._end], classify(words))]

    def _settle_end(self, word: str) -> bool:
        """What follows END says what it ended; whether that word belongs to it."""
        if not self._ended:
            return False
        self._ended = False
        if word in _BLOCKS:
            return True
        self._depth -= 1
        return word == "case"

    def _count(self, word: str) -> None:
        if self._words == _BLOCK_OF_ITS_OWN:
            self._depth += 1
        if not self._is_compound():
            return
        if word in ("begin", "case"):
            self._depth += 1
        elif word == "end" and self._depth:
            self._ended = True

    def _is_compound(self) -> bool:
        words = self._words
        if words[0] != "create":
            return words[:3] == _BLOCK_OF_ITS_OWN
        return next((word in _ROUTINES for word in words if word in _ROUTINES or word in _OTHERS), False)


def classify(words: list[str]) -> StatementKind:
    """The kind of a statement.

    :param words: its unquoted words, in lower case.
    """
    first = words[0] if words else ""
    second = words[1] if len(words) > 1 else ""
    if first == "begin" and second == "not":
        return StatementKind.DEFINITION
    if first in _REFUSED or (first == "set" and "autocommit" in words):
        return StatementKind.REFUSED
    if first == "set" and second == "statement":
        return StatementKind.DEFINITION
    if first in _DATA or (first in ("create", "drop") and "temporary" in words[:4]):
        return StatementKind.DATA
    return StatementKind.SESSION if first in _SESSION else StatementKind.DEFINITION


def line_of(text: str, offset: int) -> int:
    """The line of a character, from 1."""
    return text.count("\n", 0, max(0, offset)) + 1
