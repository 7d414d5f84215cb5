"""Migrations: lists of commands, checked against the tenant's prefix and run.

A migration is a JSON array of commands, each an array of its words; ``{prefix}`` in a word stands for the
tenant's prefix, and nothing is added where it is missing. Before anything runs, the server itself says of
each command whether a user that is confined to the prefix might give it (ACL DRYRUN). Then the
administrator has them run by one script, together with their line in the ledger: the server runs a script
as a whole or, when it dies, not at all. Redis undoes nothing when a command fails; the script puts the keys
back that were touched before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import exceptions

from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis import commands
from tenantry_operator.engines.redis.catalog import MARKS, UNFINISHED, Facts, ledger_of, may
from tenantry_operator.engines.redis.connections import Command, Session
from tenantry_operator.engines.redis.errors import describe
from tenantry_operator.errors import Stalled

PLACEHOLDER = "{prefix}"
_MOST_WORDS = 4000
"""Of one command: the server's Lua takes no more at a time."""

# With this first line a script is not begun when memory is short: it would otherwise fail half way.
_RUN = """#!lua
local job = cjson.decode(ARGV[1])
local mark = redis.call('HGET', job.marks, job.database)
local half = redis.call('HGET', job.unfinished, job.database) or ''
if mark ~= job.mark or half ~= job.half or redis.call('LLEN', job.ledger) ~= job.applied then
  return {-1, 'it was changed meanwhile'}
end
local kept = {}
if #job.commands > 1 then
  for _, key in ipairs(job.keys) do
    kept[#kept + 1] = {key, redis.call('DUMP', key), redis.call('PEXPIRETIME', key)}
  end
end
for number, command in ipairs(job.commands) do
  local answer = redis.pcall(unpack(command))
  if type(answer) == 'table' and answer.err then
    for _, was in ipairs(kept) do
      redis.call('DEL', was[1])
      if was[2] then
        redis.call('RESTORE', was[1], math.max(was[3], 0), was[2], 'ABSTTL')
      end
    end
    return {number, answer.err}
  end
end
for _, command in ipairs(job.own) do
  redis.call(unpack(command))
end
return {0, ''}
"""


@dataclass(frozen=True, slots=True)
class Planned:
    """A migration with its commands as they are given to the server."""

    migration: Migration
    commands: tuple[Command, ...]
    keys: tuple[tuple[str, ...], ...]
    """By command."""


def parse(migration: Migration, database: str, where: str) -> tuple[tuple[str, ...], ...]:
    """The commands of a migration.

    :raises Stalled: MigrationFailed, for what is not an array of arrays of words, or no command for data.
    """
    what = f"{where}: {migration.what}"
    try:
        value = json.loads(migration.text)
    except ValueError as error:
        raise Stalled("MigrationFailed", f"{what} is not JSON: {error}") from None
    if not isinstance(value, list):
        raise Stalled("MigrationFailed", f"{what} is not an array of commands")
    return tuple(_command(words, database, f"{what}, command {number}") for number, words in enumerate(value, 1))


def _command(words: Any, database: str, what: str) -> tuple[str, ...]:
    try:
        return parse_command(words, database, commands.DATA)
    except ValueError as error:
        raise Stalled("MigrationFailed", f"{what}: {error}") from None


def parse_command(words: Any, database: str, allowed: frozenset[str]) -> tuple[str, ...]:
    """One command with the placeholder filled in.

    :raises ValueError: with what is wrong with it, in words.
    """
    if not isinstance(words, list) or not words:
        raise ValueError('it is not an array of words, as ["HSET", "{prefix}config", "theme", "light"] is')
    if len(words) > _MOST_WORDS:
        raise ValueError(f"it has more than {_MOST_WORDS} words: make several of it")
    found = []
    for word in words:
        if isinstance(word, bool) or not isinstance(word, str | int | float):
            raise ValueError("its words are to be texts or numbers")  # noqa: TRY004 - one error for all of them
        text = word if isinstance(word, str) else json.dumps(word)
        found.append(text.replace(PLACEHOLDER, key_prefix(database)))
    if any("\ud800" <= character <= "\udfff" for text in found for character in text):
        raise ValueError("it has half a character (a lone surrogate)")
    name = commands.name_of(found)
    if name not in allowed:
        raise ValueError(f"{name.upper()[:40]} is not a command that works on data within a prefix alone")
    return tuple(found)


async def check(
    session: Session, facts: Facts, chain: Chain, migrations: Sequence[Migration], database: str, where: str
) -> list[Planned]:
    """Migrations as they are to be run, after the server found nothing in them that leaves the prefix.

    :raises Stalled: MigrationFailed.
    """
    parsed = [(migration, parse(migration, database, where)) for migration in migrations]
    flat = [(migration, number, command) for migration, list_ in parsed for number, command in enumerate(list_, 1)]
    asked = [command for _, _, command in flat]
    if not asked:
        return [Planned(migration, (), ()) for migration, _ in parsed]
    allowed = commands.rules(commands.DATA, facts.known)
    named_by = [("COMMAND", "GETKEYS", *command) for command in asked]
    refusals, keys = await may(session, database, allowed, asked, named_by)
    for (migration, number, command), refusal in zip(flat, refusals, strict=True):
        if refusal is not None:
            raise failed(migration, chain, where, number, command, refusal)
    named: list[tuple[str, ...]] = []
    for (migration, number, command), answer in zip(flat, keys, strict=True):
        if isinstance(answer, Exception):
            raise failed(migration, chain, where, number, command, describe(answer))
        named.append(tuple(answer))
    planned, start = [], 0
    for migration, list_ in parsed:
        planned.append(Planned(migration, list_, tuple(named[start : start + len(list_)])))
        start += len(list_)
    return planned


def failed(migration: Migration, chain: Chain, where: str, number: int, command: Command, text: str) -> Stalled:
    """What a command that failed means, for whoever wrote it."""
    return Stalled(
        "MigrationFailed",
        f"{where}: {migration.what} of blueprint {chain.blueprint} failed, command {number} "
        f"({commands.name_of([str(word) for word in command]).upper()}): {text}",
    )


@dataclass(frozen=True, slots=True)
class Before:
    """What a database is like before a script; it does nothing when this is not so."""

    mark: str
    applied: int
    half: str


async def run(
    session: Session,
    database: str,
    before: Before,
    asked: Sequence[Command],
    keys: Sequence[str],
    own: Sequence[Command],
) -> tuple[int, str]:
    """Has commands run, and the operator's own after them, all or none.

    :returns: 0, or the number of the command that failed, from 1, or -1 when something else changed the
        database meanwhile; and what the server said.
    """
    job = {
        "marks": MARKS,
        "unfinished": UNFINISHED,
        "ledger": ledger_of(database),
        "database": database,
        "mark": before.mark,
        "applied": before.applied,
        "half": before.half,
        "keys": list(keys),
        "commands": [list(command) for command in asked],
        "own": [list(command) for command in own],
    }
    number, text = await session.call("EVAL", _RUN, 0, json.dumps(job))
    return int(number), describe(exceptions.ResponseError(text))
