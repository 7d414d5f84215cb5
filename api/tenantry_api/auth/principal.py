"""Who is asking, and what he may do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_api.tenants import Tenant


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    subject: str
    """For logs and the audit: the account or the token's subject."""
    roles: frozenset[str] = frozenset()
    tenant: str = ""
    """The public id or UUID of the tenant that it belongs to; "" for none."""
    is_admin: bool = False
    """It may do everything."""

    def is_of(self, tenant: Tenant) -> bool:
        """Whether it belongs to a tenant."""
        return bool(self.tenant) and self.tenant.lower() in (tenant.id, tenant.uuid)
