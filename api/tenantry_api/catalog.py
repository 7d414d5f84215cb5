"""What tenants may choose from: plans, regions, residency policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenantry_api.cache import Cache
from tenantry_api.settings import Settings
from tenantry_api.tenants import Tenant
from tenantry_crds.quantities import parse_quantity

Object = dict[str, Any]


class Catalog:
    """The plans of the cluster, and the regions and policies of the settings."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._settings = settings
        self._cache = cache

    def code_of(self, number: int) -> str | None:
        """The code of the Plan of a number; None: there is none."""
        found = self._cache.plans.all("number", str(number))
        return self._code(found[0]) if found else None

    def number_of(self, code: str | None) -> int | None:
        """The number of the Plan of a code."""
        plan = self.plan(code)
        number: int | None = plan["spec"].get("number") if plan is not None else None
        return number

    def plan(self, code: str | None) -> Object | None:
        """The Plan of a code."""
        found = self._cache.plans.all("code", code) if code else []
        return found[0] if found else None

    @staticmethod
    def _code(plan: Object) -> str:
        return str(plan["spec"].get("code") or plan["metadata"]["name"])

    def limits(self, tenant: Tenant) -> dict[str, int]:
        """What a tenant may use, by resource: the plan's limits, overridden by its own. Storage is in bytes."""
        plan = self.plan((tenant.spec.get("plan") or {}).get("code"))
        spec = plan["spec"] if plan is not None else {}
        found: dict[str, Any] = {limit["resource"]: limit["limit"] for limit in spec.get("limits") or []}
        storage = (spec.get("database") or {}).get("storage")
        if storage is not None:
            found.setdefault("storage", storage)
        found.update({limit["resource"]: limit["limit"] for limit in tenant.spec.get("limits") or []})
        numbers = {}
        for resource, value in found.items():
            try:
                numbers[resource] = parse_quantity(value)
            except ValueError:
                continue  # the tenant's own status says so
        return numbers

    def unknown_region(self, regions: Iterable[str]) -> str | None:
        """The first that is not in the catalog."""
        return next((region for region in regions if region not in self._settings.regions), None)

    def regions_of(self, policy: str) -> list[str] | None:
        """The regions that a residency policy allows; None: there is no such policy."""
        return self._settings.residency_policies.get(policy)
