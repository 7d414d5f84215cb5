"""What a state asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_crds.common import DeletionPolicy
from tenantry_crds.tenant import TenantState
from tenantry_operator.engines.base import Presence
from tenantry_operator.tenants.lifecycle import Goal, goal, removal

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def aim(
    state: TenantState,
    policy: DeletionPolicy = DeletionPolicy.RETAIN,
    *,
    days: int = 30,
    gone: float | None = None,
) -> Goal:
    deleted = NOW - timedelta(days=gone) if gone is not None else None
    return goal(state, policy, timedelta(days=days), deleted_at=deleted, now=NOW)


@pytest.mark.parametrize(
    ("state", "presence", "reason"),
    [
        (TenantState.DRAFT, Presence.REFUSED, "Draft"),
        (TenantState.ACTIVE, Presence.LIVE, "Ready"),
        (TenantState.SUSPENDED, Presence.REFUSED, "Suspended"),
        (TenantState.DELETED, Presence.REFUSED, "Deleted"),
    ],
)
def test_states(state: TenantState, presence: Presence, reason: str) -> None:
    found = aim(state)
    assert (found.presence, found.reason, found.error) == (presence, reason, None)


def test_archived_drops_nothing_and_says_so() -> None:
    found = aim(TenantState.ARCHIVED, DeletionPolicy.DELETE)
    assert found.presence is Presence.REFUSED
    assert found.error is not None
    assert found.error.reason == "ArchiveNotSupported"


def test_retention_counts_from_the_time_the_state_was_reached() -> None:
    early = aim(TenantState.DELETED, DeletionPolicy.DELETE, gone=29.5)
    assert early.presence is Presence.REFUSED
    assert early.look_again == pytest.approx(timedelta(days=0.5).total_seconds())
    assert aim(TenantState.DELETED, DeletionPolicy.DELETE, gone=30.5).presence is Presence.ABSENT
    assert aim(TenantState.DELETED, DeletionPolicy.RETAIN, gone=300).presence is Presence.REFUSED
    late = aim(TenantState.DELETED, DeletionPolicy.ARCHIVE, gone=31)
    assert late.presence is Presence.REFUSED
    assert late.error is not None


@given(
    state=st.sampled_from(TenantState),
    policy=st.sampled_from(DeletionPolicy),
    days=st.integers(0, 400),
    gone=st.one_of(st.none(), st.floats(0, 500)),
)
def test_data_is_dropped_only_for_a_deleted_tenant_whose_policy_says_so_after_its_retention(
    state: TenantState, policy: DeletionPolicy, days: int, gone: float | None
) -> None:
    found = aim(state, policy, days=days, gone=gone)
    if found.presence is Presence.ABSENT:
        assert (state, policy) == (TenantState.DELETED, DeletionPolicy.DELETE)
        assert (gone or 0) >= days
    if found.presence is Presence.LIVE:
        assert state is TenantState.ACTIVE


@pytest.mark.parametrize(
    ("policy", "presence", "stalled"),
    [
        (DeletionPolicy.RETAIN, Presence.REFUSED, False),
        (DeletionPolicy.DELETE, Presence.ABSENT, False),
        (DeletionPolicy.ARCHIVE, Presence.REFUSED, True),
    ],
)
def test_removal(policy: DeletionPolicy, presence: Presence, stalled: bool) -> None:
    found = removal(policy)
    assert (found.presence, found.error is not None) == (presence, stalled)
