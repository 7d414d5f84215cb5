"""What is asked of a server: a few commands for all tenants together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import exceptions

from tenantry_operator.engines.redis import commands
from tenantry_operator.engines.redis.acl import OWN, Rights, User, parse, parse_one, pattern
from tenantry_operator.engines.redis.connections import Command, Session, done_of
from tenantry_operator.errors import Retryable, Stalled

MARKS = f"{OWN}marks"
"""A hash: by database its mark."""
UNFINISHED = f"{OWN}unfinished"
"""A hash: by database what is half done."""
CHECKED = f"{OWN}check"
"""A user that is only there within a transaction, to see what one like it may do."""
OLDEST = 7
_WRITTEN = (
    "run_id",
    "rdb_saves",
    "rdb_last_save_time",
    "rdb_changes_since_last_save",
    "expired_keys",
    "evicted_keys",
)
_MANY = 2000
"""Connections above which a look at one tenant does not count its own anew."""


def ledger_of(database: str) -> str:
    """The list of what was applied to a database."""
    return f"{OWN}ledger:{database}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server is."""

    run_id: str
    """Another one whenever the server was started."""
    version: str
    known: frozenset[str]
    """Names of its commands, as far as they matter."""
    shared: Rights
    alone: Rights
    """Of tenants that have the server to themselves."""
    missing: tuple[str, ...]

    def rights(self, *, alone: bool) -> Rights:
        """What a tenant's logins may do."""
        return self.alone if alone else self.shared


@dataclass(frozen=True, slots=True)
class ServerCatalog:
    """What a server has."""

    facts: Facts
    info: Mapping[str, str]
    users: Mapping[str, User]
    marks: Mapping[str, str]
    """By database."""
    sessions: Mapping[str, int]
    """By user."""

    @property
    def written(self) -> tuple[str, ...]:
        """What moves whenever a key is written, expires or is dropped: the server counts changes since it saved
        last."""
        return tuple(self.info.get(name, "") for name in _WRITTEN)


async def observe_server(session: Session, facts: Facts | None) -> ServerCatalog:
    """Asks for everything. The server answers each of these without waiting for another.

    :param facts: what is known from before.
    """
    known, (users, marks, clients) = await _asked(
        session, [("ACL", "LIST"), ("HGETALL", MARKS), ("CLIENT", "LIST")]
    )
    parsed = (parse(line) for line in users)
    return ServerCatalog(
        facts=await _facts(session, known, facts),
        info=known,
        users={user.name: user for user in parsed if user is not None},
        marks=dict(zip(marks[::2], marks[1::2], strict=True)),
        sessions=_sessions(clients),
    )


async def observe_database(
    session: Session, facts: Facts | None, database: str, logins: Sequence[str], sessions: Mapping[str, int]
) -> ServerCatalog:
    """Asks for what concerns one tenant database.

    :param sessions: by user, as they were counted last: where there are very many, they are not counted again.
    """
    known, (mark, *users) = await _asked(
        session, [("HGET", MARKS, database), *(("ACL", "GETUSER", login) for login in logins)]
    )
    found = [parse_one(login, answer) for login, answer in zip(logins, users, strict=True)]
    if any(found) and int(known.get("connected_clients", 0)) <= _MANY:
        sessions = _sessions(await session.call("CLIENT", "LIST"))
    return ServerCatalog(
        facts=await _facts(session, known, facts),
        info=known,
        users={user.name: user for user in found if user is not None},
        marks={database: mark} if mark is not None else {},
        sessions=sessions,
    )


async def _asked(session: Session, asked: Sequence[Command]) -> tuple[dict[str, str], list[Any]]:
    """What INFO says, and the answers to other commands: what is wrong with the server as a whole comes first."""
    info, *answers = await session.pipeline([("INFO",), *asked])
    if isinstance(info, Exception):
        raise info
    known = _checked(info)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return known, answers


def _checked(text: str) -> dict[str, str]:
    """What INFO says of a server that can be worked with.

    :raises Stalled: ServerTooOld, ServerIsCluster.
    :raises Retryable: ServerIsReplica.
    """
    info = parse_info(text)
    version = info.get("redis_version", "0")
    if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < OLDEST:
        raise Stalled("ServerTooOld", f"the server is Redis {version}: {OLDEST}.0 or newer is needed, or Valkey")
    if info.get("cluster_enabled") == "1":
        raise Stalled("ServerIsCluster", "the server is part of a Redis Cluster: use one that is not")
    if info.get("role") != "master":
        raise Retryable("ServerIsReplica", "the server is a replica: name the primary, or wait for the failover")
    return info


