"""What requests to neostack hold, and what is answered."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tenantry_api.fields import FreeForm, TenantId, Text

Name = Annotated[Text, Field(min_length=1, max_length=255)]
Domain = Annotated[Text, Field(min_length=1, max_length=253)]
PlanId = Annotated[int, Field(strict=True, ge=0, le=2_147_483_647)]


class Failure(BaseModel):
    """An error."""

    detail: str


class Health(BaseModel):
    """How the service is."""

    status: Literal["healthy", "degraded"]
    timestamp: str
    database: Literal["connected", "disconnected"]
    version: str


class NewTenant(BaseModel):
    """A tenant that is to be made."""

    id: TenantId
    name: Name
    domain: Domain | None = None
    plan_id: PlanId | None = None
    settings: FreeForm | None = None


class TenantChange(BaseModel):
    """What is to be different. ``settings`` are merged (RFC 7396)."""

    model_config = ConfigDict(extra="ignore")

    name: Name | None = None
    domain: Domain | None = None
    plan_id: PlanId | None = None
    settings: FreeForm | None = None
    status: Literal["active", "suspended", "archived"] | None = None


class Limits(BaseModel):
    """What a tenant may use; null: no limit."""

    max_users: int | None
    max_storage_gb: float | None
    max_api_calls: int | None


class TenantItem(BaseModel):
    """A tenant in a list."""

    id: str
    name: str
    domain: str | None
    status: str
    plan_id: int | None
    created_at: str
    settings: dict[str, Any]


class TenantDetail(TenantItem):
    """A tenant."""

    updated_at: str
    limits: Limits


class TenantPage(BaseModel):
    """A page of tenants."""

    items: list[TenantItem]
    total: int
    limit: int
    offset: int


class TenantMade(BaseModel):
    """A tenant that was made."""

    id: str
    name: str
    status: str
    created_at: str


class TenantChanged(BaseModel):
    """A tenant that was changed."""

    id: str
    updated_at: str


class ResourceUse(BaseModel):
    """How much of a resource a tenant uses."""

    resource_type: str
    used: int
    limit_value: int | None
    percentage: int | None


class Resources(BaseModel):
    """What a tenant uses."""

    tenant_id: str
    resources: list[ResourceUse]
    last_updated: str | None


class NewUse(BaseModel):
    """How much is used now."""

    resource_type: Annotated[Text, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]
    used: Annotated[int, Field(strict=True, ge=0, le=9_007_199_254_740_991)]


class UseTaken(BaseModel):
    """A report that was taken."""

    resource_type: str
    used: int
    updated_at: str


class SchemaMade(BaseModel):
    """A schema that was made."""

    tenant_id: str
    schema_name: str
    status: str
