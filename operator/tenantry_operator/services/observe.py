"""What is remembered of Deployments and Services, and what it says of a tenant's service. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tenantry_operator.cache import Store
from tenantry_operator.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL, TENANT_LABEL
from tenantry_operator.services.build import DIGEST_ANNOTATION

Object = dict[str, Any]

_KEPT = ("name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations", "ownerReferences")
_COUNTS = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def tenant_of(obj: Object) -> str | None:
    """The Tenant that an object is labelled with."""
    found: str | None = (obj["metadata"].get("labels") or {}).get(TENANT_LABEL)
    return found


def by_tenant(obj: Object) -> Iterable[str]:
    """An index over Deployments or Services: ``<namespace>/<tenant>``."""
    tenant = tenant_of(obj)
    return (f"{obj['metadata']['namespace']}/{tenant}",) if tenant else ()


def service_of(obj: Object) -> str:
    """The name in ``spec.services`` that an object is labelled with."""
    found: str = (obj["metadata"].get("labels") or {}).get(SERVICE_LABEL) or ""
    return found


def _metadata(obj: Object) -> Object:
    meta = obj["metadata"]
    return {name: meta[name] for name in (*_KEPT, "deletionTimestamp") if name in meta}


def summarise_deployment(obj: Object) -> Object:
    """What is needed of a Deployment."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    # Others' annotations of the pod template, such as that of "kubectl rollout restart", are to be kept.
    others = (spec.get("template") or {}).get("metadata", {}).get("annotations") or {}
    return {
        "metadata": _metadata(obj),
        "replicas": spec.get("replicas", 1),
        "others": {name: value for name, value in others.items() if not name.startswith(f"{GROUP}/")},
        "status": {name: status.get(name) or 0 for name in _COUNTS},
        "conditions": {
            each["type"]: (each["status"], each.get("reason") or "", each.get("message") or "")
            for each in status.get("conditions") or []
        },
    }


def remember_deployment(store: Store, obj: Object) -> bool:
    """Keeps what is needed of a Deployment; True when it was news."""
    return store.put(summarise_deployment(obj))


def summarise_service(obj: Object) -> Object:
    """What is needed of a Service."""
    return {"metadata": _metadata(obj), "spec": outline(obj.get("spec") or {})}


def remember_service(store: Store, obj: Object) -> bool:
    """Keeps what is needed of a Service; True when it was news."""
    return store.put(summarise_service(obj))


def outline(spec: Object) -> Object:
    """What of a Service's spec the operator sets."""
    ports = [
        {name: port.get(name) for name in ("name", "port", "targetPort", "protocol")}
        for port in spec.get("ports") or []
    ]
    return {"type": spec.get("type"), "selector": spec.get("selector"), "ports": ports}


def is_watched(obj: Object) -> bool:
    """Whether changes of a Deployment or Service are heard of; what is not must not be remembered."""
    found = obj["metadata"].get("labels") or {}
    return found.get(MANAGED_BY_LABEL) == MANAGED_BY and SERVICE_LABEL in found


def differs(before: Object | None, after: Object | None) -> bool:
    """Whether what is remembered of a Deployment or Service changed."""
    if before is None or after is None:
        return before is not after
    return _told(before) != _told(after)


def _told(obj: Object) -> tuple[Any, ...]:
    meta = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    conditions = {kind: value[:2] for kind, value in (obj.get("conditions") or {}).items()}
    return (meta, obj.get("replicas"), obj.get("status"), conditions, obj.get("spec"))


def digest_of(obj: Object) -> str:
    """The digest that a Deployment was written with."""
    found: str = (obj["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION) or ""
    return found


class Phase(StrEnum):
    """How a service is, in one word."""

    PENDING = "Pending"
    """Nothing of it is there yet."""
    STARTING = "Starting"
    """Its pods are not there, or not ready."""
    RUNNING = "Running"
    """All its pods are ready."""
    UPDATING = "Updating"
    """Enough pods are ready; others are being replaced."""
    STOPPING = "Stopping"
    """Its pods are ending."""
    STOPPED = "Stopped"
    """It has no pods, as it should be."""
    FAILED = "Failed"
    """It does not come up by itself."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the pods of a Deployment are."""

    phase: Phase
    ready: int
    message: str = ""
    """What the Deployment says is in the way."""


def health(known: Object) -> Health:
    """How a Deployment is.

    :param known: what :func:`remember_deployment` keeps of it.
    """
    counts, conditions = known["status"], known["conditions"]
    ready, wanted = counts["readyReplicas"], known["replicas"]
    seen = counts["observedGeneration"] >= known["metadata"].get("generation", 0)
    if wanted == 0:
        done = seen and counts["replicas"] == 0
        return Health(Phase.STOPPED if done else Phase.STOPPING, ready)
    if seen and wanted == counts["replicas"] == counts["updatedReplicas"] == counts["availableReplicas"]:
        return Health(Phase.RUNNING, ready)
    message = _message(conditions)
    progressing = conditions.get("Progressing")
    if seen and progressing is not None and progressing[0] == "False":
        return Health(Phase.FAILED, ready, message)
    available = conditions.get("Available", ("False",))[0] == "True" and counts["availableReplicas"] > 0
    return Health(Phase.UPDATING if available else Phase.STARTING, ready, message)


def _message(conditions: dict[str, tuple[str, str, str]]) -> str:
    """The most telling of a Deployment's conditions: that pods are refused says more than that none is there."""
    for kind, bad in (("ReplicaFailure", "True"), ("Progressing", "False"), ("Available", "False")):
        status, _, message = conditions.get(kind, ("", "", ""))
        if status == bad and message:
            return message
    return ""
