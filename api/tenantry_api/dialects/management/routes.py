"""The endpoints of tenant management."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Request, Response

from tenantry_api.auth.principal import Principal
from tenantry_api.bodies import Route, Sent
from tenantry_api.dialects.management import schemas, translate
from tenantry_api.dialects.management.service import Asked, Service
from tenantry_api.envelope import CORRELATION
from tenantry_api.facade import Facade
from tenantry_api.fields import Text
from tenantry_api.problems import Forbidden, Missing, Problem
from tenantry_api.tenants import Tenant
from tenantry_api.web import Json, authenticated, etag_of, facade_of, fits, sub_app

Object = dict[str, Any]

VERSION = "1.0.0"
router = APIRouter(route_class=Route)
_HEADER = 4096


def create(facade: Facade) -> FastAPI:
    """The sub-app."""
    about = "The contract of tenant management, served by Tenantry."
    return sub_app(
        facade, router, render, schemas.Failure, title="Tenant Management", version=VERSION, description=about
    )


def render(request: Request, problem: Problem) -> Object:
    """The body of an error."""
    correlation = request.scope.get(CORRELATION, "")
    return {"code": problem.code, "message": problem.message, "correlation_id": correlation}


async def _administrator(who: Annotated[Principal, Depends(authenticated)]) -> Principal:
    if not who.is_admin:
        raise Forbidden("Only an administrator may do that")
    return who


async def _service(request: Request) -> Service:
    return Service(facade_of(request))


Who = Annotated[Principal, Depends(authenticated)]
Admin = Annotated[Principal, Depends(_administrator)]
Work = Annotated[Service, Depends(_service)]
TenantPath = Annotated[Text, Path(max_length=253, description="The UUID, or the slug.")]


async def _readable(who: Who, service: Work, tenant_id: TenantPath) -> Tenant:
    """The tenant of the path, when who is asking may know of it."""
    found = service.find(tenant_id)
    if found is None or not (who.is_admin or who.is_of(found)):
        raise Missing("Tenant not found")
    return found


async def _writable(who: Admin, service: Work, tenant_id: TenantPath) -> Tenant:
    """The tenant of the path, for administrators. Others learn nothing, not even whether it is there."""
    return await _readable(who, service, tenant_id)


async def _asked(
    who: Admin, idempotency_key: Annotated[str | None, Header(description="Makes the request once.")] = None
) -> Asked:
    return Asked(f"{who.subject}\n{who.tenant}", idempotency_key)


async def _asked_put(
    asked: Annotated[Asked, Depends(_asked)],
    if_match: Annotated[str | None, Header(max_length=_HEADER, description="The ETag that was read.")] = None,
) -> Asked:
    return Asked(asked.subject, asked.key, if_match)


class _Reader:
    """Answers a read with an entity tag, or says that what the caller has is still right."""

    def __init__(self, tenant: Tenant, known: str | None) -> None:
        self._tenant = tenant
        self._known = known

    def answer(self, view: translate.View) -> Response:
        # Which view it is, its function's name says.
        name = f"management.{view.__name__}"
        body = self._tenant.remembered(name, lambda: orjson.dumps(view(self._tenant)))
        headers = {"ETag": self._tenant.remembered(f"{name} tag", lambda: etag_of(body))}
        if self._known is not None and fits(self._known, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Json(body, headers=headers)


# A coroutine: what is none runs in a thread, which costs more than the whole answer.
async def _reader(
    tenant: Annotated[Tenant, Depends(_readable)],
    if_none_match: Annotated[str | None, Header(max_length=_HEADER)] = None,
) -> _Reader:
    return _Reader(tenant, if_none_match)


Read = Annotated[_Reader, Depends(_reader)]
Target = Annotated[Tenant, Depends(_writable)]
Posted = Annotated[Asked, Depends(_asked)]
Put = Annotated[Asked, Depends(_asked_put)]
Word = Annotated[Text, Query(max_length=320)]


@router.get("/tenants", response_model=schemas.TenantPage)
async def search_tenants(
    who: Who,
    service: Work,
    q: Word = "",
    status: schemas.StatusFilter = "",
    region: Word = "",
    tag: Word = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[Text, Query(max_length=512)] = "",
) -> Json:
    """The tenants that fit, oldest first. A tenant's token finds its own."""
    if not who.is_admin and not who.tenant:
        raise Forbidden("Only an administrator may do that")
    wanted = {"q": q, "status": status, "region": region, "tag": tag}
    return Json(service.search(None if who.is_admin else who, limit, cursor, **wanted))


@router.post("/tenants", status_code=201, response_model=schemas.TenantMade)
async def create_tenant(asked: Posted, service: Work, body: Sent[schemas.NewTenant]) -> Json:
    """Makes a draft."""
    return Json(await service.create(body, asked), 201)


@router.get("/tenants/{tenant_id}", response_model=schemas.Tenant)
async def get_tenant(read: Read) -> Response:
    """A tenant."""
    return read.answer(translate.tenant)


