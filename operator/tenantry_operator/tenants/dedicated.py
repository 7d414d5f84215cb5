"""Servers that are made for one database of a tenant: isolation ``Instance``.

The server is a DatabaseInstance in the tenant's namespace, made from the template of the settings and what the
tenant's Plan puts in its place. It is not owned by the Tenant in the sense of garbage collection: what is retained
outlives its Tenant, and a Tenant of the same name finds it again by its name and labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry_crds.common import DatabaseEngine, Isolation
from tenantry_operator import telemetry
from tenantry_operator.cache import Key
from tenantry_operator.context import INSTANCES, Context
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.kube import ApiError, Conflict, NotFound, merge_patch
from tenantry_operator.names import DATABASE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, RELEASED_ANNOTATION, TENANT_LABEL
from tenantry_operator.tenants.desired import plan_of
from tenantry_operator.tenants.naming import fit
from tenantry_operator.tenants.view import Entry, TenantView

Object = dict[str, Any]

LONGEST_NAME = 50
"""Of a Cluster of CloudNativePG; of one that a StatefulSet runs, labels are made: that may have 52."""


def key_of(view: TenantView, entry: Entry) -> Key:
    """The DatabaseInstance that is made for a database."""
    name = fit(f"{view.name}-{entry.name}", limit=LONGEST_NAME)
    # What is cut is joined to its hash by an underscore, which names of objects may not have.
    return view.namespace, name.replace("_", "-")


def is_made_for(obj: Object | None, view: TenantView, entry: Entry) -> bool:
    """Whether a DatabaseInstance was made by the operator for a database of the tenant's."""
    labels = ((obj or {}).get("metadata") or {}).get("labels") or {}
    return (labels.get(MANAGED_BY_LABEL), labels.get(TENANT_LABEL), labels.get(DATABASE_LABEL)) == (
        MANAGED_BY,
        view.name,
        entry.name,
    )


def is_own(context: Context, view: TenantView, entry: Entry, home: Key) -> bool:
    """Whether a server was made for a database, or is to be made anew for it."""
    obj = context.instances.get(home)
    if obj is not None:
        return is_made_for(obj, view, entry)
    isolation = view.known.get(entry.name, {}).get("isolation") or entry.isolation
    return home == key_of(view, entry) and isolation == Isolation.INSTANCE


def spec_of(template: Mapping[str, Any], plan: Mapping[str, Any], engine: DatabaseEngine) -> Object:
    """The server's spec.

    :param template: of the settings: fields of a DatabaseInstance's spec, and by engine what goes in their place.
    :param plan: of the Plan, in the same form.
    :raises Stalled: DedicatedTemplate.
    """
    spec: Object = {}
    for source in (template, plan):
        general = {name: value for name, value in source.items() if name not in _ENGINES}
        for part in (general, source.get(engine) or {}):
            if _ways(part):
                # Another way to run it takes the place of the one before.
                spec = {name: value for name, value in spec.items() if name in part or name not in _WAYS}
            spec = _merged(spec, part)
    if "external" in spec:
        raise Stalled(
            "DedicatedTemplate",
            "the template of servers for isolation Instance says external: all tenants would get the same server; "
            "take it out of the chart's value dedicated, or the Plan's spec.dedicated",
        )
    if not _ways(spec):
        spec["statefulSet"] = {}
    spec |= {"engine": str(engine), "role": "Dedicated"}
    return spec


_ENGINES = frozenset(DatabaseEngine)
_WAYS = ("statefulSet", "cloudNativePG", "mariaDB", "external")


def _ways(spec: Mapping[str, Any]) -> list[str]:
    return [way for way in _WAYS if spec.get(way) is not None]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Object:
    """As a JSON merge patch does."""
    found = dict(base)
    for name, value in over.items():
        if isinstance(value, Mapping):
            before = found.get(name)
            found[name] = _merged(before if isinstance(before, Mapping) else {}, value)
        elif value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def check_region(spec: Object, view: TenantView) -> None:
    """Whether a server may be made for a tenant. One that is there stays where it is, as shared ones do.

    :raises Stalled: RegionMismatch.
    """
    region, regions = spec.get("region"), view.spec.regions
    if regions and region not in regions:
        raise Stalled(
            "RegionMismatch",
            f"servers of isolation Instance are made in region {region or '(none)'}, the tenant allows "
            f"{', '.join(regions)}: extend spec.regions, pin an instance, or name the region in the operator's "
            "template",
        )


def check_name(context: Context, view: TenantView, entry: Entry, engine: DatabaseEngine) -> Object | None:
    """The server that was made for a database; None: there is none yet.

    :raises Stalled: InstanceNameTaken, when there is another one of its name; InstanceMismatch, when it is the one
        of an earlier database, of another engine.
    """
    key = key_of(view, entry)
    obj = context.instances.get(key)
    if obj is not None and not is_made_for(obj, view, entry):
        raise Stalled(
            "InstanceNameTaken",
            f"database {entry.name}: DatabaseInstance {'/'.join(key)} was not made for this tenant and is left "
            "alone; rename or remove it, or pin an instance",
        )
    if obj is not None and obj["spec"]["engine"] != engine:
        raise Stalled(
            "InstanceMismatch",
            f"database {entry.name}: DatabaseInstance {'/'.join(key)} holds what an earlier database of this name "
            f"left, on {obj['spec']['engine']}, and {engine} is asked for; give the database another name, or "
            "take it out of spec.databases and delete that instance first",
        )
    return obj


