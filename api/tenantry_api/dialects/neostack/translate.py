"""Tenants in the words of neostack. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry_api.tenants import Tenant

Object = dict[str, Any]

SCHEMA = "schema"
"""The name, in the tenant, of the database that the contract makes."""
STATES = {"active": "Active", "suspended": "Suspended", "archived": "Archived"}
GIGABYTE = 1 << 30


def status_of(tenant: Tenant) -> str:
    """The status in one word."""
    if tenant.state == "Active":
        if tenant.is_moving:
            return "provisioning"
        if tenant.is_stalled:
            return "error"
        return "active" if tenant.is_ready else "provisioning"
    return {"Draft": "pending", "Suspended": "suspended", "Archived": "archived"}.get(tenant.state, "deleted")


def item(tenant: Tenant, plan_id: int | None) -> Object:
    """A tenant in a list."""
    return {
        "id": tenant.id,
        "name": tenant.display_name,
        "domain": tenant.profile.get("domain"),
        "status": status_of(tenant),
        "plan_id": plan_id,
        "created_at": tenant.created_at,
        "settings": tenant.spec.get("settings") or {},
    }


def detail(tenant: Tenant, plan_id: int | None, limits: Mapping[str, int]) -> Object:
    """A tenant."""
    storage = limits.get("storage")
    return {
        **item(tenant, plan_id),
        "updated_at": tenant.updated_at,
        "limits": {
            "max_users": limits.get("users"),
            "max_storage_gb": None if storage is None else _gigabytes(storage),
            "max_api_calls": limits.get("api_calls"),
        },
    }


def _gigabytes(size: int) -> float:
    return size // GIGABYTE if size % GIGABYTE == 0 else round(size / GIGABYTE, 3)


def made(tenant: Tenant) -> Object:
    """A tenant that was made."""
    return {
        "id": tenant.id,
        "name": tenant.display_name,
        "status": status_of(tenant),
        "created_at": tenant.created_at,
    }


def resources(tenant: Tenant, limits: Mapping[str, int]) -> Object:
    """What a tenant uses, and what it has a limit for."""
    used = tenant.usage
    found = []
    for name in sorted({*used, *limits}):
        amount, limit = int(used.get(name, {}).get("used") or 0), limits.get(name)
        share = None if limit is None else 100 if limit == 0 and amount else 100 * amount // max(1, limit)
        found.append({"resource_type": name, "used": amount, "limit_value": limit, "percentage": share})
    times = [entry["updatedAt"] for entry in used.values() if entry.get("updatedAt")]
    return {"tenant_id": tenant.id, "resources": found, "last_updated": max(times, default=None)}


def merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396) applied."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
