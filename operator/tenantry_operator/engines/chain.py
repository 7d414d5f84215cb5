"""Migrations, and the chains that blueprint versions make of them. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """How a migration is written, in the words of a BlueprintVersion."""

    SQL = "sql"
    COMMANDS = "commands"


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a blueprint version."""

    version: str
    name: str
    text: str
    """SQL; for engines whose migrations are commands, a JSON array of them."""
    transactional: bool = True
    rollback: str | None = None
    """What undoes it, in the same form as ``text``."""
    form: Form | None = None
    """How ``text`` is written; None: it is from a ConfigMap, which does not say."""
    undo: bool = False
    """It is itself the undoing of the migration of that name."""

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal: what the ledger compares."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def what(self) -> str:
        """It in words, for messages."""
        return f"{'rollback of ' if self.undo else ''}migration {self.name} of version {self.version}"


@dataclass(frozen=True, slots=True)
class Chain:
    """All migrations from the empty database to ``version``, in order."""

    blueprint: str
    """``<namespace>/<name>`` of the Blueprint."""
    version: str
    migrations: tuple[Migration, ...]
    digest: str = ""
    """Short digest over names and checksums; differs whenever any migration was edited."""
    versions: tuple[str, ...] = ()
    """The versions on the way, this one last."""

    def goes_on_from(self, other: Chain | None) -> bool:
        """Whether nothing that ``other`` has is to be undone on the way here; None: an empty database."""
        return other is None or self.migrations[: len(other.migrations)] == other.migrations

    @classmethod
    def of(
        cls, blueprint: str, version: str, migrations: Sequence[Migration], versions: Sequence[str] = ()
    ) -> Chain:
        """The chain with its digest."""
        lines = "\n".join(f"{m.version}/{m.name}/{m.checksum}/{m.transactional}" for m in migrations)
        digest = hashlib.sha256(lines.encode()).hexdigest()[:12]
        return cls(blueprint, version, tuple(migrations), digest, tuple(versions) or (version,))