async def declare(
    context: Context, view: TenantView, entry: Entry, home: Key, engine: DatabaseEngine
) -> ReconcileError | None:
    """Sees to it that the server of a database is declared as template and Plan have it.

    :param home: where the database is; a server that was pinned earlier is none of the operator's making.
    :returns: what is wrong with how it is declared, while the server that is there can be used as it is.
    :raises Stalled: InstanceNameTaken, InstanceMismatch, when another one has its name; DedicatedTemplate,
        RegionMismatch, when none can be made.
    :raises Waiting: InstanceStarting, when it was not there; InstanceGoing, when an earlier one is not gone yet.
    """
    key = key_of(view, entry)
    if home != key:
        return None
    obj = check_name(context, view, entry, engine)
    plan = plan_of(context, view)
    try:
        spec = spec_of(context.settings.dedicated, plan.dedicated if plan is not None else {}, engine)
        if obj is not None and "deletionTimestamp" not in obj["metadata"]:
            await _update(context, obj, spec)
            return None
    except Stalled as problem:
        if obj is None:
            raise
        return problem
    if obj is None:
        check_region(spec, view)
        await _create(context, view, entry, spec)
        raise Waiting(
            "InstanceStarting", f"database {entry.name}: DatabaseInstance {'/'.join(key)} is being started"
        )
    what = f"database {entry.name}: DatabaseInstance {'/'.join(key)}"
    if RELEASED_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        raise Waiting("InstanceGoing", f"{what} is going; then a new one is made")
    return Stalled(
        "InstanceGoing",
        f"{what} was deleted, which cannot be taken back. It serves until this tenant is gone from it, and goes "
        "then: take the database out of spec.databases, and back in for a new one",
    )


async def _update(context: Context, obj: Object, spec: Object) -> None:
    # Only what the template names: what a person added stays.
    wanted = {"spec": _merged(obj["spec"], spec)}
    patch = merge_patch({"spec": obj["spec"]}, wanted) or {}
    if RELEASED_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        # It was about to go, and is wanted again.
        patch["metadata"] = {"annotations": {RELEASED_ANNOTATION: None}}
        patch["spec"] = {**patch.get("spec", {}), "deletionPolicy": spec.get("deletionPolicy", "Retain")}
    if patch:
        await _patch(context, obj, patch)


async def _create(context: Context, view: TenantView, entry: Entry, spec: Object) -> None:
    namespace, name = key_of(view, entry)
    body = {
        "apiVersion": f"{INSTANCES.group}/{INSTANCES.version}",
        "kind": INSTANCES.kind,
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, TENANT_LABEL: view.name, DATABASE_LABEL: entry.name},
        },
        "spec": spec,
    }
    telemetry.api_writes.labels("create", INSTANCES.plural).inc()
    try:
        await context.kube.create(INSTANCES, namespace, body, strict=True)
    except Conflict:
        pass  # it is there, and the cache will hear of it
    except ApiError as error:
        raise _refused(error) from error
    reached("instance-created")


def _refused(error: ApiError, known: Key | None = None) -> ReconcileError:
    """What it means that the API server takes a server's spec, or not.

    :param known: the server that is there already.
    """
    if error.status not in (400, 422):
        return error
    said = error.message.partition(": ")[2] or error.message
    what = (
        f"DatabaseInstance {'/'.join(known)} stays as it is, since it cannot be changed"
        if known
        else "no server can be made for isolation Instance"
    )
    return Stalled(
        "DedicatedTemplate",
        f"{what}: {said}; mend the chart's value dedicated, or the Plan's spec.dedicated",
    )


async def _patch(context: Context, obj: Object, patch: Object) -> Object | None:
    meta = obj["metadata"]
    patch = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": meta["resourceVersion"]}}
    telemetry.api_writes.labels("patch", INSTANCES.plural).inc()
    try:
        written = await context.kube.patch(INSTANCES, meta["namespace"], meta["name"], patch, strict=True)
    except NotFound:
        context.instances.drop((meta["namespace"], meta["name"]), meta["uid"])
        return None
    except Conflict:
        raise
    except ApiError as error:
        raise _refused(error, (meta["namespace"], meta["name"])) from error
    context.instances.put_answer(written)
    return written


async def remove(context: Context, view: TenantView, entry: Entry) -> None:
    """Removes the server that was made for a database, with its data.

    :raises Waiting: InstanceGoing, until nothing of it is left.
    """
    key = key_of(view, entry)
    obj = context.instances.get(key)
    if obj is None or not is_made_for(obj, view, entry):
        return
    meta = obj["metadata"]
    if (meta.get("annotations") or {}).get(RELEASED_ANNOTATION) != view.name:
        annotations = {RELEASED_ANNOTATION: view.name}
        wanted = {"metadata": {"annotations": annotations}, "spec": {"deletionPolicy": "Delete"}}
        if await _patch(context, obj, wanted) is None:
            return
        reached("instance-released")
    if "deletionTimestamp" not in meta:
        telemetry.api_writes.labels("delete", INSTANCES.plural).inc()
        await context.kube.delete(INSTANCES, *key, uid=meta["uid"])
        reached("instance-deleted")
    raise Waiting(
        "InstanceGoing", f"database {entry.name}: DatabaseInstance {'/'.join(key)} is going, with its data"
    )
