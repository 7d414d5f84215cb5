"""The endpoints of institutions."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from tenantry_api.auth.principal import Principal
from tenantry_api.bodies import Route, Sent
from tenantry_api.dialects.institutions import schemas
from tenantry_api.dialects.institutions.access import Access, not_enough
from tenantry_api.dialects.institutions.service import Filters, Service
from tenantry_api.facade import Facade
from tenantry_api.problems import Problem
from tenantry_api.tenants import Tenant
from tenantry_api.web import Json, address_of, authenticated, facade_of, sub_app

Object = dict[str, Any]

VERSION = "1.0.0"
router = APIRouter(route_class=Route)


def create(facade: Facade) -> FastAPI:
    """The sub-app."""
    about = "The contract of institutions, served by Tenantry."
    return sub_app(
        facade,
        router,
        _render,
        schemas.Failure,
        title="Tenant Management",
        version=VERSION,
        description=about,
    )


def _render(request: Request, problem: Problem) -> Object:
    if problem.errors:
        errors = [{"field": each.field, "message": each.message} for each in problem.errors]
        return {"detail": "Validation failed", "errors": errors}
    return {"detail": problem.message}


async def _service(request: Request) -> Service:
    return Service(facade_of(request))


async def _access(request: Request, who: Annotated[Principal, Depends(authenticated)]) -> Access:
    return Access.of(who, facade_of(request).tenants)


Work = Annotated[Service, Depends(_service)]
Allowed = Annotated[Access, Depends(_access)]


async def _administrator(access: Allowed) -> Access:
    if not access.who.is_admin:
        raise not_enough()
    return access


Admin = Annotated[Access, Depends(_administrator)]


async def _readable(access: Allowed, tenant_id: UUID) -> Tenant:
    return access.find(str(tenant_id))


async def _updatable(access: Allowed, tenant: Annotated[Tenant, Depends(_readable)]) -> Tenant:
    access.check_update()
    return tenant


async def _deletable(access: Admin, tenant_id: UUID) -> Tenant:
    return access.find(str(tenant_id))


Readable = Annotated[Tenant, Depends(_readable)]
Updatable = Annotated[Tenant, Depends(_updatable)]
Deletable = Annotated[Tenant, Depends(_deletable)]


@router.post("/auth/login", response_model=schemas.Token)
async def login(request: Request, service: Work, body: Sent[schemas.Login]) -> Json:
    """Gives a token to who has an account. Needs none."""
    return Json(await service.login(body, address_of(request)), headers={"Cache-Control": "no-store"})


@router.get("/tenants", response_model=list[schemas.TenantItem])
async def list_tenants(
    access: Allowed,
    service: Work,
    skip: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=0, le=10_000_000)] = 100,
    status: schemas.Status | None = None,
    type: schemas.Kind | None = None,
    parent_id: UUID | None = None,
) -> Json:
    """The tenants that who is asking may read, oldest first."""
    return Json(service.page(access, skip, limit, Filters(status, type, parent_id)))


@router.post("/tenants", status_code=201, response_model=schemas.TenantItem)
async def create_tenant(access: Admin, service: Work, body: Sent[schemas.NewTenant]) -> Json:
    """Makes a tenant."""
    return Json(await service.create(body), 201)


@router.get("/tenants/{tenant_id}", response_model=schemas.TenantDetail)
async def get_tenant(tenant: Readable, service: Work) -> Json:
    """A tenant."""
    return Json(service.detail(tenant))


@router.put("/tenants/{tenant_id}", response_model=schemas.TenantDetail)
async def change_tenant(
    access: Allowed, tenant: Updatable, service: Work, body: Sent[schemas.TenantChange]
) -> Json:
    """Changes what is sent of a tenant."""
    return Json(await service.change(access, tenant, body))


@router.delete("/tenants/{tenant_id}", status_code=204, response_class=Response)
async def delete_tenant(tenant: Deletable, service: Work) -> Response:
    """Marks a tenant as deleted; its data stays."""
    await service.delete(tenant)
    return Response(status_code=204)


@router.get("/tenants/{tenant_id}/stats", response_model=schemas.Stats)
async def get_stats(tenant: Readable, service: Work) -> Json:
    """What a tenant uses."""
    return Json(service.stats(tenant))
