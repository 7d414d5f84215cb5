"""Which tenants a rollout is for, in which wave, and how each of them stands. Pure.

What a rollout did to a tenant is kept in the tenant's own status (``databases[].rollout``), so that a
rollout goes on after a restart from what every tenant says, and its own status stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tenantry_crds.common import Isolation
from tenantry_crds.rollout import RolloutSpec
from tenantry_crds.tenant import TenantState
from tenantry_operator.rollouts.selectors import matches
from tenantry_operator.tenants.deviations import is_unaccepted
from tenantry_operator.tenants.view import records_of

Object = dict[str, Any]

DEFAULT_WAVE = "default"
"""The wave of the tenants that are in none."""


class Result(StrEnum):
    """What a rollout did to a database (``databases[].rollout.result``)."""

    MIGRATED = "Migrated"
    FAILED = "Failed"
    ROLLED_BACK = "RolledBack"
    ROLL_BACK_FAILED = "RollBackFailed"
    FROZEN = "Frozen"
    """Nothing, for somebody changed the schema and the blueprint's policy is to keep off then."""


class Standing(StrEnum):
    """How a tenant stands in a rollout."""

    PENDING = "Pending"
    DONE = "Done"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    """It is none of the rollout's: pinned, without data, or away."""


@dataclass(frozen=True, slots=True)
class Member:
    """How a tenant stands, and why."""

    standing: Standing
    reason: str = ""
    message: str = ""
    database: str = ""


@dataclass(frozen=True, slots=True)
class Aim:
    """What a rollout is after.

    :param round: failures of other rounds do not count any more.
    :param back: it returns what it migrated to the versions from before.
    :param freezes: whose schema differs from its version gets no other one until that is acknowledged.
    """

    blueprint: str
    version: str
    uid: str
    round: str
    back: bool = False
    freezes: bool = False


def followers(tenant: Object, blueprint: str) -> Iterator[tuple[str, Object]]:
    """The databases of a tenant that follow a blueprint, with their entries in its status.

    Under Row isolation a version in the spec is no pin: the tables are everybody's.
    """
    records = records_of(tenant)
    for database in tenant["spec"].get("databases") or []:
        if database.get("blueprint") != blueprint:
            continue
        name = database.get("name") or blueprint
        record = records.get(name, {})
        row = (database.get("isolation") or record.get("isolation")) == Isolation.ROW
        if not database.get("version") or row:
            yield name, record


def is_meant(spec: RolloutSpec, tenant: Object) -> bool:
    """Whether a rollout names a tenant, by its list or selector; without either it means all."""
    meta = tenant["metadata"]
    if spec.tenants is not None:
        return meta["name"] in spec.tenants
    return matches(spec.selector, meta.get("labels") or {})


def wave_of(spec: RolloutSpec, tenant: Object) -> int:
    """The number of a tenant's wave, from 0; the one after the last for tenants that are in none."""
    labels = tenant["metadata"].get("labels") or {}
    for number, wave in enumerate(spec.waves):
        if matches(wave.selector, labels):
            return number
    return len(spec.waves)


def member(aim: Aim, tenant: Object) -> Member:
    """How a tenant that is meant stands."""
    if "deletionTimestamp" in tenant["metadata"]:
        return Member(Standing.SKIPPED, "Deleting")
    state = tenant["spec"].get("state") or TenantState.ACTIVE
    if state not in (TenantState.ACTIVE, TenantState.SUSPENDED):
        return Member(Standing.SKIPPED, str(state))
    databases = list(followers(tenant, aim.blueprint))
    if not databases:
        return Member(Standing.SKIPPED, "Pinned")
    found = [_database(aim, tenant, name, record) for name, record in databases]
    for standing in (Standing.FAILED, Standing.PENDING, Standing.DONE):
        for each in found:
            if each.standing is standing:
                return each
    return found[0]


def _database(aim: Aim, tenant: Object, name: str, record: Object) -> Member:
    rollout = record.get("rollout") or {}
    ours = rollout.get("uid") == aim.uid
    failed = Result.ROLL_BACK_FAILED if aim.back else Result.FAILED
    if ours and rollout.get("result") == failed and rollout.get("round") == aim.round:
        reason, message = rollout.get("reason") or "Failed", rollout.get("message") or ""
        return Member(Standing.FAILED, reason, message, name)
    if not record.get("version"):
        # Nothing was made for it yet; what is made gets the version that its wave has.
        return Member(Standing.SKIPPED, "NoData", database=name)
    if not aim.back:
        if record["version"] == aim.version:
            return Member(Standing.DONE, database=name)
        if aim.freezes and is_unaccepted(tenant, record):
            return Member(Standing.SKIPPED, Result.FROZEN, database=name)
        return Member(Standing.PENDING, database=name)
    if not ours or rollout.get("result") == Result.FROZEN:
        return Member(Standing.SKIPPED, "NotTouched", database=name)
    done = rollout.get("result") == Result.ROLLED_BACK
    return Member(Standing.DONE if done else Standing.PENDING, database=name)
