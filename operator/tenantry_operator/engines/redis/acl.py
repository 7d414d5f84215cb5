"""ACL users as the server lists them, and as the operator leaves them. Pure."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.binding import key_prefix

OWN = "tenantry:"
"""What the operator's own keys and channels begin with."""
_MARK = f"{OWN}mark:"
_GLOB = re.compile(r"([\\*?\[\]])")
_KNOWN = 16
"""Digits of a password's hash in the mark: enough to see that it was changed."""


def pattern(database: str) -> str:
    """What matches the keys and channels of a tenant, and no others."""
    return _GLOB.sub(r"\\\1", key_prefix(database)) + "*"


def hash_of(password: str) -> str:
    """A password as the server keeps it. It is random, so that nothing slower is needed."""
    return hashlib.sha256(password.encode()).hexdigest()


def encode_mark(mark: Mark, database: str, password: str) -> str:
    """The mark of a login as a channel.

    :param password: its hash.
    """
    text = urlsafe_b64encode(f"{mark.encode()}\n{database}".encode()).decode().rstrip("=")
    return f"{_MARK}{text}:{password[:_KNOWN]}"


@dataclass(frozen=True, slots=True)
class User:
    """One ACL user."""

    name: str
    enabled: bool
    passwords: tuple[str, ...]
    """Hashes."""
    keys: tuple[str, ...]
    channels: tuple[str, ...]
    """Without the mark."""
    commands: str
    flags: frozenset[str] = frozenset()
    """``nopass`` and others that the operator does not set."""
    selectors: bool = False
    databases: str = ""
    """Those it is confined to, since Valkey 9.1: ``db=1``, ``resetdbs``; empty: it is not."""
    mark: Mark | None = None
    database: str = ""
    """Whose login it is, by its mark."""
    known: str = ""
    """The first digits of the hash of the password that the operator set."""

    @property
    def password(self) -> str | None:
        """The hash of the password that the operator set; None when it is not there any more."""
        return next((found for found in self.passwords if self.known and found.startswith(self.known)), None)

    @property
    def fingerprint(self) -> str | None:
        """Of the password; one that nobody has when it is not the one that the operator set, or not alone."""
        if self.mark is None:
            return None
        alone = self.password is not None and len(self.passwords) == 1 and "nopass" not in self.flags
        return self.mark.fingerprint if alone else "changed"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a tenant's logins may do on one server, in the server's own words, and how to say it."""

    writing: str
    read_only: str
    rules: tuple[str, ...]
    read_only_rules: tuple[str, ...]


_RIGHTS = frozenset({"resetchannels", "allkeys", "alldbs"})


def _is_databases(word: str) -> bool:
    return word.startswith("db=") or word == "resetdbs"


@lru_cache(maxsize=20_000)
def parse(line: str) -> User | None:
    """A line of ACL LIST; None when it is none."""
    words = line.split(" ")
    if len(words) < 2 or words[0] != "user":
        return None
    plain = [word for word in words[2:] if word]
    opening = next((number for number, word in enumerate(plain) if word.startswith("(")), len(plain))
    plain, selectors = plain[:opening], opening < len(plain)
    return _user(
        words[1],
        [word for word in plain if word[0] not in "#~%&+-" and word not in _RIGHTS and not _is_databases(word)],
        [word[1:] for word in plain if word[0] == "#"],
        [word for word in plain if word[0] in "~%" or word == "allkeys"],
        [word[1:] for word in plain if word[0] == "&"],
        " ".join(word for word in plain if word[0] in "+-"),
        selectors,
        " ".join(word for word in plain if _is_databases(word)),
    )


def parse_one(name: str, answer: Sequence[Any] | None) -> User | None:
    """The answer to ACL GETUSER; None when there is no such user."""
    if answer is None:
        return None
    fields: Mapping[str, Any] = dict(zip(answer[::2], answer[1::2], strict=False))
    channels = [word.removeprefix("&") for word in str(fields.get("channels", "")).split(" ") if word]
    keys = [word for word in str(fields.get("keys", "")).split(" ") if word]
    return _user(
        name,
        list(fields.get("flags", ())),
        list(fields.get("passwords", ())),
        keys,
        channels,
        str(fields.get("commands", "")),
        bool(fields.get("selectors")),
        _databases(fields.get("databases")),
    )


def _databases(answer: Any) -> str:
    """What ACL GETUSER says of databases, in the words of ACL LIST."""
    if answer is None or answer == "alldbs":
        return ""
    return str(answer) or "resetdbs"


def settled(commands: str) -> str:
    """The rules of commands in an order of their own.

    Redis 7.0 lists subcommands in the order of a table that it moves about. Where an order means something,
    it is kept: rules of categories come before all others, and that of a command before its subcommands'.
    """
    categories: list[str] = []
    others: list[str] = []
    begun: set[str] = set()
    for rule in commands.split():
        container, bar, _ = rule[1:].partition("|")
        if rule[1:] in begun or ("@" in rule and others):
            return commands
        begun.update((rule[1:], container) if bar else (rule[1:],))
        (categories if "@" in rule else others).append(rule)
    return " ".join([*categories, *sorted(others)])


def _user(
    name: str,
    flags: list[str],
    passwords: list[str],
    keys: list[str],
    channels: list[str],
    commands: str,
    selectors: bool,
    databases: str,
) -> User:
    marks = [channel for channel in channels if channel.startswith(_MARK)]
    mark, database, known = _decode(marks[0]) if len(marks) == 1 else (None, "", "")
    return User(
        name=name,
        enabled="on" in flags,
        passwords=tuple(passwords),
        keys=tuple(keys),
        channels=tuple(channel for channel in channels if not channel.startswith(_MARK)),
        commands=settled(commands),
        flags=frozenset(flags) - {"on", "off"},
        selectors=selectors,
        databases=databases,
        mark=mark,
        database=database,
        known=known,
    )


def _decode(channel: str) -> tuple[Mark | None, str, str]:
    text, _, known = channel.removeprefix(_MARK).partition(":")
    try:
        decoded = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None, "", ""
    mark, _, database = decoded.partition("\n")
    return Mark.decode(mark), database, known


def render(database: str, mark: Mark, password: str | None, commands: Sequence[str]) -> list[str]:
    """The rules of a login that works, whatever it was before.

    :param password: its hash; None: no password opens it, until one is set.
    """
    allowed = pattern(database)
    return [
        # Also of what only some servers know.
        "reset",
        "on",
        *([f"#{password}"] if password else []),
        "sanitize-payload",
        f"~{allowed}",
        # A server may give them all by default.
        "resetchannels",
        f"&{allowed}",
        f"&{encode_mark(mark, database, password or '')}",
        *commands,
    ]


def differences(user: User, database: str, rights: Rights) -> list[str]:
    """What differs from how the operator leaves a login, in words."""
    allowed = pattern(database)
    found = []
    if user.keys != (f"~{allowed}",):
        found.append(f"keys {' '.join(user.keys) or 'none'}")
    if user.channels != (allowed,):
        found.append(f"channels {' '.join(user.channels) or 'none'}")
    if user.commands not in (rights.writing, rights.read_only):
        found.append("other commands")
    if user.selectors:
        found.append("selectors")
    if user.databases:
        found.append(f"databases {user.databases}")
    if "nopass" in user.flags:
        found.append("any password")
    elif len(user.passwords) > 1:
        found.append("further passwords")
    if "skip-sanitize-payload" in user.flags:
        found.append("skip-sanitize-payload")
    return [f"login {user.name}: {words}" for words in found]
