"""Deployments and Services in the cluster: written, stopped, removed; never those of somebody else."""

from __future__ import annotations

from typing import Any

from tenantry_operator import telemetry
from tenantry_operator.context import Context
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.kube import DEPLOYMENTS, PODS, SERVICES, ApiError, Conflict, NotFound, Resource
from tenantry_operator.names import GROUP
from tenantry_operator.services.build import DIGEST_ANNOTATION, STOPPED, belongs, labels, selector
from tenantry_operator.services.observe import (
    is_watched,
    outline,
    remember_deployment,
    remember_service,
    summarise_deployment,
    summarise_service,
)
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]

_ATTEMPTS = 4


class ServiceObjects:
    """The objects of tenants' services. Repeating anything after a crash comes to the same end."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def write_deployment(self, view: TenantView, service: str, body: Object) -> Object:
        """Creates or replaces a Deployment; what others annotated stays.

        :returns: what is remembered of it.
        :raises Stalled: NameTaken, when it is not the tenant's; TemplateInvalid.
        """
        context, name = self._context, body["metadata"]["name"]
        known = context.deployments.get((view.namespace, name))
        with _Refusals(service):
            for _ in range(_ATTEMPTS):
                try:
                    if known is None:
                        _count("create", DEPLOYMENTS)
                        return self._keep(
                            await context.kube.create(DEPLOYMENTS, view.namespace, body, strict=True)
                        )
                    _check_owner(view, service, known, DEPLOYMENTS)
                    written = _keeping(body, known)
                    template = dict(written["spec"]["template"])
                    meta = template["metadata"]
                    template["metadata"] = {**meta, "annotations": {**known["others"], **meta["annotations"]}}
                    written["spec"] = {**written["spec"], "template": template}
                    _count("update", DEPLOYMENTS)
                    return self._keep(
                        await context.kube.replace(DEPLOYMENTS, view.namespace, name, written, strict=True)
                    )
                except Conflict:
                    # Its controller writes its status all the time, or it is there and has not been seen yet.
                    known = await self.find_deployment(view, name)
                except NotFound:
                    context.deployments.drop((view.namespace, name))
                    known = None
        raise Retryable("DeploymentChanging", f"Deployment {view.namespace}/{name} changes all the time")

    async def find_deployment(self, view: TenantView, name: str) -> Object | None:
        """A Deployment as the API server has it, whoever made it; in the form in which it is remembered."""
        try:
            found = await self._context.kube.get(DEPLOYMENTS, view.namespace, name)
        except NotFound:
            return None
        return self._keep(found) if is_watched(found) else summarise_deployment(found)

    async def stop(self, view: TenantView, service: str, known: Object) -> Object:
        """Scales a Deployment to zero, and puts its labels back: without them nobody would hear of it again.

        :returns: what is remembered of it.
        """
        meta = known["metadata"]
        patch = {
            "metadata": {
                "uid": meta["uid"],
                "labels": labels(view.name, service),
                "annotations": {DIGEST_ANNOTATION: STOPPED},
            },
            "spec": {"replicas": 0},
        }
        _count("patch", DEPLOYMENTS)
        kept = self._keep(await self._context.kube.patch(DEPLOYMENTS, view.namespace, meta["name"], patch))
        reached("service-stopped")
        return kept

    async def write_service(self, view: TenantView, service: str, body: Object) -> bool:
        """Creates or replaces a Service that is not as it should be.

        :returns: whether it was there, and different.
        :raises Stalled: NameTaken, when it is not the tenant's; TemplateInvalid.
        """
        context, name = self._context, body["metadata"]["name"]
        known = context.services.get((view.namespace, name))
        with _Refusals(service):
            for _ in range(_ATTEMPTS):
                try:
                    if known is None:
                        _count("create", SERVICES)
                        made = await context.kube.create(SERVICES, view.namespace, body)
                        remember_service(context.services, made)
                        return False
                    _check_owner(view, service, known, SERVICES)
                    if known["spec"] == outline(body["spec"]) and _owned(known, body):
                        return False
                    _count("update", SERVICES)
                    written = _keeping(body, known)
                    made = await context.kube.replace(SERVICES, view.namespace, name, written)
                    remember_service(context.services, made)
                except Conflict:
                    known = await self.find_service(view, name)
                except NotFound:
                    context.services.drop((view.namespace, name))
                    known = None
                else:
                    return True
        raise Retryable("ServiceChanging", f"Service {view.namespace}/{name} changes all the time")

    async def find_service(self, view: TenantView, name: str) -> Object | None:
        """A Service as the API server has it, whoever made it; in the form in which it is remembered."""
        try:
            found = await self._context.kube.get(SERVICES, view.namespace, name)
        except NotFound:
            return None
        if not is_watched(found):
            return summarise_service(found)
        remember_service(self._context.services, found)
        return self._context.services.get((view.namespace, name))

    async def remove_deployment(self, known: Object) -> None:
        """Deletes a Deployment; its pods go with it."""
        meta = known["metadata"]
        if "deletionTimestamp" in meta:
            return
        _count("delete", DEPLOYMENTS)
        await self._context.kube.delete(DEPLOYMENTS, meta["namespace"], meta["name"], uid=meta["uid"])
        reached("service-removed")

    async def remove_service(self, known: Object) -> None:
        """Deletes a Service."""
        meta = known["metadata"]
        if "deletionTimestamp" in meta:
            return
        _count("delete", SERVICES)
        await self._context.kube.delete(SERVICES, meta["namespace"], meta["name"], uid=meta["uid"])

    async def trouble(self, view: TenantView, service: str) -> str:
        """What keeps the pods of a service from being ready, in the kubelet's words; "" when none tells."""
        wanted = ",".join(f"{name}={value}" for name, value in selector(view.name, service).items())
        async for page in self._context.kube.pages(PODS, view.namespace, selector=wanted):
            for pod in sorted(page, key=_newest_first, reverse=True):
                said = said_of_pod(pod)
                if said:
                    return said
        return ""

    def _keep(self, obj: Object) -> Object:
        remember_deployment(self._context.deployments, obj)
        meta = obj["metadata"]
        # A watch may have brought a newer one already.
        kept = self._context.deployments.get((meta["namespace"], meta["name"]))
        assert kept is not None  # noqa: S101 - it was put just now
        return kept


