"""What in a version's migrations destroys data, blocks the tenants' sessions, or cannot run: PostgreSQL.

Most of it the program squawk finds, of the package squawk-cli; https://squawkhq.com/docs/rules explains its
rules. Added is what it cannot know (how migrations are run, what the ones before have made) and what it
lets pass. What stands in strings, such as the body of a function or of DO, nobody looks into.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import sys
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tenantry_operator.engines.base import Migration
from tenantry_operator.engines.postgres.lexer import _lexemes, line_of, split
from tenantry_operator.errors import Retryable


class FindingKind(StrEnum):
    """How bad it is, the worst first."""

    DESTRUCTIVE = "Destructive"
    """Data is lost."""
    BLOCKING = "Blocking"
    """A table is locked for as long as it takes to read or rewrite it, or applications of the version before
    no longer find what they use."""
    INVALID = "Invalid"
    """It fails when it is run, or ends otherwise than it says."""
    ADVICE = "Advice"
    """It works, and could be better."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that deserves a second look."""

    migration: str
    """The migration's name."""
    rule: str
    """What it breaks: a rule of squawk's, or one of this module."""
    kind: FindingKind
    line: int | None
    """The line in the migration, from 1; None: the migration as a whole."""
    message: str
    """What is wrong, and what to write instead; at most 400 characters."""


_D, _B, _I, _A = FindingKind
_RULES = {
    _D: """ban-drop-column ban-drop-database ban-drop-schema ban-drop-sequence ban-drop-table ban-truncate-cascade""",
    _B: """adding-field-with-default adding-foreign-key-constraint adding-not-nullable-field adding-required-field
        adding-serial-primary-key-field ban-alter-domain-with-add-constraint ban-alter-identity
        ban-detach-inheritance ban-drop-default ban-drop-domain ban-drop-extension ban-drop-function
        ban-drop-generated-expression ban-drop-not-null ban-drop-type ban-drop-view ban-revoke ban-set-schema
        changing-column-type constraint-missing-not-valid disallowed-unique-constraint renaming-column
        renaming-object renaming-table require-concurrent-index-creation require-concurrent-index-deletion
        require-concurrent-partition-detach require-concurrent-reindex""",
    _I: "ban-duplicate-column-assignments syntax-error too-many-findings",
    # ban-drop-constraint: applications go on, and it is done in a moment.
    _A: """ban-char-field ban-create-domain-with-constraint ban-drop-constraint identifier-too-long
        prefer-bigint-over-int prefer-bigint-over-smallint prefer-identity prefer-text-field prefer-timestamp-tz
        require-enum-value-ordering unused-ignore""",
}
_KINDS = {rule: kind for kind, rules in _RULES.items() for rule in rules.split()}
_REACH = ("ban-truncate-cascade",)
"""They are about tables that the statement does not name."""
_INCLUDED = ("ban-detach-inheritance", "ban-revoke")
"""Off unless asked for. The others that are stay off: they are about what a migration's ``rollback`` is for
(ban-create-policy, ban-replace-view-function, ...), about what has no other way (ban-add-column,
ban-new-write-restriction), or about schemas in names (require-table-schema), which a migration is not to
know: it runs in the schema of the tenant."""
_EXCLUDED = (
    # The operator sets the timeouts itself.
    "require-lock-timeout",
    "require-statement-timeout",
    "require-timeout-settings",
    # The operator begins and ends the transactions: see transaction-control and not-in-transaction.
    "ban-concurrent-index-creation-in-transaction",
    "ban-uncommitted-transaction",
    "transaction-nesting",
    # In a transaction nothing is repeated by halves; outside of one, see not-repeatable.
    "prefer-robust-stmts",
    # REPACK came with PostgreSQL 19: see exclusive-lock.
    "prefer-repack",
)
_OLDEST_SERVER = "16"
_TIMEOUT = 30.0
"""Seconds for one migration."""
_MOST_OUTPUT = 16 * 1024 * 1024
"""Bytes for one migration. 512 KiB that are nothing but columns, with a fault in each, give 11 MiB."""
_LONGEST_MESSAGE = 400

