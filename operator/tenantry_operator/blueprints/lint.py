"""What in a version's migrations destroys data, blocks the tenants' sessions, or cannot run: PostgreSQL.

Most of it squawk finds (:mod:`~tenantry_operator.blueprints.squawk`). Added is what it cannot know (how migrations
are run, what the ones before have made) and what it lets pass. What stands in strings, such as the body of a
function or of DO, nobody looks into.
"""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tenantry_operator.blueprints import squawk
from tenantry_operator.blueprints.findings import Finding, FindingKind
from tenantry_operator.engines.base import Migration
from tenantry_operator.engines.postgres.lexer import lexemes, line_of, split

_D, _B, _I, _A = FindingKind

# Statements are matched as _words has them: lower case, single spaces, "()" for whatever is in parentheses. No
# pattern looks ahead from more than one place: matching holds the interpreter, and texts are long.
_NAME = r'[\w$"]+(?: \. [\w$"]+)*'
_NAMES = rf"(?P<names>{_NAME}(?: , {_NAME})*)"
_OBJECT = r"(?:foreign |materialized )?(?P<object>table|view|index|sequence|type|domain)"
_ALTER = rf"(?:alter (?:foreign )?table (?:if exists )?(?:only )?{_NAME} )?"
_TOUCHES = (
    rf"(?:alter|drop) {_OBJECT} (?:concurrently )?(?:if exists )?(?:only )?{_NAMES}",
    rf"create (?:unique )?index (?:concurrently )?(?:if not exists )?(?:{_NAME} )?on (?:only )?{_NAMES}",
    rf"(?:truncate|lock)(?: table)? (?:only )?{_NAMES}",
    rf"(?:with .*?\(\) )?(?:delete from|update) (?:only )?{_NAMES}",
    rf"(?:vacuum full|cluster|reindex table)(?: verbose| analyze)* {_NAMES}",
)
_CREATES = re.compile(
    r"create (?P<replace>or replace )?(?:(?:global|local|temp|temporary|unlogged|unique|recursive) )*"
    rf"{_OBJECT} (?:concurrently )?(?P<unless>if not exists )?(?P<name>{_NAME})"
)
_LEAVES = re.compile(r"drop |alter .*\b(?:rename to|set schema)\b")
_MOVES = re.compile(r"set (?:session |local )?search_path\b|select .*\bset_config\b")
_JOINS = re.compile(rf"{_ALTER}(?:attach partition|inherit)\b")
_CHANGE = re.compile(r"(?:with .*?\(\) )?(delete|update) ")
_REWRITE = (
    rf"vacuum .*\bfull\b|cluster\b|{_ALTER}set (?:logged|unlogged|tablespace|access method)\b"
    rf"|{_ALTER}add (?:column )?(?:if not exists )?{_NAME} (?:small|big)?serial[248]?\b"
)
_CHECK = rf"{_ALTER}add (?!constraint\b|check\b).*\bcheck \(\)|alter domain .*\bset not null\b"
_CASCADE = r"drop (?!(?:foreign )?table|schema|sequence|owned).* cascade$"
_TRANSACTION = r"(?:begin|start transaction|commit|end|rollback|abort|savepoint|release|prepare transaction)\b"
_ALONE = (
    r"create (?:unique )?index concurrently\b|drop index concurrently\b|vacuum\b|cluster$|alter system\b"
    r"|reindex (?:.*\bconcurrently\b|database\b|schema\b|system\b)|(?:create|drop) (?:database|tablespace)\b"
    rf"|alter database .*\bset tablespace\b|{_ALTER}detach partition {_NAME} (?:concurrently|finalize)\b"
)
_REPEATABLE = (
    r"create (?:unique )?index concurrently (?!on\b)|drop index concurrently\b|create or replace\b"
    rf"|(?:reindex|vacuum|analyze|refresh)\b|.*\bif (?:not )?exists\b|{_ALTER}validate constraint\b|{_TRANSACTION}"
)
_ANYWHERE = (
    ("truncate", _D, r"truncate\b(?!.* cascade$)", "TRUNCATE deletes every row."),
    ("drop-owned", _D, r"drop owned\b", "DROP OWNED drops all that a role has: name what is to be dropped."),
    ("drop-cascade", _D, _CASCADE, "CASCADE drops whatever depends on it, columns with their data included."),
    ("exclusive-lock", _B, _REWRITE, "The table can be neither read nor written while it is rewritten."),
    ("exclusive-lock", _B, r"refresh materialized view (?!concurrently\b)", "The view cannot be read meanwhile."),
    ("exclusive-lock", _B, r"lock\b", "The lock is held until all migrations of the transaction have run."),
    ("constraint-missing-not-valid", _B, _CHECK, "The table is locked while its rows are checked: use NOT VALID."),
)
_TRANSACTED = (
    ("transaction-control", _I, _TRANSACTION, "The operator begins and ends the transaction: leave it out."),
    ("not-in-transaction", _I, _ALONE, "Put it into a migration of its own that says transactional: false."),
)
_UNTRANSACTED = (
    ("transaction-control", _I, _TRANSACTION, "A crash in between leaves a part of it undone: leave it out."),
    ("not-repeatable", _A, rf"(?!{_REPEATABLE})", "After a crash it may run once more: write IF (NOT) EXISTS."),
)
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def refused(findings: Iterable[Finding], acknowledged: Collection[str]) -> tuple[Finding, ...]:
    """What stands in the way of a version: everything but advice, save for the rules acknowledged. Pure."""
    return tuple(found for found in findings if found.kind is not _A and found.rule not in acknowledged)


