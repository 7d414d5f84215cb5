"""All objects of a server that Tenantry runs. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tenantry_crds.common import DatabaseEngine
from tenantry_operator import podsettings
from tenantry_operator.instances.manifests import mongodb, mysql, postgres, redis
from tenantry_operator.instances.manifests.design import Design, Plan, config_map, headless_service
from tenantry_operator.instances.manifests.paths import Path, dig
from tenantry_operator.kube import (
    CONFIGMAPS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)
from tenantry_operator.names import GROUP

Object = dict[str, Any]

RENDERED = f"{GROUP}/rendered"
"""An annotation: the digest of what was rendered."""
PODS = f"{GROUP}/pods"
"""An annotation: what the operator set of what pods get besides their containers."""
GENERATION = f"{GROUP}/data"
"""An annotation of a volume's claim: which program its data is for."""
_CONFIG_DIGEST = f"{GROUP}/config"
"""An annotation of the pod: another configuration is another pod."""
_PROJECT = f"{GROUP}/project"
_NAMESPACE_NAME = "kubernetes.io/metadata.name"

_MUTABLE = frozenset(
    {"replicas", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "revisionHistoryLimit"}
)
"""Of a StatefulSet; the API server refuses changes of the rest."""

DESIGNS: Mapping[DatabaseEngine, Callable[[Plan], Design]] = {
    DatabaseEngine.POSTGRESQL: postgres.design,
    DatabaseEngine.MYSQL: mysql.design,
    DatabaseEngine.REDIS: redis.design,
    DatabaseEngine.MONGODB: mongodb.design,
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One object as it should be."""

    resource: Resource
    body: Object
    mutable: frozenset[str] | None = None
    """The fields of ``spec`` that can be changed; None: all."""
    pods: tuple[Path, ...] = ()
    """Where it says what its pods get besides their containers. Such a field is replaced as a whole; one that
    nobody asks for any more is taken away, if it was the operator who set it."""

    @property
    def given(self) -> tuple[Path, ...]:
        """Those of ``pods`` that it sets."""
        return tuple(path for path in self.pods if dig(self.body, path) is not None)

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self.body["metadata"]["name"]
        return name


def marked(rendered: Rendered) -> Rendered:
    """With an annotation that tells which of ``pods`` it sets, if it sets any."""
    if rendered.given:
        rendered.body["metadata"]["annotations"][PODS] = ",".join(map(".".join, rendered.given))
    return rendered


def render(plan: Plan) -> tuple[Rendered, ...]:
    """The objects, in the order in which they are made: the pod comes last, when nobody else can reach it.

    :raises Stalled: ImageUnknown, AffinityTooLarge.
    """
    design = DESIGNS[plan.engine](plan)
    return (
        _object(plan, CONFIGMAPS, "v1", plan.config_map, {"data": dict(design.config)}),
        _object(
            plan, SERVICES, "v1", headless_service(plan.name), {"spec": _service(plan, design, headless=True)}
        ),
        _object(plan, SERVICES, "v1", plan.name, {"spec": _service(plan, design)}),
        _object(
            plan, NETWORK_POLICIES, "networking.k8s.io/v1", plan.name, {"spec": _network_policy(plan, design)}
        ),
        _object(plan, DISRUPTION_BUDGETS, "policy/v1", plan.name, {"spec": _disruption_budget(plan)}),
        marked(
            replace(
                _object(plan, STATEFUL_SETS, "apps/v1", plan.name, {"spec": _stateful_set(plan, design)}),
                mutable=_MUTABLE,
                pods=tuple(("spec", "template", "spec", name) for name in podsettings.FIELDS.values()),
            )
        ),
    )


def parts(name: str) -> tuple[tuple[Resource, str], ...]:
    """What :func:`render` makes for an instance of this name, whatever its image is: resources and names."""
    return (
        (CONFIGMAPS, config_map(name)),
        (SERVICES, headless_service(name)),
        (SERVICES, name),
        (NETWORK_POLICIES, name),
        (DISRUPTION_BUDGETS, name),
        (STATEFUL_SETS, name),
    )


def digest(value: object) -> str:
    """A digest of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def owner(plan: Plan) -> Object:
    """The reference by which an object goes with its DatabaseInstance."""
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "DatabaseInstance",
        "name": plan.name,
        "uid": plan.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def _object(plan: Plan, resource: Resource, version: str, name: str, content: Object) -> Rendered:
    metadata: Object = {
        "name": name,
        "namespace": plan.namespace,
        "labels": {
            **plan.labels,
            "app.kubernetes.io/name": str(plan.engine).lower(),
            "app.kubernetes.io/instance": plan.name,
        },
        "ownerReferences": [owner(plan)],
    }
    body: Object = {"apiVersion": version, "kind": resource.kind, "metadata": metadata, **content}
    metadata["annotations"] = {RENDERED: digest(body)}
    return Rendered(resource, body)


def _service(plan: Plan, design: Design, *, headless: bool = False) -> Object:
    ports = {"database": design.port, **design.other_ports}
    return {
        "selector": plan.labels,
        "ports": [
            {"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()
        ],
        "type": "ClusterIP",
        **({"clusterIP": "None", "publishNotReadyAddresses": True} if headless else {}),
    }


def _network_policy(plan: Plan, design: Design) -> Object:
    """In: the operator, and the pods of those whom the server is for. Out: nothing; a database asks nobody."""
    operator, *others = plan.clients
    clients: list[Object] = [_peer({_NAMESPACE_NAME: name}) for name in (operator, *others)]
    if plan.projects:
        clients.append({"namespaceSelector": {"matchExpressions": [{"key": _PROJECT, "operator": "Exists"}]}})
    rules: list[Object] = [{"from": clients, "ports": [{"port": design.port, "protocol": "TCP"}]}]
    if design.other_ports:
        ports = [{"port": port, "protocol": "TCP"} for port in design.other_ports.values()]
        rules.append({"from": [_peer({_NAMESPACE_NAME: operator})], "ports": ports})
    return {
        "podSelector": {"matchLabels": plan.labels},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": rules,
    }


def _peer(labels: Mapping[str, str]) -> Object:
    return {"namespaceSelector": {"matchLabels": dict(labels)}}


def _disruption_budget(plan: Plan) -> Object:
    """A drain may evict the pod: with one replica it could never end otherwise."""
    return {
        "maxUnavailable": 1,
        "selector": {"matchLabels": plan.labels},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


def _stateful_set(plan: Plan, design: Design) -> Object:
    claim: Object = {
        "metadata": {
            "name": "data",
            "labels": plan.labels,
            "annotations": {GENERATION: plan.generation},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": str(plan.storage)}},
            **({"storageClassName": plan.storage_class} if plan.storage_class else {}),
        },
    }
    return {
        "replicas": 0 if plan.asleep else 1,
        "serviceName": headless_service(plan.name),
        # With OrderedReady, a pod that never became ready would not be replaced by one that does.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": plan.labels},
        "template": {
            "metadata": {
                "labels": plan.labels,
                "annotations": {_CONFIG_DIGEST: digest(dict(design.config))},
            },
            "spec": _pod(plan, design),
        },
        "volumeClaimTemplates": [claim],
    }


def _pod(plan: Plan, design: Design) -> Object:
    group = design.group if design.group is not None else design.user
    volumes: list[Object] = [{"name": "config", "configMap": {"name": plan.config_map}}]
    volumes += [{"name": name, "emptyDir": {}} for name in design.scratch]
    if design.seeds:
        items = [{"key": key, "path": key} for key in design.seeds]
        volumes.append({"name": "seeds", "secret": {"secretName": plan.secret, "items": items}})
    # What a server said last is in the pod's status then: a full disk is no riddle.
    last_words = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    containers = [{**container, **last_words} for container in design.containers]
    if plan.resources is not None and plan.resources.to_object():
        containers[-1 if design.other_ports else 0]["resources"] = plan.resources.to_object()
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": design.grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": design.user,
            "runAsGroup": group,
            "fsGroup": group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": list(design.init_containers)} if design.init_containers else {}),
        "containers": containers,
        "volumes": volumes,
        **podsettings.fields(plan.pods),
    }
