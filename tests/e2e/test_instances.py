"""Database servers that Tenantry runs: what is made for them, what is told of them, and what stays of them.

Here nothing runs the pods, so that each of their troubles can be set at will.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import Api, Object, condition, manifest, namespace

pytestmark = pytest.mark.e2e

SPACE = "servers"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "4s", "TENANTRY_POD_ADDRESSES": "true"}
PARTS = "configmaps,services,networkpolicies,poddisruptionbudgets,statefulsets,secrets,persistentvolumeclaims"


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.node.stop()
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE))
    return api


def instance(name: str, engine: str = "PostgreSQL", *, where: str = SPACE, **spec: Any) -> Object:
    server = {"storage": "1Gi", **spec.pop("server", {})}
    return manifest("DatabaseInstance", name, {"engine": engine, "statefulSet": server, **spec}, namespace=where)


def starting(api: Api, name: str, words: str = "") -> Object:
    """Waits until an instance says that it starts, and what it waits for."""

    def told(obj: Object | None) -> bool:
        ready = condition(obj, "Ready") if obj else None
        return ready is not None and ready["reason"] == "InstanceStarting" and words in ready["message"]

    return api.wait("databaseinstance", name, SPACE, told, 30)


def parts(api: Api, name: str) -> dict[str, Object]:
    """What is labelled as an instance's, by kind and name."""
    listed = json.loads(
        api.kubectl("get", PARTS, "-n", SPACE, "-l", f"tenantry.dev/instance={name}", "-o", "json")
    )["items"]
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in listed}


def set_status(api: Api, kind: str, name: str, status: Object) -> None:
    patch = json.dumps({"status": status})
    api.kubectl("patch", kind, name, "-n", SPACE, "--subresource=status", "--type=merge", "-p", patch)


def test_everything_is_made_and_what_it_waits_for_is_told(api: Api) -> None:
    api.apply(instance("plain"))
    starting(api, "plain", "PersistentVolumeClaim data-plain-0")

    found = parts(api, "plain")
    assert set(found) == {
        "ConfigMap/plain-config",
        "NetworkPolicy/plain",
        "PersistentVolumeClaim/data-plain-0",
        "PodDisruptionBudget/plain",
        "Secret/plain-admin",
        "Service/plain",
        "Service/plain-headless",
        "StatefulSet/plain",
    }
    owned = {name for name, obj in found.items() if obj["metadata"].get("ownerReferences")}
    # What deletionPolicy Retain keeps belongs to nobody.
    assert set(found) - owned == {"Secret/plain-admin", "PersistentVolumeClaim/data-plain-0"}
    secret = api.cluster.kubectl.secret(SPACE, "plain-admin")
    assert set(secret) == {"username", "password", "superuser-password"}
    assert secret["username"] == "tenantry_admin"
    assert min(len(secret["password"]), len(secret["superuser-password"])) >= 32
    everything = json.dumps([obj for name, obj in found.items() if not name.startswith("Secret")])
    assert secret["password"] not in everything
    assert secret["superuser-password"] not in everything


def test_the_pod_s_trouble_is_the_instance_s(api: Api) -> None:
    api.apply(instance("troubled", server={"image": "registry.example/postgres:18"}))
    starting(api, "troubled", "data-troubled-0")
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    status = {"containerStatuses": [container_status({"waiting": waiting})]}
    set_status(api, "pod", "troubled-0", status)
    starting(api, "troubled", "container server: ErrImagePull: no such image")
    # A Kubernetes that comes round again.
    crash = {"reason": "CrashLoopBackOff", "message": "back-off 10s"}
    set_status(api, "pod", "troubled-0", {"containerStatuses": [container_status({"waiting": crash})]})
    starting(api, "troubled", "CrashLoopBackOff")


