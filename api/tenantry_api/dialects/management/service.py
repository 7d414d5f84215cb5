"""What the endpoints of tenant management do."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel

from tenantry_api import identity
from tenantry_api.auth.principal import Principal
from tenantry_api.claims import Held
from tenantry_api.dialects.management import schemas, translate
from tenantry_api.dialects.management.translate import View
from tenantry_api.facade import Facade
from tenantry_api.idempotency import Request
from tenantry_api.problems import Invalid, Missing, Problem, Taken
from tenantry_api.tenants import Tenant
from tenantry_api.web import etag_of, fits
from tenantry_operator.conditions import timestamp

Object = dict[str, Any]
Edit = Callable[[Tenant, Object], None]
"""Changes a spec; the tenant is as it was."""
Answer = Callable[[Tenant, str], Object]
"""What is answered to a change, of the tenant as it is to be and the time of now."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a change was asked for."""

    subject: str
    key: str | None = None
    """The ``Idempotency-Key``."""
    if_match: str | None = None

    def request(self, method: str, path: str, body: Any = None) -> Request | None:
        """What it is remembered by; None: it has no key."""
        return Request.of(self.key, self.subject, method, path, body)


class Service:
    """What takes more than a line."""

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._tenants = facade.tenants

    def find(self, tenant_id: str) -> Tenant | None:
        """The tenant of a UUID or a slug."""
        found = self._tenants.by_uuid(tenant_id) or self._tenants.by_id(tenant_id)
        return found if found is not None and not found.is_going else None

    def search(self, only: Principal | None, limit: int, cursor: str, **wanted: str) -> Object:
        """A page of the tenants that a search finds, oldest first.

        :param only: whose tenant may be found; None: all.
        """

        def fits_all(tenant: Tenant) -> bool:
            mine = only is None or only.is_of(tenant)
            return mine and not tenant.is_going and translate.matches(tenant, **wanted)

        whose = "" if only is None else only.tenant
        name = f"management {orjson.dumps([whose, wanted]).decode()}"
        found = self._tenants.selected(name, fits_all, order=translate.position_of)
        start = bisect_right(found, translate.position_in(cursor), key=translate.position_of) if cursor else 0
        page = found[start : start + limit]
        items = [
            self._facade.rendered(tenant, "management.item", partial(translate.tenant, tenant)) for tenant in page
        ]
        answer: Object = {"items": items}
        if start + limit < len(found):
            answer["next_cursor"] = translate.cursor_of(translate.position_of(page[-1]))
        return answer

    async def create(self, body: schemas.NewTenant, asked: Asked) -> Object:
        """Makes a draft. Who and what it is never changes, so that a replay needs no answer that was kept."""
        request = asked.request("POST", "/tenants", body.model_dump())
        async with self._once(request):
            return await self._create(body, request)

    async def _create(self, body: schemas.NewTenant, request: Request | None) -> Object:
        earlier = self._tenants.by_request(request.key) if request is not None else None
        if request is not None and earlier is not None and request.answered(earlier.obj) is not None:
            return translate.made(earlier)
        noted: Object = {"metadata": {}}
        if request is not None:
            request.note(noted, {})
        spec = {"state": "Draft", "profile": {"legalName": body.legal_name}}
        annotations = noted["metadata"].get("annotations")
        try:
            return translate.made(await self._tenants.create(body.slug, spec, annotations=annotations))
        except Taken:
            if request is None:
                raise
            faster = await self._live(body.slug)
            if faster is None or faster.id != body.slug or request.answered(faster.obj) is None:
                raise
            return translate.made(faster)

    @asynccontextmanager
    async def _once(self, request: Request | None) -> AsyncIterator[None]:
        """Keeps an Idempotency-Key to one request at a time, on all replicas.

        :raises Problem: 422, when another request has it.
        """
        if request is None or self._tenants.by_request(request.key) is not None:
            yield  # the Tenant that remembers it tells
            return
        # The same request need not wait: what it changes is one object, which remembers it.
        claim = self._facade.claims.hold(f"request {request.key}", request.content, settled=lambda: True)
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(claim)
            except Held as error:
                request.check({"content": error.content})
            yield

    async def _live(self, slug: str) -> Tenant | None:
        """The tenant of a slug as the API server has it: the cache may not have heard yet of what another
        replica made."""
        known = self._tenants.by_id(slug)
        key = known.key if known is not None else (self._tenants.project, identity.name_of(slug))
        with suppress(Missing):
            return await self._tenants.change(key, lambda now, wanted: None)
        return None

    async def put(
        self,
        tenant: Tenant,
        part: str,
        body: BaseModel,
        asked: Asked,
        edit: Edit,
        *,
        view: View,
        names: bool = False,
    ) -> Object:
        """Replaces a part of a tenant.

        :param part: its path below the tenant's; "" for the tenant itself.
        :param view: what ``If-Match`` is compared with.
        :param names: the answer names the tenant.
        """
        request = asked.request("PUT", f"/tenants/{tenant.uuid}{part}", body.model_dump())

        def guarded(now: Tenant, wanted: Object) -> None:
            if asked.if_match is not None and not fits(asked.if_match, etag_of(orjson.dumps(view(now)))):
                raise Problem("it was changed since it was read", status=412, code="precondition_failed")
            edit(now, wanted)

        def answer(then: Tenant, now: str) -> Object:
            named = {"tenant_id": then.uuid} if names else {}
            return {**named, "updated_at": now}

        changed, said = await self._change(tenant, request, guarded, answer)
        if request is not None:
            return said
        return answer(changed, changed.updated_at)

    async def move(self, tenant: Tenant, transition: str, asked: Asked) -> Object:
        """Brings a tenant into another state. ``activate`` waits a while for what it starts."""
        request = asked.request("POST", f"/tenants/{tenant.uuid}/lifecycle/{transition}")

        def edit(now: Tenant, wanted: Object) -> None:
            spec = wanted["spec"]
            spec["state"] = translate.state_after(transition, now)
            if transition == "activate" and not spec.get("databases"):
                names = self._facade.settings.management_databases
                spec["databases"] = [{"blueprint": name} for name in names]

        def answer(then: Tenant, now: str) -> Object:
            return {"tenant_id": then.uuid, "status": translate.status_of(then)}

        changed, said = await self._change(tenant, request, edit, answer)
        if transition == "activate":
            await self._tenants.settle(changed)
        return said

    async def _change(
        self, tenant: Tenant, request: Request | None, edit: Edit, answer: Answer
    ) -> tuple[Tenant, Object]:
        """Changes a tenant and notes the answer, in one write; a request that was made already changes nothing."""
        async with self._once(request):
            return await self._change_once(tenant, request, edit, answer)

    async def _change_once(
        self, tenant: Tenant, request: Request | None, edit: Edit, answer: Answer
    ) -> tuple[Tenant, Object]:
        elsewhere = self._tenants.by_request(request.key) if request is not None else None
        if request is not None and elsewhere is not None and elsewhere.key != tenant.key:
            # Refuses the key: what it was used for cannot be this.
            request.answered(elsewhere.obj)
        said: Object = {}

        def once(now: Tenant, wanted: Object) -> None:
            nonlocal said
            if now.is_going:
                raise Missing("Tenant not found")
            earlier = request.answered(wanted) if request is not None else None
            if earlier is not None:
                said = earlier
                return
            edit(now, wanted)
            said = answer(Tenant(wanted), timestamp())
            if request is not None:
                request.note(wanted, said)

        return await self._tenants.change(tenant.key, once), said

    # What replaces the parts

    def legal_name(self, body: schemas.TenantUpdate) -> Edit:
        """The name it is registered under."""

        def edit(now: Tenant, wanted: Object) -> None:
            wanted["spec"]["profile"] = {**now.profile, "legalName": body.legal_name}

        return edit

    def regions(self, body: schemas.Regions) -> Edit:
        """:raises Invalid: for a region that is not in the catalog."""
        unknown = self._facade.catalog.unknown_region(body.items)
        if unknown is not None:
            raise Invalid(f"unknown region_code: {unknown}")

        def edit(now: Tenant, wanted: Object) -> None:
            policy = (now.spec.get("residency") or {}).get("policyId")
            wanted["spec"]["regions"] = translate.regions_within(self._allowed(policy), body.items, policy)

        return edit

    def residency(self, body: schemas.Policy) -> Edit:
        """:raises Invalid: for a policy that is not in the catalog."""
        allowed = self._allowed(body.policy_id)
        if not allowed:
            raise Invalid(f"unknown policy_id: {body.policy_id}")

        def edit(now: Tenant, wanted: Object) -> None:
            before = self._allowed((now.spec.get("residency") or {}).get("policyId"))
            present = now.spec.get("regions") or []
            spec = wanted["spec"]
            spec["regions"] = translate.regions_under(allowed, body.policy_id, before, present)
            spec["residency"] = _dated({"policyId": body.policy_id}, body.effective_from)

        return edit

    def _allowed(self, policy: str | None) -> list[str]:
        return self._facade.catalog.regions_of(policy or "") or []

    def plan(self, body: schemas.PlanBinding) -> Edit:
        """:raises Invalid: for a plan that is not there."""
        if self._facade.catalog.plan(body.plan_code) is None:
            raise Invalid(f"unknown plan_code: {body.plan_code}")

        def edit(now: Tenant, wanted: Object) -> None:
            wanted["spec"]["plan"] = _dated({"code": body.plan_code}, body.effective_from)

        return edit

    def contacts(self, body: schemas.Contacts) -> Edit:
        """Whom to turn to."""
        return _replace("contacts", [each.model_dump(exclude_none=True) for each in body.items])

    def external_ids(self, body: schemas.ExternalIds) -> Edit:
        """What other systems call it."""
        items = [{"systemKey": each.system_key, "idValue": each.id_value} for each in body.items]
        return _replace("externalIds", items)

    def tags(self, body: schemas.Tags) -> Edit:
        """Its tags."""
        return _replace("tags", [{"tagKey": each.tag_key, "tagValue": each.tag_value} for each in body.items])


def _replace(field: str, items: list[Any]) -> Edit:
    def edit(now: Tenant, wanted: Object) -> None:
        wanted["spec"][field] = items

    return edit


def _dated(value: Object, effective_from: str | None) -> Object:
    return value if effective_from is None else {**value, "effectiveFrom": effective_from}
