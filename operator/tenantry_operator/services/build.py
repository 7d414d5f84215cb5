"""The Deployment and the Service of a tenant's service. Pure.

Credentials come as files, the way the Service Binding specification for Kubernetes 1.1 has it ("Workload
Projection"): one directory for each database under ``$SERVICE_BINDING_ROOT``. The kubelet keeps the files up to
date, but applications read them when they start: what the Secrets hold is part of the pod template, so that new
credentials start new pods while the old login still works.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tenantry_crds.service import EnvVar, Probe, ServiceTemplate
from tenantry_operator import podsettings
from tenantry_operator.names import GROUP, MANAGED_BY, MANAGED_BY_LABEL, SERVICE_LABEL, TENANT_LABEL
from tenantry_operator.tenants.naming import MAX_BYTES, short_hash

Object = dict[str, Any]

BINDING_ROOT = "/bindings"
DIGEST_ANNOTATION = f"{GROUP}/digest"
"""On a Deployment: over all that the operator wrote, so that what changed is seen without comparing."""
CREDENTIALS_ANNOTATION = f"{GROUP}/credentials"
"""On a pod template: over what the bound Secrets hold."""
STOPPED = "stopped"
"""In place of the digest, on a Deployment that was scaled to zero."""

_CONTAINER = "service"
_PORT_NAME = "service"


@dataclass(frozen=True, slots=True)
class Bound:
    """A database whose credentials a service gets."""

    database: str
    secret: str
    digest: str
    """Over what the Secret holds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service as it should be."""

    name: str
    blueprint: str
    template: ServiceTemplate
    replicas: int
    tenant_id: str
    plugin_repo: str | None
    bound: tuple[Bound, ...]


def object_name(tenant: str, service: str) -> str:
    """The name of a service's Deployment and Service: ``<tenant>-<service>``.

    A Service's name is a DNS label that begins with a letter (RFC 1035), at most 63 characters: a longer one is
    cut and gets a hash of the whole.
    """
    name = f"{tenant}-{service}"
    if not name[0].isalpha():
        name = f"t-{name}"
    if len(name) <= MAX_BYTES:
        return name
    tail = f"-{short_hash(tenant, service)}"
    return name[: MAX_BYTES - len(tail)].rstrip("-") + tail


def labels(tenant: str, service: str) -> dict[str, str]:
    """What marks an object as a tenant's service; the last two select its pods."""
    return {MANAGED_BY_LABEL: MANAGED_BY, **selector(tenant, service)}


def selector(tenant: str, service: str) -> dict[str, str]:
    """The labels by which the pods of a service are found."""
    return {TENANT_LABEL: tenant, SERVICE_LABEL: service}


def is_of(obj: Object, tenant: str, service: str) -> bool:
    """Whether an object was made for a tenant's service, by its labels."""
    found = obj["metadata"].get("labels") or {}
    return all(found.get(name) == value for name, value in labels(tenant, service).items())


def belongs(obj: Object, tenant: Object, service: str) -> bool:
    """Whether an object is a tenant's service: by its labels, or, since labels can be changed, by its owner.

    :param tenant: the Tenant object.
    """
    owners = {owner.get("uid") for owner in obj["metadata"].get("ownerReferences") or []}
    return is_of(obj, tenant["metadata"]["name"], service) or tenant["metadata"]["uid"] in owners


