"""squawk, of the package squawk-cli: it finds most of what there is to find in migrations of PostgreSQL.

Source: https://squawkhq.com/docs/rules
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from tenantry_operator.blueprints.findings import Finding, FindingKind
from tenantry_operator.engines.base import Migration
from tenantry_operator.errors import Retryable

_D, _B, _I, _A = FindingKind
_RULES = {
    _D: "ban-drop-column ban-drop-database ban-drop-schema ban-drop-sequence ban-drop-table ban-truncate-cascade",
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
_INCLUDED = "ban-detach-inheritance,ban-revoke"
"""Off unless asked for. So are others, and stay it: they are about what a ``rollback`` is for (ban-create-policy,
ban-replace-view-function, ...), what has no other way (ban-add-column, ban-new-write-restriction), or the schema
in names (require-table-schema), which a migration is not to know: it runs in that of the tenant."""
_EXCLUDED = (
    # The operator sets the timeouts, and begins and ends the transactions: see not-in-transaction.
    "require-lock-timeout,require-statement-timeout,require-timeout-settings,"
    "ban-concurrent-index-creation-in-transaction,ban-uncommitted-transaction,transaction-nesting,"
    # In a transaction nothing is repeated by halves; outside of one, see not-repeatable.
    "prefer-robust-stmts,"
    # REPACK came with PostgreSQL 19: see exclusive-lock.
    "prefer-repack"
)
_TIMEOUT = 30.0  # seconds for one migration
_MOST_OUTPUT = 16 * 1024 * 1024  # bytes; 512 KiB of nothing but columns, with a fault in each, give 11 MiB

Report = tuple[int, Finding]
"""What it found, and where: in bytes."""


def _program() -> Path:
    """Where squawk is: beside the interpreter, else where its package says. PATH is not asked."""
    places = [Path(sys.executable).parent / "squawk"]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("squawk-cli") or ():
            places += [Path(str(file.locate())).resolve()] if file.name == "squawk" else []
    for place in filter(Path.is_file, places):
        return place
    raise Retryable("LintFailed", "there is no program squawk: install the Python package squawk-cli")


async def examine(migration: Migration, data: bytes) -> list[Report]:
    """What squawk says to a migration.

    :param data: its text, as squawk is to read it.
    :raises Retryable: LintFailed, when that cannot be told.
    """
    what, program = f"{migration.what} could not be linted", _program()
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--reporter=json",
            f"--config={os.devnull}",  # otherwise, any .squawk.toml of the folder or above it
            "--pg-version=16",
            f"--include={_INCLUDED}",
            f"--exclude={_EXCLUDED}",
            "--assume-in-transaction" if migration.transactional else "--no-assume-in-transaction",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"RAYON_NUM_THREADS": "1"},
            start_new_session=True,
        )
    except OSError as error:
        raise Retryable("LintFailed", f"{what}: {program} does not start: {error.strerror}") from None
    try:
        async with asyncio.timeout(_TIMEOUT):
            output, complaint = await process.communicate(data)
    except TimeoutError:
        raise Retryable("LintFailed", f"{what}: squawk took longer than {_TIMEOUT:g} seconds") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # What it still wrote has to be read before its end is seen.
            await process.communicate()
    if (code := process.returncode) not in (0, 1):
        said = " ".join(complaint.decode(errors="replace").split())[:200]
        raise Retryable("LintFailed", f"{what}: squawk ended with {code}: {said or 'it says nothing'}")
    if len(output) > _MOST_OUTPUT:
        message = "There is more to find than can be read: mend its syntax, or make several migrations of it."
        return [(-1, Finding(migration.name, "too-many-findings", _I, None, message))]
    reports = await asyncio.to_thread(_read, migration, output, data)
    if reports is None or code != bool(reports):
        raise Retryable("LintFailed", f"{what}: what squawk says is not understood: {output[:100]!r}")
    return reports


def _read(migration: Migration, output: bytes, data: bytes) -> list[Report] | None:
    """squawk's JSON, in which lines count from 0, and columns are bytes; None when it is something else."""
    starts = [0, *(match.end() for match in re.finditer(b"\n", data))]

    def report(entry: dict[str, Any]) -> Report:
        # A rule that nobody has judged yet is not let through.
        line, rule, kind = int(entry["line"]), str(entry["rule_name"]), _KINDS.get(entry["rule_name"], _B)
        message = " ".join(filter(None, (str(entry["message"]), entry["help"])))[:400]
        return starts[line] + int(entry["column"]), Finding(migration.name, rule, kind, line + 1, message)

    # With a hook in Python, other threads get their turn while a long output is read.
    with contextlib.suppress(ValueError, LookupError, TypeError):
        reports = json.loads(output, object_hook=report)
        if isinstance(reports, list) and all(isinstance(entry, tuple) for entry in reports):
            return reports
    return None