async def lint(migrations: Sequence[Migration], *, created: Collection[str] = ()) -> tuple[Finding, ...]:
    """Looks at the migrations of one version. What they do to what they make themselves is harmless.

    It takes milliseconds for a migration, seconds for one of 512 KiB; the event loop goes on meanwhile.

    :param migrations: in the order they run in.
    :param created: tables that are as new, as ``table`` or ``schema.table``, without quotes.
    :returns: what destroys data first, then what blocks, what is invalid, and advice; each by migration and line.
    :raises Retryable: LintFailed, when squawk is missing, fails, takes too long, or cannot be understood.
    """
    made = _Made(created)
    found: list[Finding] = []
    for migration in migrations:
        text = _UNFIT.sub(" ", re.sub("\r\n?", "\n", migration.text))
        data = text.encode()
        statements, own = await asyncio.to_thread(_examine, migration, text, made)
        reports = await squawk.examine(migration, data)
        readable = await asyncio.to_thread(_readable, data, statements, reports)
        if readable != data:
            # It says nothing of the others when there is a statement that it cannot read.
            reports += [
                entry for entry in await squawk.examine(migration, readable) if entry[1].rule != "syntax-error"
            ]
        own += await asyncio.to_thread(_judge, statements, reports)
        found += sorted(own, key=lambda finding: finding.line or 0)
    return tuple(finding for kind in FindingKind for finding in found if finding.kind is kind)


@dataclass(frozen=True, slots=True)
class _Statement:
    """Where it is, in bytes, and the kinds of findings that do not matter for it."""

    start: int
    end: int
    harmless: frozenset[str]


class _Made:
    """What the migrations so far have made, so that no application uses it yet."""

    def __init__(self, created: Collection[str]) -> None:
        self._made = {("table", " . ".join(map(_quoted, name.split(".")))) for name in created}
        self._perhaps: set[tuple[str, str]] = set()
        """Made, or there before: IF NOT EXISTS. Enough for a lock, not for a loss."""
        self.elsewhere = False
        """Whether names without a schema may mean another than the tenant's, where every migration begins."""

    def harmless(self, words: str) -> frozenset[str]:
        """The kinds that do not matter for a statement."""
        touched = _touched(words)
        if not touched or not touched - self._made <= self._perhaps:
            return frozenset()
        return frozenset({_B} if touched - self._made else {_D, _B})

    def note(self, words: str) -> None:
        """Takes down what a statement does."""
        moves, creates = _MOVES.match(words), _CREATES.match(words)
        self.elsewhere = self.elsewhere or moves is not None
        if moves is not None or any(map(_JOINS.match, _actions(words))):
            # The same names may mean other tables; old rows may belong to new tables, and go with them.
            self._made.clear()
        elif _LEAVES.match(words):
            self._made -= _touched(words)
        elif creates is not None and (not self.elsewhere or " . " in creates["name"]):
            known = self._perhaps if creates["replace"] or creates["unless"] else self._made
            known.add((creates["object"], _key(creates["name"])))


def _touched(words: str) -> set[tuple[str, str]]:
    """The objects that a statement is about, where that can be told."""
    for pattern in _TOUCHES:
        if match := re.match(pattern, words):
            kind = match.groupdict().get("object") or "table"
            return {(kind, _key(name)) for name in match["names"].split(" , ")}
    return set()


