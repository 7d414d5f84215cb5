"""What is half done: a migration that was begun and did not come to its end. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.engines.path import Applied
from tenantry_operator.errors import Stalled


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A migration that was begun, and its statement that was begun last, from 0."""

    version: str
    migration: str
    undo: bool
    statement: int

    def is_of(self, migration: Migration) -> bool:
        """Whether it is this migration, in this direction."""
        return (self.version, self.migration, self.undo) == (migration.version, migration.name, migration.undo)


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