def deployment(tenant: Object, wanted: Wanted) -> Object:
    """The Deployment, owned by its Tenant, with its digest.

    :param tenant: the Tenant object.
    :raises Stalled: AffinityTooLarge.
    """
    template = wanted.template
    container: Object = {
        "name": _CONTAINER,
        "image": template.image,
        "env": list(_environment(tenant["metadata"]["name"], wanted)),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    for name, words in (("command", template.command), ("args", template.args)):
        if words:
            container[name] = list(words)
    if template.port is not None:
        container["ports"] = [{"name": _PORT_NAME, "containerPort": template.port, "protocol": "TCP"}]
    if template.resources is not None:
        container["resources"] = template.resources.to_object()
    if template.probes is not None:
        for kind in ("readiness", "liveness", "startup"):
            probe: Probe | None = getattr(template.probes, kind)
            if probe is not None:
                container[f"{kind}Probe"] = _probe(probe, template.port)
    pod: Object = {
        "automountServiceAccountToken": False,
        # Else every pod would get the addresses of all other tenants' services.
        "enableServiceLinks": False,
        "securityContext": _security(template),
        "containers": [container],
        **podsettings.fields(template),
    }
    if wanted.bound:
        container["volumeMounts"] = [
            {"name": _volume(each), "mountPath": f"{BINDING_ROOT}/{each.database}", "readOnly": True}
            for each in wanted.bound
        ]
        pod["volumes"] = [{"name": _volume(each), "secret": {"secretName": each.secret}} for each in wanted.bound]
    meta = _metadata(tenant, wanted.name)
    selected = selector(tenant["metadata"]["name"], wanted.name)
    body: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": wanted.replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": selected},
            "template": {
                "metadata": {
                    "labels": dict(meta["labels"]),
                    "annotations": {CREDENTIALS_ANNOTATION: _credentials(wanted.bound)},
                },
                "spec": pod,
            },
        },
    }
    meta["annotations"] = {DIGEST_ANNOTATION: digest(body)}
    return body


def service(tenant: Object, wanted: Wanted) -> Object | None:
    """The Service that leads to the pods; None for a service without a port."""
    port = wanted.template.port
    if port is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(tenant, wanted.name),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(tenant["metadata"]["name"], wanted.name),
            "ports": [{"name": _PORT_NAME, "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    }


def digest(body: Object) -> str:
    """A hash of an object."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _security(template: ServiceTemplate) -> Object:
    """What a pod may do. Whether it may be root is the image's matter, unless the template says."""
    found: Object = {"seccompProfile": {"type": "RuntimeDefault"}}
    if template.run_as_user is not None:
        found["runAsUser"] = template.run_as_user
    if template.run_as_non_root or template.run_as_user is not None:
        found["runAsNonRoot"] = True
    return found


def _metadata(tenant: Object, service: str) -> Object:
    meta = tenant["metadata"]
    return {
        "name": object_name(meta["name"], service),
        "namespace": meta["namespace"],
        "labels": labels(meta["name"], service),
        "ownerReferences": [
            {
                "apiVersion": tenant["apiVersion"],
                "kind": tenant["kind"],
                "name": meta["name"],
                "uid": meta["uid"],
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def _environment(tenant: str, wanted: Wanted) -> Iterator[Object]:
    """The operator's variables come first: the blueprint's may refer to them."""
    values = {
        "TENANTRY_TENANT": tenant,
        "TENANTRY_TENANT_ID": wanted.tenant_id,
        "TENANTRY_SERVICE": wanted.name,
        "SERVICE_BINDING_ROOT": BINDING_ROOT,
    }
    given = {each.name: each for each in wanted.template.env}
    if wanted.plugin_repo:
        # "$(NAME)" would be replaced by another variable, and show the product's values to who chose the URL.
        values["CUSTOM_PLUGIN_REPO"] = wanted.plugin_repo.replace("$", "$$")
        given.pop("CUSTOM_PLUGIN_REPO", None)
    if wanted.template.port is not None and "PORT" not in given:
        values["PORT"] = str(wanted.template.port)
    yield from ({"name": name, "value": value} for name, value in values.items())
    yield from (_variable(each) for each in given.values())


def _variable(variable: EnvVar) -> Object:
    if variable.value_from is not None:
        return {"name": variable.name, "valueFrom": variable.value_from.to_object()}
    return {"name": variable.name, "value": variable.value or ""}


def _probe(probe: Probe, port: int | None) -> Object:
    body = probe.to_object()
    for way in ("httpGet", "tcpSocket"):
        if way in body:
            body[way] = {"port": port, **body[way]}
    return body


def _volume(bound: Bound) -> str:
    name = f"binding-{bound.database}"
    if len(name) <= MAX_BYTES:
        return name
    return f"binding-{short_hash(bound.database)}"


def _credentials(bound: Sequence[Bound]) -> str:
    return short_hash(*(part for each in bound for part in (each.database, each.digest)))