# Statements are matched as _words has them: lower case, single spaces, "()" for whatever is in parentheses. No
# pattern looks ahead from more than one place: matching holds the interpreter, and texts are long.
_NAME = r'[\w$"]+(?: \. [\w$"]+)*'
_NAMES = rf"(?P<names>{_NAME}(?: , {_NAME})*)"
_OBJECT = r"(?:foreign |materialized )?(?P<object>table|view|index|sequence|type|domain)"
_TOUCHES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:alter|drop) {_OBJECT} (?:concurrently )?(?:if exists )?(?:only )?{_NAMES}",
        rf"create (?:unique )?index (?:concurrently )?(?:if not exists )?(?:{_NAME} )?on (?:only )?{_NAMES}",
        rf"(?:truncate|lock)(?: table)? (?:only )?{_NAMES}",
        rf"(?:with .*?\(\) )?(?:delete from|update) (?:only )?{_NAMES}",
        rf"(?:vacuum full|cluster|reindex table)(?: verbose| analyze)* {_NAMES}",
    )
)
_ALTER = rf"(?:alter (?:foreign )?table (?:if exists )?(?:only )?{_NAME} )?"
_CREATES = re.compile(
    r"create (?P<replace>or replace )?(?:(?:global|local|temp|temporary|unlogged|unique|recursive) )*"
    rf"{_OBJECT} (?:concurrently )?(?P<unless>if not exists )?(?P<name>{_NAME})"
)
_MOVES = re.compile(r"set (?:session |local )?search_path\b|select .*\bset_config\b")
_JOINS = re.compile(rf"{_ALTER}(?:attach partition|inherit)\b")
_LEAVES = re.compile(r"drop |alter .*\b(?:rename to|set schema)\b")

_RULE = re.compile(r"create (?:or replace )?rule\b")
_CHANGE = re.compile(r"(?:with .*?\(\) )?(delete from|update) ")
_WHERE = re.compile(r"\bwhere\b")
_TRANSACTION = re.compile(
    r"(?:begin|start transaction|commit|end|rollback|abort|savepoint|release|prepare transaction)\b"
)
_ALONE = re.compile(
    r"create (?:unique )?index concurrently\b|drop index concurrently\b|vacuum\b|cluster$|alter system\b"
    r"|reindex (?:.*\bconcurrently\b|database\b|schema\b|system\b)|(?:create|drop) (?:database|tablespace)\b"
    r"|alter database .*\bset tablespace\b"
    rf"|{_ALTER}detach partition {_NAME} (?:concurrently|finalize)\b"
)
_REPEATABLE = re.compile(
    r"create (?:unique )?index concurrently (?!on\b)|drop index concurrently\b"
    r"|(?:reindex|vacuum|analyze|refresh)\b|.*\bif (?:not )?exists\b|create or replace\b"
    rf"|{_ALTER}validate constraint\b"
)
_LET_PASS = (
    ("truncate", _D, r"truncate\b(?!.* cascade$)", "TRUNCATE deletes every row."),
    ("drop-owned", _D, r"drop owned\b", "DROP OWNED drops all that a role has: name what is to be dropped."),
    (
        "drop-cascade",
        _D,
        r"drop (?!(?:foreign )?table|schema|sequence|owned).* cascade$",
        "CASCADE also drops what depends on it, columns with their data included: name what is to be dropped.",
    ),
    (
        "exclusive-lock",
        _B,
        rf"vacuum .*\bfull\b|cluster\b|{_ALTER}set (?:logged|unlogged|tablespace|access method)\b"
        rf"|{_ALTER}add (?:column )?(?:if not exists )?{_NAME} (?:small|big)?serial[248]?\b",
        "The table can be neither read nor written while it is rewritten.",
    ),
    (
        "exclusive-lock",
        _B,
        r"refresh materialized view (?!concurrently\b)",
        "The view cannot be read while it is filled: write REFRESH MATERIALIZED VIEW CONCURRENTLY.",
    ),
    ("exclusive-lock", _B, r"lock\b", "The lock is held until all migrations of the transaction have run."),
    (
        "constraint-missing-not-valid",
        _B,
        rf"{_ALTER}add (?!constraint\b|check\b).*\bcheck \(\)|alter domain .*\bset not null\b",
        "Tables are locked while their rows are checked: add a constraint with NOT VALID, and validate it in a later "
        "migration that says transactional: false.",
    ),
)
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def refused(findings: Iterable[Finding], acknowledged: Collection[str]) -> tuple[Finding, ...]:
    """What stands in the way of a version: everything but advice, save for the rules acknowledged. Pure."""
    return tuple(
        finding
        for finding in findings
        if finding.kind is not FindingKind.ADVICE and finding.rule not in acknowledged
    )


