"""Tenants in the words of render. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from tenantry_api.problems import Problem
from tenantry_api.settings import Settings
from tenantry_api.tenants import Tenant

Object = dict[str, Any]

PREFIXES = {"web_service": "web", "database": "db", "redis": "redis", "worker": "worker"}
"""What the id of each kind of service begins with."""


def status_of(tenant: Tenant) -> str:
    """The status in one word."""
    if tenant.is_going or tenant.state not in ("Draft", "Active"):
        return "SUSPENDED"
    if tenant.state == "Draft" or tenant.is_moving:
        return "PROVISIONING"
    if tenant.is_stalled:
        return "ERROR"
    return "ACTIVE" if tenant.is_ready else "PROVISIONING"


def name_in_spec(kind: str) -> str:
    """What a database or service of the contract is called in a Tenant, whose names have no underscores."""
    return kind.replace("_", "-")


def service_ids(tenant: Tenant, kinds: Iterable[str]) -> dict[str, str]:
    """The ids of the databases and services that are there.

    :param kinds: the contract's words for those that a tenant may have.
    """
    databases, services = tenant.databases, tenant.services
    found = {}
    for kind in kinds:
        database, service = (entries.get(name_in_spec(kind)) or {} for entries in (databases, services))
        # The Secret is named before it is written, the login is noted after; so is a Deployment's generation.
        if (database.get("secret") and database.get("login")) or service.get("generation"):
            found[kind] = f"{PREFIXES.get(kind, name_in_spec(kind))}-{tenant.id}-{tenant.number}"
    return found


def provisioning(tenant: Tenant, kinds: Iterable[str]) -> Object:
    """How the provisioning of a tenant is."""
    return {
        "id": tenant.number,
        "name": tenant.display_name,
        "slug": tenant.id,
        "status": status_of(tenant),
        "render_service_ids": service_ids(tenant, kinds),
        "created_at": tenant.created_at,
    }


def detail(tenant: Tenant, kinds: Iterable[str]) -> Object:
    """A tenant."""
    return {
        "id": tenant.number,
        "name": tenant.display_name,
        "slug": tenant.id,
        "status": status_of(tenant),
        "render_service_ids": service_ids(tenant, kinds),
        "custom_plugin_repo": tenant.profile.get("pluginRepo") or "",
        "created_at": tenant.created_at,
        "updated_at": tenant.updated_at,
    }


def new_spec(name: str, settings: Settings) -> Object:
    """What a tenant should be that is made through the contract."""
    spec: Object = {"displayName": name}
    for field, blueprints in (("databases", settings.render_databases), ("services", settings.render_services)):
        if blueprints:
            spec[field] = _entries(blueprints)
    return spec


def _entries(blueprints: Mapping[str, str]) -> list[Object]:
    return [{"name": name_in_spec(kind), "blueprint": blueprint} for kind, blueprint in blueprints.items()]


def links(base: str, page: int, size: int, count: int, asked_size: int | None) -> tuple[str | None, str | None]:
    """The URLs of the next and the previous page; None where there is none.

    :param base: the URL of the list, without a query.
    :param asked_size: what the caller gave as ``page_size``; it stays in the URLs.
    """

    def url(number: int) -> str:
        query = {"page": number} | ({} if asked_size is None else {"page_size": size})
        return f"{base}?{urlencode(query)}"

    last = max(1, -(-count // size))
    following = url(page + 1) if page < last else None
    return following, url(min(page - 1, last)) if page > 1 else None


def failure(problem: Problem) -> Object:
    """The body of an error."""
    if not problem.errors:
        return {"error": problem.message}
    first = problem.errors[0]
    body = {"error": first.message, "field": first.field}
    if len(problem.errors) > 1:
        body["detail"] = "; ".join(f"{each.field}: {each.message}" for each in problem.errors)
    return body
