"""From what a ledger says was applied to what is to be run, forwards and backwards. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.errors import Stalled


@dataclass(frozen=True, slots=True)
class Applied:
    """A line of the ledger."""

    version: str
    migration: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is run together: one transaction, or one migration that cannot be in any."""

    migrations: tuple[Migration, ...]
    transactional: bool
    last: bool
    """Nothing comes after it."""


def path(chain: Chain, installed: Chain | None, ledger: Sequence[Applied], where: str) -> tuple[Migration, ...]:
    """What is to be run to bring data to the end of a chain.

    What was applied and is not in the chain is undone first, the last one first.

    :param installed: the chain that the data was brought along so far, when it is another one.
    :raises Stalled: MigrationEdited, when what was applied is not how the chains begin; NewerVersion, when
        more was applied than the chain has and ``installed`` does not tell how to undo it; RollbackMissing.
    """
    common = _common(chain, ledger)
    if common == len(ledger):
        return chain.migrations[common:]
    known = installed if installed is not None and len(installed.migrations) >= len(ledger) else None
    if known is None or _common(known, ledger) < len(ledger):
        raise _mismatch(known or chain, ledger, where)
    undone = [_undo(migration, where) for migration in reversed(known.migrations[common : len(ledger)])]
    return (*undone, *chain.migrations[common:])


def _common(chain: Chain, ledger: Sequence[Applied]) -> int:
    """How many lines of a ledger are how a chain begins."""
    count = 0
    for migration, applied in zip(chain.migrations, ledger, strict=False):
        if (migration.version, migration.name, migration.checksum) != (
            applied.version,
            applied.migration,
            applied.checksum,
        ):
            break
        count += 1
    return count


def _mismatch(chain: Chain, ledger: Sequence[Applied], where: str) -> Stalled:
    common = _common(chain, ledger)
    if common == len(chain.migrations):
        last = ledger[-1]
        return Stalled(
            "NewerVersion",
            f"{where} is at version {last.version}, newer than {chain.version}, and its BlueprintVersion is not "
            "there to say how to go back: apply it, or ask for the newer version",
        )
    migration, applied = chain.migrations[common], ledger[common]
    name = f"migration {migration.name} of version {migration.version} of blueprint {chain.blueprint}"
    if (migration.version, migration.name) == (applied.version, applied.migration):
        return Stalled(
            "MigrationEdited",
            f"{where}: {name} was edited after it had been applied: put its text back, and make the change "
            "a migration of a new version",
        )
    return Stalled(
        "MigrationEdited",
        f"{where}: the chain has {name} where {applied.migration} of version {applied.version} was "
        "applied: what was applied cannot be reordered or renamed; put it back",
    )


def _undo(migration: Migration, where: str) -> Migration:
    if migration.rollback is None:
        raise Stalled(
            "RollbackMissing",
            f"{where}: migration {migration.name} of version {migration.version} has no rollback, so that there "
            "is no way back over it; go forward with a new version instead",
        )
    return replace(migration, text=migration.rollback, rollback=None, undo=True)


def missing_rollbacks(start: Chain, goal: Chain) -> tuple[Migration, ...]:
    """The migrations without a rollback that stand between one version and another."""
    common = 0
    for ours, theirs in zip(start.migrations, goal.migrations, strict=False):
        if (ours.version, ours.name) != (theirs.version, theirs.name):
            break
        common += 1
    return tuple(m for m in start.migrations[common:] if m.rollback is None)


def stretches(migrations: Sequence[Migration]) -> Iterator[Stretch]:
    """Migrations as they are run: those that can be are in one transaction with their neighbours."""
    groups: list[tuple[Migration, ...]] = []
    for transactional, group in groupby(migrations, key=lambda migration: migration.transactional):
        found = tuple(group)
        groups += [found] if transactional else [(migration,) for migration in found]
    for number, found in enumerate(groups):
        yield Stretch(found, found[0].transactional, number == len(groups) - 1)


def first_stretch(chain: Chain | None, done: int = 0) -> tuple[Migration, ...]:
    """What of a chain can be run in the transaction that makes a schema.

    :param done: how many migrations have been run.
    """
    found: list[Migration] = []
    for migration in chain.migrations[done:] if chain is not None else ():
        if not migration.transactional:
            break
        found.append(migration)
    return tuple(found)
