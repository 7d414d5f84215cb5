"""What was applied to a tenant's data, and what is half done. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tenantry_operator.engines.base import Migration
from tenantry_operator.engines.halfway import Unfinished
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
        raise _unreadable(where) from None


def _unreadable(where: str) -> Stalled:
    return Stalled("LedgerUnreadable", f"{where}: the ledger was changed by hand; restore it")


@dataclass(frozen=True, slots=True)
class Begun(Unfinished):
    """A migration outside of any transaction that was begun; ``statement`` is the command to be run next."""

    digest: str
    """Of the commands that were run."""

    @classmethod
    def of(cls, migration: Migration, commands: Sequence[Command], done: int) -> Begun:
        """What is noted down when so many commands of a migration were run."""
        return cls(migration.version, migration.name, migration.undo, done, _digest(commands[:done]))

    def encode(self) -> str:
        """As text."""
        return json.dumps([self.version, self.migration, self.undo, self.statement, self.digest])

    @classmethod
    def decode(cls, text: str | None, where: str) -> Begun | None:
        """From text; None when there is none.

        :raises Stalled: LedgerUnreadable.
        """
        if not text:
            return None
        try:
            version, migration, undo, statement, digest = json.loads(text)
            return cls(str(version), str(migration), bool(undo), int(statement), str(digest))
        except (ValueError, TypeError):
            raise _unreadable(where) from None

    def rest(self, migration: Migration, commands: Sequence[Command], where: str) -> int:
        """How many commands of a migration have been run.

        :raises Stalled: MigrationEdited, when those were other ones.
        """
        if _digest(commands[: self.statement]) != self.digest or self.statement > len(commands):
            raise Stalled(
                "MigrationEdited",
                f"{where}: {migration.what} is half done, and the {self.statement} commands that were run were "
                "edited since: put them back, and change only what comes after them",
            )
        return self.statement


def _digest(commands: Sequence[Command]) -> str:
    return hashlib.sha256(json.dumps([list(map(str, command)) for command in commands]).encode()).hexdigest()[:16]
