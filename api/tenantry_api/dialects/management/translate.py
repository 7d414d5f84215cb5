"""Tenants in the words of tenant management. Pure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import orjson

from tenantry_api.problems import Invalid, Problem
from tenantry_api.tenants import Tenant

Object = dict[str, Any]
View = Callable[[Tenant], Object]
"""What is answered to a reader: a tenant, or a part of it."""
Position = tuple[str, str]
"""Where a tenant is in the order of the search: when it was made, and its name. Neither ever changes."""

STATUSES = {
    "Draft": "draft",
    "Active": "active",
    "Suspended": "suspended",
    "Archived": "archived",
    "Deleted": "archived",
}
TRANSITIONS: Mapping[str, tuple[str, frozenset[str]]] = {
    "activate": ("Active", frozenset({"draft", "archived"})),
    "suspend": ("Suspended", frozenset({"active"})),
    "resume": ("Active", frozenset({"suspended"})),
    "archive": ("Archived", frozenset({"active", "suspended"})),
}
"""The state that each brings, and the statuses that it starts from."""


def status_of(tenant: Tenant) -> str:
    """The status in one word; how far the work is does not show in it."""
    return STATUSES.get(tenant.state, "draft")


def state_after(transition: str, tenant: Tenant) -> str:
    """The state that a transition brings a tenant to.

    :raises Problem: 409, when it makes no sense from where the tenant is.
    """
    state, before = TRANSITIONS[transition]
    status = status_of(tenant)
    if status not in before:
        raise Problem(
            f"cannot {transition} a tenant that is {status}; it has to be {' or '.join(sorted(before))}",
            status=409,
            code="invalid_transition",
        )
    return state


def tenant(tenant: Tenant) -> Object:
    """A tenant."""
    return {
        "tenant_id": tenant.uuid,
        "slug": tenant.id,
        "legal_name": tenant.legal_name,
        "status": status_of(tenant),
    }


def made(tenant: Tenant) -> Object:
    """A tenant that was made; the same at any later time."""
    return {"tenant_id": tenant.uuid, "slug": tenant.id}


def regions(tenant: Tenant) -> Object:
    """The regions its data may lie in."""
    return {"items": list(tenant.spec.get("regions") or [])}


def residency(tenant: Tenant) -> Object:
    """The residency policy."""
    policy = tenant.spec.get("residency") or {}
    if not policy.get("policyId"):
        return {"policy": None}
    return {"policy": {"policy_id": policy["policyId"], "effective_from": policy.get("effectiveFrom")}}


def plan(tenant: Tenant) -> Object:
    """The plan."""
    bound = tenant.spec.get("plan") or {}
    return {"plan_code": bound.get("code"), "effective_from": bound.get("effectiveFrom")}


def contacts(tenant: Tenant) -> Object:
    """Whom to turn to."""
    found = tenant.spec.get("contacts") or []
    return {
        "items": [
            {"role": each.get("role"), "name": each.get("name"), "email": each.get("email")} for each in found
        ]
    }


def external_ids(tenant: Tenant) -> Object:
    """What other systems call it."""
    found = tenant.spec.get("externalIds") or []
    return {"items": [{"system_key": each.get("systemKey"), "id_value": each.get("idValue")} for each in found]}


def tags(tenant: Tenant) -> Object:
    """Its tags."""
    found = tenant.spec.get("tags") or []
    return {"items": [{"tag_key": each.get("tagKey"), "tag_value": each.get("tagValue") or ""} for each in found]}


def regions_within(allowed: Collection[str] | None, wanted: Iterable[str], policy: str | None) -> list[str]:
    """The regions of a tenant under a residency policy; those of the policy when it asks for none.

    :param allowed: what the policy allows; empty: everything.
    :raises Invalid: when the policy excludes one of them.
    """
    regions = list(wanted)
    if not allowed:
        return regions
    excluded = [region for region in regions if region not in allowed]
    if excluded:
        raise Invalid(f"region_code {excluded[0]} is outside of the residency policy {policy}")
    return regions or list(allowed)


def regions_under(new: Collection[str], policy: str, old: Collection[str] | None, present: list[str]) -> list[str]:
    """The regions of a tenant that gets a residency policy.

    :param new: what it allows.
    :param old: what the policy before it allowed. A tenant with just these regions never chose any itself.
    :raises Invalid: when the policy excludes a region that was chosen.
    """
    chosen = [] if old and set(present) == set(old) else present
    return regions_within(new, chosen, policy)


def matches(tenant: Tenant, *, q: str = "", status: str = "", region: str = "", tag: str = "") -> bool:
    """Whether a search finds a tenant; what is "" is not asked for.

    :param q: a part of the slug, the legal name or the id, whatever its letters' case.
    :param tag: a key, or ``key:value``.
    """
    if status and status_of(tenant) != status:
        return False
    if region and region not in (tenant.spec.get("regions") or []):
        return False
    if tag and not any(
        tag in (each["tag_key"], f"{each['tag_key']}:{each['tag_value']}") for each in tags(tenant)["items"]
    ):
        return False
    wanted = q.casefold()
    return not wanted or any(wanted in text.casefold() for text in (tenant.id, tenant.legal_name, tenant.uuid))


def position_of(tenant: Tenant) -> Position:
    """Where a tenant is in the order of the search."""
    return (tenant.created_at, tenant.key[1])


def cursor_of(position: Position) -> str:
    """A position as callers carry it; it means nothing to them."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def position_in(cursor: str) -> Position:
    """The position in a cursor.

    :raises Invalid: for what is no cursor.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, name = orjson.loads(text)
        if isinstance(created_at, str) and isinstance(name, str):
            return (created_at, name)
    except (ValueError, TypeError):
        pass
    raise Invalid("cursor: it is not one that a search has answered")
