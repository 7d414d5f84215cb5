"""The Deployment and Service of a tenant's service."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_crds.service import ServiceTemplate
from tenantry_operator.services import build
from tenantry_operator.services.build import Bound, Wanted

TENANT = {
    "apiVersion": "tenantry.dev/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "acme", "namespace": "shop", "uid": "u1"},
}
NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


def wanted(bound: tuple[Bound, ...] = (), plugin_repo: str | None = None, **template: Any) -> Wanted:
    made = ServiceTemplate.model_validate({"image": "web:1", **template})
    return Wanted("web", "storefront", made, made.replicas, "acme_1", plugin_repo, bound)


def container(one: Wanted) -> Any:
    return build.deployment(TENANT, one)["spec"]["template"]["spec"]["containers"][0]


def environment(one: Wanted) -> dict[str, str]:
    return {each["name"]: each.get("value") for each in container(one)["env"]}


@given(NAMES, NAMES)
def test_a_name_is_a_dns_label_that_begins_with_a_letter(tenant: str, service: str) -> None:
    name = build.object_name(tenant, service)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert name == build.object_name(tenant, service)


def test_long_names_stay_two() -> None:
    names = {build.object_name("a" * 60, service) for service in ("web-one", "web-two", "web")}
    assert len(names) == 3
    assert build.object_name("acme", "web") == "acme-web"
    assert build.object_name("7up", "web") == "t-7up-web"


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    spec = build.deployment(TENANT, wanted())["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    strict = build.deployment(TENANT, wanted(runAsUser=1000))["spec"]["template"]["spec"]
    assert (strict["securityContext"]["runAsUser"], strict["securityContext"]["runAsNonRoot"]) == (1000, True)


def test_who_says_nothing_of_pods_has_the_same_deployment_as_before() -> None:
    """Another pod template is another pod: with an upgrade of the operator all services would restart."""
    found = build.deployment(TENANT, wanted(port=8000))["metadata"]["annotations"]
    assert found == {build.DIGEST_ANNOTATION: "e25311f2836dbbbf"}


def test_pods_get_registries_and_a_place_to_run() -> None:
    asked = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "web", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {},
                "matchLabelKeys": ["tenantry.dev/tenant"],
            }
        ],
        "priorityClassName": "web",
    }
    spec = build.deployment(TENANT, wanted(**asked))["spec"]["template"]["spec"]
    assert {name: spec[name] for name in asked} == asked


def test_the_tenant_owns_what_is_made_for_it() -> None:
    for made in (build.deployment(TENANT, wanted(port=80)), build.service(TENANT, wanted(port=80))):
        assert made is not None
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Tenant", "u1", True)
        assert build.is_of(made, "acme", "web")
        assert not build.is_of(made, "acme", "worker")
    assert build.service(TENANT, wanted()) is None


def test_credentials_are_files_and_new_ones_make_new_pods() -> None:
    bound = (Bound("main", "acme-main-db", "d1"), Bound("cache", "acme-cache-db", "d2"))
    before = build.deployment(TENANT, wanted(bound))
    pod = before["spec"]["template"]["spec"]
    assert {each["mountPath"]: each["readOnly"] for each in pod["containers"][0]["volumeMounts"]} == {
        "/bindings/main": True,
        "/bindings/cache": True,
    }
    assert [each["secret"]["secretName"] for each in pod["volumes"]] == ["acme-main-db", "acme-cache-db"]
    rotated = (Bound("main", "acme-main-db", "d3"), bound[1])
    after = build.deployment(TENANT, wanted(rotated))
    assert after["spec"]["template"] != before["spec"]["template"]
    assert after["metadata"]["annotations"] != before["metadata"]["annotations"]
    long = Bound("m" * 63, "s", "d")
    (volume,) = build.deployment(TENANT, wanted((long,)))["spec"]["template"]["spec"]["volumes"]
    assert len(volume["name"]) <= 63


def test_the_environment_says_whose_it_is() -> None:
    found = environment(wanted(port=8000, env=[{"name": "MODE", "value": "x"}, {"name": "EMPTY"}]))
    assert found == {
        "TENANTRY_TENANT": "acme",
        "TENANTRY_TENANT_ID": "acme_1",
        "TENANTRY_SERVICE": "web",
        "SERVICE_BINDING_ROOT": "/bindings",
        "PORT": "8000",
        "MODE": "x",
        "EMPTY": "",
    }
    assert environment(wanted(port=8000, env=[{"name": "PORT", "value": "9"}]))["PORT"] == "9"
    source = {"secretKeyRef": {"name": "payment", "key": "key"}}
    assert container(wanted(env=[{"name": "KEY", "valueFrom": source}]))["env"][-1] == {
        "name": "KEY",
        "valueFrom": source,
    }


def test_a_plugin_repository_is_text_and_no_reference_to_a_variable() -> None:
    default = [{"name": "CUSTOM_PLUGIN_REPO", "value": "https://ours.example"}]
    assert environment(wanted(env=default))["CUSTOM_PLUGIN_REPO"] == "https://ours.example"
    found = environment(wanted(plugin_repo="https://x.example/$(PAYMENT_KEY)$$", env=default))
    assert found["CUSTOM_PLUGIN_REPO"] == "https://x.example/$$(PAYMENT_KEY)$$$$"


def test_probes_ask_the_port_of_the_service_unless_they_name_one() -> None:
    probes = {
        "readiness": {"httpGet": {"path": "/ready"}, "periodSeconds": 5},
        "liveness": {"tcpSocket": {"port": 9000}},
        "startup": {"exec": {"command": ["true"]}},
    }
    found = container(wanted(port=8000, probes=probes))
    assert found["readinessProbe"] == {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 5}
    assert found["livenessProbe"] == {"tcpSocket": {"port": 9000}}
    assert found["startupProbe"] == {"exec": {"command": ["true"]}}


@pytest.mark.parametrize(
    "change", [{"image": "web:2"}, {"args": ["-v"]}, {"port": 80}, {"replicas": 2}, {"env": [{"name": "A"}]}]
)
def test_the_digest_moves_with_every_change_and_with_nothing_else(change: dict[str, Any]) -> None:
    def digest(one: Wanted) -> str:
        found: str = build.deployment(TENANT, one)["metadata"]["annotations"][build.DIGEST_ANNOTATION]
        return found

    assert digest(wanted()) == digest(wanted())
    assert digest(wanted(**change)) != digest(wanted())