def container_status(state: Object) -> Object:
    return {
        "name": "server",
        "image": "postgres:18",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def test_waiting_costs_no_writes(api: Api) -> None:
    api.apply(instance("still"))
    starting(api, "still", "data-still-0")
    time.sleep(2)

    def versions() -> dict[str, str]:
        found = parts(api, "still")
        obj = api.get("databaseinstance", "still", SPACE)
        assert obj is not None
        return {"": obj["metadata"]["resourceVersion"]} | {
            name: one["metadata"]["resourceVersion"] for name, one in found.items()
        }

    before = versions()
    time.sleep(5)
    assert versions() == before


def test_what_somebody_changed_is_mended(api: Api) -> None:
    api.apply(instance("mended"))
    starting(api, "mended", "data-mended-0")
    api.patch("statefulset", "mended", SPACE, {"spec": {"replicas": 3}})
    api.wait("statefulset", "mended", SPACE, lambda s: s is not None and s["spec"]["replicas"] == 1, 30)
    api.delete("statefulset", "mended", SPACE)
    there = lambda found: found is not None and "deletionTimestamp" not in found["metadata"]  # noqa: E731
    api.wait("statefulset", "mended", SPACE, there, 30)


def test_objects_of_others_are_left_alone(api: Api) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "namespace": SPACE},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "shop"}},
    }
    api.apply(service)
    api.apply(instance("taken"))
    told = api.trouble("databaseinstance", SPACE, "taken", "NameTaken")
    assert f"Service {SPACE}/taken" in told["message"]
    kept = api.get("service", "taken", SPACE)
    assert kept is not None
    assert kept["spec"]["selector"] == {"app": "shop"}
    assert api.get("statefulset", "taken", SPACE) is None
    # It goes on by itself.
    api.delete("service", "taken", SPACE)
    starting(api, "taken", "data-taken-0")


def test_another_s_secret_is_no_administrator_s(api: Api) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "borrowed-admin", "namespace": SPACE},
        "stringData": {"username": "u", "password": "p", "superuser-password": "s"},
    }
    api.apply(secret, instance("borrowed"))
    told = api.trouble("databaseinstance", SPACE, "borrowed", "NameTaken")
    assert "borrowed-admin" in told["message"]


def test_a_lost_secret_is_never_replaced_while_there_is_data(api: Api) -> None:
    api.apply(instance("lost", deletionPolicy="Delete"))
    starting(api, "lost", "data-lost-0")
    values = api.cluster.kubectl.secret(SPACE, "lost-admin")
    api.delete("secret", "lost-admin", SPACE)
    told = api.trouble("databaseinstance", SPACE, "lost", "AdminSecretLost")
    assert "Restore the Secret" in told["message"]
    time.sleep(3)
    assert api.get("secret", "lost-admin", SPACE) is None
    stalled = condition(api.get("databaseinstance", "lost", SPACE) or {}, "Stalled")
    assert stalled is not None
    assert stalled["status"] == "True"
    # Restored by hand, without the labels.
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "lost-admin", "namespace": SPACE},
            "stringData": values,
        }
    )
    starting(api, "lost", "data-lost-0")
    assert api.cluster.kubectl.secret(SPACE, "lost-admin") == values
    # It goes with the server, as the one before would have.
    api.delete("databaseinstance", "lost", SPACE)
    api.gone("databaseinstance", "lost", SPACE)
    assert api.get("secret", "lost-admin", SPACE) is None


@pytest.mark.parametrize(
    ("server", "reason", "words"),
    [
        ({"storage": "512Mi"}, "StorageShrink", "ask for at least 1Gi"),
        ({"image": "postgres:17"}, "MajorVersionChange", "put postgres:18 back"),
        ({"image": "postgres:latest"}, "MajorVersionChange", "put postgres:18 back"),
        ({"image": "example.org/other:1"}, "ImageUnknown", "postgres*"),
        ({"storageClassName": "fast"}, "VolumeNotExpandable", ""),
    ],
)
def test_what_would_cost_the_data_is_refused(api: Api, server: Object, reason: str, words: str) -> None:
    api.apply(instance("refused"))
    starting(api, "refused", "data-refused-0")
    before = api.get("statefulset", "refused", SPACE)
    assert before is not None
    if reason == "VolumeNotExpandable":
        server = {"storage": "2Gi"}
    api.apply(instance("refused", server=server))
    told = api.trouble("databaseinstance", SPACE, "refused", reason)
    assert words in told["message"]
    after = api.get("statefulset", "refused", SPACE)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"] == before["spec"]["template"]
    api.apply(instance("refused"))
    starting(api, "refused", "data-refused-0")


PLACED: Object = {
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"pool": "databases", "disk": "ssd"},
    "tolerations": [{"key": "databases", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}
            ]
        }
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "tenantry"}},
        }
    ],
}


def pod_spec(api: Api, name: str) -> Object:
    found = api.get("statefulset", name, SPACE)
    assert found is not None
    spec: Object = found["spec"]["template"]["spec"]
    return spec


def placed(api: Api, name: str, wanted: Object) -> None:
    """Waits until the pod template has these of the fields of PLACED, and no others."""

    def done(found: Object | None) -> bool:
        spec = found["spec"]["template"]["spec"] if found else {}
        return {field: spec[field] for field in PLACED if field in spec} == wanted

    api.wait("statefulset", name, SPACE, done, 30)


