"""The step that brings a tenant's data to a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tenantry_operator.engines.base import Chain, Desired, Mark, Migration, Stale
from tenantry_operator.engines.halfway import take_up
from tenantry_operator.engines.path import path, stretches
from tenantry_operator.engines.redis import migrations
from tenantry_operator.engines.redis.catalog import MARKS, UNFINISHED, Facts, ledger_of
from tenantry_operator.engines.redis.connections import Command, Session
from tenantry_operator.engines.redis.ledger import Begun, decode_lines, encode_line
from tenantry_operator.engines.redis.migrations import Before, Planned
from tenantry_operator.faults import reached


@dataclass(slots=True)
class _Work:
    """One database on its way, as it is after each script."""

    session: Session
    database: str
    chain: Chain
    where: str
    mark: Mark
    text: str
    lines: list[str]
    half: str

    async def run(
        self,
        asked: Sequence[tuple[Migration, int, Command]],
        keys: Sequence[str],
        mark: Mark,
        lines: list[str],
        half: str = "",
    ) -> None:
        """Runs commands, and notes down what is so afterwards, all or none.

        :param asked: each with its migration and its number there.
        """
        before = Before(self.text, len(self.lines), self.half)
        ledger = ledger_of(self.database)
        kept = 0
        while kept < min(len(lines), len(self.lines)) and lines[kept] == self.lines[kept]:
            kept += 1
        own: list[Command] = [("RPOP", ledger)] * (len(self.lines) - kept)
        own += [("RPUSH", ledger, line) for line in lines[kept:]]
        own.append(("HSET", UNFINISHED, self.database, half) if half else ("HDEL", UNFINISHED, self.database))
        own.append(("HSET", MARKS, self.database, mark.encode()))
        commands = [command for _, _, command in asked]
        number, text = await migrations.run(self.session, self.database, before, commands, keys, own)
        if number < 0:
            raise Stale(f"{self.where}: {text}")
        if number:
            migration, place, command = asked[number - 1]
            raise migrations.failed(migration, self.chain, self.where, place, command, text)
        self.mark, self.text, self.lines, self.half = mark, mark.encode(), lines, half
        reached("migrated-part")


async def migrate(session: Session, facts: Facts, desired: Desired, where: str) -> None:
    """Brings a tenant's data to the end of a chain.

    :raises Stalled: MigrationEdited, NewerVersion, RollbackMissing, NoPath, MigrationFailed.
    :raises Stale: when something else changes it at the same time.
    """
    database, chain = desired.names.database, desired.chain
    if chain is None:
        return
    text, lines, half = await session.all(
        [("HGET", MARKS, database), ("LRANGE", ledger_of(database), 0, -1), ("HGET", UNFINISHED, database)]
    )
    mark = Mark.decode(text)
    if mark is None or not mark.same_owner(desired.mark):
        raise Stale(f"{where} is gone, or not the tenant's")
    ledger, unfinished = decode_lines(lines, where), Begun.decode(half, where)
    chains = [chain] if desired.installed is None else [chain, desired.installed]
    pending = take_up(path(chain, desired.installed, ledger, where), unfinished, chains, ledger, where)
    planned = await migrations.check(session, facts, chain, pending, database, where)
    work = _Work(session, database, chain, where, mark, text, list(lines), half or "")
    arrived = replace(desired.mark, version=chain.version, digest=chain.digest)
    if not planned:
        await work.run((), (), arrived, work.lines)
    for stretch in stretches(pending):
        these, planned = planned[: len(stretch.migrations)], planned[len(stretch.migrations) :]
        after = arrived if stretch.last else replace(mark, target=chain.version)
        if stretch.transactional:
            await _together(work, these, after)
        else:
            await _apart(work, these[0], after, unfinished, replace(mark, target=chain.version))
            unfinished = None


async def _together(work: _Work, planned: Sequence[Planned], after: Mark) -> None:
    asked, keys, lines = [], [], list(work.lines)
    for each in planned:
        asked += [(each.migration, number, command) for number, command in enumerate(each.commands, 1)]
        keys += [key for named in each.keys for key in named]
        lines = _noted(lines, each.migration)
    await work.run(asked, list(dict.fromkeys(keys)), after, lines)


async def _apart(work: _Work, planned: Planned, after: Mark, unfinished: Begun | None, going: Mark) -> None:
    """Every command on its own, each noted down with it: none is left out or run twice."""
    migration, commands = planned.migration, planned.commands
    done = 0
    if unfinished is not None and unfinished.is_of(migration):
        done = unfinished.rest(migration, commands, work.where)
    for number in range(done + 1, len(commands)):
        half = Begun.of(migration, commands, number).encode()
        await work.run([(migration, number, commands[number - 1])], (), going, work.lines, half)
    last = [(migration, len(commands), commands[-1])] if done < len(commands) else []
    await work.run(last, (), after, _noted(list(work.lines), migration))


def _noted(lines: list[str], migration: Migration) -> list[str]:
    """The ledger once a migration was run."""
    if not migration.undo:
        return [*lines, encode_line(migration)]
    name = (migration.version, migration.name)
    applied = [(line.version, line.migration) == name for line in decode_lines(lines, "")]
    # What was undone is the last of its name; it is not there at all when it was never done to its end.
    last = len(applied) - 1 - applied[::-1].index(True) if True in applied else -1
    return [line for number, line in enumerate(lines) if number != last]
