"""What the chart makes of the facade's values."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tenantry_api.settings import Settings
from tests.unit.chart import Manifest, named, of_kind, pod, refusal, render

FREE = {"HPA": "HorizontalPodAutoscaler", "Ingress": "Ingress", "Gateway API": "HTTPRoute"}


def api(**values: Any) -> list[Manifest]:
    return render({"api": {"enabled": True, **values}})


def environment(objects: list[Manifest]) -> dict[str, Manifest]:
    return {entry["name"]: entry for entry in pod(objects, "api")["containers"][0]["env"]}


def test_it_is_off_with_all_that_belongs_to_it() -> None:
    objects = render()
    assert not [value for value in objects if value["metadata"]["name"].startswith("tenantry-api")]
    assert of_kind(objects, "Plan") == []


@pytest.mark.parametrize("kind", FREE.values(), ids=FREE)
def test_what_not_every_cluster_has_is_off(kind: str) -> None:
    assert of_kind(api(), kind) == []


def test_every_variable_is_a_setting_and_its_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment(api())
    fields = {f"TENANTRY_API_{name.upper()}" for name in Settings.model_fields}
    assert set(found) <= fields
    for name, entry in found.items():
        if "value" in entry:
            monkeypatch.setenv(name, entry["value"])
    read, usual = Settings(), Settings.model_validate({})
    # Apart from where it listens, and what is stricter in production, the chart says what the program says.
    different = {name for name in Settings.model_fields if getattr(read, name) != getattr(usual, name)}
    assert different <= {"host", "rate_limit"}


def test_settings_come_from_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "project": "shop",
        "dialects": ["neostack"],
        "renderOpen": True,
        "rateLimit": "",
        "residencyPolicies": {"one": ["eu-central-1"]},
        "blueprints": {"neostack": "a", "institutions": ["b", "c"], "render": {"databases": {"database": "d"}}},
    }
    for name, entry in environment(api(**values)).items():
        if "value" in entry:
            monkeypatch.setenv(name, entry["value"])
    read = Settings()
    assert (read.project, read.dialects, read.render_open, read.rate_limit) == ("shop", ["neostack"], True, "")
    assert read.residency_policies["one"] == ["eu-central-1"]
    assert (read.neostack_blueprint, read.institutions_databases) == ("a", ["b", "c"])
    assert read.render_databases == {"database": "d"}


def test_it_makes_a_secret_with_values_that_nobody_knows() -> None:
    objects = api()
    data = named(objects, "Secret", "tenantry-api")["data"]
    assert len(base64.b64decode(data["jwt-secret"])) >= 32
    assert len(base64.b64decode(data["admin-password"])) >= 24
    assert named(api(), "Secret", "tenantry-api")["data"]["jwt-secret"] != data["jwt-secret"]
    for name, key in (("JWT_SECRET", "jwt-secret"), ("ADMIN_PASSWORD", "admin-password")):
        source = environment(objects)[f"TENANTRY_API_{name}"]["valueFrom"]["secretKeyRef"]
        assert (source["name"], source["key"]) == ("tenantry-api", key)


def test_a_secret_of_ones_own_is_used_instead() -> None:
    objects = api(existingSecret="mine")
    assert of_kind(objects, "Secret") == []
    names = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for entry in environment(objects).values()
        if "valueFrom" in entry
    }
    assert names == {"mine"}


def test_it_is_ready_when_it_knows_the_cluster() -> None:
    (container,) = pod(api(), "api")["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_it_serves_https_with_a_certificate() -> None:
    objects = api(tlsSecret="api-tls")
    (container,) = pod(objects, "api")["containers"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert environment(objects)["TENANTRY_API_TLS_CERTIFICATE"]["value"] == "/etc/tenantry/tls/tls.crt"
    volumes = {volume["name"]: volume for volume in pod(objects, "api")["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == "api-tls"
    assert {"name": "tls", "mountPath": "/etc/tenantry/tls", "readOnly": True} in container["volumeMounts"]


def test_replicas_are_kept_apart_from_disruptions_or_scaled() -> None:
    objects = api(replicas=3)
    assert named(objects, "Deployment", "tenantry-api")["spec"]["replicas"] == 3
    assert named(objects, "PodDisruptionBudget", "tenantry-api")["spec"]["maxUnavailable"] == 1
    scaled = api(replicas=1, autoscaling={"enabled": True, "maxReplicas": 5})
    assert "replicas" not in named(scaled, "Deployment", "tenantry-api")["spec"]
    assert of_kind(scaled, "PodDisruptionBudget") != []
    scaler = named(scaled, "HorizontalPodAutoscaler", "tenantry-api")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["scaleTargetRef"]["name"] == "tenantry-api"


def test_ingress_and_route_lead_to_its_service() -> None:
    objects = api(
        ingress={"enabled": True, "className": "nginx", "hosts": [{"host": "api.example.com"}]},
        gateway={"enabled": True, "parentRefs": [{"name": "main"}], "hostnames": ["api.example.com"]},
    )
    ingress = named(objects, "Ingress", "tenantry-api")["spec"]
    (path,) = ingress["rules"][0]["http"]["paths"]
    assert (ingress["ingressClassName"], path["path"]) == ("nginx", "/")
    assert path["backend"]["service"] == {"name": "tenantry-api", "port": {"name": "http"}}
    route = named(objects, "HTTPRoute", "tenantry-api")["spec"]
    assert route["rules"][0]["backendRefs"] == [{"name": "tenantry-api", "port": 80}]
    assert (route["parentRefs"], route["hostnames"]) == ([{"name": "main"}], ["api.example.com"])


def test_plans_come_with_it_and_can_be_left_out() -> None:
    plans = {plan["metadata"]["name"]: plan["spec"]["number"] for plan in of_kind(api(), "Plan")}
    assert plans == {"free": 1, "pro": 2, "enterprise": 3}
    assert of_kind(render({"api": {"enabled": True}, "plans": []}), "Plan") == []


@pytest.mark.parametrize(
    "values",
    [
        {"dialects": ["soap"]},
        {"rateLimit": "often"},
        {"rateLimit": "0/hour"},
        {"wait": "soon"},
        {"maxBody": 1},
        {"autoscaling": {"cpu": 0}},
        {"nonsense": 1},
    ],
    ids=json.dumps,
)
def test_a_wrong_value_is_refused_by_name(values: Manifest) -> None:
    assert next(iter(values)) in refusal({"api": {"enabled": True, **values}})


def test_a_project_that_the_operator_does_not_serve_is_refused() -> None:
    assert "api.project" in refusal({"api": {"enabled": True, "project": "shop"}, "watchNamespaces": ["other"]})
    assert of_kind(render({"api": {"enabled": True, "project": "shop"}, "watchNamespaces": ["shop"]}), "Plan")
