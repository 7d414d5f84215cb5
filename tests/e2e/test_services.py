"""Services of tenants, with real Deployments and Services."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.support import (
    NOTES,
    Api,
    Object,
    blueprint,
    come_up,
    condition,
    is_ready,
    manifest,
    namespace,
    pods_of,
)

pytestmark = pytest.mark.e2e

SPACE = "served"
QUICK = {
    "TENANTRY_SWEEP_INTERVAL": "2s",
    "TENANTRY_RETIRE_AFTER": "3s",
    "TENANTRY_LEASE_DURATION": "2s",
}
WEB = {
    "image": "python:3",
    "command": ["python3", "-m", "http.server", "--bind", "0.0.0.0", "$(PORT)"],
    "port": 8000,
    "env": [{"name": "GREETING", "value": "hello $(TENANTRY_TENANT_ID)"}],
    "probes": {"readiness": {"tcpSocket": {}, "periodSeconds": 1}},
    "resources": {"requests": {"cpu": "1000m"}, "limits": {"memory": "0.5Gi"}},
}


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES), template("web"))
    return api


def template(name: str, **changes: Any) -> Object:
    """A Blueprint of a service; None leaves a field out."""
    wanted = {key: value for key, value in {**WEB, **changes}.items() if value is not None}
    return manifest("Blueprint", name, {"service": wanted}, namespace=SPACE)


def served(name: str, of: str = "web", **spec: Any) -> Object:
    """A Tenant with a database and a service."""
    wanted = {
        "databases": [{"name": "main", "blueprint": "notes", "isolation": "Schema"}],
        "services": [{"name": "web", "blueprint": of}],
        **spec,
    }
    return manifest("Tenant", name, wanted, namespace=SPACE)


def pods(api: Api, name: str) -> list[Object]:
    return pods_of(api, SPACE, f"tenantry.dev/tenant={name}")


def until(api: Api, name: str, done: Callable[[Object], Any], timeout: float = 60) -> Object:
    """The Tenant when it is as wanted, while its pods come up."""
    deadline = time.monotonic() + timeout
    while True:
        found = api.get("tenant", name, SPACE)
        if found is not None and done(found):
            return found
        assert time.monotonic() < deadline, json.dumps((found or {}).get("status"), indent=1)
        come_up(api, SPACE, f"tenantry.dev/tenant={name}")
        time.sleep(0.2)


def running(api: Api, name: str) -> Object:
    """The Tenant when it is Ready, and all its services are running."""

    def done(tenant: Object) -> bool:
        services = tenant["status"].get("services") or []
        return is_ready(tenant) and bool(services) and all(each["phase"] == "Running" for each in services)

    return until(api, name, lambda tenant: "status" in tenant and done(tenant))


def made(api: Api, name: str, **spec: Any) -> Object:
    api.apply(served(name, **spec))
    return running(api, name)


def the_deployment(api: Api, name: str, service: str = "web") -> Object:
    found = api.get("deployment", f"{name}-{service}", SPACE)
    assert found is not None
    return found


def test_a_service_starts_after_the_database_and_has_its_credentials(api: Api) -> None:
    api.apply(served("first"))
    waiting = api.trouble("tenant", SPACE, "first", "ServicesStarting")
    assert waiting["message"].startswith("service web: ")
    found = api.get("tenant", "first", SPACE)
    assert found is not None
    assert (condition(found, "DatabasesReady") or {})["status"] == "True"
    assert (condition(found, "ServicesReady") or {})["status"] == "False"
    assert api.query(SPACE, "first", "main", "SELECT count(*) FROM notes") == [(0,)]
    found = running(api, "first")
    (entry,) = found["status"]["services"]
    expected = {
        "name": "web",
        "blueprint": "web",
        "deployment": "first-web",
        "address": f"first-web.{SPACE}.svc:8000",
        "image": "python:3",
        "replicas": 1,
        "ready": 1,
        "phase": "Running",
    }
    assert {key: entry[key] for key in expected} == expected
    assert (condition(found, "ServicesReady") or {})["status"] == "True"
    spec = the_deployment(api, "first")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["SERVICE_BINDING_ROOT"] == "/bindings"
    assert (environment["TENANTRY_TENANT_ID"], environment["PORT"]) == ("first", "8000")
    assert container["volumeMounts"] == [{"name": "binding-main", "mountPath": "/bindings/main", "readOnly": True}]
    assert [volume["secret"]["secretName"] for volume in spec["volumes"]] == ["first-main-db"]
    assert spec["automountServiceAccountToken"] is False
    service = api.get("service", "first-web", SPACE)
    assert service is not None
    assert service["spec"]["selector"] == {"tenantry.dev/tenant": "first", "tenantry.dev/service": "web"}


def test_suspended_has_no_pods_and_comes_back(api: Api) -> None:
    made(api, "sleeper")
    api.set_state(SPACE, "sleeper", "Suspended")
    found = api.ready(SPACE, "sleeper", "Suspended")
    assert found["status"]["services"][0]["phase"] == "Stopped"
    assert pods(api, "sleeper") == []
    # Who scales it up meanwhile has no luck.
    api.patch("deployment", "sleeper-web", SPACE, {"spec": {"replicas": 3}})
    api.wait("deployment", "sleeper-web", SPACE, lambda d: d["spec"]["replicas"] == 0 and not pods(api, "sleeper"))
    api.set_state(SPACE, "sleeper", "Active")
    assert running(api, "sleeper")["status"]["services"][0]["replicas"] == 1


def test_what_somebody_changed_is_mended_and_a_restart_is_let_be(api: Api) -> None:
    made(api, "drift")
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]
    change.append({"op": "add", "path": "/spec/template/spec/hostNetwork", "value": True})
    api.kubectl("patch", "deployment", "drift-web", "-n", SPACE, "--type=json", "-p", json.dumps(change))

    def mended(deployment: Object) -> bool:
        spec = deployment["spec"]["template"]["spec"]
        return spec["containers"][0]["image"] == "python:3" and "hostNetwork" not in spec

    api.wait("deployment", "drift-web", SPACE, mended)
    running(api, "drift")
    for kind in ("deployment", "service"):
        before = api.get(kind, "drift-web", SPACE) or {}
        api.delete(kind, "drift-web", SPACE)
        api.wait(kind, "drift-web", SPACE, lambda o, b=before: o and o["metadata"]["uid"] != b["metadata"]["uid"])
    running(api, "drift")
    api.kubectl("rollout", "restart", "deployment/drift-web", "-n", SPACE)
    restarted = the_deployment(api, "drift")["spec"]["template"]["metadata"]["annotations"]
    until(
        api,
        "drift",
        lambda t: (
            t["status"]["services"][0]["generation"] == the_deployment(api, "drift")["metadata"]["generation"]
        ),
    )
    running(api, "drift")
    assert the_deployment(api, "drift")["spec"]["template"]["metadata"]["annotations"] == restarted


def test_labels_that_somebody_changed_are_put_back_and_take_nothing_from_anybody(api: Api) -> None:
    made(api, "label")
    made(api, "other", services=[{"name": "site", "blueprint": "web"}])
    before = the_deployment(api, "label")["metadata"]["uid"]
    api.kubectl("label", "--overwrite", "deployment", "label-web", "-n", SPACE, "tenantry.dev/tenant=other")

    def mended(deployment: Object) -> bool:
        return bool(deployment["metadata"]["labels"]["tenantry.dev/tenant"] == "label")

    found = api.wait("deployment", "label-web", SPACE, mended)
    api.kubectl("label", "deployment", "label-web", "-n", SPACE, "tenantry.dev/service-")
    found = api.wait("deployment", "label-web", SPACE, lambda d: "tenantry.dev/service" in d["metadata"]["labels"])
    assert found["metadata"]["uid"] == before
    # An object with the labels of a tenant, and not its name, is somebody's own.
    labels = {"app.kubernetes.io/managed-by": "tenantry", "tenantry.dev/tenant": "other"}
    mine = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine", "namespace": SPACE, "labels": {**labels, "tenantry.dev/service": "gone"}},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "mine"}},
    }
    api.apply(mine)
    api.annotate(SPACE, "other", touched="1")
    time.sleep(2)
    assert api.get("service", "mine", SPACE) is not None
    running(api, "other")


def test_new_credentials_start_new_pods(api: Api) -> None:
    made(api, "rotated")
    before = {pod["metadata"]["uid"] for pod in pods(api, "rotated")}
    login = api.secret(SPACE, "rotated", "main")["username"]
    api.annotate(SPACE, "rotated", rotate="1")
    found = until(
        api,
        "rotated",
        lambda t: (
            is_ready(t)
            and t["status"]["services"][0]["phase"] == "Running"
            and not before & {pod["metadata"]["uid"] for pod in pods(api, "rotated")}
        ),
    )
    assert found["status"]["databases"][0]["login"] != login


def test_a_new_template_rolls_to_all_and_the_blueprint_counts(api: Api) -> None:
    api.apply(template("rolled"))
    names = [f"roll{number}" for number in range(3)]
    for name in names:
        api.apply(served(name, of="rolled"))
    for name in names:
        running(api, name)
    api.apply(template("rolled", image="python:3.12"))
    for name in names:
        api.wait(
            "deployment",
            f"{name}-web",
            SPACE,
            lambda d: d["spec"]["template"]["spec"]["containers"][0]["image"] == "python:3.12",
        )
        running(api, name)
    found = api.wait("blueprint", "rolled", SPACE, lambda b: (b.get("status") or {}).get("upToDate") == 3)
    assert found["status"]["tenants"] == 3
    assert is_ready(found)


def test_nothing_is_written_when_nothing_changed(api: Api) -> None:
    made(api, "quiet")

    def versions() -> list[str]:
        objects = [
            api.get(kind, name, SPACE)
            for kind, name in (("tenant", "quiet"), ("deployment", "quiet-web"), ("service", "quiet-web"))
        ]
        return [found["metadata"]["resourceVersion"] for found in objects if found is not None]

    time.sleep(5)
    before = versions()
    api.cluster.kill_operator()
    api.cluster.start_operator(QUICK)
    time.sleep(8)
    assert len(before) == 3
    assert versions() == before


def test_an_object_of_somebody_else_is_left_alone(api: Api) -> None:
    stranger = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken-web", "namespace": SPACE},
        "spec": {"ports": [{"port": 1}], "selector": {"app": "mine"}},
    }
    api.apply(stranger, served("taken"))
    assert "Service served/taken-web" in api.trouble("tenant", SPACE, "taken", "NameTaken")["message"]
    # "a" with "b-web" would be called like "a-b" with "web".
    made(api, "a-b")
    api.apply(served("a", services=[{"name": "b-web", "blueprint": "web"}]))
    assert "Service served/a-b-web" in api.trouble("tenant", SPACE, "a", "NameTaken")["message"]
    api.apply(template("portless", port=None, probes=None, command=["sleep", "1000"]))
    api.patch("tenant", "a", SPACE, {"spec": {"services": [{"name": "b-web", "blueprint": "portless"}]}})
    until(api, "a", lambda t: "Deployment served/a-b-web" in (condition(t, "Ready") or {})["message"])
    assert the_deployment(api, "a-b")["metadata"]["labels"]["tenantry.dev/tenant"] == "a-b"
    assert api.query(SPACE, "a", "main", "SELECT count(*) FROM notes") == [(0,)]
    # When it is gone, or renamed, the name is taken by itself.
    api.delete("service", "taken-web", SPACE)
    running(api, "taken")
    api.delete("tenant", "a-b", SPACE)
    api.gone("tenant", "a-b", SPACE)
    running(api, "a")


@pytest.mark.parametrize(
    ("field", "entry", "reason"),
    [
        ("services", {"name": "web", "blueprint": "notes"}, "NotAService"),
        ("services", {"name": "web", "blueprint": "nowhere"}, "BlueprintNotFound"),
        ("databases", {"name": "main", "blueprint": "web"}, "NotADatabase"),
    ],
)
def test_a_blueprint_of_the_other_kind_is_named(api: Api, field: str, entry: Object, reason: str) -> None:
    name = f"mixed-{reason.lower()}"
    api.apply(served(name, **{field: [entry]}))
    assert entry["blueprint"] in api.trouble("tenant", SPACE, name, reason)["message"]


def test_a_template_that_the_cluster_refuses_is_told(api: Api) -> None:
    bad = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    api.apply(template("bad", resources=bad), served("refused", of="bad"))
    assert "Blueprint" in api.trouble("tenant", SPACE, "refused", "TemplateInvalid")["message"]
    api.apply(template("bad"))
    running(api, "refused")


def image(deployment: Object) -> str:
    found: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_a_template_that_is_refused_changes_nothing(api: Api) -> None:
    affinity = {"nodeAffinity": {"required": []}}
    api.apply(template("moved"))
    made(api, "steady", services=[{"name": "web", "blueprint": "moved"}])
    before = the_deployment(api, "steady")["spec"]
    api.apply(template("moved", port=9000, affinity=affinity))
    told = api.trouble("tenant", SPACE, "steady", "TemplateInvalid")
    assert 'unknown field "spec.template.spec.affinity.nodeAffinity.required"' in told["message"]
    assert the_deployment(api, "steady")["spec"] == before
    # The pods listen where they did, and so they are found.
    service = api.get("service", "steady-web", SPACE) or {}
    assert [port["port"] for port in service["spec"]["ports"]] == [8000]
    api.apply(template("moved", port=9000, nodeSelector={"pool": "web"}))
    running(api, "steady")
    service = api.get("service", "steady-web", SPACE) or {}
    assert [port["port"] for port in service["spec"]["ports"]] == [9000]
    assert the_deployment(api, "steady")["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "web"}


def test_a_database_that_is_new_keeps_no_change_from_what_runs(api: Api) -> None:
    api.apply(template("fixed"))
    made(api, "waits", services=[{"name": "web", "blueprint": "fixed"}])
    more = [{"name": "main", "blueprint": "notes"}, {"name": "more", "blueprint": "nowhere"}]
    api.patch("tenant", "waits", SPACE, {"spec": {"databases": more}})
    api.trouble("tenant", SPACE, "waits", "BlueprintNotFound")
    api.apply(template("fixed", image="python:3.12"))
    api.wait("deployment", "waits-web", SPACE, lambda d: image(d) == "python:3.12", 30)
    volumes = the_deployment(api, "waits")["spec"]["template"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes] == ["binding-main"]
    # And what does not run waits for all of them.
    api.patch("tenant", "waits", SPACE, {"spec": {"services": [{"name": "new", "blueprint": "fixed"}]}})
    api.gone("deployment", "waits-web", SPACE)
    found = until(api, "waits", lambda t: [s["name"] for s in t["status"]["services"]] == ["new"])
    assert found["status"]["services"][0]["phase"] == "Pending"
    assert api.get("deployment", "waits-new", SPACE) is None


def test_what_somebody_changed_while_a_database_was_missing_is_mended_too(api: Api) -> None:
    made(api, "sly")
    more = [{"name": "main", "blueprint": "notes"}, {"name": "more", "blueprint": "nowhere"}]
    api.patch("tenant", "sly", SPACE, {"spec": {"databases": more}})
    api.trouble("tenant", SPACE, "sly", "BlueprintNotFound")
    change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]
    change.append({"op": "replace", "path": "/spec/replicas", "value": 0})
    api.kubectl("patch", "deployment", "sly-web", "-n", SPACE, "--type=json", "-p", json.dumps(change))
    until(api, "sly", lambda t: "it starts when" in t["status"]["services"][0].get("message", ""))
    api.patch("tenant", "sly", SPACE, {"spec": {"databases": more[:1]}})
    api.wait("deployment", "sly-web", SPACE, lambda d: image(d) == "python:3" and d["spec"]["replicas"] == 1, 30)
    running(api, "sly")


def test_who_rests_has_no_pods_whatever_labels_they_had(api: Api) -> None:
    labels = ["tenantry.dev/service", "tenantry.dev/tenant", "app.kubernetes.io/managed-by"]
    hidden = {
        f"{state.lower()}-{label.rpartition('/')[2]}": (state, label)
        for state in ("Suspended", "Archived")
        for label in labels
    }
    api.apply(*(served(name) for name in hidden))
    for name in hidden:
        running(api, name)
    api.cluster.kill_operator()
    for name, (state, label) in hidden.items():
        api.kubectl("label", "deployment", f"{name}-web", "-n", SPACE, f"{label}-")
        api.set_state(SPACE, name, state)
    api.cluster.start_operator(QUICK)
    for name, (state, label) in hidden.items():
        if state == "Archived":
            api.gone("deployment", f"{name}-web", SPACE, 30)
            api.gone("service", f"{name}-web", SPACE, 30)
            continue
        found = api.wait("deployment", f"{name}-web", SPACE, lambda d: d["spec"]["replicas"] == 0, 30)
        assert label in found["metadata"]["labels"]
    # At rest it is looked after as well: what nobody hears of could be scaled up.
    api.kubectl("label", "deployment", "suspended-service-web", "-n", SPACE, "tenantry.dev/service-")
    api.wait(
        "deployment",
        "suspended-service-web",
        SPACE,
        lambda d: "tenantry.dev/service" in d["metadata"]["labels"],
        30,
    )


def test_what_a_quota_leaves_out_is_told(api: Api) -> None:
    made(api, "quota")
    there = len(json.loads(api.kubectl("get", "pods", "-n", SPACE, "-o", "json"))["items"])
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": SPACE},
        "spec": {"hard": {"pods": str(there + 3)}},
    }
    api.apply(quota)
    api.wait(
        "resourcequota", "few", SPACE, lambda q: q and q.get("status", {}).get("hard") == quota["spec"]["hard"]
    )
    try:
        api.patch(
            "tenant", "quota", SPACE, {"spec": {"services": [{"name": "web", "blueprint": "web", "replicas": 5}]}}
        )
        found = until(
            api, "quota", lambda t: "exceeded quota: few" in (condition(t, "Reconciling") or {}).get("message", "")
        )
        assert is_ready(found)
        assert found["status"]["services"][0]["phase"] == "Updating"
        assert "exceeded quota: few" in found["status"]["services"][0]["message"]
    finally:
        api.delete("resourcequota", "few", SPACE)


def test_names_at_their_longest(api: Api) -> None:
    name, service, database = "n" * 63, "s" * 63, "d" * 63
    made(
        api,
        name,
        databases=[{"name": database, "blueprint": "notes", "isolation": "Schema"}],
        services=[{"name": service, "blueprint": "web"}, {"name": "s" * 62, "blueprint": "web"}],
    )
    mounts = [pod["spec"]["containers"][0]["volumeMounts"] for pod in pods(api, name)]
    assert [mount["mountPath"] for (mount,) in mounts] == [f"/bindings/{database}"] * 2
    api.delete("tenant", name, SPACE)
    api.gone("tenant", name, SPACE)


def test_a_blueprint_that_goes_stops_nothing(api: Api) -> None:
    api.apply(template("leaving"))
    made(api, "stays", services=[{"name": "web", "blueprint": "leaving"}])
    api.delete("blueprint", "leaving", SPACE)
    api.trouble("tenant", SPACE, "stays", "BlueprintNotFound")
    assert the_deployment(api, "stays")["spec"]["replicas"] == 1
    api.set_state(SPACE, "stays", "Suspended")
    api.wait("deployment", "stays-web", SPACE, lambda d: d["spec"]["replicas"] == 0)
    api.set_state(SPACE, "stays", "Active")
    api.trouble("tenant", SPACE, "stays", "BlueprintNotFound")
    api.apply(template("leaving"))
    running(api, "stays")


def test_what_is_taken_out_or_archived_or_deleted_is_removed(api: Api) -> None:
    made(api, "ending")
    api.patch("tenant", "ending", SPACE, {"spec": {"services": []}})
    for kind in ("deployment", "service"):
        api.gone(kind, "ending-web", SPACE)
    found = api.ready(SPACE, "ending")
    assert "services" not in found["status"]
    assert condition(found, "ServicesReady") is None
    api.patch("tenant", "ending", SPACE, {"spec": {"services": [{"name": "web", "blueprint": "web"}]}})
    running(api, "ending")
    api.set_state(SPACE, "ending", "Archived")
    api.gone("deployment", "ending-web", SPACE)
    api.set_state(SPACE, "ending", "Active")
    running(api, "ending")
    api.delete("tenant", "ending", SPACE)
    api.gone("tenant", "ending", SPACE)
    kinds = "deployments,replicasets,pods,services,endpointslices"
    deadline = time.monotonic() + 60
    while left := api.kubectl("get", kinds, "-n", SPACE, "-l", "tenantry.dev/tenant=ending", "-o", "name").split():
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


STEPS: list[tuple[str, str, Callable[[Api, str], Any]]] = [
    ("service-written", "Active", running),
    ("service-stopped", "Suspended", lambda api, name: api.ready(SPACE, name, "Suspended")),
    ("service-written", "Active", running),
    ("service-removed", "Archived", lambda api, name: api.gone("deployment", f"{name}-web", SPACE)),
]


def test_a_crash_after_any_step_comes_to_the_same_end(api: Api) -> None:
    api.apply(served("crash", state="Draft"))
    api.ready(SPACE, "crash", "Draft")
    for point, state, reached in STEPS:
        api.cluster.kill_operator()
        api.cluster.start_operator({**QUICK, "TENANTRY_CRASH_AT": f"{SPACE}/crash:{point}"})
        api.set_state(SPACE, "crash", state)
        deadline = time.monotonic() + 60
        while api.cluster.operator_pid() is not None:
            assert time.monotonic() < deadline, f"{point} was not reached"
            come_up(api, SPACE, "tenantry.dev/tenant=crash")
            time.sleep(0.1)
        api.cluster.start_operator(QUICK)
        reached(api, "crash")
    # What it did not get to write down was nobody else's doing.
    events = json.loads(api.kubectl("get", "events", "-n", SPACE, "-o", "json"))["items"]
    told = {event["reason"] for event in events if event["involvedObject"]["name"] == "crash"}
    assert told
    assert "DriftMended" not in told
    api.gone("service", "crash-web", SPACE)
    api.wait("tenant", "crash", SPACE, lambda t: "services" not in t["status"])