def parse_info(text: str) -> dict[str, str]:
    """What INFO says."""
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, colon, value in lines if colon}


def _sessions(clients: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in clients.splitlines():
        _, word, rest = line.partition(" user=")
        if word:
            found[rest.partition(" ")[0]] += 1
    return found


async def known_facts(session: Session) -> Facts:
    """The facts of a server of which nothing is known."""
    return await _facts(session, _checked(await session.call("INFO")), None)


async def _facts(session: Session, info: Mapping[str, str], before: Facts | None) -> Facts:
    """The facts of a server, asked for when it was started anew."""
    if before is not None and before.run_id == info.get("run_id"):
        return before
    answers = await session.pipeline([("ACL", "CAT", category) for category in commands.CATEGORIES])
    known = frozenset(name for answer in answers if isinstance(answer, list) for name in answer)
    rules = {
        (alone, read_only): commands.rules(commands.tenants(alone=alone, read_only=read_only), known)
        for alone in (False, True)
        for read_only in (False, True)
    }
    said = await _as_said(session, list(rules.values()))
    words = dict(zip(rules, said, strict=True))
    shared, alone = (
        Rights(words[one, False], words[one, True], tuple(rules[one, False]), tuple(rules[one, True]))
        for one in (False, True)
    )
    name = f"{info['valkey_version']} (Valkey)" if "valkey_version" in info else info["redis_version"]
    return Facts(info.get("run_id", ""), name, known, shared, alone, await _missing(session))


async def _as_said(session: Session, rules: Sequence[Sequence[str]]) -> list[str]:
    """How the server puts lists of rules. It has ways of its own, which differ from version to version."""
    asked: list[Command] = []
    for wanted in rules:
        asked += [("ACL", "SETUSER", CHECKED, "reset", *wanted), ("ACL", "GETUSER", CHECKED)]
    answers = await session.transaction([*asked, ("ACL", "DELUSER", CHECKED)])
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    users = (parse_one(CHECKED, answer) for answer in answers[1:-1:2])
    return [user.commands for user in users if user is not None]


_NEEDED = (
    (("EVAL", "", "0"), "running migrations", "+eval"),
    (("CLIENT", "KILL", "USER", "x"), "ending the sessions of suspended tenants", "+client|kill"),
    (("CLIENT", "LIST"), "counting sessions", "+client|list"),
    (("MEMORY", "USAGE", "x"), "measuring data", "+memory|usage"),
    (("SCAN", "0"), "measuring and removing data", "+scan"),
)


async def _missing(session: Session) -> tuple[str, ...]:
    """What the administrator may not do, what that is for, and the statement that allows it."""
    admin = await session.call("ACL", "WHOAMI")
    answers = await session.pipeline([("ACL", "DRYRUN", admin, *command) for command, _, _ in _NEEDED])
    return tuple(
        f"{what}: ACL SETUSER {admin} {rule}"
        for answer, (_, what, rule) in zip(answers, _NEEDED, strict=True)
        if answer != "OK"
    )


async def may(
    session: Session, database: str, allowed: Sequence[str], asked: Sequence[Command], also: Sequence[Command] = ()
) -> tuple[list[str | None], list[Any]]:
    """Whether a user that is confined to a tenant's prefix may give commands: None, or why not.

    The user is there within this one transaction only.

    :param allowed: the rules of its commands.
    :param also: what the administrator asks in the same breath; the answers come second, errors among them.
    """
    inner = [
        ("ACL", "SETUSER", CHECKED, "reset", f"~{pattern(database)}", *allowed),
        *(("ACL", "DRYRUN", CHECKED, *command) for command in asked),
        ("ACL", "DELUSER", CHECKED),
    ]
    found = await session.pipeline([("MULTI",), *inner, ("EXEC",), *also])
    answers = done_of(found[: len(inner) + 2])
    for answer in (answers[0], answers[-1]):
        if isinstance(answer, exceptions.ResponseError):
            raise answer
    return [None if answer == "OK" else str(answer) for answer in answers[1:-1]], found[len(inner) + 2 :]
