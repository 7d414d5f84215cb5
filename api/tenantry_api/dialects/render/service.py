"""What the endpoints of render do."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from orjson import Fragment

from tenantry_api.claims import Held
from tenantry_api.dialects.render import schemas, translate
from tenantry_api.facade import Facade
from tenantry_api.fields import is_uuid
from tenantry_api.identity import slug_of
from tenantry_api.lines import Lines
from tenantry_api.problems import FieldError, Invalid, Missing, Taken, Unavailable
from tenantry_api.tenants import Tenant

Object = dict[str, Any]

LARGEST_PAGE = 100
_USUAL_PAGE = 10
_NAME_TAKEN = "A tenant with this name already exists"
_SLUG_TAKEN = "A tenant with this slug already exists"
_COUNTED_SLUGS = 100
_ATTEMPTS = 20
_PATIENCE = 20.0
"""Seconds that one waits for others whose names make the same slug."""


class Service:
    """What takes more than a line; one for each app."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._tenants = facade.tenants
        self._lines = Lines()
        settings = facade.settings
        self._kinds = tuple({**settings.render_services, **settings.render_databases})

    def page(self, base: str, page: int, asked_size: int | None) -> Object:
        """Some of the tenants, in the order of their ids; none of them past the end.

        :param base: the URL of the list.
        """
        found = self._visible()
        size = min(asked_size or _USUAL_PAGE, LARGEST_PAGE)
        start = (page - 1) * size
        following, previous = translate.links(base, page, size, len(found), asked_size)
        return {
            "count": len(found),
            "next": following,
            "previous": previous,
            "results": [self.detail(tenant) for tenant in found[start : start + size]],
        }

    def _visible(self) -> list[Tenant]:
        # By number: Tenants of kubectl's get theirs a little after they are made.
        return self._tenants.selected("render", self._is_shown, order=lambda tenant: tenant.number or 0)

    def _is_shown(self, tenant: Tenant) -> bool:
        if tenant.number is None or tenant.state == "Deleted":
            return False
        # A copied label: the id is the older one's, and leads to that only.
        holder = self._tenants.by_number(tenant.number)
        return holder is not None and holder.key == tenant.key

    def find(self, number: int) -> Tenant:
        """The tenant of an id.

        :raises Missing: when there is none, or it is soft-deleted.
        """
        found = self._tenants.by_number(number)
        if found is None or not self._is_shown(found):
            raise Missing("Tenant not found")
        return found

    def detail(self, tenant: Tenant) -> Fragment:
        """A tenant."""
        return self._facade.rendered(tenant, "render.detail", lambda: translate.detail(tenant, self._kinds))

    def provisioning(self, tenant: Tenant) -> Object:
        """How the provisioning of a tenant is."""
        return translate.provisioning(tenant, self._kinds)

    async def create(self, body: schemas.NewTenant) -> Fragment:
        """Makes a tenant, and does not wait for it."""
        name = body.display_name
        spec = translate.new_spec(name, self._facade.settings)
        async with self._claimed(name):
            if body.slug:
                try:
                    made = await self._tenants.create(body.slug, spec)
                except Taken as error:
                    raise _wrong("slug", _SLUG_TAKEN) from error
            else:
                made = await self._create_with_some_slug(name, spec)
        return self.detail(made)

    async def _create_with_some_slug(self, name: str, spec: Object) -> Tenant:
        # One after the other: at once they would all try the same number.
        async with self._lines.turn(slug_of(name), _PATIENCE):
            for _ in range(_ATTEMPTS):
                try:
                    return await self._tenants.create(self._free_slug(name), spec)
                except Taken:
                    continue  # somebody else was faster
        raise Unavailable("many tenants of such a name are being made; try again", retry_after=1)

    def _free_slug(self, name: str) -> str:
        for number in range(1, _COUNTED_SLUGS):
            slug = slug_of(name, number=number)
            if self._tenants.by_id(slug) is None and not is_uuid(slug):
                return slug
        return slug_of(name, number=_COUNTED_SLUGS + secrets.randbelow(1_000_000_000))

    async def change(self, tenant: Tenant, body: schemas.TenantChange) -> Fragment:
        """Changes a tenant."""

        def edit(now: Tenant, wanted: Object) -> None:
            _same(now, tenant)
            spec = wanted["spec"]
            if body.name is not None and body.name != now.display_name:
                spec["displayName"] = body.name
            if body.custom_plugin_repo:
                spec.setdefault("profile", {})["pluginRepo"] = body.custom_plugin_repo
            elif body.custom_plugin_repo == "" and now.profile:
                spec["profile"].pop("pluginRepo", None)

        if body.name is None or body.name.casefold() == tenant.display_name.casefold():
            return self.detail(await self._tenants.change(tenant.key, edit))
        async with self._claimed(body.name, tenant):
            return self.detail(await self._tenants.change(tenant.key, edit))

    async def delete(self, tenant: Tenant) -> Object:
        """Starts to delete a tenant with its data."""
        if not tenant.is_going:

            def edit(now: Tenant, wanted: Object) -> None:
                _same(now, tenant)
                wanted["spec"]["deletionPolicy"] = "Delete"

            await self._tenants.delete(await self._tenants.change(tenant.key, edit))
        return {"message": "Tenant deletion initiated", "tenant_id": tenant.number}

    @asynccontextmanager
    async def _claimed(self, name: str, own: Tenant | None = None) -> AsyncIterator[None]:
        """Keeps a name, whatever its letters' case, while it is being given: nobody else may, on any replica.

        :param own: the tenant that may have it already.
        :raises Invalid: when it is another's.
        """

        def is_taken() -> bool:
            others = (each for each in self._tenants.by_display_name(name) if own is None or each.key != own.key)
            return any(each.state != "Deleted" for each in others)

        if is_taken():
            raise _wrong("name", _NAME_TAKEN)
        try:
            async with self._facade.claims.hold(f"render name {name.casefold()}", settled=is_taken):
                if is_taken():
                    raise _wrong("name", _NAME_TAKEN)
                yield
        except Held as error:
            raise _wrong("name", _NAME_TAKEN) from error


def _same(now: Tenant, tenant: Tenant) -> None:
    """:raises Missing: when the object is another tenant's by now, or soft-deleted."""
    if now.meta["uid"] != tenant.meta["uid"] or now.state == "Deleted":
        raise Missing("Tenant not found")


def _wrong(field: str, message: str) -> Invalid:
    return Invalid(message, errors=[FieldError(field, message)])
