"""Which version a tenant's database is to be at. Pure.

A pin is obeyed. A follower stays where it is until a rollout takes it along; one that no rollout is
responsible for any more, such as a tenant that lost its pin or came back from being away, catches up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenantry_operator.rollouts.members import Result


@dataclass(frozen=True, slots=True)
class Turn:
    """A tenant's turn in a rollout."""

    name: str
    """The Rollout's name."""
    uid: str
    version: str
    """Which version it is to be brought to."""
    lock_timeout: float
    """How many seconds a migration waits for a lock."""
    timeout: float
    """How many seconds are left until the tenant counts as failed."""
    back: bool = False
    """It returns to a version from before."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that decides the version of a tenant's database.

    :param pin: the version in the spec.
    :param current: the blueprint's ``spec.version``.
    :param settled: the version that followers have, once the rollout to it is through; None when it is
        not known yet.
    :param installed: the version that the data is at; None: there is no data, or no version of it is whole.
    :param unfinished: the version that was being worked towards when something came in between.
    :param record: the entry in ``status.databases``.
    :param turn: a rollout has it in hand.
    :param joins: there is a rollout, and it has reached the wave of a tenant without data.
    :param busy: there is a rollout for the blueprint that has not ended.
    :param failed: it failed in a rollout that has not let go of it.
    """

    pin: str | None
    current: str
    settled: str | None
    installed: str | None
    unfinished: str | None
    record: Mapping[str, Any]
    turn: Turn | None = None
    joins: str | None = None
    busy: bool = False
    failed: bool = False
    frozen: bool = False
    """Somebody changed its schema, and the blueprint's policy has it stay where it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A version, and whether it may only be taken when it is further on in the chain."""

    version: str | None
    """None: leave everything as it is."""
    only_forward: bool = False


def choose(situation: Situation) -> Choice:
    """The version that a tenant's database is to be at."""
    s = situation
    if s.pin is not None:
        return Choice(s.pin)
    if s.frozen and s.installed is not None and s.unfinished is None and not (s.turn is not None and s.turn.back):
        return Choice(s.installed)
    if s.turn is not None:
        return Choice(s.turn.version)
    if s.failed:
        # What is half done is finished, or undone, when its turn comes again.
        return Choice(None if s.unfinished else s.installed)
    if s.unfinished is not None:
        return Choice(s.unfinished)
    if s.installed is None:
        return Choice(s.joins or s.settled or s.current)
    if s.busy or s.settled in (None, s.installed) or was_taken(s.record, s.installed, s.settled):
        return Choice(s.installed)
    return Choice(s.settled, only_forward=not was_kept_from(s.record, s.settled))


def was_kept_from(record: Mapping[str, Any], version: str | None) -> bool:
    """Whether the rollout that brought a version to all others skipped a database that was frozen then."""
    rollout = record.get("rollout") or {}
    return bool(rollout.get("result") == Result.FROZEN and rollout.get("version") == version)


def was_taken(record: Mapping[str, Any], installed: str | None, settled: str | None) -> bool:
    """Whether a rollout for some of the tenants brought a database where it is: that is as it should be."""
    rollout = record.get("rollout") or {}
    if rollout.get("result") == Result.MIGRATED:
        return bool(rollout.get("version") == installed)
    # One that failed on its way to the settled version waits until it is tried again.
    failed = rollout.get("result") in (Result.FAILED, Result.ROLL_BACK_FAILED)
    return failed and rollout.get("version") == settled
