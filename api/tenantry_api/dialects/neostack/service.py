"""What the endpoints of neostack do."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orjson import Fragment

from tenantry_api.dialects.neostack import schemas, translate
from tenantry_api.dialects.neostack.translate import SCHEMA
from tenantry_api.facade import Facade
from tenantry_api.problems import Invalid, Missing, Taken
from tenantry_api.tenants import Tenant
from tenantry_crds.common import Isolation
from tenantry_operator import conditions
from tenantry_operator.conditions import is_true
from tenantry_operator.tenants.naming import names_for

Object = dict[str, Any]
VERSION = "3.0.0"


class Service:
    """What takes more than a line."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._tenants = facade.tenants

    def health(self) -> Object:
        cache, home = self._facade.cache, self._facade.settings.namespace
        shared = [obj for obj in cache.instances if obj["metadata"]["namespace"] == home]
        connected = not cache.is_stale and any(
            obj["spec"].get("role", "Shared") == "Shared" and is_true(obj, "Ready") for obj in shared
        )
        return {
            "status": "healthy" if connected else "degraded",
            "timestamp": conditions.timestamp(),
            "database": "connected" if connected else "disconnected",
            "version": VERSION,
        }

    def page(self, limit: int, offset: int, status: str) -> Object:
        found = self._tenants.selected(f"neostack {status}", lambda tenant: _is_listed(tenant, status))
        return {
            "items": [self._item(tenant) for tenant in found[offset : offset + limit]],
            "total": len(found),
            "limit": limit,
            "offset": offset,
        }

    async def create(self, body: schemas.NewTenant) -> Object:
        """Makes a tenant, and waits a while for it."""
        spec: Object = {"displayName": body.name, "settings": body.settings or {}}
        if body.domain is not None:
            spec["profile"] = {"domain": body.domain}
        if body.plan_id is not None:
            spec["plan"] = {"code": self._plan_code(body.plan_id)}
        return translate.made(await self._tenants.settle(await self._tenants.create(body.id, spec)))

    async def change(self, tenant: Tenant, body: schemas.TenantChange) -> Object:
        """Changes a tenant."""
        plan = self._plan_code(body.plan_id) if body.plan_id is not None else None

        def edit(now: Tenant, wanted: Object) -> None:
            spec = wanted["spec"]
            if body.name is not None:
                spec["displayName"] = body.name
            if body.domain is not None:
                spec.setdefault("profile", {})["domain"] = body.domain
            if plan is not None and (spec.get("plan") or {}).get("code") != plan:
                spec["plan"] = {"code": plan}
            if body.settings is not None:
                spec["settings"] = translate.merged(spec.get("settings") or {}, body.settings)
            if body.status is not None:
                spec["state"] = translate.STATES[body.status]

        changed = await self._tenants.change(tenant.key, edit)
        return {"id": changed.id, "updated_at": changed.updated_at}

    async def delete(self, tenant: Tenant) -> None:
        """Deletes a tenant; its deletionPolicy says what becomes of the data."""
        await self._tenants.delete(tenant)

    def resources(self, tenant: Tenant) -> Object:
        """What a tenant uses."""
        return translate.resources(tenant, self._facade.catalog.limits(tenant))

    async def report(self, tenant: Tenant, body: schemas.NewUse) -> Object:
        """Takes in how much of a resource is used."""
        entry = await self._tenants.report(tenant.key, body.resource_type, body.used)
        return {"resource_type": body.resource_type, "used": body.used, "updated_at": entry["updatedAt"]}

    def _item(self, tenant: Tenant) -> Fragment:
        return self._facade.rendered(
            tenant, "neostack.item", lambda: translate.item(tenant, self._plan_id(tenant))
        )

    def detail(self, tenant: Tenant) -> Fragment:
        """A tenant."""
        return self._facade.rendered(
            tenant,
            "neostack.detail",
            lambda: translate.detail(tenant, self._plan_id(tenant), self._facade.catalog.limits(tenant)),
        )

    def _plan_id(self, tenant: Tenant) -> int | None:
        return self._facade.catalog.number_of((tenant.spec.get("plan") or {}).get("code"))

    def _plan_code(self, number: int) -> str:
        code = self._facade.catalog.code_of(number)
        if code is None:
            raise Invalid(f"plan_id: there is no plan {number}")
        return code

    async def make_schema(self, tenant: Tenant) -> Object:
        blueprint = self._facade.settings.neostack_blueprint

        def add(now: Tenant, wanted: Object) -> None:
            databases = wanted["spec"].setdefault("databases", [])
            if any((each.get("name") or each["blueprint"]) == SCHEMA for each in databases):
                raise Taken("The tenant has a schema already")
            databases.append({"name": SCHEMA, "blueprint": blueprint, "isolation": "Schema"})

        def is_done(now: Tenant) -> bool:
            made = bool(now.databases.get(SCHEMA, {}).get("schema"))
            # A draft has none before it is activated.
            return now.is_stalled or (now.is_ready and (made or now.state == "Draft"))

        made = await self._tenants.settle(await self._tenants.change(tenant.key, add), is_done)
        name = made.databases.get(SCHEMA, {}).get("schema")
        if name:
            return {"tenant_id": tenant.id, "schema_name": name, "status": "created"}
        if made.is_stalled:
            with suppress(Missing):  # somebody dropped it meanwhile
                await self.drop_schema(made)
            raise Taken(f"the schema cannot be made: {made.trouble}")
        # It is called so unless that name is another's on the server.
        names = names_for(Isolation.SCHEMA, blueprint, tenant.id, SCHEMA, namespace=tenant.key[0])
        return {"tenant_id": tenant.id, "schema_name": names.schema, "status": "creating"}

    async def drop_schema(self, tenant: Tenant) -> None:
        def take_out(now: Tenant, wanted: Object) -> None:
            databases = wanted["spec"].get("databases") or []
            rest = [each for each in databases if (each.get("name") or each["blueprint"]) != SCHEMA]
            if len(rest) == len(databases):
                raise Missing("The tenant has no schema")
            wanted["spec"]["databases"] = rest

        await self._tenants.change(tenant.key, take_out)


def _is_listed(tenant: Tenant, status: str) -> bool:
    there = tenant.state != "Deleted" and not tenant.is_going
    return there and (not status or translate.status_of(tenant) == status)
