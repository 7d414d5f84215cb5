"""The endpoints of neostack."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response

from tenantry_api.auth.principal import Principal
from tenantry_api.bodies import Route, Sent
from tenantry_api.dialects.neostack import schemas
from tenantry_api.dialects.neostack.service import VERSION, Service
from tenantry_api.facade import Facade
from tenantry_api.fields import Text
from tenantry_api.problems import Forbidden, Invalid, Missing, Problem
from tenantry_api.tenants import Tenant
from tenantry_api.web import Json, authenticated, facade_of, sub_app

Object = dict[str, Any]

Status = Literal["", "pending", "provisioning", "active", "error", "suspended", "archived"]
router = APIRouter(route_class=Route)


def create(facade: Facade) -> FastAPI:
    """The sub-app."""
    about = "neostack's contract, served by Tenantry."
    return sub_app(
        facade, router, _render, schemas.Failure, title="Tenant Manager", version=VERSION, description=about
    )


def _render(request: Request, problem: Problem) -> Object:
    return {"detail": problem.message}


async def _administrator(who: Annotated[Principal, Depends(authenticated)]) -> Principal:
    if not who.is_admin:
        raise Forbidden("Only an administrator may do that")
    return who


async def _own_tenant(
    request: Request,
    who: Annotated[Principal, Depends(authenticated)],
    tenant_id: Annotated[Text, Path(max_length=253)],
    x_tenant_id: Annotated[Text | None, Header()] = None,
) -> Tenant:
    """The tenant of the path, when who is asking may see it."""
    found = facade_of(request).tenants.by_id(tenant_id)
    if not who.is_admin:
        if not x_tenant_id:
            raise Invalid("X-Tenant-ID is required")
        is_own = who.tenant == tenant_id or (found is not None and who.is_of(found))
        if x_tenant_id != tenant_id or not is_own:
            raise Forbidden("Access denied to this tenant")
    elif x_tenant_id and x_tenant_id != tenant_id:
        raise Forbidden("X-Tenant-ID names another tenant")
    if found is None or found.state == "Deleted" or found.is_going:
        raise Missing("Tenant not found")
    return found


async def _service(request: Request) -> Service:
    return Service(facade_of(request))


Admin = Annotated[Principal, Depends(_administrator)]
Own = Annotated[Tenant, Depends(_own_tenant)]
Work = Annotated[Service, Depends(_service)]


@router.get("/health", response_model=schemas.Health)
async def health(service: Work) -> Json:
    """How the service is. Needs no token."""
    return Json(service.health())


@router.get("/tenants", response_model=schemas.TenantPage)
async def list_tenants(
    who: Admin,
    service: Work,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    status: Status = "",
) -> Json:
    """The tenants, oldest first."""
    return Json(service.page(limit, offset, status))


@router.post("/tenants", status_code=201, response_model=schemas.TenantMade)
async def create_tenant(who: Admin, service: Work, body: Sent[schemas.NewTenant]) -> Json:
    """Makes a tenant."""
    return Json(await service.create(body), 201)


@router.get("/tenants/{tenant_id}", response_model=schemas.TenantDetail)
async def get_tenant(tenant: Own, service: Work) -> Json:
    """A tenant."""
    return Json(service.detail(tenant))


@router.patch("/tenants/{tenant_id}", response_model=schemas.TenantChanged)
async def change_tenant(who: Admin, tenant: Own, service: Work, body: Sent[schemas.TenantChange]) -> Json:
    """Changes a tenant."""
    return Json(await service.change(tenant, body))


@router.delete("/tenants/{tenant_id}", status_code=204, response_class=Response)
async def delete_tenant(who: Admin, tenant: Own, service: Work) -> Response:
    """Deletes a tenant; its deletionPolicy says what becomes of the data."""
    await service.delete(tenant)
    return Response(status_code=204)


@router.get("/tenants/{tenant_id}/resources", response_model=schemas.Resources)
async def get_resources(tenant: Own, service: Work) -> Json:
    """What a tenant uses."""
    return Json(service.resources(tenant))


@router.post("/tenants/{tenant_id}/resources", response_model=schemas.UseTaken)
async def report_use(tenant: Own, service: Work, body: Sent[schemas.NewUse]) -> Json:
    """Reports how much of a resource is used."""
    return Json(await service.report(tenant, body))


@router.post("/tenants/{tenant_id}/schema", status_code=201, response_model=schemas.SchemaMade)
async def create_schema(who: Admin, tenant: Own, service: Work) -> Json:
    """Gives a tenant a schema in the shared database."""
    return Json(await service.make_schema(tenant), 201)


@router.delete("/tenants/{tenant_id}/schema", status_code=204, response_class=Response)
async def delete_schema(who: Admin, tenant: Own, service: Work) -> Response:
    """Drops a tenant's schema, with what is in it."""
    await service.drop_schema(tenant)
    return Response(status_code=204)
