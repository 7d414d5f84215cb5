"""Limits, and what the use of them means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_crds.plan import PlanSpec
from tenantry_crds.tenant import TenantSpec
from tenantry_operator.tenants import quotas
from tenantry_operator.tenants.quotas import Usage

PLAN = PlanSpec.model_validate(
    {
        "limits": [{"resource": "users", "limit": 100}, {"resource": "api_calls", "limit": 1000}],
        "database": {
            "connections": 20,
            "storage": "10Gi",
            "statementTimeout": "30s",
            "tempFiles": "1Gi",
        },
    }
)


def test_the_plan_holds() -> None:
    limits = quotas.merge(PLAN, TenantSpec())
    assert limits.login.connections == 20
    assert limits.login.statement_timeout_ms == 30_000
    assert limits.login.temp_files_bytes == 1 << 30
    assert limits.storage == 10 << 30
    assert limits.enforce_storage
    assert limits.counted == {"users": 100, "api_calls": 1000}


def test_the_tenants_own_limits_override_by_resource() -> None:
    tenant = TenantSpec.model_validate(
        {
            "limits": [
                {"resource": "users", "limit": 200},
                {"resource": "storage", "limit": "5Gi"},
                {"resource": "connections", "limit": 3},
            ]
        }
    )
    limits = quotas.merge(PLAN, tenant)
    assert limits.counted == {"users": 200, "api_calls": 1000}
    assert limits.storage == 5 << 30
    assert limits.login.connections == 3


def test_without_plan_and_limits_there_are_none() -> None:
    limits = quotas.merge(None, TenantSpec())
    assert (limits.login.connections, limits.storage, dict(limits.counted)) == (None, None, {})


@pytest.mark.parametrize(
    ("used", "status", "reason"),
    [
        (79, False, "WithinLimits"),
        (80, False, "NearLimit"),
        (100, False, "NearLimit"),
        (101, True, "QuotaExceeded"),
    ],
)
def test_thresholds(used: int, status: bool, reason: str) -> None:
    found = quotas.condition([Usage("users", used, 100)])
    assert (found.status, found.reason) == (status, reason)


@given(st.lists(st.builds(Usage, st.just("r"), st.integers(0, 500), st.one_of(st.none(), st.integers(0, 100)))))
def test_exceeded_exactly_when_any_limit_is(usages: list[Usage]) -> None:
    found = quotas.condition(usages)
    assert found.status == any(u.limit is not None and u.used > u.limit for u in usages)