async def lint(migrations: Sequence[Migration], *, created: Collection[str] = ()) -> tuple[Finding, ...]:
    """Looks at the migrations of one version. What they do to what they make themselves is harmless.

    It takes milliseconds for a migration, seconds for one of 512 KiB; the event loop goes on meanwhile.

    :param migrations: in the order they run in.
    :param created: tables that are as new, as ``table`` or ``schema.table``, without quotes.
    :returns: what destroys data first, then what blocks, what is invalid, and advice; each by migration and line.
    :raises Retryable: LintFailed, when squawk is missing, fails, takes too long, or cannot be understood.
    """
    made = _Made(created)
    found: list[tuple[int, Finding]] = []
    for number, migration in enumerate(migrations):
        text = _UNFIT.sub(" ", re.sub("\r\n?", "\n", migration.sql))
        data = text.encode()
        statements, own = await asyncio.to_thread(_examine, migration, text, made)
        reports = await _squawk(migration, data)
        readable = await asyncio.to_thread(_readable, data, statements, reports)
        if readable != data:
            # It says nothing of the others when there is a statement that it cannot read.
            rest = await _squawk(migration, readable)
            reports += [report for report in rest if report.rule != "syntax-error"]
        own += await asyncio.to_thread(_judge, migration, statements, reports)
        found += [(number, finding) for finding in own]
    order = {kind: rank for rank, kind in enumerate(FindingKind)}
    found.sort(key=lambda entry: (order[entry[1].kind], entry[0], entry[1].line or 0))
    return tuple(finding for _, finding in found)


@dataclass(frozen=True, slots=True)
class _Statement:
    start: int
    end: int
    """Both in bytes."""
    harmless: frozenset[str]
    """Kinds and rules that say nothing here."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What squawk reports: ``at`` in bytes, ``line`` from 1."""

    rule: str
    at: int
    line: int | None
    message: str


class _Made:
    """What the migrations so far have made, so that no application uses it yet."""

    def __init__(self, created: Collection[str]) -> None:
        self._made = {("table", " . ".join(map(_quoted, name.split(".")))) for name in created}
        self._perhaps: set[tuple[str, str]] = set()
        """Made, or there before: IF NOT EXISTS. Enough for a lock, not for a loss."""
        self._elsewhere = False

    def begin(self) -> None:
        """Every migration begins in the schema of the tenant."""
        self._elsewhere = False

    def harmless(self, words: str) -> frozenset[str]:
        """The kinds that do not matter for a statement."""
        touched = _touched(words)
        if not touched or not touched - self._made <= self._perhaps:
            return frozenset()
        return frozenset({_B} if touched - self._made else {_D, _B})

    def note(self, words: str) -> None:
        """Takes down what a statement does."""
        moves, creates = _MOVES.match(words), _CREATES.match(words)
        self._elsewhere = self._elsewhere or moves is not None
        if moves is not None or any(map(_JOINS.match, _actions(words))):
            # The same names may mean other tables; rows from before may belong to new ones, and go with them.
            self._made.clear()
        elif _LEAVES.match(words):
            self._made -= _touched(words)
        elif creates is not None:
            name = _key(creates["name"])
            if not self._elsewhere or " . " in name:
                known = self._perhaps if creates["replace"] or creates["unless"] else self._made
                known.add((creates["object"], name))


