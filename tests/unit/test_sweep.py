"""Which tenants a sweep looks at again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tenantry_operator.engines.base import (
    DatabaseState,
    Desired,
    Isolation,
    LoginLimits,
    LoginState,
    Names,
    Ownership,
    Presence,
)
from tenantry_operator.sweep import differs
from tenantry_operator.tenants.outcome import Seen
from tenantry_operator.tenants.quotas import Limits

MB = 1 << 20
STATE = DatabaseState(
    Ownership.OURS,
    exists=True,
    version="1.0",
    digest="d",
    logins=(LoginState("a", True, 3),),
    bytes=100 * MB,
    connections=3,
    writes=10,
)
DESIRED = Desired(
    installation="i",
    tenant="shop/acme",
    tenant_id="acme",
    entry="shop",
    isolation=Isolation.SCHEMA,
    names=Names("shop", "acme", "o", "a", "b"),
    blueprint="shop/shop",
    presence=Presence.LIVE,
)


def seen(limit: int | None = None) -> Seen:
    return Seen(("n", "pool"), DESIRED, STATE, Limits(LoginLimits(), limit, True, {}))


@pytest.mark.parametrize(
    "change",
    [{"connections": 9}, {"writes": 99}, {"bytes": 101 * MB}, {"logins": (LoginState("a", True, 9),)}],
)
def test_what_moves_by_itself_is_no_difference(change: dict[str, Any]) -> None:
    assert not differs(seen(), replace(STATE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"exists": False},
        {"version": None},
        {"drift": ("a grant is gone",)},
        {"logins": (LoginState("a", False),)},
        {"logins": ()},
        {"ownership": Ownership.STRANGER},
        {"bytes": 110 * MB},
    ],
)
def test_what_a_reconcile_would_act_on_is_one(change: dict[str, Any]) -> None:
    assert differs(seen(), replace(STATE, **change))


@pytest.mark.parametrize(
    ("limit", "size", "again"),
    [
        (200 * MB, 101 * MB, False),
        (126 * MB, 101 * MB, True),  # from below to above 80 %
        (100 * MB, 100 * MB + 1, True),  # over the quota
        (90 * MB, 100 * MB, False),  # still over it
    ],
)
def test_thresholds_of_the_quota_are_seen_exactly(limit: int, size: int, again: bool) -> None:
    assert differs(seen(limit), replace(STATE, bytes=size)) is again


def test_over_the_quota_a_tenant_is_vacuumed_when_it_wrote_and_now_and_then() -> None:
    over = seen(90 * MB)
    assert differs(over, replace(STATE, writes=11))
    assert differs(replace(over, at=over.at - 100), STATE)
    warned = Limits(LoginLimits(), 90 * MB, enforce_storage=False, counted={})
    assert not differs(replace(over, at=over.at - 100, limits=warned), replace(STATE, writes=11))
