"""Who may do what with which tenants."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_api.auth.principal import Principal
from tenantry_api.problems import Forbidden, Missing
from tenantry_api.store import Tenants
from tenantry_api.tenants import Tenant

MANAGER = "INSTITUTION_ADMIN"
"""The role that reads and updates its own tenant and those below it."""


def not_enough() -> Forbidden:
    """Who is asking lacks a role."""
    return Forbidden("Not enough permissions")


def denied() -> Forbidden:
    """The tenant is not for who is asking, whether it is there or not."""
    return Forbidden("Access denied to this tenant")


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody may do."""

    who: Principal
    tenants: Tenants
    own: Tenant | None
    """The tenant that he belongs to."""

    @classmethod
    def of(cls, who: Principal, tenants: Tenants) -> Access:
        """What somebody may do. An id that has the form of a UUID is an id first."""
        own = (tenants.by_id(who.tenant) or tenants.by_uuid(who.tenant)) if who.tenant else None
        return cls(who, tenants, None if own is None or own.is_going else own)

    @property
    def manages(self) -> bool:
        """Whether it extends to what is below the own tenant."""
        return MANAGER in self.who.roles

    def covers(self, tenant: Tenant) -> bool:
        """Whether he may read a tenant."""
        if self.who.is_admin:
            return True
        if self.own is None:
            return False
        return tenant.key == self.own.key or (self.manages and self.tenants.is_within(tenant, self.own))

    def readable(self) -> list[Tenant]:
        """The tenants he may read, oldest first.

        :raises Forbidden: when that can be none, whatever there is.
        """
        if not self.who.is_admin and self.own is None:
            raise not_enough()
        return [tenant for tenant in self.tenants.all() if not tenant.is_going and self.covers(tenant)]

    def find(self, uuid: str) -> Tenant:
        """A tenant that he may read.

        :raises Forbidden: when he may not, also when there is none: he is not to learn that.
        :raises Missing: when there is none, and he may know.
        """
        found = self.tenants.by_uuid(uuid)
        if found is not None and found.is_going:
            found = None
        if not self.who.is_admin and (found is None or not self.covers(found)):
            raise denied()
        if found is None:
            raise Missing("Tenant not found")
        return found

    def check_update(self) -> None:
        """:raises Forbidden: when he may not update the tenants that he may read."""
        if not (self.who.is_admin or self.manages):
            raise not_enough()

    def check_move(self, parent: Tenant | None) -> None:
        """:raises Forbidden: when he may not put a tenant below another one, or (None) below none: that would take
        it from those who manage it."""
        if not self.who.is_admin and (parent is None or not self.covers(parent)):
            raise denied()

    def check_status(self, tenant: Tenant, wanted: str) -> None:
        """:raises Forbidden: when he may not give a tenant another state: deleting, and what undoes it, is for
        administrators, and nobody lifts his own tenant's suspension."""
        if self.who.is_admin:
            return
        own = self.own is not None and tenant.key == self.own.key
        if own or wanted == "Deleted" or tenant.state not in ("Active", "Suspended"):
            raise not_enough()
