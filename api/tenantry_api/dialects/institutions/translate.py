"""Tenants in the words of institutions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from tenantry_api.auth.accounts import Account
from tenantry_api.dialects.institutions.schemas import NewTenant, TenantChange
from tenantry_api.identity import uuid_of
from tenantry_api.problems import FieldError, Invalid
from tenantry_api.tenants import Tenant
from tenantry_operator.conditions import timestamp

Object = dict[str, Any]

MEGABYTE = 1 << 20
STATES = {"ACTIVE": "Active", "SUSPENDED": "Suspended", "INACTIVE": "Deleted"}
PROFILE = {
    "type": "type",
    "description": "description",
    "logo_url": "logoUrl",
    "contact_email": "contactEmail",
    "contact_phone": "contactPhone",
    "legal_status": "legalStatus",
    "registration_number": "registrationNumber",
}
"""Fields of the contract that are in ``spec.profile``, and their names there."""
COUNTED = {"max_users": "users", "max_diplomas": "diplomas", "storage_quota_mb": "storage"}
"""Fields of the contract that are limits, and the resources that they limit."""
_CLEARABLE = ("description", "logo_url", "contact_phone", "registration_number")
_LARGEST_CONFIG = 1 << 16


def refused(field: str, message: str) -> Invalid:
    """What says that a field is wrong."""
    return Invalid(f"{field}: {message}", errors=[FieldError(field, message)])


# Reading


def status_of(tenant: Tenant) -> str:
    """The status in one word."""
    return {"Active": "ACTIVE", "Suspended": "SUSPENDED"}.get(tenant.state, "INACTIVE")


def parent_id_of(tenant: Tenant) -> str | None:
    """The parent's UUID."""
    parent = tenant.spec.get("parent")
    return uuid_of(tenant.key[0], parent) if parent else None


def maxima(limits: Mapping[str, int]) -> dict[str, int | None]:
    """The limits that the contract knows; null: none. Storage is in MB, begun ones left out."""
    storage = limits.get("storage")
    return {
        "max_users": limits.get("users"),
        "max_diplomas": limits.get("diplomas"),
        "storage_quota_mb": None if storage is None else storage // MEGABYTE,
    }


def item(tenant: Tenant, limits: Mapping[str, int]) -> Object:
    """A tenant in a list."""
    status = status_of(tenant)
    return {
        "id": tenant.uuid,
        "name": tenant.display_name,
        "slug": tenant.id,
        **{field: tenant.profile.get(name) for field, name in PROFILE.items()},
        "parent_id": parent_id_of(tenant),
        **maxima(limits),
        "status": status,
        "is_active": status == "ACTIVE",
        "created_at": tenant.created_at,
        "updated_at": tenant.updated_at,
    }


def detail(tenant: Tenant, limits: Mapping[str, int]) -> Object:
    """A tenant."""
    return {**item(tenant, limits), "security_config": tenant.spec.get("securityConfig") or {}}


