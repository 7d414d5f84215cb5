"""What was applied to a tenant's data, and what is half done. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.engines.path import Applied
from tenantry_operator.engines.redis.connections import Command
from tenantry_operator.errors import Stalled


def encode_line(migration: Migration) -> str:
    """A migration that was applied, as a line of the ledger."""
    return json.dumps(
        {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def decode_lines(lines: Sequence[str], where: str) -> tuple[Applied, ...]:
    """A ledger.

    :raises Stalled: LedgerUnreadable.
    """
    try:
        values = [json.loads(line) for line in lines]
        return tuple(Applied(value["version"], value["name"], value["checksum"]) for value in values)
    except (ValueError, KeyError, TypeError):
        raise Stalled("LedgerUnreadable", f"{where}: the ledger was changed by hand; restore it") from None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A migration outside of any transaction that was begun."""

    version: str
    migration: str
    undo: bool
    done: int
    """How many of its commands were run."""
    digest: str
    """Of those."""

    @classmethod
    def of(cls, migration: Migration, commands: Sequence[Command], done: int) -> Unfinished:
        """What is noted down when so many commands of a migration were run."""
        return cls(migration.version, migration.name, migration.undo, done, _digest(commands[:done]))

    def encode(self) -> str:
        """As text."""
        return json.dumps([self.version, self.migration, self.undo, self.done, self.digest])

    @classmethod
    def decode(cls, text: str | None) -> Unfinished | None:
        """From text; None when there is none."""
        return cls(*json.loads(text)) if text else None

    def is_of(self, migration: Migration) -> bool:
        """Whether it is this migration, in this direction."""
        return (self.version, self.migration, self.undo) == (migration.version, migration.name, migration.undo)

    def rest(self, migration: Migration, commands: Sequence[Command], where: str) -> int:
        """How many commands of a migration have been run.

        :raises Stalled: MigrationEdited, when those were other ones.
        """
        if _digest(commands[: self.done]) != self.digest or self.done > len(commands):
            raise Stalled(
                "MigrationEdited",
                f"{where}: {migration.what} is half done, and the {self.done} commands that were run were edited "
                "since: put them back, and change only what comes after them",
            )
        return self.done


def _digest(commands: Sequence[Command]) -> str:
    return hashlib.sha256(json.dumps([list(map(str, command)) for command in commands]).encode()).hexdigest()[:16]


def take_up(
    pending: tuple[Migration, ...],
    unfinished: Unfinished | None,
    chains: Sequence[Chain],
    ledger: Sequence[Applied],
    where: str,
) -> tuple[Migration, ...]:
    """What is to be run when something is half done: first it is done, or undone, to its end. Pure.

    :param pending: what the ledger alone asks for.
    :raises Stalled: RollbackMissing; NoPath, when none of the chains has what is half done.
    """
    if unfinished is None or (pending and unfinished.is_of(pending[0])):
        return pending
    found = next(
        (
            migration
            for chain in chains
            for migration in chain.migrations
            if (migration.version, migration.name) == (unfinished.version, unfinished.migration)
        ),
        None,
    )
    what = f"{where}: migration {unfinished.migration} of version {unfinished.version} is half done"
    if found is None:
        raise Stalled("NoPath", f"{what}, and its BlueprintVersion is not there: apply it")
    if found.rollback is None:
        raise Stalled("RollbackMissing", f"{what} and has no rollback: go to version {unfinished.version} instead")
    undo = replace(found, text=found.rollback, rollback=None, undo=True)
    applied = any((line.version, line.migration) == (found.version, found.name) for line in ledger)
    again = (found,) if applied else ()
    return (undo, *again, *pending)