def _touched(words: str) -> set[tuple[str, str]]:
    """The objects that a statement is about, where that can be told."""
    for pattern in _TOUCHES:
        match = pattern.match(words)
        if match is not None:
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
    for kind, lexeme, _ in _lexemes(text):
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
    unfit = _UNFIT.search(migration.sql)
    if unfit is not None:
        line = line_of(migration.sql, unfit.start())
        message = "PostgreSQL takes neither NUL nor half of a surrogate pair: take it out."
        found.append(Finding(migration.name, "unfit-character", _I, line, message))
    statements: list[_Statement] = []
    made.begin()
    start, line, seen = 0, 1, 0
    for statement in split(text):
        between = text[seen : statement.start]
        start, line, seen = start + len(between.encode()), line + between.count("\n"), statement.start
        words = _words(statement.text)
        harmless = made.harmless(words[0])
        statements.append(_Statement(start, start + len(statement.text.encode()), harmless))
        for rule, kind, message in _own(migration, words, made):
            found.append(Finding(migration.name, rule, kind, line, message))
        made.note(words[0])
    return statements, found


def _own(migration: Migration, words: tuple[str, ...], made: _Made) -> Iterator[tuple[str, FindingKind, str]]:
    """Rule, kind and message of what this module finds in a statement."""
    whole = words[0]
    for clause in words if not _RULE.match(whole) else ():
        change = _CHANGE.match(clause)
        if change is None or _WHERE.search(clause):
            continue
        if change[1] == "update" and _B not in made.harmless(clause):
            yield "update-without-where", _B, "UPDATE without WHERE locks every row of the table: do it in parts."
        elif change[1] != "update" and _D not in made.harmless(clause):
            yield "delete-without-where", _D, "DELETE without WHERE deletes every row."
    harmless = made.harmless(whole)
    for rule, kind, pattern, message in _LET_PASS:
        if kind not in harmless and any(re.match(pattern, action) for action in _actions(whole)):
            yield rule, kind, message
    if _TRANSACTION.match(whole):
        yield (
            "transaction-control",
            _I,
            "The operator begins and ends the transaction: leave it out."
            if migration.transactional
            else "Statements run one by one, and after a crash from where they were: leave it out.",
        )
    elif migration.transactional and _ALONE.match(whole):
        yield (
            "not-in-transaction",
            _I,
            "It cannot run in a transaction: move it to a migration that says transactional: false.",
        )
    elif not migration.transactional and not _REPEATABLE.match(whole):
        yield (
            "not-repeatable",
            _A,
            "After a crash it may run once more: write IF EXISTS or IF NOT EXISTS where there is such a form, or "
            "leave out transactional: false.",
        )


def _judge(migration: Migration, statements: list[_Statement], reports: Iterable[_Report]) -> list[Finding]:
    """What of squawk's reports matters here, each once."""
    found: dict[Finding, None] = {}
    broken: set[_Statement | None] = set()
    for report in reports:
        # A rule that nobody has judged yet is not let through.
        kind = _KINDS.get(report.rule, FindingKind.BLOCKING)
        statement = _at(statements, report.at)
        if statement is not None and report.rule not in _REACH and statement.harmless & {kind, report.rule}:
            continue
        if report.rule == "syntax-error":
            if statement in broken:
                continue
            broken.add(statement)
        found[Finding(migration.name, report.rule, kind, report.line, report.message)] = None
    return list(found)


def _at(statements: Sequence[_Statement], at: int) -> _Statement | None:
    """The statement at an offset in bytes, or the one before it."""
    index = bisect_right(statements, at, key=lambda statement: statement.start)
    return statements[index - 1] if index else None