def test_pods_run_where_they_are_to_and_are_made_again_only_when_that_changes(api: Api) -> None:
    api.apply(instance("placed", server=PLACED))
    starting(api, "placed", "data-placed-0")
    placed(api, "placed", PLACED)
    pod = api.get("pod", "placed-0", SPACE)
    assert pod is not None
    assert pod["spec"]["imagePullSecrets"] == PLACED["imagePullSecrets"]
    assert pod["spec"]["nodeSelector"] == PLACED["nodeSelector"]
    # The operator's new defaults say the same: nothing is written.
    before = api.get("statefulset", "placed", SPACE)
    assert before is not None
    api.cluster.kill_operator()
    api.cluster.start_operator({**QUICK, "TENANTRY_INSTANCE_PODS": json.dumps(PLACED)})
    api.apply(instance("placed"))
    generation = (api.get("databaseinstance", "placed", SPACE) or {})["metadata"]["generation"]
    api.wait(
        "databaseinstance", "placed", SPACE, lambda i: i and i["status"]["observedGeneration"] == generation, 30
    )
    after = api.get("statefulset", "placed", SPACE)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    # Field by field, and each as a whole.
    api.apply(instance("placed", server={"nodeSelector": {"pool": "large"}, "tolerations": []}))
    rest = {name: value for name, value in PLACED.items() if name not in ("nodeSelector", "tolerations")}
    placed(api, "placed", {**rest, "nodeSelector": {"pool": "large"}})
    api.cluster.kill_operator()
    api.cluster.start_operator(QUICK)
    api.apply(instance("placed"))
    placed(api, "placed", {})


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (
            {"affinity": {"nodeAffinity": {"required": []}}},
            'unknown field "spec.template.spec.affinity.nodeAffinity',
        ),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": "x"}}},
            "cannot unmarshal",
        ),
        (
            {"tolerations": [{"operator": "Exists", "value": "x"}]},
            "value must be empty when `operator` is 'Exists'",
        ),
        ({"nodeSelector": {"not a label": "x"}}, "not a label"),
    ],
)
def test_what_the_api_server_refuses_is_told_in_its_words(api: Api, server: Object, words: str) -> None:
    api.apply(instance("wrong"))
    starting(api, "wrong", "data-wrong-0")
    before = pod_spec(api, "wrong")
    api.apply(instance("wrong", server=server))
    told = api.trouble("databaseinstance", SPACE, "wrong", "ObjectRefused")
    assert words in told["message"]
    found = api.get("databaseinstance", "wrong", SPACE)
    assert (condition(found or {}, "Stalled") or {})["status"] == "True"
    assert pod_spec(api, "wrong") == before
    # It is said once.
    version = (found or {})["metadata"]["resourceVersion"]
    time.sleep(3)
    assert (api.get("databaseinstance", "wrong", SPACE) or {})["metadata"]["resourceVersion"] == version
    api.apply(instance("wrong"))
    starting(api, "wrong", "data-wrong-0")


def test_an_affinity_has_its_size(api: Api) -> None:
    api.apply(instance("wide", server={"affinity": {"nodeAffinity": {"note": "x" * 20_000}}}))
    api.trouble("databaseinstance", SPACE, "wide", "AffinityTooLarge")


def test_why_there_is_no_pod_is_told(api: Api) -> None:
    """A StatefulSet says so in its events only."""
    api.apply(instance("nobody", server={"priorityClassName": "nowhere"}))
    starting(api, "nobody", "no PriorityClass with name nowhere was found")
    made = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "somewhere"},
        "value": 10,
    }
    api.apply(made, instance("nobody", server={"priorityClassName": "somewhere"}))
    starting(api, "nobody", "data-nobody-0")
    assert (api.get("pod", "nobody-0", SPACE) or {})["spec"]["priority"] == 10


def test_volume_and_secret_stay_and_are_found_again(api: Api) -> None:
    api.apply(instance("kept"))
    starting(api, "kept", "data-kept-0")
    before = parts(api, "kept")
    api.delete("databaseinstance", "kept", SPACE)
    api.gone("databaseinstance", "kept", SPACE)
    left = {"PersistentVolumeClaim/data-kept-0", "Secret/kept-admin"}
    assert set(parts(api, "kept")) == left
    api.apply(instance("kept"))
    starting(api, "kept", "data-kept-0")
    after = parts(api, "kept")
    assert {name: after[name]["metadata"]["uid"] for name in left} == {
        name: before[name]["metadata"]["uid"] for name in left
    }
    assert after["Secret/kept-admin"]["data"] == before["Secret/kept-admin"]["data"]
    # Another major version would not read what is on the volume.
    api.delete("databaseinstance", "kept", SPACE)
    api.gone("databaseinstance", "kept", SPACE)
    api.apply(instance("kept", server={"image": "postgres:17"}))
    told = api.trouble("databaseinstance", SPACE, "kept", "MajorVersionChange")
    assert "data of postgres-18" in told["message"]


