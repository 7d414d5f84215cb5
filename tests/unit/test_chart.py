"""The Helm chart, as helm renders it: its objects, the restricted profile, settings, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from tenantry_crds.common import DatabaseEngine
from tenantry_crds.kinds import KINDS
from tenantry_operator import telemetry
from tenantry_operator.settings import InstanceDefaults, PodDefaults, Settings
from tests.unit.chart import (
    CHART,
    NAMESPACE,
    ROOT,
    Manifest,
    environment,
    helm,
    named,
    of_kind,
    pod,
    refusal,
    render,
)


@pytest.fixture(scope="module")
def default() -> list[Manifest]:
    return render()


@pytest.fixture(scope="module")
def everything() -> list[Manifest]:
    return render(
        {
            "api": {"enabled": True, "replicas": 2},
            "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
            "networkPolicy": {"enabled": True},
        }
    )


# What the chart installs


def test_lint_finds_nothing() -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout


def test_version_is_the_distribution_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_default_installation_has_these_objects_and_no_others(default: list[Manifest]) -> None:
    assert sorted((value["kind"], value["metadata"]["name"]) for value in default) == [
        ("ClusterRole", "tenantry-edit"),
        ("ClusterRole", "tenantry-system:tenantry-operator"),
        ("ClusterRole", "tenantry-view"),
        ("ClusterRoleBinding", "tenantry-system:tenantry-operator"),
        *sorted(("CustomResourceDefinition", f"{kind.plural}.tenantry.dev") for kind in KINDS),
        ("Deployment", "tenantry-operator"),
        ("Role", "tenantry-operator-lease"),
        ("RoleBinding", "tenantry-operator-lease"),
        ("Service", "tenantry-operator-metrics"),
        ("ServiceAccount", "tenantry-operator"),
    ]


def test_crds_are_kept_unless_told_otherwise(default: list[Manifest]) -> None:
    def policies(objects: list[Manifest]) -> set[str | None]:
        crds = of_kind(objects, "CustomResourceDefinition")
        return {(crd["metadata"].get("annotations") or {}).get("helm.sh/resource-policy") for crd in crds}

    assert policies(default) == {"keep"}
    assert policies(render({"crds": {"keep": False}})) == {None}
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")


def test_every_namespaced_object_says_its_namespace(everything: list[Manifest]) -> None:
    cluster_scoped = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Plan"}
    # What the facade may do in its project is said there.
    project = {"tenantry-api-read", "tenantry-api-write"}
    for value in everything:
        expected = {None} if value["kind"] in cluster_scoped else {NAMESPACE}
        if value["metadata"]["name"] in project:
            expected = {NAMESPACE, "default"}
        assert value["metadata"].get("namespace") in expected, value["metadata"]["name"]


def test_two_releases_of_a_name_share_no_cluster_scoped_object() -> None:
    values = {"crds": {"install": False}, "rbac": {"aggregate": False}}
    first, second = (
        {(value["kind"], value["metadata"]["name"]) for value in render(values, namespace=namespace)
         if "namespace" not in value["metadata"]}
        for namespace in ("one", "two")
    )  # fmt: skip
    assert first
    assert not first & second


def test_names_and_labels_stay_within_63_characters() -> None:
    values = {
        "fullnameOverride": "n" * 63,
        "api": {"enabled": True},
        "metrics": {"serviceMonitor": {"enabled": True}},
    }
    for value in render(values, release="r" * 53):
        if value["kind"] != "CustomResourceDefinition":
            labels = value["metadata"].get("labels", {}).values()
            name = value["metadata"]["name"].rpartition(":")[2]
            assert all(len(text) <= 63 for text in (name, *labels)), value["metadata"]


# The operator's pod


def test_operator_never_runs_twice(default: list[Manifest]) -> None:
    deployment = named(default, "Deployment", "tenantry-operator")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    stopped = render({"operator": {"replicas": 0}})
    assert named(stopped, "Deployment", "tenantry-operator")["spec"]["replicas"] == 0
    assert "maximum: got 2, want 1" in refusal({"operator": {"replicas": 2}})


def test_every_setting_is_set_and_its_default_is_the_operator_s(
    default: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(default)
    assert set(env) == {f"TENANTRY_{name.upper()}" for name in Settings.model_fields}
    by_default = Settings()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Settings() == by_default


def test_values_reach_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "installationId": "prod",
        "watchNamespaces": ["shop"],
        "log": {"level": "DEBUG", "format": "console"},
        "instances": {
            "enabled": False,
            "podAddresses": True,
            "pods": {"imagePullSecrets": [{"name": "mine"}], "nodeSelector": {"pool": "databases"}},
            "defaults": {"PostgreSQL": {"image": "mirror.example/postgres:17", "storageClassName": "fast"}},
        },
        "operator": {
            "bindAddress": "127.0.0.1",
            "livenessPort": 9001,
            "metricsPort": 9002,
            "sweepInterval": "1m",
            "usageInterval": "2m",
            "retireAfter": "3m",
            "serverConcurrency": 4,
            "workers": 5,
            "stalledAfter": "6m",
            "leaseDuration": "7s",
        },
    }
    for name, value in environment(render(values, namespace="home")).items():
        monkeypatch.setenv(name, value)
    assert Settings() == Settings(
        namespace="home",
        installation_id="prod",
        watch_namespaces=["home", "shop"],
        log_level="DEBUG",
        log_format="console",
        bind_address="127.0.0.1",
        liveness_port=9001,
        metrics_port=9002,
        sweep_interval=60.0,
        usage_interval=120.0,
        retire_after=180.0,
        server_concurrency=4,
        workers=5,
        stalled_after=360.0,
        instances_enabled=False,
        pod_addresses=True,
        instances={
            **Settings().instances,
            DatabaseEngine.POSTGRESQL: InstanceDefaults(
                image="mirror.example/postgres:17", storage_class_name="fast"
            ),
        },
        instance_pods=PodDefaults.model_validate(
            {"imagePullSecrets": [{"name": "mine"}], "nodeSelector": {"pool": "databases"}}
        ),
        lease_name="tenantry-operator",
        lease_duration=7.0,
    )


@pytest.mark.parametrize("component", ["operator", "api"])
def test_pods_fit_the_restricted_profile(everything: list[Manifest], component: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    spec = pod(everything, component)
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(spec)
    (container,) = spec["containers"]
    assert container["name"] == component
    assert container["command"] == ["python", "-m", f"tenantry_{component}"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert [set(volume) for volume in spec["volumes"]] == [{"name", "emptyDir"}]


@pytest.mark.parametrize("component", ["operator", "api"])
def test_probes_and_services_name_ports_of_the_container(everything: list[Manifest], component: str) -> None:
    (container,) = pod(everything, component)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert {str(port) for port in ports.values()} == {env[name] for name in env if name.endswith("_PORT")}
    probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
    ready = "/readyz" if component == "api" else "/healthz"
    assert {(probe["path"], probe["port"] in ports) for probe in probes} == {("/healthz", True), (ready, True)}
    labels = named(everything, "Deployment", f"tenantry-{component}")["spec"]["template"]["metadata"]["labels"]
    selecting = [
        service
        for service in of_kind(everything, "Service")
        if service["spec"]["selector"].items() <= labels.items()
    ]
    assert [port["targetPort"] in ports for service in selecting for port in service["spec"]["ports"]] == [True]


def test_pods_hold_tokens_and_accounts_give_none_to_others(everything: list[Manifest]) -> None:
    accounts = of_kind(everything, "ServiceAccount")
    assert {value["metadata"]["name"] for value in accounts} == {"tenantry-operator", "tenantry-api"}
    assert {value["automountServiceAccountToken"] for value in accounts} == {False}
    assert pod(everything, "operator")["automountServiceAccountToken"] is True
    assert pod(everything, "api")["automountServiceAccountToken"] is True
    subjects = {
        subject["name"]
        for binding in of_kind(everything, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    assert subjects == {"tenantry-operator", "tenantry-api"}


def test_digest_pins_the_image() -> None:
    digest = "sha256:" + "0" * 64
    image = {"repository": "registry.example.com:5000/tenantry", "tag": "2", "digest": digest}
    objects = render({"operator": {"image": image}})
    expected = f"registry.example.com:5000/tenantry:2@{digest}"
    assert pod(objects, "operator")["containers"][0]["image"] == expected


# Monitoring


def test_alerts_are_on_metrics_that_exist(everything: list[Manifest]) -> None:
    known = {("up", "")}
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            (described,) = metric.describe()
            name = described.name + ("_total" if described.type == "counter" else "")
            known |= {(name, label) for label in ("", *metric._labelnames)}
    (rule,) = of_kind(everything, "PrometheusRule")
    target = {"job", "namespace"}
    for alert in rule["spec"]["groups"][0]["rules"]:
        expression = alert["expr"]
        used = re.findall(r"\b(tenantry_\w+|up)\{(.*?)\}", expression)
        assert used, expression
        for name, matchers in used:
            labels = {*re.findall(r'(\w+)="', matchers), *re.findall(r"by \((\w+)\)", expression)} - target
            assert {(name, label) for label in ("", *labels)} <= known, expression
            assert 'job="tenantry-operator-metrics",namespace="tenantry-system"' in matchers


def test_service_monitor_finds_the_metrics(everything: list[Manifest]) -> None:
    (monitor,) = of_kind(everything, "ServiceMonitor")
    service = named(everything, "Service", "tenantry-operator-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


# Network


def test_network_policies_allow_what_is_listed_and_nothing_else() -> None:
    cidr = {"ipBlock": {"cidr": "10.1.0.0/16"}}
    gateway = {"podSelector": {"matchLabels": {"app": "gateway"}}}
    policy = {"enabled": True, "databases": {"to": [cidr], "ports": [6432]}, "apiFrom": [gateway]}
    objects = render({"networkPolicy": policy, "api": {"enabled": True}})
    operator = named(objects, "NetworkPolicy", "tenantry-operator")["spec"]
    assert [(sorted({port["port"] for port in rule["ports"]}), rule.get("to")) for rule in operator["egress"]] == [
        ([53], None),
        ([443, 6443], None),
        ([6432], [cidr]),
    ]
    assert [[port["port"] for port in rule["ports"]] for rule in operator["ingress"]] == [["health"], ["metrics"]]
    api = named(objects, "NetworkPolicy", "tenantry-api")["spec"]
    assert api["policyTypes"] == ["Ingress", "Egress"]
    assert [(sorted({port["port"] for port in rule["ports"]}), rule.get("to")) for rule in api["egress"]] == [
        ([53], None),
        ([443, 6443], None),
        ([443, 6379], None),
    ]
    assert [rule["from"] for rule in api["ingress"]] == [[gateway]]
    for component, spec in (("operator", operator), ("api", api)):
        labels = named(objects, "Deployment", f"tenantry-{component}")["spec"]["template"]["metadata"]["labels"]
        assert spec["podSelector"]["matchLabels"].items() <= labels.items()


# Values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"operator": {"replica": 1}}, "at '/operator': additional properties 'replica' not allowed"),
        ({"watchNamespace": ["shop"]}, "additional properties 'watchNamespace' not allowed"),
        ({"operator": {"retireAfter": 60}}, "at '/operator/retireAfter': got number, want string"),
        ({"operator": {"sweepInterval": "30 s"}}, "at '/operator/sweepInterval': '30 s' does not match"),
        ({"operator": {"serverConcurrency": 0}}, "at '/operator/serverConcurrency': minimum: got 0, want 1"),
        ({"operator": {"metricsPort": 8081}}, "operator.livenessPort and operator.metricsPort are both 8081"),
        ({"log": {"level": "info"}}, "at '/log/level': value must be one of 'DEBUG'"),
        ({"instances": {"pods": {"toleration": []}}}, "at '/instances/pods': additional properties 'toleration'"),
        ({"watchNamespaces": ["Shop"]}, "at '/watchNamespaces/0': 'Shop' does not match"),
        ({"operator": {"image": {"tag": 1.1}}}, "at '/operator/image/tag': got number, want string"),
        ({"commonLabels": {"helm.sh/chart": "x"}}, "at '/commonLabels/helm.sh~1chart'"),
        (
            {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
            "metrics.serviceMonitor.enabled needs metrics.service.enabled",
        ),
    ],
)
def test_wrong_value_is_refused_by_name(values: Manifest, message: str) -> None:
    assert message in refusal(values)


def test_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(rule: Manifest, value: Manifest, path: str) -> None:
        if "$ref" in rule:
            rule = schema["definitions"][rule["$ref"].rpartition("/")[2]]
        if rule.get("additionalProperties") is False:
            optional = {"global", "claims"}
            assert set(rule["properties"]) - optional == set(value), path
            for name, inner in value.items():
                if isinstance(inner, dict):
                    compare(rule["properties"][name], inner, f"{path}.{name}")

    compare(schema, values, "values")
