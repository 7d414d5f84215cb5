"""The endpoints of render. Each answers with and without the slash at its end."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from starlette.datastructures import URL

from tenantry_api.auth.principal import Principal
from tenantry_api.bodies import Route, Sent
from tenantry_api.dialects.render import schemas, translate
from tenantry_api.dialects.render.service import Service
from tenantry_api.facade import Facade
from tenantry_api.problems import Forbidden, Missing, Problem, Unauthenticated
from tenantry_api.tenants import Tenant
from tenantry_api.web import Json, anybody, facade_of, sub_app

Object = dict[str, Any]

_ID = re.compile(r"[1-9][0-9]{0,14}")
_LAST_PAGE = 1_000_000_000
router = APIRouter(route_class=Route)


def create(facade: Facade) -> FastAPI:
    """The sub-app."""
    about = "The contract of the Render Control Plane, served by Tenantry."
    app = sub_app(
        facade, router, _render, schemas.Failure, title="Control Plane API", version="1.0.0", description=about
    )
    # Every path is there with and without its slash; a redirect would lead to where nothing else is.
    app.router.redirect_slashes = False
    app.state.service = Service(facade)
    return app


def _render(request: Request, problem: Problem) -> Object:
    return translate.failure(problem)


async def _allowed(request: Request, who: Annotated[Principal | None, Depends(anybody)]) -> None:
    """Lets everybody in when the contract is open, else administrators."""
    if facade_of(request).settings.render_open:
        return
    if who is None:
        raise Unauthenticated
    if not who.is_admin:
        raise Forbidden("Only an administrator may do that")


async def _service(request: Request, allowed: Annotated[None, Depends(_allowed)]) -> Service:
    service: Service = request.app.state.service
    return service


async def _tenant(
    service: Annotated[Service, Depends(_service)],
    number: Annotated[str, Path(alias="id", json_schema_extra={"type": "integer"})],
) -> Tenant:
    """The tenant of the path."""
    if not _ID.fullmatch(number):
        raise Missing("Tenant not found")
    return service.find(int(number))


Work = Annotated[Service, Depends(_service)]
Found = Annotated[Tenant, Depends(_tenant)]


@router.get("/health/", response_model=schemas.Health)
@router.get("/health", include_in_schema=False)
async def health() -> Json:
    """Whether the service is there. Needs no token."""
    return Json({"status": "healthy", "message": "Control Plane API is running"})


@router.get("/tenants/", response_model=schemas.TenantPage)
@router.get("/tenants", include_in_schema=False)
async def list_tenants(
    request: Request,
    service: Work,
    page: Annotated[int, Query(ge=1, le=_LAST_PAGE)] = 1,
    page_size: Annotated[int | None, Query(ge=1, le=_LAST_PAGE)] = None,
) -> Json:
    """The tenants, oldest first; at most 100 at a time, and 10 when ``page_size`` is left out."""
    # Without the query: it is the caller's, and need not even be text.
    base = str(URL(scope={**request.scope, "query_string": b""}))
    return Json(service.page(base, page, page_size))


@router.post("/tenants/", status_code=201, response_model=schemas.TenantRead)
@router.post("/tenants", status_code=201, include_in_schema=False)
async def create_tenant(service: Work, body: Sent[schemas.NewTenant]) -> Json:
    """Makes a tenant; its databases and services follow."""
    return Json(await service.create(body), 201)


@router.get("/tenants/{id}/", response_model=schemas.TenantRead)
@router.get("/tenants/{id}", include_in_schema=False)
async def get_tenant(tenant: Found, service: Work) -> Json:
    """A tenant."""
    return Json(service.detail(tenant))


@router.get("/tenants/{id}/status/", response_model=schemas.TenantState)
@router.get("/tenants/{id}/status", include_in_schema=False)
async def get_status(tenant: Found, service: Work) -> Json:
    """How the provisioning of a tenant is."""
    return Json(service.provisioning(tenant))


@router.put("/tenants/{id}/", response_model=schemas.TenantRead)
@router.put("/tenants/{id}", include_in_schema=False)
async def change_tenant(tenant: Found, service: Work, body: Sent[schemas.TenantChange]) -> Json:
    """Changes a tenant."""
    return Json(await service.change(tenant, body))


@router.delete("/tenants/{id}/", status_code=202, response_model=schemas.DeletionStarted)
@router.delete("/tenants/{id}", status_code=202, include_in_schema=False)
async def delete_tenant(tenant: Found, service: Work) -> Json:
    """Deletes a tenant with its data, and does not wait for it."""
    return Json(await service.delete(tenant), 202)
