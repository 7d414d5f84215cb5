"""Tenants as the dialects use them: found in the cache, changed at the API server.

A change is a merge patch of the version that was read, and only of fields that nobody else manages: what GitOps or
a person with kubectl set is theirs, and answered with their name. Who changed something reads it at once.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from tenantry_api import identity
from tenantry_api.cache import Cache
from tenantry_api.lines import Lines
from tenantry_api.numbers import Numbers
from tenantry_api.patches import check_size, patch_between
from tenantry_api.problems import Invalid, Missing, Problem, Taken, Unavailable
from tenantry_api.refusals import ATTEMPTS, MANAGER, MERGE_PATCH, problem_of
from tenantry_api.settings import Settings
from tenantry_api.tenants import NUMBER_LABEL, Tenant
from tenantry_operator import conditions
from tenantry_operator.cache import Key, key_of
from tenantry_operator.context import TENANTS
from tenantry_operator.errors import ReconcileError
from tenantry_operator.kube import ApiError, Conflict, KubeClient, NotFound

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_SELECTIONS = 64
_MOST_RESOURCES = 64
_NUMBER_EVERY = 2.0
_PATIENCE = 20.0
"""Seconds that a change waits for others of the same tenant."""
_AT_ONCE, _PARALLEL = 500, 8
"""Tenants that get numbers in one go, and at a time."""


class Tenants:
    """The Tenants of one project."""

    def __init__(self, settings: Settings, kube: KubeClient, cache: Cache) -> None:
        self.settings = settings
        self.cache = cache
        self._kube = kube
        self._selected: dict[str, tuple[int, list[Tenant]]] = {}
        self._lines = Lines()
        self._numbers = Numbers(kube, cache, settings.project)

    # Reading

    @property
    def project(self) -> str:
        """The namespace that is served."""
        return self.settings.project

    def all(self) -> list[Tenant]:
        """All Tenants, oldest first. The list is not to be changed."""
        return self.cache.tenants.ordered(self.project)

    def selected(
        self,
        name: str,
        test: Callable[[Tenant], bool],
        order: Callable[[Tenant], Any] | None = None,
    ) -> list[Tenant]:
        """The Tenants that pass a test; it is asked again only when one of them has changed.

        :param name: of the test, with everything that it depends on.
        :param order: what they are sorted by; None: oldest first.
        :returns: a list that is not to be changed.
        """
        epoch, found = self._selected.get(name, (-1, []))
        if epoch != self.cache.tenants.epoch:
            found = [tenant for tenant in self.all() if test(tenant)]
            if order is not None:
                found.sort(key=order)
            self._selected.pop(name, None)
            while len(self._selected) >= _SELECTIONS:
                self._selected.pop(next(iter(self._selected)))
            self._selected[name] = (self.cache.tenants.epoch, found)
        return found

    def by_id(self, tenant_id: str) -> Tenant | None:
        """By the public id."""
        return self._first("id", f"{self.project}/{tenant_id}")

    def by_uuid(self, uuid: str) -> Tenant | None:
        """By the UUID, in any spelling of it."""
        found = self._first("uuid", uuid.lower())
        return found if found is not None and found.key[0] == self.project else None

    def by_number(self, number: int) -> Tenant | None:
        """By the whole number."""
        return self._first("number", f"{self.project}/{number}")

    def by_name(self, name: str) -> Tenant | None:
        """By the object's name, as ``spec.parent`` has it."""
        return self.cache.tenants.tenant((self.project, name))

    def by_request(self, key: str) -> Tenant | None:
        """The one that a request with an Idempotency-Key made or changed; ``key`` as in ``idempotency``."""
        return self._first("request", key)

    def by_display_name(self, name: str) -> list[Tenant]:
        """By the name for people, whatever its letters' case."""
        index = f"{self.project}/{name.casefold()}"
        return [Tenant(obj) for obj in self.cache.tenants.all("name", index)]

    def is_within(self, tenant: Tenant, ancestor: Tenant) -> bool:
        """Whether a Tenant is another one, or below it."""
        return ancestor.key[1] in self.line_of(tenant)

    def line_of(self, tenant: Tenant) -> list[str]:
        """The names of a Tenant's object and of those above it; the last one may be gone."""
        line: list[str] = []
        at: Tenant | None = tenant
        name = tenant.key[1]
        while name and name not in line:
            line.append(name)
            name = str((at.spec.get("parent") if at is not None else None) or "")
            at = self.by_name(name)
        return line

    def would_be_within(self, parent: Tenant, tenant_id: str) -> bool:
        """Whether a Tenant that is to be made would be above its own parent: of one that is gone, those below it
        still have the name, and a new one may get it."""
        names = (identity.name_of(tenant_id), identity.name_of(tenant_id, taken=True))
        return any(name in self.line_of(parent) for name in names if self.by_name(name) is None)

    async def read_above(self, name: str) -> None:
        """Has the cache know a Tenant, by the object's name, and those above it as they are at this moment.

        :raises Problem: when the API server is away.
        """
        seen: set[str] = set()
        while name and name not in seen:
            seen.add(name)
            try:
                live = await self._kube.get(TENANTS, self.project, name)
            except NotFound:
                return
            except ApiError as error:
                raise problem_of(error) from error
            name = str(self._keep(live).spec.get("parent") or "")

    def _first(self, index: str, value: str) -> Tenant | None:
        found = self.cache.tenants.all(index, value)
        if not found:
            return None
        # Two of one id: the older one has it.
        oldest = min(found, key=lambda obj: (obj["metadata"]["creationTimestamp"], obj["metadata"]["uid"]))
        return self.cache.tenants.tenant(key_of(oldest))

    # Writing

    async def create(
        self, tenant_id: str, spec: Object, *, annotations: Mapping[str, str] | None = None
    ) -> Tenant:
        """Makes a Tenant.

        :param spec: without the id.
        :raises Taken: when there is one of that id.
        """
        there = self.by_id(tenant_id)
        if there is not None:
            await self._wait_until_gone(there)
        number = await self._numbers.take()
        taken = self._is_anothers(tenant_id)
        try:
            made = await self._post(tenant_id, spec, number, annotations or {}, taken=taken)
        except Conflict:
            # Another replica was faster, or the cache has not heard of it yet; or it is another id's, just made.
            if taken or not await self._is_anothers_now(tenant_id):
                raise Taken(f"a tenant with the id '{tenant_id}' already exists") from None
            try:
                made = await self._post(tenant_id, spec, number, annotations or {}, taken=True)
            except Conflict:
                raise Taken(f"a tenant with the id '{tenant_id}' already exists") from None
        return self._keep(made)

    async def _wait_until_gone(self, there: Tenant) -> None:
        """:raises Taken: when there is no sign of that, or it takes too long."""
        if not there.is_going:
            raise Taken(f"a tenant with the id '{there.id}' already exists")
        uid = there.meta["uid"]

        def is_gone(obj: Object | None) -> bool:
            return obj is None or obj["metadata"]["uid"] != uid

        found = await self.cache.wait(there.key, is_gone, self.settings.wait)
        if not is_gone(found):
            raise Taken(f"the tenant with the id '{there.id}' is still being deleted; try again later")

    async def _post(
        self, tenant_id: str, spec: Object, number: int, annotations: Mapping[str, str], *, taken: bool
    ) -> Object:
        body = {
            "apiVersion": f"{TENANTS.group}/{TENANTS.version}",
            "kind": TENANTS.kind,
            "metadata": {
                "name": identity.name_of(tenant_id, taken=taken),
                "labels": {NUMBER_LABEL: str(number)},
                "annotations": dict(annotations),
            },
            "spec": {"id": tenant_id, **spec},
        }
        check_size({"id": tenant_id, **spec})
        try:
            return await self._kube.request(
                "POST", TENANTS.path(self.project), body, query={"fieldManager": MANAGER}
            )
        except Conflict:
            raise
        except NotFound as error:
            _log.error("the project is no namespace", project=self.project, error=error.message)
            raise Unavailable("whoever runs this has to make the project's namespace", retry_after=60) from error
        except ApiError as error:
            raise problem_of(error) from error

    async def _is_anothers_now(self, tenant_id: str) -> bool:
        try:
            there = await self._kube.get(TENANTS, self.project, identity.name_of(tenant_id))
        except ApiError:
            return False
        return Tenant(there).id != tenant_id

    def _is_anothers(self, tenant_id: str) -> bool:
        there = self.by_name(identity.name_of(tenant_id))
        return there is not None and there.id != tenant_id

    def _keep(self, obj: Object) -> Tenant:
        tenant = Tenant(obj)
        if not self.cache.tenants.put(obj):
            # The watch was faster; only the store knows from ``managedFields`` when it was changed.
            tenant = Tenant(self.cache.tenants.get(tenant.key) or obj)
        self.cache.tell(tenant.key)
        return tenant

    async def change(self, key: Key, edit: Callable[[Tenant, Object], None]) -> Tenant:
        """Changes a Tenant.

        :param edit: called with the Tenant as it is and a copy of it that may be changed; more than once
            when somebody else changes it at the same time. What it raises ends it.
        :raises Missing: when it is gone.
        :raises Owned: when somebody else manages one of the fields.
        """

        def patch_of(live: Object) -> Object | None:
            wanted = copy.deepcopy(live)
            edit(Tenant(live), wanted)
            return patch_between(live, wanted)

        return await self._rewrite(key, patch_of)

    async def _rewrite(
        self, key: Key, patch_of: Callable[[Object], Object | None], sub: str | None = None
    ) -> Tenant:
        """Patches the version of a Tenant that the patch is made of, again when another one came in between.

        :param patch_of: makes the merge patch; None: there is nothing to change.
        """
        # Those that came here by one replica need not get into each other's way.
        async with self._lines.turn(key, _PATIENCE):
            for attempt in range(ATTEMPTS):
                try:
                    live = await self._kube.get(TENANTS, *key)
                    patch = patch_of(live)
                    if patch is None:
                        return self._keep(live)
                    patch.setdefault("metadata", {})["resourceVersion"] = live["metadata"]["resourceVersion"]
                    query = {"fieldManager": MANAGER}
                    path = TENANTS.path(*key, sub)
                    written = await self._kube.request("PATCH", path, patch, content_type=MERGE_PATCH, query=query)
                except Conflict:
                    await asyncio.sleep(random.uniform(0, 0.02 * attempt))  # noqa: S311
                except ApiError as error:
                    raise problem_of(error) from error
                else:
                    return self._keep(written)
        raise Unavailable("the tenant is being changed by somebody else; try again", retry_after=1)

    async def delete(self, tenant: Tenant) -> None:
        """Deletes the object, by its deletionPolicy; one that is gone is fine."""
        try:
            await self._kube.delete(TENANTS, *tenant.key, uid=tenant.meta["uid"])
        except Conflict:
            return  # it is another one by now
        except ApiError as error:
            raise problem_of(error) from error
        with suppress(ReconcileError):
            try:
                self._keep(await self._kube.get(TENANTS, *tenant.key))
            except NotFound:
                self.cache.tenants.drop(tenant.key, tenant.meta["uid"])

    async def report(self, key: Key, resource: str, used: int) -> Object:
        """Takes in how much of a resource a tenant uses; returns the entry in its status.

        :raises Taken: when the operator counts that resource itself.
        """

        def patch_of(live: Object) -> Object:
            usage = [dict(entry) for entry in (live.get("status") or {}).get("usage") or []]
            entry = next((each for each in usage if each["resource"] == resource), None)
            if entry is not None and entry.get("source") not in (None, "Reported"):
                raise Taken(f"{resource} is counted by the server itself, and cannot be reported")
            if entry is None:
                entry = {"resource": resource}
                usage.append(entry)
            if len(usage) > _MOST_RESOURCES:
                raise Invalid(f"a tenant has at most {_MOST_RESOURCES} resources")
            entry.update({"used": used, "source": "Reported", "updatedAt": conditions.timestamp()})
            return {"status": {"usage": usage}}

        written = await self._rewrite(key, patch_of, "status")
        return written.usage[resource]

    async def settle(self, tenant: Tenant, done: Callable[[Tenant], bool] | None = None) -> Tenant:
        """Waits a while for a Tenant to be ready, or stalled; returns it as it is then.

        :raises Missing: when it went meanwhile.
        """

        def enough(obj: Object | None) -> bool:
            if obj is None:
                return True
            now = Tenant(obj)
            return done(now) if done is not None else now.is_ready or now.is_stalled

        found = await self.cache.wait(tenant.key, enough, self.settings.wait)
        if found is None:
            raise Missing("the tenant is gone")
        return Tenant(found)

    async def number_others(self) -> None:
        """Gives numbers to Tenants that were made with kubectl, until cancelled."""
        while True:
            await asyncio.sleep(_NUMBER_EVERY)
            try:
                waiting = [tenant for tenant in self.all() if not (tenant.is_going or self._has_number(tenant))]
                if waiting:
                    await self._give_numbers(waiting[:_AT_ONCE])
            except (ReconcileError, Problem) as error:
                _log.info("a tenant got no number yet", error=str(error))

    def _has_number(self, tenant: Tenant) -> bool:
        """Whether it has one, and no older one has it as well: labels are copied with manifests."""
        number = tenant.number
        holder = self.by_number(number) if number is not None else None
        return holder is not None and holder.key == tenant.key

    async def _give_numbers(self, waiting: Sequence[Tenant]) -> None:
        numbers = await self._numbers.reserve(len(waiting))
        slots = asyncio.Semaphore(_PARALLEL)

        async def give(tenant: Tenant, number: int) -> None:
            def label(live: Tenant, wanted: Object) -> None:
                if live.number == tenant.number:
                    wanted["metadata"].setdefault("labels", {})[NUMBER_LABEL] = str(number)

            async with slots:
                with suppress(Missing):
                    await self.change(tenant.key, label)

        await asyncio.gather(*(give(tenant, number) for tenant, number in zip(waiting, numbers, strict=True)))