def said_of_pod(pod: Object) -> str:
    """What is in the way of a pod; "" when nothing is, or nothing is known."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"]:
        return ""
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended = (container.get("state") or {}).get("terminated") or {}
        ended = ended or (container.get("lastState") or {}).get("terminated") or {}
        reason, message = waiting.get("reason") or "", waiting.get("message") or ""
        told = [f"it ended with exit code {ended['exitCode']}"] if ended.get("exitCode") is not None else []
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return ": ".join([f"pod {name}", reason, *told, *([message] if message else [])])
        if told:
            return f"pod {name}: {told[0]}"
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            return f"pod {name}: {condition['message']}"
    return ""


def _newest_first(pod: Object) -> str:
    created: str = pod["metadata"].get("creationTimestamp") or ""
    return created


def _count(verb: str, resource: Resource) -> None:
    telemetry.api_writes.labels(verb, resource.plural).inc()


def _keeping(body: Object, known: Object) -> Object:
    """A body that replaces what is known, with the labels and annotations that others gave it."""
    meta, before = body["metadata"], known["metadata"]
    kept = {name: value for name, value in (before.get("annotations") or {}).items() if _is_foreign(name)}
    merged = {
        **meta,
        "labels": {**(before.get("labels") or {}), **meta["labels"]},
        "annotations": {**kept, **(meta.get("annotations") or {})},
        "uid": before["uid"],
        "resourceVersion": before["resourceVersion"],
    }
    return {**body, "metadata": merged}


def _is_foreign(annotation: str) -> bool:
    return not annotation.startswith(f"{GROUP}/")


def _owned(known: Object, body: Object) -> bool:
    return bool(known["metadata"].get("ownerReferences") == body["metadata"]["ownerReferences"])


def _check_owner(view: TenantView, service: str, found: Object, resource: Resource) -> None:
    if not belongs(found, view.obj, service):
        raise Stalled(
            "NameTaken",
            f"service {service}: {resource.kind} {view.namespace}/{found['metadata']['name']} was not made for "
            "this tenant's service and is left alone; rename or delete it, or give the service another name",
        )


class _Refusals:
    """Turns what the API server finds wrong with an object into what a person can mend."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ApiError) and error.status in (400, 422):
            raise Stalled(
                "TemplateInvalid",
                f"service {self._service}: mend the service template of its Blueprint: {error.message}",
            ) from error
