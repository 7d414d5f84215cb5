"""Isolation Instance: a server is made for the database of a tenant, and goes with it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import NOTES, Api, Object, blueprint, condition, manifest, namespace, refused, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "alone"
QUICK = {
    "TENANTRY_SWEEP_INTERVAL": "1s",
    "TENANTRY_LEASE_DURATION": "2s",
    "TENANTRY_RETIRE_AFTER": "1s",
    "TENANTRY_DEDICATED": json.dumps({"region": "here", "statefulSet": {"storage": "1Gi"}}),
}
KINDS = "statefulsets,pods,services,persistentvolumeclaims,configmaps,secrets,networkpolicies,poddisruptionbudgets"


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Iterator[Api]:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    yield api
    private_cluster.kill_operator()


def made(api: Api, name: str, **spec: Any) -> str:
    """A tenant with a server of its own and one note; its URI."""
    api.apply(tenant(SPACE, name, "notes", "Instance", **spec))
    api.ready(SPACE, name)
    uri = api.secret(SPACE, name, "notes")["uri"]
    run(uri, "INSERT INTO notes (body) VALUES ('kept')")
    return uri


def left(api: Api, name: str) -> list[str]:
    """All that there is in the namespace of a tenant's server."""
    names = api.kubectl("get", f"{KINDS},databaseinstances", "-n", SPACE, "-o", "name").split()
    found = [each for each in names if each.partition("/")[2].removeprefix("data-").startswith(f"{name}-notes")]
    volumes = json.loads(api.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
    return found + [
        f"persistentvolume of {name}"
        for volume in volumes
        if (volume["spec"].get("claimRef") or {}).get("name") == f"data-{name}-notes-0"
    ]


def nothing_left(api: Api, name: str) -> None:
    deadline = time.monotonic() + 20
    while left(api, name):
        assert time.monotonic() < deadline, left(api, name)
        time.sleep(0.3)


def pod_processes(api: Api, name: str) -> list[int]:
    """The processes of a tenant's server, by the address that they listen on."""
    pod = api.get("pod", f"{name}-notes-0", SPACE) or {}
    address = (pod.get("status") or {}).get("podIP")
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if address and f"listen_addresses={address}" in words:
                found.append(int(folder.name))
    return found


def test_a_server_is_made_and_goes_with_its_tenant(api: Api) -> None:
    uri = made(api, "acme", deletionPolicy="Delete")
    instance = api.get("databaseinstance", "acme-notes", SPACE)
    assert instance is not None
    assert instance["spec"]["role"] == "Dedicated"
    assert instance["spec"]["region"] == "here"
    record = (api.get("tenant", "acme", SPACE) or {})["status"]["databases"][0]
    assert (record["isolation"], record["instance"], record["instanceNamespace"]) == (
        "Instance",
        "acme-notes",
        SPACE,
    )
    assert {"statefulset.apps/acme-notes", "pod/acme-notes-0", "secret/acme-notes-admin"} <= set(left(api, "acme"))
    api.delete("tenant", "acme", SPACE)
    api.gone("tenant", "acme", SPACE, 60)
    nothing_left(api, "acme")
    assert refused(uri)


def test_what_is_retained_sleeps_and_is_found_again(api: Api) -> None:
    uri = made(api, "kept")
    api.delete("tenant", "kept", SPACE)
    api.gone("tenant", "kept", SPACE, 60)
    api.gone("pod", "kept-notes-0", SPACE, 60)
    assert refused(uri)
    assert api.get("databaseinstance", "kept-notes", SPACE) is not None
    api.apply(tenant(SPACE, "kept", "notes", "Instance"))
    api.ready(SPACE, "kept")
    assert api.query(SPACE, "kept", "notes", "SELECT body FROM notes") == [("kept",)]


def test_a_database_that_is_taken_out_takes_its_server_along(api: Api) -> None:
    made(api, "less", deletionPolicy="Delete")
    api.patch("tenant", "less", SPACE, {"spec": {"databases": []}})
    api.gone("databaseinstance", "less-notes", SPACE, 60)
    found = api.ready(SPACE, "less")
    assert not found["status"].get("databases")
    assert api.secret(SPACE, "less", "notes") == {}


def test_a_plan_makes_it_larger(api: Api) -> None:
    api.apply(manifest("Plan", "large", {"code": "large", "dedicated": {"statefulSet": {"storage": "2Gi"}}}))
    made(api, "grow")
    api.patch("tenant", "grow", SPACE, {"spec": {"plan": {"code": "large"}}})

    def grown(claim: Object | None) -> bool:
        return bool(claim and claim["status"].get("capacity", {}).get("storage") == "2Gi")

    api.wait("persistentvolumeclaim", "data-grow-notes-0", SPACE, grown, 60)
    api.ready(SPACE, "grow")
    assert api.query(SPACE, "grow", "notes", "SELECT body FROM notes") == [("kept",)]
    # Back to less storage is refused by the server, says so, and nothing is lost.
    api.patch("tenant", "grow", SPACE, {"spec": {"plan": None}})
    shrunk = api.trouble("databaseinstance", SPACE, "grow-notes", "StorageShrink", 60)
    assert "2Gi" in shrunk["message"]
    api.patch("tenant", "grow", SPACE, {"spec": {"plan": {"code": "large"}}})
    api.ready(SPACE, "grow")
    assert api.query(SPACE, "grow", "notes", "SELECT body FROM notes") == [("kept",)]


def test_a_wrong_template_is_named_by_field(api: Api) -> None:
    api.apply(manifest("Plan", "wrong", {"code": "wrong", "dedicated": {"statefulSet": {"disk": "1Gi"}}}))
    api.apply(tenant(SPACE, "wrong", "notes", "Instance", plan={"code": "wrong"}))
    trouble = api.trouble("tenant", SPACE, "wrong", "DedicatedTemplate", 30)
    assert "disk" in trouble["message"]
    api.patch("plan", "wrong", None, {"spec": {"dedicated": {"statefulSet": {"disk": None}}}})
    api.ready(SPACE, "wrong")


def test_no_server_is_made_outside_of_the_tenants_regions(api: Api) -> None:
    api.apply(tenant(SPACE, "far", "notes", "Instance", regions=["elsewhere"]))
    trouble = api.trouble("tenant", SPACE, "far", "RegionMismatch", 30)
    assert "elsewhere" in trouble["message"]
    assert left(api, "far") == []
    api.patch("tenant", "far", SPACE, {"spec": {"regions": ["elsewhere", "here"]}})
    api.ready(SPACE, "far")
    # A server that is there stays, and goes on being looked after.
    api.patch("tenant", "far", SPACE, {"spec": {"regions": ["elsewhere"]}})
    api.ready(SPACE, "far")


def test_an_instance_of_somebody_elses_is_left_alone(api: Api) -> None:
    spec = {"engine": "PostgreSQL", "external": {"host": "db.example", "adminSecret": {"name": "no-such"}}}
    api.apply(manifest("DatabaseInstance", "mine-notes", spec, namespace=SPACE))
    api.apply(tenant(SPACE, "mine", "notes", "Instance"))
    api.trouble("tenant", SPACE, "mine", "InstanceNameTaken", 30)
    api.delete("databaseinstance", "mine-notes", SPACE)
    api.ready(SPACE, "mine")


def test_a_pin_is_for_one_tenant(api: Api) -> None:
    spec = {"engine": "PostgreSQL", "role": "Dedicated", "statefulSet": {"storage": "1Gi"}}
    api.apply(manifest("DatabaseInstance", "big", spec, namespace=SPACE))

    def pinned(name: str, on: str) -> Object:
        databases = [{"blueprint": "notes", "isolation": "Instance", "instance": on}]
        return manifest("Tenant", name, {"databases": databases, "deletionPolicy": "Delete"}, namespace=SPACE)

    api.apply(pinned("first", "big"))
    api.ready(SPACE, "first")
    api.apply(pinned("second", "big"))
    assert "alone/first" in api.trouble("tenant", SPACE, "second", "InstanceFull", 30)["message"]
    api.apply(pinned("third", "pool-a"))
    api.trouble("tenant", SPACE, "third", "InstanceMismatch", 30)
    api.delete("tenant", "first", SPACE)
    api.gone("tenant", "first", SPACE, 60)
    # What a person declared stays when its tenant goes.
    assert api.get("databaseinstance", "big", SPACE) is not None
    api.ready(SPACE, "second", timeout=60)


def test_a_move_to_a_server_of_its_own_touches_nothing(api: Api) -> None:
    api.apply(tenant(SPACE, "mover", "notes", "Schema"))
    api.ready(SPACE, "mover")
    api.query(SPACE, "mover", "notes", "INSERT INTO notes (body) VALUES ('kept')")
    databases = [{"blueprint": "notes", "isolation": "Instance"}]
    api.patch("tenant", "mover", SPACE, {"spec": {"databases": databases}})
    api.trouble("tenant", SPACE, "mover", "MoveNotSupported", 30)
    assert api.query(SPACE, "mover", "notes", "SELECT body FROM notes") == [("kept",)]
    assert api.get("databaseinstance", "mover-notes", SPACE) is None


def test_what_is_taken_out_and_retained_sleeps_until_it_is_wanted(api: Api) -> None:
    made(api, "out")
    api.patch("tenant", "out", SPACE, {"spec": {"databases": []}})
    asleep = lambda obj: (condition(obj or {}, "Ready") or {}).get("reason") == "Hibernated"  # noqa: E731
    api.wait("databaseinstance", "out-notes", SPACE, asleep, 60)
    # A database of its name on another engine finds the server taken.
    migration = {"name": "a", "commands": [["SET", "{prefix}a", "1"]]}
    api.apply(*blueprint(SPACE, "cache", [migration], engine="Redis"))
    other = {"name": "notes", "blueprint": "cache", "isolation": "Instance"}
    api.patch("tenant", "out", SPACE, {"spec": {"databases": [other]}})
    assert "on PostgreSQL" in api.trouble("tenant", SPACE, "out", "InstanceMismatch", 30)["message"]
    api.patch("tenant", "out", SPACE, {"spec": {"databases": []}})
    api.ready(SPACE, "out")
    api.patch("tenant", "out", SPACE, {"spec": {"databases": [{"blueprint": "notes", "isolation": "Instance"}]}})
    api.ready(SPACE, "out")
    assert api.query(SPACE, "out", "notes", "SELECT body FROM notes") == [("kept",)]


def test_while_its_server_cannot_be_as_asked_for_a_tenant_is_looked_after(api: Api) -> None:
    uri = made(api, "looked")
    way = {"cloudNativePG": {"storage": "1Gi"}}
    api.apply(manifest("Plan", "way", {"code": "way", "dedicated": way}))
    api.patch("tenant", "looked", SPACE, {"spec": {"plan": {"code": "way"}}})
    told = api.trouble("tenant", SPACE, "looked", "DedicatedTemplate", 30)
    assert "who runs a server never changes" in told["message"]
    api.annotate(SPACE, "looked", rotate="1")
    rotated(api, "looked", uri)
    api.patch("tenant", "looked", SPACE, {"spec": {"plan": None}})
    api.ready(SPACE, "looked")
    # Somebody deletes the server by hand: it serves until its tenant is gone, and goes then.
    uri = api.secret(SPACE, "looked", "notes")["uri"]
    api.delete("databaseinstance", "looked-notes", SPACE)
    api.trouble("tenant", SPACE, "looked", "InstanceGoing", 30)
    api.annotate(SPACE, "looked", rotate="2")
    rotated(api, "looked", uri)
    assert api.query(SPACE, "looked", "notes", "SELECT body FROM notes") == [("kept",)]
    api.patch("tenant", "looked", SPACE, {"spec": {"deletionPolicy": "Delete"}})
    api.delete("tenant", "looked", SPACE)
    api.gone("tenant", "looked", SPACE, 60)
    nothing_left(api, "looked")


def rotated(api: Api, name: str, before: str) -> None:
    deadline = time.monotonic() + 30
    while api.secret(SPACE, name, "notes")["uri"] == before:
        assert time.monotonic() < deadline, "the login is not rotated"
        time.sleep(0.2)


def test_a_namespace_goes_with_all_its_servers(api: Api) -> None:
    api.apply(namespace("ending"), *blueprint("ending", "notes", NOTES))
    for policy in ("Retain", "Delete"):
        api.apply(tenant("ending", policy.lower(), "notes", "Instance", deletionPolicy=policy))
    for policy in ("retain", "delete"):
        api.ready("ending", policy)
    api.delete("namespace", "ending")
    api.gone("namespace", "ending", timeout=120)


def test_a_server_that_is_killed_while_it_is_set_up_holds_up_nobody_and_comes_up(api: Api) -> None:
    api.apply(tenant(SPACE, "hit", "notes", "Instance"))
    deadline = time.monotonic() + 30
    while not (found := pod_processes(api, "hit")):
        assert time.monotonic() < deadline, "no server starts"
        time.sleep(0.05)
    os.kill(found[0], signal.SIGKILL)
    api.apply(tenant(SPACE, "beside", "notes", "Schema"))
    api.ready(SPACE, "beside", timeout=15)
    api.ready(SPACE, "hit", timeout=90)
    assert api.query(SPACE, "hit", "notes", "SELECT count(*) FROM notes") == [(0,)]


def test_a_server_that_dies_is_reported_and_comes_back_with_its_data(api: Api) -> None:
    made(api, "dies")
    found = pod_processes(api, "dies")
    assert found
    os.kill(found[0], signal.SIGKILL)

    def restarted(pod: Object | None) -> bool:
        statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
        return bool(statuses[0].get("restartCount")) and bool(statuses[0].get("ready"))

    api.wait("pod", "dies-notes-0", SPACE, restarted, 60)
    api.ready(SPACE, "dies", timeout=60)
    assert api.query(SPACE, "dies", "notes", "SELECT body FROM notes") == [("kept",)]


@pytest.mark.parametrize("point", ["claimed", "instance-created", "secret-written"])
def test_a_crash_while_it_is_made_is_made_up_for(api: Api, point: str) -> None:
    name = f"crash-{point}"
    crash(api, f"{SPACE}/{name}:{point}")
    api.apply(tenant(SPACE, name, "notes", "Instance", deletionPolicy="Delete"))
    ended(api)
    api.cluster.start_operator(QUICK)
    api.ready(SPACE, name)
    instances = api.kubectl("get", "databaseinstances", "-n", SPACE, "-o", "name").split()
    assert len([each for each in instances if name in each]) == 1
    assert api.query(SPACE, name, "notes", "SELECT count(*) FROM notes") == [(0,)]


@pytest.mark.parametrize("point", ["instance-released", "instance-deleted", "secret-removed"])
def test_a_crash_while_it_goes_is_made_up_for(api: Api, point: str) -> None:
    name = f"going-{point}"
    made(api, name, deletionPolicy="Delete")
    crash(api, f"{SPACE}/{name}:{point}")
    api.delete("tenant", name, SPACE)
    ended(api)
    api.cluster.start_operator(QUICK)
    api.gone("tenant", name, SPACE, 60)
    nothing_left(api, name)


def crash(api: Api, where: str) -> None:
    api.cluster.kill_operator()
    api.cluster.start_operator({**QUICK, "TENANTRY_CRASH_AT": where})


def ended(api: Api) -> None:
    deadline = time.monotonic() + 45
    while api.cluster.operator_pid() is not None:
        assert time.monotonic() < deadline, "the operator passed no such point"
        time.sleep(0.05)


def test_conditions_say_what_the_server_says(api: Api) -> None:
    found = api.get("databaseinstance", "kept-notes", SPACE) or {}
    assert (condition(found, "Ready") or {}).get("status") == "True"
    assert found["status"]["endpoint"]["port"] == 5432
    assert found["status"]["tenants"] == 1
