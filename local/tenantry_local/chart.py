"""The Helm chart, rendered by helm and applied by kubectl."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl
from tenantry_local.paths import chart_folder
from tenantry_local.processes import run

RELEASE = "tenantry"
NAMESPACE = "tenantry-system"
MANAGER = "tenantry-local"
VALUES: dict[str, Any] = {
    # The programs run beside the cluster, not in it: Deployments without pods, for what they say.
    "operator": {"replicas": 0},
    "api": {
        "enabled": True,
        "replicas": 0,
        "existingSecret": "tenantry-api-local",
        # As the contract's clients know it, and nobody else reaches the loopback address.
        "renderOpen": True,
        "rateLimit": "",
    },
}

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Container:
    """How the chart runs a program."""

    service_account: str
    command: tuple[str, ...]
    """Command and arguments."""
    env: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart's objects."""

    objects: tuple[Manifest, ...]

    @classmethod
    def render(cls, helm: Path, values: Mapping[str, Any] = VALUES) -> Chart:
        """What ``helm install`` would send to the API server, with these values.

        :raises LocalError: when the chart does not render, with what helm says.
        """
        command = [str(helm), "template", RELEASE, str(chart_folder())]
        command += ["--namespace", NAMESPACE, "--include-crds", "--values", "-"]
        text = run(command, stdin=json.dumps(dict(values)))
        return cls(tuple(value for value in yaml.load_all(text, Loader=_Loader) if value))

    def apply(self, kubectl: Kubectl) -> None:
        """Applies the objects, definitions first: the rest may hold resources of them."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        definitions = [value for value in self.objects if value["kind"] == "CustomResourceDefinition"]
        rest = [value for value in self.objects if value not in definitions]
        if not any(value["kind"] == "Namespace" for value in self.objects):
            definitions.insert(0, namespace)
        kubectl.apply(definitions, manager=MANAGER)
        kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", *self._names(definitions))
        kubectl.apply([_placed(value) for value in rest], manager=MANAGER)

    def container(self, component: str) -> Container:
        """The container of a Deployment, by the label ``app.kubernetes.io/component``.

        :raises LocalError: when the chart has no such Deployment.
        """
        for value in self.objects:
            labels = value["metadata"].get("labels", {})
            if value["kind"] == "Deployment" and labels.get("app.kubernetes.io/component") == component:
                pod = value["spec"]["template"]["spec"]
                first = pod["containers"][0]
                return Container(
                    service_account=str(pod.get("serviceAccountName", "default")),
                    command=tuple(str(word) for word in (*first["command"], *first.get("args", []))),
                    env=tuple(first.get("env", [])),
                )
        raise LocalError(f"the chart has no Deployment labelled app.kubernetes.io/component={component}")

    @staticmethod
    def _names(definitions: list[Manifest]) -> list[str]:
        return [value["metadata"]["name"] for value in definitions if value["kind"] != "Namespace"]


def environment(container: Container, kubectl: Kubectl, *, namespace: str = NAMESPACE) -> dict[str, str]:
    """The container's environment, with references resolved as the kubelet would.

    :raises LocalError: on a reference that means nothing outside of a pod.
    """
    result: dict[str, str] = {}
    for entry in container.env:
        name, source = entry["name"], entry.get("valueFrom")
        if source is None:
            result[name] = str(entry.get("value", ""))
        elif "fieldRef" in source:
            fields = {
                "metadata.namespace": namespace,
                "metadata.name": f"{container.service_account}-local",
                "spec.nodeName": "local",
                "spec.serviceAccountName": container.service_account,
                "status.podIP": "127.0.0.1",
                "status.hostIP": "127.0.0.1",
            }
            path = source["fieldRef"]["fieldPath"]
            if path not in fields:
                raise LocalError(f"the chart sets {name} from {path}, which is unknown outside of a pod")
            result[name] = fields[path]
        else:
            value = _referenced(source, kubectl, namespace)
            if value is not None:
                result[name] = value
    return result


def _referenced(source: Manifest, kubectl: Kubectl, namespace: str) -> str | None:
    for kind, read in (("secret", kubectl.secret), ("configMap", None)):
        reference = source.get(f"{kind}KeyRef")
        if reference is None:
            continue
        try:
            data = (
                read(namespace, reference["name"])
                if read
                else kubectl.get("configmap", reference["name"], "-n", namespace).get("data", {})
            )
            return str(data[reference["key"]])
        except (LocalError, KeyError):
            if reference.get("optional"):
                return None
            raise
    return None  # resourceFieldRef: the limits of a container that is not there


def _placed(value: Manifest) -> Manifest:
    """The object with its namespace in it: a list is applied without ``--namespace``."""
    cluster_scoped = value["kind"].startswith("Cluster") or value["kind"] in {
        "CustomResourceDefinition",
        "Namespace",
        "PriorityClass",
        "Plan",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    if cluster_scoped or value["metadata"].get("namespace"):
        return value
    return {**value, "metadata": {**value["metadata"], "namespace": NAMESPACE}}


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
