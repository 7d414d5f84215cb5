"""Tenants in the words of neostack."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_api.dialects.neostack import translate
from tenantry_api.tenants import Tenant

Object = dict[str, Any]


def tenant(
    state: str | None = None, ready: bool = False, stalled: bool = False, phase: str = "", **spec: Any
) -> Tenant:
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": "Stalled", "status": str(stalled)}]
    meta = {"namespace": "default", "name": "acme", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    full = {**spec, **({"state": state} if state else {})}
    status = {"observedGeneration": 1, "conditions": conditions, "phase": phase}
    return Tenant({"metadata": meta, "spec": full, "status": status})


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (tenant("Draft", ready=True), "pending"),
        (tenant("Active"), "provisioning"),
        (tenant(), "provisioning"),
        (tenant("Active", ready=True), "active"),
        (tenant("Active", ready=True, phase="Moving"), "provisioning"),
        (tenant("Active", phase="Restoring"), "provisioning"),
        (tenant("Active", stalled=True), "error"),
        (tenant("Suspended", ready=True), "suspended"),
        (tenant("Archived", stalled=True), "archived"),
    ],
)
def test_every_state_has_its_word(found: Tenant, word: str) -> None:
    assert translate.status_of(found) == word


def test_what_a_tenant_lacks_is_null_or_empty() -> None:
    assert translate.detail(tenant(ready=True), None, {}) == {
        "id": "acme",
        "name": "acme",
        "domain": None,
        "status": "active",
        "plan_id": None,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "settings": {},
        "limits": {"max_users": None, "max_storage_gb": None, "max_api_calls": None},
    }


@pytest.mark.parametrize(("size", "shown"), [(10 << 30, 10), (1 << 29, 0.5), (0, 0)])
def test_storage_is_shown_in_gigabytes(size: int, shown: float) -> None:
    assert translate.detail(tenant(), 1, {"storage": size})["limits"]["max_storage_gb"] == shown


@pytest.mark.parametrize(
    ("used", "limit", "share"), [(45, 100, 45), (1, 3, 33), (5, 0, 100), (0, 0, 0), (7, None, None)]
)
def test_shares_are_whole_numbers(used: int, limit: int | None, share: int | None) -> None:
    found = tenant()
    found.obj["status"]["usage"] = [{"resource": "users", "used": used, "updatedAt": "2026-01-02T00:00:00Z"}]
    shown = translate.resources(found, {} if limit is None else {"users": limit})
    expected = {"resource_type": "users", "used": used, "limit_value": limit, "percentage": share}
    assert shown["resources"] == [expected]
    assert shown["last_updated"] == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": "x"}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
    ],
)
def test_settings_are_merged(target: Object, patch: Object, result: Object) -> None:
    assert translate.merged(target, patch) == result
