"""What the endpoints of institutions do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orjson import Fragment

from tenantry_api.dialects.institutions import schemas, translate
from tenantry_api.dialects.institutions.access import Access, denied
from tenantry_api.facade import Facade
from tenantry_api.problems import Invalid, Missing, Taken, Unauthenticated
from tenantry_api.tenants import Tenant

Object = dict[str, Any]


class _Moves(Exception):
    """A change puts a tenant below another one, which takes more care.

    :param parent: the name of that one's object.
    """

    def __init__(self, parent: str) -> None:
        super().__init__(parent)
        self.parent = parent


@dataclass(frozen=True, slots=True)
class Filters:
    """Which tenants a list has; None: any."""

    status: str | None = None
    type: str | None = None
    parent_id: UUID | None = None

    def fit(self, tenant: Tenant) -> bool:
        """Whether a tenant is in the list."""
        return (
            (self.status is None or translate.status_of(tenant) == self.status)
            and (self.type is None or tenant.profile.get("type") == self.type)
            and (self.parent_id is None or translate.parent_id_of(tenant) == str(self.parent_id))
        )


class Service:
    """What takes more than a line."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._tenants = facade.tenants

    async def login(self, body: schemas.Login, where: str) -> Object:
        """A token for an account.

        :param where: the caller's address.
        """
        await self._facade.limiter.check(where)
        if not self._facade.tokens.gives:
            raise Unauthenticated("Nobody can log in here: there is no key to sign tokens with")
        account = await self._facade.accounts.login(body.email, body.password, where)
        token = self._facade.tokens.issue(account.email, account.role, tenant=account.tenant)
        return translate.session(account, token)

    def page(self, access: Access, skip: int, limit: int, filters: Filters) -> list[Fragment]:
        """The tenants that somebody may read."""
        if access.who.is_admin:
            name = f"institutions {filters}"
            found = self._tenants.selected(name, lambda tenant: not tenant.is_going and filters.fit(tenant))
        else:
            found = [tenant for tenant in access.readable() if filters.fit(tenant)]
        return [self._item(tenant) for tenant in found[skip : skip + limit]]

    def _item(self, tenant: Tenant) -> Fragment:
        rendered = self._facade.rendered
        return rendered(tenant, "institutions.item", lambda: translate.item(tenant, self._limits(tenant)))

    def detail(self, tenant: Tenant) -> Fragment:
        """A tenant."""
        rendered = self._facade.rendered
        return rendered(tenant, "institutions.detail", lambda: translate.detail(tenant, self._limits(tenant)))

    def stats(self, tenant: Tenant) -> Object:
        """What a tenant uses."""
        return translate.stats(tenant, self._limits(tenant))

    async def create(self, body: schemas.NewTenant) -> Object:
        """Makes a tenant."""
        parent = self._parent(body.parent_id) if body.parent_id is not None else None
        if parent is not None and self._tenants.would_be_within(parent, body.slug):
            raise _ring()
        spec = translate.spec_of(body, parent, self._facade.settings.institutions_databases)
        if self._tenants.by_id(body.slug) is not None:
            raise self._taken(body.slug)
        try:
            made = await self._tenants.create(body.slug, spec)
        except Taken:
            # Somebody else was faster.
            raise self._taken(body.slug) from None
        return translate.item(made, self._limits(made))

    async def change(self, access: Access, tenant: Tenant, body: schemas.TenantChange) -> Fragment:
        """Changes a tenant."""

        claimed = False

        def edit(now: Tenant, wanted: Object) -> None:
            if not access.covers(now):
                raise denied()  # it was moved meanwhile
            if "parent_id" in body.model_fields_set:
                parent = self._parent_after(access, now, body.parent_id)
                if parent not in (None, now.spec.get("parent")) and not claimed:
                    raise _Moves(parent)
                wanted["spec"]["parent"] = parent
            translate.apply_change(wanted["spec"], now, body, self._limits(now))
            state = str(wanted["spec"].get("state") or "Active")
            if state != now.state:
                access.check_status(now, state)

        try:
            return self.detail(await self._tenants.change(tenant.key, edit))
        except _Moves as moves:
            # Two that are put below each other at the same moment would make a ring: one after the other, and each
            # sees what is above its parent as the one before it left it, on whatever replica.
            claimed = True
            async with self._facade.claims.hold("hierarchy", settled=lambda: False, lingers=0):
                await self._tenants.read_above(moves.parent)
                return self.detail(await self._tenants.change(tenant.key, edit))

    async def delete(self, tenant: Tenant) -> None:
        """Marks a tenant as deleted; its data and the tenants below it stay."""

        def edit(now: Tenant, wanted: Object) -> None:
            wanted["spec"]["state"] = "Deleted"

        await self._tenants.change(tenant.key, edit)

    def _parent_after(self, access: Access, now: Tenant, parent_id: UUID | None) -> str | None:
        """The name of the object that a tenant is to be below."""
        wanted = None if parent_id is None else str(parent_id)
        if wanted == translate.parent_id_of(now):
            return now.spec.get("parent")
        access.check_move(None if wanted is None else self._tenants.by_uuid(wanted))
        if parent_id is None:
            return None
        parent = self._parent(parent_id)
        if self._tenants.is_within(parent, now):
            raise _ring()
        return parent.key[1]

    def _parent(self, uuid: UUID) -> Tenant:
        found = self._tenants.by_uuid(str(uuid))
        if found is None or found.is_going:
            raise Missing("Parent tenant not found")
        return found

    def _limits(self, tenant: Tenant) -> dict[str, int]:
        return self._facade.catalog.limits(tenant)

    @staticmethod
    def _taken(slug: str) -> Taken:
        return Taken(f"Slug '{slug}' already exists")


def _ring() -> Invalid:
    return translate.refused("parent_id", "A tenant cannot be below itself")
