"""What the operators of others are given."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_operator.instances.cloudnativepg import CloudNativePG
from tenantry_operator.instances.foreign import Foreign
from tenantry_operator.instances.manifests.render import PODS, RENDERED, Rendered
from tenantry_operator.instances.mariadb import MariaDB
from tenantry_operator.instances.objects import change
from tenantry_operator.instances.provider import Instance
from tenantry_operator.settings import PodDefaults, Settings

Object = dict[str, Any]
KINDS: dict[str, tuple[type[Foreign], str]] = {
    "cloudNativePG": (CloudNativePG, "PostgreSQL"),
    "mariaDB": (MariaDB, "MySQL"),
}
NODES = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}
PODS_APART = {"preferredDuringSchedulingIgnoredDuringExecution": []}
FULL: Object = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "databases"},
    "tolerations": [{"key": "databases", "operator": "Exists"}],
    "affinity": {"nodeAffinity": NODES, "podAntiAffinity": PODS_APART},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "priorityClassName": "databases",
}


def rendered(way: str, default: Object | None = None, **server: Any) -> Rendered:
    kind, engine = KINDS[way]
    obj = {"metadata": {"name": "pg", "namespace": "shop", "uid": "u"}, "spec": {"engine": engine, way: server}}
    settings = Settings(instance_pods=PodDefaults.model_validate(default or {}))
    return kind(None, settings)._render(Instance(obj), "1Gi")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("way", "digest"),
    [
        ("cloudNativePG", "41b618be3a273fee39eee2b046e57ef8"),
        ("mariaDB", "7e2222540dc97730e4d713ad2ddd8a7f"),
    ],
)
def test_who_says_nothing_of_pods_has_the_same_resource_as_before(way: str, digest: str) -> None:
    body = rendered(way).body
    assert body["metadata"]["annotations"][RENDERED] == digest
    assert PODS not in body["metadata"]["annotations"]


def test_cloudnativepg_has_its_own_words() -> None:
    spec = rendered("cloudNativePG", **{**FULL, "affinity": {**FULL["affinity"], "podAffinity": {"x": 1}}}).body[
        "spec"
    ]
    assert spec["affinity"] == {
        "nodeSelector": FULL["nodeSelector"],
        "tolerations": FULL["tolerations"],
        "nodeAffinity": NODES,
        "additionalPodAffinity": {"x": 1},
        "additionalPodAntiAffinity": PODS_APART,
    }
    for name in ("imagePullSecrets", "topologySpreadConstraints", "priorityClassName"):
        assert spec[name] == FULL[name]


def test_mariadb_has_those_of_kubernetes() -> None:
    spec = rendered("mariaDB", **FULL).body["spec"]
    assert {name: spec[name] for name in FULL} == FULL


@pytest.mark.parametrize("way", KINDS)
def test_the_default_is_theirs_too(way: str) -> None:
    assert rendered(way, FULL).body == rendered(way, **FULL).body
    spec = rendered(way, FULL, imagePullSecrets=[]).body["spec"]
    assert "imagePullSecrets" not in spec
    assert spec["priorityClassName"] == "databases"


@pytest.mark.parametrize("way", KINDS)
def test_only_what_was_asked_for_is_taken_away_again(way: str) -> None:
    """The other operator, or a person, may have set the rest of the affinity."""
    found = rendered(way, **FULL).body
    found["metadata"]["resourceVersion"] = "7"
    found["spec"]["affinity"]["topologyKey"] = "zone"
    patch = change(rendered(way, nodeSelector={"pool": "other"}), found)
    where = patch["spec"]["affinity"] if way == "cloudNativePG" else patch["spec"]
    assert where["nodeSelector"] == {"pool": "other"}
    assert where["tolerations"] is None
    assert patch["spec"]["priorityClassName"] is None
    assert "topologyKey" not in patch["spec"]["affinity"]