def stats(tenant: Tenant, limits: Mapping[str, int]) -> Object:
    """What a tenant uses."""
    usage = tenant.usage
    users, diplomas = usage.get("users") or {}, usage.get("diplomas") or {}
    storage = -(-int((usage.get("storage") or {}).get("used") or 0) // MEGABYTE)
    most = maxima(limits)
    totals = {"users": int(users.get("used") or 0), "diplomas": int(diplomas.get("used") or 0)}
    return {
        "tenant_id": tenant.uuid,
        "total_users": totals["users"],
        "max_users": most["max_users"],
        "users_percentage": percentage(totals["users"], most["max_users"]),
        "total_diplomas": totals["diplomas"],
        "max_diplomas": most["max_diplomas"],
        "diplomas_percentage": percentage(totals["diplomas"], most["max_diplomas"]),
        "storage_used_mb": storage,
        "storage_quota_mb": most["storage_quota_mb"],
        "storage_percentage": percentage(storage, most["storage_quota_mb"]),
        "user_count_by_role": counts(users),
        "diploma_count_by_status": counts(diplomas),
        "last_diploma_created": latest(diplomas),
        "last_user_added": latest(users),
    }


def percentage(used: int, most: int | None) -> float | None:
    """How much of what may be used is; null: there is no limit. Of a limit of nothing, any use is all."""
    if most is None:
        return None
    if most == 0:
        return 100.0 if used else 0.0
    return round(100.0 * used / most, 2)


def counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """What a resource is made of; parts without a label are left out."""
    parts = usage.get("breakdown") or []
    return {str(part["label"]): int(part.get("count") or 0) for part in parts if part.get("label")}


def latest(usage: Mapping[str, Any]) -> str | None:
    """The latest moment in any part of a resource."""
    found = [_moment(part.get("latest")) for part in usage.get("breakdown") or []]
    last = max((at for at in found if at is not None), default=None)
    return None if last is None else timestamp(last)


def _moment(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None  # usage queries may answer anything


def session(account: Account, token: str) -> Object:
    """A token, and whose it is."""
    return {
        "access_token": token,
        "token_type": "bearer",
        "user": {
            "id": account.id,
            "email": account.email,
            "fullName": account.full_name,
            "role": account.role,
            "tenantId": account.tenant or None,
        },
    }


# Writing


def spec_of(new: NewTenant, parent: Tenant | None, databases: Sequence[str]) -> Object:
    """The spec of a tenant that is to be made, without its id.

    :param databases: the Blueprints of the databases it gets.
    """
    given = new.model_dump()
    spec: Object = {
        "displayName": new.name,
        "state": "Active",
        "profile": {name: given[field] for field, name in PROFILE.items() if given[field] is not None},
        "limits": [_limit(field, given[field]) for field in COUNTED],
        "databases": [{"blueprint": blueprint} for blueprint in databases],
    }
    if parent is not None:
        spec["parent"] = parent.key[1]
    if new.security_config is not None:
        spec["securityConfig"] = _configured({}, new.security_config)
    return spec


def apply_change(spec: Object, now: Tenant, change: TenantChange, limits: Mapping[str, int]) -> None:
    """Changes a spec. What is as it should be stays untouched, so that who reads a tenant may send all of it back.

    :param spec: changed in place; the parent is not.
    :param limits: those that hold now, the plan's included.
    :raises Invalid: for what cannot be.
    """
    if change.slug is not None and change.slug != now.id:
        raise refused("slug", "The slug of a tenant cannot be changed")
    if change.name is not None and change.name != now.display_name:
        spec["displayName"] = change.name
    _apply_profile(spec, now, change)
    most = maxima(limits)
    for field, resource in COUNTED.items():
        value = getattr(change, field)
        if value is not None and value != most[field]:
            others = [each for each in spec.get("limits") or [] if each["resource"] != resource]
            spec["limits"] = [*others, _limit(field, value)]
    if change.security_config is not None:
        spec["securityConfig"] = _configured(spec.get("securityConfig") or {}, change.security_config)
    if change.status is not None and change.status != status_of(now):
        if change.status != "INACTIVE" and not is_data_kept(now, datetime.now(UTC)):
            raise refused("status", "The data of the tenant is gone; it cannot be brought back")
        spec["state"] = STATES[change.status]


def _apply_profile(spec: Object, now: Tenant, change: TenantChange) -> None:
    profile = dict(now.profile)
    for field in change.model_fields_set & PROFILE.keys():
        value = getattr(change, field)
        if value is not None:
            profile[PROFILE[field]] = value
        elif field in _CLEARABLE:
            profile.pop(PROFILE[field], None)
    if profile != now.profile:
        spec["profile"] = profile


def is_data_kept(tenant: Tenant, at: datetime) -> bool:
    """Whether a soft-deleted tenant still has its data."""
    deleted = _moment(tenant.status.get("deletedAt"))
    if tenant.state != "Deleted" or deleted is None or tenant.spec.get("deletionPolicy", "Retain") != "Delete":
        return True
    return at < deleted + timedelta(days=tenant.spec.get("retentionDays", 30))


def _limit(field: str, value: int) -> Object:
    return {"resource": COUNTED[field], "limit": f"{value}Mi" if field == "storage_quota_mb" else value}


def _configured(config: Mapping[str, Any], given: Mapping[str, Any]) -> Object:
    merged = {name: value for name, value in {**config, **given}.items() if value is not None}
    if len(orjson.dumps(merged)) > _LARGEST_CONFIG:
        raise refused("security_config", f"Value should have at most {_LARGEST_CONFIG} bytes")
    return merged
