"""The status of a Tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.engines.base import (
    DatabaseState,
    Desired,
    Isolation,
    LoginLimits,
    Names,
    Ownership,
    Presence,
    UsageRow,
)
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.tenants import status
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.outcome import Outcome, Seen
from tenantry_operator.tenants.quotas import Limits, Usage
from tenantry_operator.tenants.view import TenantView

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
LIVE = Goal(Presence.LIVE, "Ready", "Ready")
MB = 1 << 20


def view(known: dict[str, Any] | None = None, **annotations: str) -> TenantView:
    metadata = {
        "name": "acme",
        "namespace": "shop",
        "uid": "u",
        "generation": 3,
        "annotations": {f"tenantry.dev/{key}": value for key, value in annotations.items()},
    }
    spec = {"databases": [{"blueprint": "shop", "isolation": "Schema"}]}
    return TenantView({"metadata": metadata, "spec": spec, "status": known or {}})


def outcome(size: int = 5 * MB, error: ReconcileError | None = None, **record: Any) -> Outcome:
    desired = Desired(
        installation="i",
        tenant="shop/acme",
        tenant_id="acme",
        entry="shop",
        isolation=Isolation.SCHEMA,
        names=Names("shop", "acme", "o", "a", "b"),
        blueprint="shop/shop",
        presence=Presence.LIVE,
    )
    seen = Seen(("n", "p"), desired, DatabaseState(Ownership.OURS, exists=True, bytes=size), None)
    made = {"name": "shop", "blueprint": "shop", "secret": "acme-shop-db", "phase": "Ready", **record}
    return Outcome("shop", made, error=error, seen=seen)


def render(seen: TenantView, error: ReconcileError | None = None, *, at: datetime = NOW, goal: Goal = LIVE) -> Any:
    found = outcome(error=error)
    return status.render(seen, goal, [found], error, [], [], now=at, stalled_after=300)


def condition(rendered: Any, kind: str) -> Any:
    return next(c for c in rendered["conditions"] if c["type"] == kind)


def test_what_the_product_reports_counts_against_its_limit_and_is_kept() -> None:
    told = {"resource": "api_calls", "used": 90, "source": "Reported", "updatedAt": "2026-11-01T00:00:00Z"}
    seen = view({"usage": [told]})
    limits = Limits(LoginLimits(), None, False, {"api_calls": 100})
    found = status.usages(seen, [], limits, {})
    assert found == [Usage("api_calls", 90, 100)]
    assert found[0].near
    assert status.render_usage(seen, found, {}, NOW) == [{**told, "limit": 100}]
    # A usage query of that name goes before it.
    counted = {"api_calls": [UsageRow("", 7)]}
    assert status.usages(seen, [], limits, counted) == [Usage("api_calls", 7, 100)]
    entry = status.render_usage(seen, [Usage("api_calls", 7, 100)], counted, NOW)[0]
    assert (entry["used"], entry["source"]) == (7, "Query")


def test_a_schema_that_somebody_changed_is_told_and_the_tenant_is_ready_all_the_same() -> None:
    drift = {"objects": ["table extra: added"], "count": 1, "digest": "d", "fingerprint": "f"}
    found = outcome(schemaDrift=drift, version="1.0")
    seen = view({"databases": [found.record]}, acknowledge="v1")
    rendered = status.render(seen, LIVE, [found], None, [], [], now=NOW, stalled_after=300)
    told = condition(rendered, "Drifted")
    assert (told["status"], told["reason"]) == ("True", "SchemaChanged")
    assert told["message"] == "database shop differs from version 1.0: table extra: added"
    assert condition(rendered, "Ready")["status"] == "True"
    assert rendered["handled"] == {"acknowledge": "v1"}
    assert rendered["databases"][0]["acknowledgedSchema"] == "d"


def test_a_reconcile_with_nothing_to_do_renders_what_is_there() -> None:
    first = render(view())
    assert render(view(first), at=NOW + timedelta(days=1)) == first


def test_one_database_makes_a_provisioned_service() -> None:
    assert render(view())["binding"] == {"name": "acme-shop-db"}


@pytest.mark.parametrize(
    ("error", "phase", "stalled"),
    [
        (Stalled("MigrationFailed", "mend it"), "Failed", "True"),
        (Waiting("PlanNotFound", "apply it"), "Provisioning", "False"),
        (Retryable("ServerUnreachable", "again"), "Provisioning", "False"),
    ],
)
def test_an_error_is_never_ready(error: ReconcileError, phase: str, stalled: str) -> None:
    rendered = render(view(), error)
    assert condition(rendered, "Ready")["status"] == "False"
    assert condition(rendered, "DatabasesReady")["status"] == "False"
    assert (rendered["phase"], condition(rendered, "Stalled")["status"]) == (phase, stalled)


def test_waiting_counts_as_stalled_after_a_while_and_is_over_when_it_came() -> None:
    error = Waiting("PlanNotFound", "apply it")
    first = render(view(), error)
    later = render(view(first), error, at=NOW + timedelta(minutes=6))
    assert later["waitingSince"] == first["waitingSince"]
    assert condition(later, "Stalled")["status"] == "True"
    assert "waitingSince" not in render(view(later))


def test_handled_annotations_are_kept() -> None:
    assert render(view(rotate="7"))["handled"] == {"rotate": "7"}
    assert "handled" not in render(view(rotate="7"), Retryable("X", ""))


def test_the_time_of_deletion_is_kept_while_deleted_and_forgotten_after() -> None:
    deleted = Goal(Presence.REFUSED, "Deleted", "Deleted")
    first = render(view(), goal=deleted)
    again = render(view(first), goal=deleted, at=NOW + timedelta(days=3))
    assert again["deletedAt"] == first["deletedAt"] == "2026-11-21T12:00:00Z"
    assert "deletedAt" not in render(view(again))


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_written_size_is_never_far_from_the_truth(old: int, new: int) -> None:
    settled = status.settled_size(old, new)
    assert settled in (old, new)
    assert settled is not None
    assert abs(settled - new) < max(MB, old // 20) or settled == new


def test_usage_that_did_not_change_keeps_its_time_and_reported_usage_is_kept() -> None:
    rows = {"users": [UsageRow("ADMIN", 2), UsageRow("STAFF", 3)]}
    found = [Usage("users", 5, 10)]
    reported = {"resource": "calls", "used": 9, "source": "Reported", "updatedAt": "2026-11-20T00:00:00Z"}
    first = status.render_usage(view({"usage": [reported]}), found, rows, NOW)
    again = status.render_usage(view({"usage": first}), found, rows, NOW + timedelta(hours=1))
    assert again == first
    assert reported in first
    assert first[0]["breakdown"] == [{"label": "ADMIN", "count": 2}, {"label": "STAFF", "count": 3}]
    assert status.counted_before(view({"usage": first})) == rows


def test_what_is_measured_takes_the_place_of_what_was_reported() -> None:
    reported = {"resource": "storage", "used": 5, "source": "Reported", "updatedAt": "2026-11-20T00:00:00Z"}
    (entry,) = status.render_usage(view({"usage": [reported]}), [Usage("storage", 8 * MB, None)], {}, NOW)
    assert (entry["used"], entry["source"], entry["updatedAt"]) == (8 * MB, "Measured", "2026-11-21T12:00:00Z")
