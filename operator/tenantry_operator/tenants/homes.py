"""On which instance a tenant's database is, or is to be.

The choice is written into an annotation together with the finalizer, before anything is made: one write,
and wherever a crash happens after it, the database is found again.
"""

from __future__ import annotations

from typing import Any

import structlog

from tenantry_crds.common import DatabaseEngine
from tenantry_crds.database_instance import DatabaseInstanceSpec, InstanceRole
from tenantry_operator import telemetry
from tenantry_operator.cache import Key
from tenantry_operator.context import TENANTS, Context
from tenantry_operator.engines.base import Belonging, Isolation
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.kube import Conflict, NotFound
from tenantry_operator.names import FINALIZER, PLACEMENT_ANNOTATION
from tenantry_operator.tenants import dedicated, placement
from tenantry_operator.tenants.view import Entry, TenantView, records_of, render_placements

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


def candidate(context: Context, key: Key) -> placement.Candidate:
    """A DatabaseInstance as placement sees it.

    :raises Waiting: when it is not there.
    """
    obj = context.instances.get(key)
    if obj is None:
        raise Waiting("InstanceNotFound", f"there is no DatabaseInstance {'/'.join(key)}: create it")
    spec = DatabaseInstanceSpec.model_validate(obj["spec"])
    server = context.servers.peek(key)
    reached = server is not None and server.snapshot is not None and server.error is None
    return placement.Candidate(
        key=key,
        engine=str(spec.engine),
        shared=spec.role is InstanceRole.SHARED,
        dedicated=spec.role is InstanceRole.DEDICATED,
        region=spec.region,
        ready=reached and "deletionTimestamp" not in obj["metadata"],
        cordoned=spec.cordoned,
        capacity=spec.capacity.tenants if spec.capacity is not None else None,
        tenants=context.tenants.count("instance", "/".join(key)),
    )


def pinned(context: Context, view: TenantView, entry: Entry) -> Key | None:
    """The instance that the entry names: one of the tenant's namespace, or of the operator's.

    :raises Waiting: when there is none of that name.
    """
    if entry.instance is None:
        return None
    for namespace in (view.namespace, context.settings.namespace):
        if context.instances.get((namespace, entry.instance)) is not None:
            return (namespace, entry.instance)
    raise Waiting(
        "InstanceNotFound",
        f"database {entry.name}: there is no DatabaseInstance {entry.instance} in namespace {view.namespace} "
        f"or {context.settings.namespace}: create it or pin another",
    )


async def find(context: Context, view: TenantView, entry: Entry) -> tuple[Key, Belonging] | None:
    """Looks for what an earlier Tenant of this name left, by its mark, on all servers that answer."""
    for key in context.instance_keys(view.namespace):
        try:
            server = await context.servers.get(key)
            snapshot = server.snapshot if server.snapshot is not None else await server.observe()
        except ReconcileError as error:
            _log.debug("not searched", instance="/".join(key), error=str(error))
            continue
        for belonging in snapshot.belongings(view.tenant):
            if belonging.mark.database == entry.name and belonging.mark.installation == context.installation:
                return key, belonging
    return None


def place(
    context: Context, view: TenantView, entry: Entry, engine: DatabaseEngine, isolation: Isolation, pin: Key | None
) -> Key:
    """Where a new database is to go.

    :raises Waiting, Stalled: when nowhere, with the reason.
    """
    if pin is not None:
        chosen = candidate(context, pin)
        placement.check_pin(chosen, engine=engine, regions=view.spec.regions, resident=False)
        alone = isolation is Isolation.INSTANCE
        others = context.tenants.find("instance", chosen.name)
        placement.check_dedication(
            chosen, alone=alone, others=["/".join(key) for key in others if key != view.key]
        )
        return pin
    if isolation is Isolation.INSTANCE:
        dedicated.check_name(context, view, entry, engine)
        return dedicated.key_of(view, entry)
    keys = context.instance_keys(view.namespace)
    candidates = [candidate(context, key) for key in keys]
    return placement.choose(candidates, engine=engine, regions=view.spec.regions).key


def check_alone(context: Context, view: TenantView, home: Key) -> None:
    """Of tenants that were pinned to one dedicated server at the same moment, one gets it.

    :raises Waiting: InstanceFull, for the others.
    """
    placed = context.tenants.find("instance", "/".join(home))
    obj = context.instances.get(home)
    if len(placed) < 2 or obj is None or obj["spec"].get("role") != InstanceRole.DEDICATED:
        return

    def rank(key: Key) -> tuple[bool, str, str]:
        other = context.tenants.get(key) or view.obj
        there = any(
            (record.get("instanceNamespace"), record.get("instance")) == home and record.get("login")
            for record in records_of(other).values()
        )
        return (not there, other["metadata"]["creationTimestamp"], other["metadata"]["uid"])

    first = min(placed, key=rank)
    if first != view.key:
        raise Waiting(
            "InstanceFull",
            f"instance {'/'.join(home)} is for one tenant, and that is {'/'.join(first)}: pin another",
        )


async def claim(context: Context, view: TenantView, entry: Entry, home: Key) -> TenantView:
    """Writes finalizer and placement, unless they are there. Before anything is made for the entry.

    :raises Stalled: when the Tenant was deleted or changed to another one meanwhile.
    """
    if view.claimed and view.placements.get(entry.name) == home:
        return view
    if view.deleting:
        raise Stalled("Deleting", f"tenant {view.tenant} is being deleted: nothing new is made for it")
    meta = view.obj["metadata"]
    placements = {**view.placements, entry.name: home}
    finalizers = [*(meta.get("finalizers") or [])]
    if not view.claimed:
        finalizers.append(FINALIZER)
    patch = {
        "metadata": {
            "resourceVersion": meta["resourceVersion"],
            "finalizers": finalizers,
            "annotations": {PLACEMENT_ANNOTATION: render_placements(placements)},
        }
    }
    telemetry.api_writes.labels("patch", "tenants").inc()
    try:
        written = await context.kube.patch(TENANTS, view.namespace, view.name, patch)
    except (Conflict, NotFound):
        await _reread(context, view)
        raise
    context.tenants.put_answer(written)
    return TenantView(written)


async def _reread(context: Context, view: TenantView) -> None:
    try:
        context.tenants.put_answer(await context.kube.get(TENANTS, view.namespace, view.name))
    except NotFound:
        context.tenants.drop(view.key, view.obj["metadata"]["uid"])


async def release(context: Context, view: TenantView) -> None:
    """Lets a Tenant go: removes the finalizer. The last thing that is done for it."""
    meta = view.obj["metadata"]
    finalizers = [name for name in meta.get("finalizers") or [] if name != FINALIZER]
    patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}
    telemetry.api_writes.labels("patch", "tenants").inc()
    try:
        written = await context.kube.patch(TENANTS, view.namespace, view.name, patch)
        context.let_go(TENANTS, context.tenants, view.obj, written)
    except NotFound:
        context.tenants.drop(view.key, meta["uid"])
    except Conflict:
        await _reread(context, view)
        raise