@router.put("/tenants/{tenant_id}", response_model=schemas.TenantUpdated)
async def put_tenant(asked: Put, tenant: Target, service: Work, body: Sent[schemas.TenantUpdate]) -> Json:
    """Changes a tenant."""
    edit = service.legal_name(body)
    return Json(await service.put(tenant, "", body, asked, edit, view=translate.tenant, names=True))


@router.post("/tenants/{tenant_id}/lifecycle/activate", response_model=schemas.Moved)
async def activate(asked: Posted, tenant: Target, service: Work) -> Json:
    """Provisions a draft, or brings back a tenant that was archived or deleted."""
    return Json(await service.move(tenant, "activate", asked))


@router.post("/tenants/{tenant_id}/lifecycle/suspend", response_model=schemas.Moved)
async def suspend(asked: Posted, tenant: Target, service: Work) -> Json:
    """Refuses its logins; its data stays."""
    return Json(await service.move(tenant, "suspend", asked))


@router.post("/tenants/{tenant_id}/lifecycle/resume", response_model=schemas.Moved)
async def resume(asked: Posted, tenant: Target, service: Work) -> Json:
    """Lets a suspended tenant in again."""
    return Json(await service.move(tenant, "resume", asked))


@router.post("/tenants/{tenant_id}/lifecycle/archive", response_model=schemas.Moved)
async def archive(asked: Posted, tenant: Target, service: Work) -> Json:
    """Puts a tenant away."""
    return Json(await service.move(tenant, "archive", asked))


@router.get("/tenants/{tenant_id}/regions", response_model=schemas.Regions)
async def get_regions(read: Read) -> Response:
    """The regions its data may lie in; empty: any."""
    return read.answer(translate.regions)


@router.put("/tenants/{tenant_id}/regions", response_model=schemas.Updated)
async def put_regions(asked: Put, tenant: Target, service: Work, body: Sent[schemas.Regions]) -> Json:
    """Replaces the regions."""
    edit = service.regions(body)
    return Json(await service.put(tenant, "/regions", body, asked, edit, view=translate.regions))


@router.get("/tenants/{tenant_id}/residency", response_model=schemas.Residency)
async def get_residency(read: Read) -> Response:
    """The residency policy."""
    return read.answer(translate.residency)


@router.put("/tenants/{tenant_id}/residency", response_model=schemas.Updated)
async def put_residency(asked: Put, tenant: Target, service: Work, body: Sent[schemas.Policy]) -> Json:
    """Replaces the residency policy."""
    edit = service.residency(body)
    return Json(await service.put(tenant, "/residency", body, asked, edit, view=translate.residency))


@router.get("/tenants/{tenant_id}/plan", response_model=schemas.Plan)
async def get_plan(read: Read) -> Response:
    """The plan."""
    return read.answer(translate.plan)


@router.put("/tenants/{tenant_id}/plan", response_model=schemas.Updated)
async def put_plan(asked: Put, tenant: Target, service: Work, body: Sent[schemas.PlanBinding]) -> Json:
    """Replaces the plan."""
    edit = service.plan(body)
    return Json(await service.put(tenant, "/plan", body, asked, edit, view=translate.plan))


@router.get("/tenants/{tenant_id}/contacts", response_model=schemas.Contacts)
async def get_contacts(read: Read) -> Response:
    """Whom to turn to."""
    return read.answer(translate.contacts)


@router.put("/tenants/{tenant_id}/contacts", response_model=schemas.Updated)
async def put_contacts(asked: Put, tenant: Target, service: Work, body: Sent[schemas.Contacts]) -> Json:
    """Replaces the contacts."""
    edit = service.contacts(body)
    return Json(await service.put(tenant, "/contacts", body, asked, edit, view=translate.contacts))


@router.get("/tenants/{tenant_id}/external-ids", response_model=schemas.ExternalIds)
async def get_external_ids(read: Read) -> Response:
    """What other systems call it."""
    return read.answer(translate.external_ids)


@router.put("/tenants/{tenant_id}/external-ids", response_model=schemas.Updated)
async def put_external_ids(asked: Put, tenant: Target, service: Work, body: Sent[schemas.ExternalIds]) -> Json:
    """Replaces the external ids."""
    edit = service.external_ids(body)
    return Json(await service.put(tenant, "/external-ids", body, asked, edit, view=translate.external_ids))


@router.get("/tenants/{tenant_id}/tags", response_model=schemas.Tags)
async def get_tags(read: Read) -> Response:
    """Its tags."""
    return read.answer(translate.tags)


@router.put("/tenants/{tenant_id}/tags", response_model=schemas.Updated)
async def put_tags(asked: Put, tenant: Target, service: Work, body: Sent[schemas.Tags]) -> Json:
    """Replaces the tags."""
    edit = service.tags(body)
    return Json(await service.put(tenant, "/tags", body, asked, edit, view=translate.tags))
