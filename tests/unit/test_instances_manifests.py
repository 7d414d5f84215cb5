"""What Kubernetes is given for the servers that Tenantry runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tenantry_crds.common import ComputeResources, DatabaseEngine
from tenantry_crds.pods import PodSettings
from tenantry_operator.errors import Stalled
from tenantry_operator.instances.manifests import redis
from tenantry_operator.instances.manifests.design import Plan
from tenantry_operator.instances.manifests.flavours import check_change, flavour
from tenantry_operator.instances.manifests.render import GENERATION, RENDERED, Rendered, parts, render
from tenantry_operator.instances.objects import change, changeable, covers, fits
from tenantry_operator.podsettings import LONGEST_AFFINITY, fields, over

Object = dict[str, Any]
DATA = Path(__file__).parent / "data"

IMAGES = {
    "postgres:18": DatabaseEngine.POSTGRESQL,
    "registry.example:5000/library/postgres:17-alpine": DatabaseEngine.POSTGRESQL,
    "mariadb:11.4": DatabaseEngine.MYSQL,
    "mysql:8.4": DatabaseEngine.MYSQL,
    "valkey/valkey:8": DatabaseEngine.REDIS,
    "redis:7": DatabaseEngine.REDIS,
    "ghcr.io/ferretdb/ferretdb:1.24": DatabaseEngine.MONGODB,
    "mongo:8": DatabaseEngine.MONGODB,
}


def planned(image: str, **more: Any) -> Plan:
    engine = IMAGES.get(image, DatabaseEngine.POSTGRESQL)
    backend = "postgres:16" if "ferretdb" in image else ""
    values: Object = {"storage": "10Gi", "backend_image": backend, "clients": ("tenantry-system", "shop"), **more}
    return Plan(namespace="shop", name="main", uid="u-1", engine=engine, image=image, **values)


def objects(image: str, **more: Any) -> dict[tuple[str, str], Object]:
    return {(one.body["kind"], one.name): one.body for one in render(planned(image, **more))}


def pod_of(image: str, **more: Any) -> Object:
    pod: Object = objects(image, **more)["StatefulSet", "main"]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("image", IMAGES)
def test_a_server_is_made_of_these_objects(image: str) -> None:
    found = objects(image)

    assert list(found) == [
        ("ConfigMap", "main-config"),
        ("Service", "main-headless"),
        ("Service", "main"),
        ("NetworkPolicy", "main"),
        ("PodDisruptionBudget", "main"),
        ("StatefulSet", "main"),
    ]
    assert [(resource.kind, name) for resource, name in parts("main")] == list(found)
    for body in found.values():
        assert body["metadata"]["labels"]["tenantry.dev/instance"] == "main"
        assert body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tenantry"
        assert [owner["uid"] for owner in body["metadata"]["ownerReferences"]] == ["u-1"]
        assert body["metadata"]["annotations"][RENDERED]
    spec = found["StatefulSet", "main"]["spec"]
    assert (spec["replicas"], spec["serviceName"]) == (1, "main-headless")
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert objects(image, asleep=True)["StatefulSet", "main"]["spec"]["replicas"] == 0


@pytest.mark.parametrize("image", IMAGES)
def test_pods_have_no_rights_that_they_do_not_need(image: str) -> None:
    pod = pod_of(image)

    assert pod["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["fsGroup"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["terminationGracePeriodSeconds"] >= 30
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        }
        names = {volume["name"] for volume in pod["volumes"]} | {"data"}
        assert {mounted["name"] for mounted in container["volumeMounts"]} <= names
    for container in pod["containers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.parametrize("image", IMAGES)
def test_only_clients_reach_the_database_and_it_reaches_nobody(image: str) -> None:
    policy = objects(image)["NetworkPolicy", "main"]["spec"]

    first, *others = policy["ingress"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policy
    assert [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in first["from"]] == [
        "tenantry-system",
        "shop",
    ]
    assert len(first["ports"]) == 1
    # PostgreSQL behind FerretDB is the operator's alone.
    for rule in others:
        assert [list(peer["namespaceSelector"]["matchLabels"].values()) for peer in rule["from"]] == [
            ["tenantry-system"]
        ]
        assert [port["port"] for port in rule["ports"]] == [5432]
    assert bool(others) == ("ferretdb" in image)


def test_a_shared_server_lets_every_project_in() -> None:
    policy = objects("postgres:18", clients=("tenantry-system",), projects=True)["NetworkPolicy", "main"]["spec"]

    assert policy["ingress"][0]["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tenantry-system"}}},
        {"namespaceSelector": {"matchExpressions": [{"key": "tenantry.dev/project", "operator": "Exists"}]}},
    ]


@pytest.mark.parametrize("image", IMAGES)
def test_passwords_are_only_referred_to(image: str) -> None:
    for body in objects(image).values():
        assert "stringData" not in body
    pod = pod_of(image)
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        for entry in container.get("env", []):
            if "PASSWORD" in entry["name"] or entry["name"].endswith("CLI_AUTH"):
                assert entry["valueFrom"]["secretKeyRef"]["name"] == "main-admin"
    data = objects(image)["ConfigMap", "main-config"]["data"]
    assert data
    assert not [text for text in data.values() if "requirepass" in text or "#" * 10 in text]


def test_postgresql_trusts_nobody_within_its_pod() -> None:
    for image, container in (("postgres:18", 0), ("ghcr.io/ferretdb/ferretdb:1.24", 1)):
        env = {entry["name"]: entry.get("value") for entry in pod_of(image)["containers"][container]["env"]}
        assert "--auth=scram-sha-256" in str(env["POSTGRES_INITDB_ARGS"])
        assert env["POSTGRES_HOST_AUTH_METHOD"] == "scram-sha-256"


def test_redis_starts_with_the_operator_s_account_only() -> None:
    text = redis.accounts("correct horse")

    assert "correct horse" not in text
    first, second = text.splitlines()
    # Replaying the append-only file asks for its rights; logging in asks for it to be on.
    assert first == "user default off resetpass ~* &* +@all"
    assert "nopass" not in text
    assert second.startswith("user tenantry_admin on #")
    pod = pod_of("valkey/valkey:8")
    assert pod["containers"][0]["args"][0] == "valkey-server"
    assert pod_of("redis:7")["containers"][0]["args"][0] == "redis-server"
    assert {
        "name": "seeds",
        "secret": {"secretName": "main-admin", "items": [{"key": "users.acl", "path": "users.acl"}]},
    } in (pod["volumes"])
    assert "aclfile /data/users.acl" in objects("redis:7")["ConfigMap", "main-config"]["data"]["redis.conf"]


def test_resources_are_the_database_s() -> None:
    resources = ComputeResources(requests={"cpu": "500m"}, limits={"memory": "1Gi"})
    for image in IMAGES:
        containers = pod_of(image, resources=resources)["containers"]
        assert [one.get("resources") for one in containers if "resources" in one] == [
            {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}
        ]


def test_another_configuration_or_image_is_another_digest() -> None:
    digests = {
        objects(image, **more)["StatefulSet", "main"]["metadata"]["annotations"][RENDERED]
        for image, more in (
            ("postgres:18", {}),
            ("postgres:17", {}),
            ("postgres:18", {"storage": "20Gi"}),
            ("postgres:18", {"asleep": True}),
        )
    }
    assert len(digests) == 4
    assert objects("postgres:18") == objects("postgres:18")


def test_images_are_known_by_the_end_of_their_repository() -> None:
    for image, engine in IMAGES.items():
        assert flavour(engine, image)
    with pytest.raises(Stalled, match="ImageUnknown") as caught:
        flavour(DatabaseEngine.POSTGRESQL, "mariadb:11")
    assert "postgres*" in caught.value.message
    with pytest.raises(Stalled, match="ImageUnknown"):
        flavour(DatabaseEngine.MYSQL, "example.org/mariadb/other:1")


@pytest.mark.parametrize(
    ("engine", "old", "new", "reason"),
    [
        ("PostgreSQL", "postgres:17", "postgres:18", "MajorVersionChange"),
        ("PostgreSQL", "postgres:17.2", "postgres:latest", "MajorVersionChange"),
        ("PostgreSQL", "postgres:17.2", "postgres@sha256:0000", "MajorVersionChange"),
        ("PostgreSQL", "postgres:17.2", "mirror.example/postgres:17.4-alpine", None),
        ("MySQL", "mariadb:11.4", "mysql:8.4", "FlavourChange"),
        ("MySQL", "mariadb:11.4", "mariadb:11.8", None),
        ("Redis", "redis:7", "valkey/valkey:8", "FlavourChange"),
    ],
)
def test_data_is_not_given_to_a_program_that_cannot_read_it(
    engine: str, old: str, new: str, reason: str | None
) -> None:
    if reason is None:
        check_change(DatabaseEngine(engine), old, new)
        return
    with pytest.raises(Stalled) as caught:
        check_change(DatabaseEngine(engine), old, new)
    assert caught.value.reason == reason
    assert old in caught.value.message


def test_claims_tell_what_their_data_is_for() -> None:
    def mark(image: str) -> str:
        (claim,) = objects(image)["StatefulSet", "main"]["spec"]["volumeClaimTemplates"]
        text: str = claim["metadata"]["annotations"][GENERATION]
        return text

    assert mark("postgres:18") == "postgres-18"
    assert mark("mariadb:11.4") == "mariadb"
    assert mark("ghcr.io/ferretdb/ferretdb:1.24") == "postgres-16"


# What is compared


def as_the_api_server_keeps_it(body: Object) -> Object:
    """With some of what it fills in."""
    kept: Object = json.loads(json.dumps(body))
    kept["status"] = {"replicas": 1}
    kept["metadata"] |= {"uid": "x", "generation": 1}
    template = kept["spec"]["template"]["spec"]
    template |= {"dnsPolicy": "ClusterFirst", "restartPolicy": "Always"}
    for container in template["containers"]:
        container |= {"terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            container[probe]["successThreshold"] = 1
    return kept


@pytest.mark.parametrize("image", IMAGES)
def test_what_the_api_server_fills_in_is_no_drift(image: str) -> None:
    resources = ComputeResources(requests={"cpu": "0.5", "memory": "1024Mi"})
    rendered = render(planned(image, resources=resources))[-1]
    kept = as_the_api_server_keeps_it(rendered.body)
    for container in kept["spec"]["template"]["spec"]["containers"]:
        if "resources" in container:
            container["resources"]["requests"] = {"cpu": "500m", "memory": "1Gi"}

    assert covers(kept, changeable(rendered))
    assert fits(rendered, kept)
    kept["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    assert not covers(kept, changeable(rendered))


def test_a_volume_of_another_size_needs_another_stateful_set() -> None:
    kept = as_the_api_server_keeps_it(render(planned("postgres:18"))[-1].body)
    bigger = render(planned("postgres:18", storage="20Gi"))[-1]

    assert not fits(bigger, kept)
    assert "volumeClaimTemplates" not in changeable(bigger)["spec"]


def test_postgres_is_waited_for_by_its_startup_probe(tmp_path: Path) -> None:
    probe = pod_of("postgres:18")["containers"][0]["startupProbe"]
    command = probe["exec"]["command"]
    asked, seconds = command.index("pg_isready"), int(command[1])
    up, counter = tmp_path / "up", tmp_path / "asked"
    once_more = f"echo . >> {counter}; [ $(wc -l < {counter}) -lt 3 ] || touch {up}; test -e {up}"

    done = subprocess.run([*command[:asked], "sh", "-c", once_more], timeout=20, check=False)

    assert (done.returncode, counter.read_text(encoding="utf-8")) == (0, ".\n.\n.\n")
    assert probe["timeoutSeconds"] > seconds
    assert probe["failureThreshold"] * seconds == 600


def test_postgres_that_is_not_up_in_time_is_asked_for_again() -> None:
    command = pod_of("postgres:18")["containers"][0]["startupProbe"]["exec"]["command"]
    asked = command.index("pg_isready")

    done = subprocess.run(["timeout", "0.3", *command[2:asked], "false"], timeout=20, check=False)

    assert done.returncode


# What pods get besides their containers

FULL: Object = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "databases"},
    "tolerations": [{"key": "databases", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    ],
    "priorityClassName": "databases",
}


def settings(**given: Any) -> PodSettings:
    return PodSettings.model_validate(given)


def stateful_set(image: str = "postgres:18", **given: Any) -> Rendered:
    return render(planned(image, pods=settings(**given)))[-1]


def patched(kept: Object, patch: Object) -> Object:
    """What a JSON merge patch makes of an object (RFC 7396)."""
    found = dict(kept)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict):
            before = found.get(name)
            found[name] = patched(before if isinstance(before, dict) else {}, value)
        else:
            found[name] = value
    return found


def changed(before: Rendered, after: Rendered) -> Object:
    """A StatefulSet after the operator has mended it; the API server has filled in its own."""
    kept = as_the_api_server_keeps_it(before.body)
    assert not covers(kept, changeable(after))
    kept["metadata"]["resourceVersion"] = "7"
    return patched(kept, change(after, kept))


RECORDED = {
    "postgres:18": "3c5a984cddc74cd247d407dca6ad4cfa",
    "registry.example:5000/library/postgres:17-alpine": "7269da0901b6de44fa2719d7a7cc336c",
    "mariadb:11.4": "e0c296be3af44329da01d8010fc5f74a",
    "mysql:8.4": "fac0c4ffeb545ff0aa9f70ec32f9718e",
    "valkey/valkey:8": "33dad34d9136c3661129d6bda9f0c8ae",
    "redis:7": "79117ba34ee47420c09de72e1e8f9260",
    "ghcr.io/ferretdb/ferretdb:1.24": "529e0a903adccd69bdd258044711da4d",
    "mongo:8": "1cd6d0a6353369c6e6b9ba6b39a64c67",
}
"""Digests of StatefulSets as they were made before pods had settings."""


def test_the_recorded_server_is_made_as_it_was() -> None:
    """Another pod template is another pod: with an upgrade of the operator all such servers would restart."""
    recorded = json.loads((DATA / "statefulset-postgres.json").read_text(encoding="utf-8"))
    assert objects("postgres:18")["StatefulSet", "main"] == recorded


@pytest.mark.parametrize("image", IMAGES)
def test_who_says_nothing_of_pods_has_the_same_server_as_before(image: str) -> None:
    for nothing in (settings(), settings(nodeSelector={}, tolerations=[], affinity={}, priorityClassName="")):
        metadata = render(planned(image, pods=nothing))[-1].body["metadata"]
        assert metadata["annotations"] == {RENDERED: RECORDED[image]}


@pytest.mark.parametrize("image", IMAGES)
def test_pods_get_what_is_asked_for(image: str) -> None:
    pod = pod_of(image, pods=settings(**FULL))

    assert {name: pod[name] for name in FULL} == FULL
    assert {name: value for name, value in pod.items() if name not in FULL} == pod_of(image)


def test_an_instance_says_it_over_the_default_field_by_field() -> None:
    default = settings(
        nodeSelector={"pool": "a", "disk": "ssd"}, tolerations=[{"key": "a"}], priorityClassName="low"
    )
    found = over(settings(nodeSelector={"pool": "b"}, tolerations=[]), default)
    assert fields(found) == {"nodeSelector": {"pool": "b"}, "priorityClassName": "low"}
    # Saying what the default says is no change, and no other pod.
    same = over(settings(priorityClassName="low"), default)
    assert render(planned("postgres:18", pods=same)) == render(planned("postgres:18", pods=default))


def test_what_is_asked_for_anew_takes_the_place_of_what_was() -> None:
    before = stateful_set(
        nodeSelector={"pool": "a", "disk": "ssd"}, affinity={"nodeAffinity": {"x": 1}}, priorityClassName="low"
    )
    after = stateful_set(nodeSelector={"pool": "b"}, affinity={"podAffinity": {"y": 1}})

    spec = changed(before, after)["spec"]["template"]["spec"]

    assert spec["nodeSelector"] == {"pool": "b"}
    assert spec["affinity"] == {"podAffinity": {"y": 1}}
    assert "priorityClassName" not in spec


def test_what_is_asked_for_no_more_is_taken_away() -> None:
    kept = changed(stateful_set(**FULL), stateful_set())

    assert not FULL.keys() & kept["spec"]["template"]["spec"].keys()
    assert kept["metadata"]["annotations"].keys() == {RENDERED}


def test_what_somebody_else_set_stays_when_another_field_is_asked_for() -> None:
    """Before the operator knew of these fields, people patched StatefulSets."""
    kept = as_the_api_server_keeps_it(stateful_set().body)
    kept["spec"]["template"]["spec"]["tolerations"] = [{"key": "mine"}]
    kept["metadata"]["resourceVersion"] = "7"

    spec = patched(kept, change(stateful_set(priorityClassName="high"), kept))["spec"]["template"]["spec"]

    assert spec["tolerations"] == [{"key": "mine"}]
    assert spec["priorityClassName"] == "high"


def test_an_affinity_is_not_kept_a_thousand_times_at_any_size() -> None:
    with pytest.raises(Stalled, match="AffinityTooLarge"):
        stateful_set(affinity={"nodeAffinity": {"note": "x" * LONGEST_AFFINITY}})
    stateful_set(affinity={"nodeAffinity": {"note": "x" * (LONGEST_AFFINITY // 2)}})