def test_everything_goes_when_it_is_asked_for(api: Api) -> None:
    api.apply(instance("dropped", deletionPolicy="Delete"))
    starting(api, "dropped", "data-dropped-0")
    api.delete("databaseinstance", "dropped", SPACE)
    api.gone("databaseinstance", "dropped", SPACE)
    assert parts(api, "dropped") == {}


@pytest.mark.parametrize("engine", ["PostgreSQL", "MongoDB"])
def test_one_that_never_could_be_made_can_be_deleted(api: Api, engine: str) -> None:
    name = f"never-{engine.lower()}"
    api.apply(instance(name, engine, deletionPolicy="Delete", server={"image": "example.org/other:1"}))
    api.trouble("databaseinstance", SPACE, name, "ImageUnknown")
    api.delete("databaseinstance", name, SPACE)
    api.gone("databaseinstance", name, SPACE, 30)
    assert parts(api, name) == {}


def test_what_the_api_server_refuses_is_for_a_person_to_mend(api: Api) -> None:
    resources = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    api.apply(instance("much", server={"resources": resources}))
    told = api.trouble("databaseinstance", SPACE, "much", "ObjectRefused", 30)
    assert "must be less than or equal to memory limit" in told["message"]
    stalled = condition(api.get("databaseinstance", "much", SPACE) or {}, "Stalled")
    assert stalled is not None
    assert stalled["status"] == "True"
    api.apply(instance("much"))
    starting(api, "much", "data-much-0")
    # So is a change of one that is there.
    api.apply(instance("much", server={"resources": resources}))
    api.trouble("databaseinstance", SPACE, "much", "ObjectRefused", 30)


def test_a_name_may_begin_with_a_digit(api: Api) -> None:
    api.apply(instance("1st"))
    starting(api, "1st", "data-1st-0")


# The operator is killed after every step


def passed(log: Path, name: str) -> list[str]:
    """The points that the operator passed while it worked for an instance."""
    lines = log.read_text().splitlines() if log.exists() else []
    points = [point for line in lines for subject, point in [line.split(" ", 1)] if subject == f"{SPACE}/{name}"]
    return list(dict.fromkeys(points))


def crash_at(api: Api, name: str, point: str) -> None:
    api.cluster.kill_operator()
    api.cluster.start_operator({**QUICK, "TENANTRY_CRASH_AT": f"{SPACE}/{name}:{point}"}, wait=False)


def until_dead(api: Api) -> None:
    deadline = time.monotonic() + 60
    while api.cluster.operator_pid() is not None:
        assert time.monotonic() < deadline, "the operator does not get to the point"
        time.sleep(0.1)


def test_a_crash_at_any_point_does_no_harm(api: Api, tmp_path: Path) -> None:
    log = tmp_path / "points"
    api.cluster.kill_operator()
    api.cluster.start_operator({**QUICK, "TENANTRY_CRASH_LOG": str(log)})
    api.apply(instance("whole", deletionPolicy="Delete"))
    starting(api, "whole", "data-whole-0")
    making = passed(log, "whole")
    assert {"admin-secret-written", "made-statefulsets", "made-services"} <= set(making)
    complete = {name.replace("whole", "crash") for name in parts(api, "whole")}
    api.delete("databaseinstance", "whole", SPACE)
    api.gone("databaseinstance", "whole", SPACE)
    removing = [point for point in passed(log, "whole") if point not in making]
    assert "claim-removed" in removing

    for point in making:
        crash_at(api, "crash", point)
        api.apply(instance("crash", deletionPolicy="Delete"))
        until_dead(api)
        secret = api.cluster.kubectl.secret(SPACE, "crash-admin")
        api.cluster.start_operator(QUICK)
        starting(api, "crash", "data-crash-0")
        assert set(parts(api, "crash")) == complete, point
        assert api.cluster.kubectl.secret(SPACE, "crash-admin") == secret, point
        api.delete("databaseinstance", "crash", SPACE)
        api.gone("databaseinstance", "crash", SPACE)
        assert parts(api, "crash") == {}, point
    for point in removing:
        api.cluster.start_operator(QUICK)
        api.apply(instance("crash", deletionPolicy="Delete"))
        starting(api, "crash", "data-crash-0")
        crash_at(api, "crash", point)
        api.delete("databaseinstance", "crash", SPACE)
        until_dead(api)
        api.cluster.start_operator(QUICK)
        api.gone("databaseinstance", "crash", SPACE)
        assert parts(api, "crash") == {}, point