def _actions(words: str) -> Sequence[str]:
    """What an ALTER TABLE does, one by one; any other statement does one thing."""
    return words.split(" , ") if words.startswith(("alter table ", "alter foreign table ")) else (words,)


def _quoted(name: str) -> str:
    """A quoted name, as a word that is no keyword and looks like none."""
    return f'"{name.encode().hex()}"'


def _key(name: str) -> str:
    return " . ".join(part if part.startswith('"') else _quoted(part) for part in name.split(" . "))


def _words(text: str) -> tuple[str, ...]:
    """The words of a statement, then those of each pair of parentheses in it; see the patterns."""
    inner: list[str] = []
    levels: list[list[str]] = [[]]
    for kind, lexeme, _ in lexemes(text):
        if lexeme == "(":
            levels.append([])
        elif lexeme == ")" and len(levels) > 1:
            inner.append(" ".join(levels.pop()))
            levels[-1].append("()")
        elif kind == "name":
            levels[-1].append(_quoted(lexeme[1:-1].replace('""', '"')))
        elif kind != "space":
            levels[-1].append("''" if kind in ("string", "escape", "dollar") else lexeme.lower())
    words = " ".join(levels[0])
    if words.startswith(("reindex ()", "vacuum ()")):
        words = words.replace("()", inner[0], 1)
    return (words, *inner)


def _examine(migration: Migration, text: str, made: _Made) -> tuple[list[_Statement], list[Finding]]:
    """The statements of a migration, and the findings of this module's own."""
    found: list[Finding] = []
    if unfit := _UNFIT.search(migration.text):
        message = "PostgreSQL takes neither NUL nor half of a surrogate pair: take it out."
        found.append(Finding(migration.name, "unfit-text", _I, line_of(migration.text, unfit.start()), message))
    statements: list[_Statement] = []
    made.elsewhere = False
    start, line, seen = 0, 1, 0
    for statement in split(text):
        between = text[seen : statement.start]
        start, line, seen = start + len(between.encode()), line + between.count("\n"), statement.start
        words = _words(statement.text)
        statements.append(_Statement(start, start + len(statement.text.encode()), made.harmless(words[0])))
        found += [Finding(migration.name, r, k, line, m) for r, k, m in _own(migration, words, made)]
        made.note(words[0])
    return statements, found


def _own(migration: Migration, words: tuple[str, ...], made: _Made) -> Iterator[tuple[str, FindingKind, str]]:
    """The rule, kind and message of what this module finds in a statement."""
    for clause in words if not re.match(r"create (?:or replace )?rule\b", words[0]) else ():
        change = _CHANGE.match(clause)
        if change is not None and not re.search(r"\bwhere\b", clause):
            kind = _D if change[1] == "delete" else _B
            if kind not in made.harmless(clause):
                yield f"{change[1]}-without-where", kind, "It is about every row: say which, or do it in parts."
    harmless = made.harmless(words[0])
    for rule, kind, pattern, message in _ANYWHERE + (_TRANSACTED if migration.transactional else _UNTRANSACTED):
        if kind not in harmless and any(re.match(pattern, action) for action in _actions(words[0])):
            yield rule, kind, message


def _judge(statements: list[_Statement], reports: Iterable[squawk.Report]) -> list[Finding]:
    """What of squawk's reports matters here, each once."""
    found: dict[Finding, None] = {}
    broken: set[_Statement | None] = set()
    for at, finding in reports:
        statement = _at(statements, at)
        # TRUNCATE CASCADE is about tables that it does not name.
        if statement is not None and finding.rule != "ban-truncate-cascade" and finding.kind in statement.harmless:
            continue
        if finding.rule == "syntax-error":
            if statement in broken:
                continue
            broken.add(statement)
        found[finding] = None
    return list(found)


def _at(statements: Sequence[_Statement], at: int) -> _Statement | None:
    """The statement at an offset in bytes, or the one before it."""
    index = bisect_right(statements, at, key=lambda statement: statement.start)
    return statements[index - 1] if index else None


def _readable(data: bytes, statements: Sequence[_Statement], reports: Iterable[squawk.Report]) -> bytes:
    """The text without the statements that have a syntax error; what is left stays where it is."""
    rest = bytearray(data)
    for statement in {_at(statements, at) for at, finding in reports if finding.rule == "syntax-error"}:
        if statement is not None:
            rest[statement.start : statement.end] = re.sub(rb"[^\n]", b" ", data[statement.start : statement.end])
    return bytes(rest)
