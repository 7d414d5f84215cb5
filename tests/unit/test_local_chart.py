"""The chart as the one-machine cluster reads it, and the kubeconfigs it writes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tenantry_local.chart import NAMESPACE, Chart, Container, _placed, environment
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import kubeconfig
from tenantry_local.pki import Pair


class FakeKubectl:
    """Answers for one Secret and one ConfigMap."""

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        if (namespace, name) != (NAMESPACE, "keys"):
            raise LocalError(f'secrets "{name}" not found')
        return {"jwt": "signed"}

    def get(self, kind: str, name: str, *_: str) -> Any:
        if (kind, name) != ("configmap", "settings"):
            raise LocalError(f'configmaps "{name}" not found')
        return {"data": {"level": "DEBUG"}}


def deployment(component: str, env: list[dict[str, Any]]) -> dict[str, Any]:
    pod = {
        "serviceAccountName": "tenantry-operator",
        "containers": [{"command": ["python", "-m", "x"], "args": ["--verbose"], "env": env}],
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": "x", "labels": {"app.kubernetes.io/component": component}},
        "spec": {"template": {"spec": pod}},
    }


def resolve(*env: dict[str, Any]) -> dict[str, str]:
    return environment(Container("tenantry-operator", (), env), FakeKubectl())  # type: ignore[arg-type]


def test_a_container_is_found_by_the_component_of_its_deployment() -> None:
    chart = Chart((deployment("api", []), deployment("operator", [{"name": "A", "value": "1"}])))
    found = chart.container("operator")
    command = ("python", "-m", "x", "--verbose")
    assert found == Container("tenantry-operator", command, ({"name": "A", "value": "1"},))
    with pytest.raises(LocalError, match="component=node"):
        chart.container("node")


def test_plain_values_and_fields_of_the_pod_are_resolved() -> None:
    field = {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}
    assert resolve({"name": "A", "value": 1}, {"name": "EMPTY"}, field) == {
        "A": "1",
        "EMPTY": "",
        "NS": NAMESPACE,
    }


def test_secrets_and_configmaps_are_resolved() -> None:
    assert resolve(
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "jwt"}}},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}},
    ) == {"A": "signed", "B": "DEBUG"}


@pytest.mark.parametrize("kind", ["secretKeyRef", "configMapKeyRef"])
def test_an_optional_reference_to_nothing_is_left_out(kind: str) -> None:
    reference = {"name": "missing", "key": "x", "optional": True}
    assert resolve({"name": "A", "valueFrom": {kind: reference}}) == {}
    with pytest.raises(LocalError, match="missing"):
        resolve({"name": "A", "valueFrom": {kind: {"name": "missing", "key": "x"}}})


def test_an_unknown_field_of_the_pod_is_an_error() -> None:
    with pytest.raises(LocalError, match=r"metadata\.uid"):
        resolve({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}})


def test_objects_get_the_namespace_helm_would_give_them() -> None:
    account = {"kind": "ServiceAccount", "metadata": {"name": "a"}}
    assert _placed(account)["metadata"] == {"name": "a", "namespace": NAMESPACE}
    assert account == {"kind": "ServiceAccount", "metadata": {"name": "a"}}, "the argument is not changed"
    elsewhere = {"kind": "Role", "metadata": {"name": "a", "namespace": "other"}}
    assert _placed(elsewhere) == elsewhere
    role = {"kind": "ClusterRole", "metadata": {"name": "a"}}
    assert _placed(role) == role


def test_a_kubeconfig_holds_everything_it_needs(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "crt", tmp_path / "key")
    pair.certificate.write_text("certificate")
    pair.key.write_text("key")
    value = json.loads(kubeconfig("https://127.0.0.1:1", pair.certificate, client=pair, namespace="n"))
    user = value["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == b"key"
    assert value["contexts"][0]["context"]["namespace"] == "n"
    assert value["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    token = json.loads(kubeconfig("https://127.0.0.1:1", pair.certificate, token="t"))
    assert token["users"][0]["user"] == {"token": "t"}
