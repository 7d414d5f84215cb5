"""Where the statements of an SQL text begin and end.

For pointing at the one that failed, for linting, and for running one after the other what cannot be in a
transaction. What is in a transaction is always executed as the whole text: a mistake in here costs a line
number there, and a syntax error where statements are run one by one. The rules are psql's: PostgreSQL
documentation, "Lexical Structure", and BEGIN ATOMIC bodies of CREATE FUNCTION.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LEXEME = re.compile(
    r"""
      (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*(?:'|$))
    | (?P<string>'(?:[^']|'')*(?:'|$))
    | (?P<name>"(?:[^"]|"")*(?:"|$))
    | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<number>[0-9]+)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, and where in the text its first word stands."""

    start: int
    text: str


def split(text: str) -> tuple[Statement, ...]:
    """The statements of a text; comments around them are left out."""
    statements: list[Statement] = []
    start: int | None = None
    end = 0
    parentheses = depth = 0
    for kind, lexeme, at in lexemes(text):
        if kind == "other" and lexeme == ";" and not parentheses and not depth:
            if start is not None:
                statements.append(Statement(start, text[start:end]))
            start = None
            continue
        if kind == "space":
            continue
        if start is None:
            start = at
        end = at + len(lexeme)
        if kind == "other":
            parentheses = max(0, parentheses + (lexeme == "(") - (lexeme == ")"))
        elif kind == "word":
            depth = _depth(depth, lexeme.lower(), parentheses, text, start)
    if start is not None:
        statements.append(Statement(start, text[start:end]))
    return tuple(statements)


_ROUTINE = re.compile(r"create\s+(or\s+replace\s+)?(function|procedure)\b", re.IGNORECASE)


def _depth(depth: int, word: str, parentheses: int, text: str, start: int) -> int:
    """How deep in the body of a routine: a semicolon in there ends no statement."""
    if parentheses or not _ROUTINE.match(text, start):
        return depth
    if word == "begin" or (word == "case" and depth):
        return depth + 1
    if word == "end" and depth:
        return depth - 1
    return depth


def lexemes(text: str) -> list[tuple[str, str, int]]:
    """The words, strings and signs of a text: kind, text and place of each. Comments are left out."""
    found: list[tuple[str, str, int]] = []
    at = 0
    while at < len(text):
        match = _LEXEME.match(text, at)
        if match is None:
            break
        kind, end = str(match.lastgroup), match.end()
        if kind == "block":
            end = _block_end(text, end)
        elif kind == "dollar":
            close = text.find(match.group(), end)
            end = len(text) if close < 0 else close + len(match.group())
        if kind not in ("comment", "block"):
            found.append((kind, text[at:end], at))
        at = end
    return found


def _block_end(text: str, at: int) -> int:
    """The end of a block comment that began before ``at``; such comments nest."""
    depth = 1
    while depth:
        match = _BLOCK_EDGE.search(text, at)
        if match is None:
            return len(text)
        depth += 1 if match.group() == "/*" else -1
        at = match.end()
    return at


def line_of(text: str, offset: int) -> int:
    """The line of a character, from 1."""
    return text.count("\n", 0, max(0, offset)) + 1