_SPACES = bytes(byte if byte == ord("\n") else ord(" ") for byte in range(256))


def _readable(data: bytes, statements: Sequence[_Statement], reports: Iterable[_Report]) -> bytes:
    """The text without the statements that have a syntax error; what is left stays where it is."""
    broken = {_at(statements, report.at) for report in reports if report.rule == "syntax-error"}
    rest = bytearray(data)
    for statement in broken:
        if statement is not None:
            place = slice(statement.start, statement.end)
            rest[place] = rest[place].translate(_SPACES)
    return bytes(rest)


async def _squawk(migration: Migration, data: bytes) -> list[_Report]:
    """What squawk says to a text.

    :raises Retryable: LintFailed.
    """
    what = f"{migration.what} could not be linted"
    program = _program()
    try:
        code, output, complaint = await _run(program, _arguments(migration), data)
    except TimeoutError:
        raise Retryable("LintFailed", f"{what}: squawk took longer than {_TIMEOUT:g} seconds") from None
    except OSError as error:
        raise Retryable("LintFailed", f"{what}: {program} does not start: {error.strerror}") from None
    if len(output) > _MOST_OUTPUT:
        message = "There is more to find than can be read: mend its syntax, or make several migrations of it."
        return [_Report("too-many-findings", -1, None, message)]
    if code not in (0, 1):
        said = " ".join(complaint.decode(errors="replace").split())[:200]
        raise Retryable("LintFailed", f"{what}: squawk ended with {code}: {said or 'it says nothing'}")
    try:
        reports = await asyncio.to_thread(_read, output, data)
    except (ValueError, LookupError, TypeError, AttributeError):
        reports = []
        understood = False
    else:
        understood = code == bool(reports)
    if not understood:
        raise Retryable("LintFailed", f"{what}: what squawk says is not understood: {output[:100]!r}")
    return reports


def _program() -> Path:
    """Where squawk is: beside the interpreter, else where its package says, else where the shell would find it.

    :raises Retryable: LintFailed.
    """
    places = [Path(sys.executable).parent / "squawk"]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        files = importlib.metadata.files("squawk-cli") or ()
        places += [Path(str(file.locate())).resolve() for file in files if file.name == "squawk"]
    if found := shutil.which("squawk"):
        places.append(Path(found))
    for place in places:
        if place.is_file():
            return place
    raise Retryable("LintFailed", "there is no program squawk: install the Python package squawk-cli")


def _arguments(migration: Migration) -> list[str]:
    return [
        "--reporter=json",
        # Any .squawk.toml of the folder or above it would be read otherwise.
        f"--config={os.devnull}",
        f"--pg-version={_OLDEST_SERVER}",
        f"--include={','.join(_INCLUDED)}",
        f"--exclude={','.join(_EXCLUDED)}",
        "--assume-in-transaction" if migration.transactional else "--no-assume-in-transaction",
    ]


async def _run(program: Path, arguments: Sequence[str], data: bytes) -> tuple[int | None, bytes, bytes]:
    """Runs a program to its end: its exit code, and what it wrote to both outputs."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"RAYON_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, complaint = await process.communicate(data)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # What it still wrote has to be read before its end is seen.
            await process.communicate()
    return process.returncode, output, complaint


def _read(output: bytes, data: bytes) -> list[_Report]:
    """squawk's JSON. Its lines count from 0, its columns are bytes."""
    starts = [0, *(match.end() for match in re.finditer(b"\n", data))]

    def report(entry: dict[str, Any]) -> _Report:
        line = int(entry["line"])
        message = " ".join(filter(None, (str(entry["message"]), entry["help"])))
        at = starts[line] + int(entry["column"])
        return _Report(str(entry["rule_name"]), at, line + 1, message[:_LONGEST_MESSAGE])

    # With a hook in Python, other threads get their turn while a long output is read.
    reports = json.loads(output, object_hook=report)
    if not isinstance(reports, list) or not all(isinstance(entry, _Report) for entry in reports):
        raise TypeError
    return reports
