"""Database servers that Tenantry runs, with real servers in their pods."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.support import NOTES, Api, Object, blueprint, condition, manifest, namespace, refused

pytestmark = pytest.mark.e2e

SPACE = "own"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "5s", "TENANTRY_RETIRE_AFTER": "1s"}


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    return api


def instance(name: str, engine: str = "PostgreSQL", **spec: Any) -> Object:
    server = {"storage": "1Gi", **spec.pop("server", {})}
    return manifest("DatabaseInstance", name, {"engine": engine, "statefulSet": server, **spec}, namespace=SPACE)


def tenant(name: str, on: str, **spec: Any) -> Object:
    database = {"blueprint": "notes", "isolation": "Database", "instance": on}
    return manifest("Tenant", name, {"databases": [database], **spec}, namespace=SPACE)


def reason(obj: Object | None) -> tuple[str, str]:
    ready = condition(obj or {}, "Ready") or {}
    return ready.get("status", ""), ready.get("reason", "")


def wait_instance(api: Api, name: str, *wanted: str, where: str = SPACE, timeout: float = 60) -> Object:
    return api.wait("databaseinstance", name, where, lambda obj: reason(obj) == wanted, timeout)


def test_a_dedicated_postgresql_sleeps_while_its_tenant_rests(api: Api) -> None:
    api.apply(instance("pg", role="Dedicated"))
    up = wait_instance(api, "pg", "True", "Ready")
    assert (condition(up, "Hardened") or {})["status"] == "True", condition(up, "Hardened")
    assert (condition(up, "Privileged") or {})["status"] == "True", condition(up, "Privileged")
    assert (condition(up, "VolumeKept") or {})["status"] == "True"
    assert up["status"]["endpoint"]["port"] == 5432
    assert up["status"]["version"]
    api.apply(tenant("acme", "pg"))
    api.ready(SPACE, "acme")
    api.query(SPACE, "acme", "notes", "INSERT INTO notes (body) VALUES ('kept')")
    uri = api.secret(SPACE, "acme", "notes")["uri"]
    # Not a superuser, for migrations run in its sessions.
    assert api.query(SPACE, "acme", "notes", "SELECT rolsuper FROM pg_roles WHERE rolname = 'tenantry_admin'") == [
        (False,)
    ]

    api.set_state(SPACE, "acme", "Suspended")
    api.ready(SPACE, "acme", "Suspended")
    wait_instance(api, "pg", "True", "Hibernated")
    api.gone("pod", "pg-0", SPACE, 60)
    assert refused(uri)
    time.sleep(3)
    still = api.ready(SPACE, "acme", "Suspended")
    assert reason(api.get("databaseinstance", "pg", SPACE)) == ("True", "Hibernated")
    # Another rest needs no server.
    api.patch("tenant", "acme", SPACE, {"spec": {"displayName": "Acme"}})
    api.ready(SPACE, "acme", "Suspended")
    assert reason(api.get("databaseinstance", "pg", SPACE)) == ("True", "Hibernated")
    assert still["status"]["databases"][0]["phase"] == "Suspended"

    api.set_state(SPACE, "acme", "Active")
    api.ready(SPACE, "acme")
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]
    wait_instance(api, "pg", "True", "Ready")


def crash_at(api: Api, point: str) -> None:
    """The operator is started anew, and kills itself there."""
    api.cluster.kill_operator()
    api.cluster.start_operator({**QUICK, "TENANTRY_CRASH_AT": f"{SPACE}/pg:{point}"}, wait=False)


def until_dead(api: Api) -> None:
    deadline = time.monotonic() + 60
    while api.cluster.operator_pid() is not None:
        assert time.monotonic() < deadline, "the operator does not get to the point"
        time.sleep(0.1)


def test_it_sleeps_on_over_a_restart_of_the_operator_and_wakes_after_it(api: Api) -> None:
    # Killed when it was scaled to zero, before that was said.
    crash_at(api, "scaled-to-zero")
    api.set_state(SPACE, "acme", "Suspended")
    until_dead(api)
    assert reason(api.get("databaseinstance", "pg", SPACE)) == ("True", "Ready")
    api.cluster.start_operator(QUICK)
    wait_instance(api, "pg", "True", "Hibernated")
    api.cluster.kill_operator()
    api.set_state(SPACE, "acme", "Active")
    api.cluster.start_operator(QUICK)
    api.ready(SPACE, "acme")
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]


def test_a_rollout_wakes_it_for_as_long_as_it_takes(api: Api) -> None:
    api.set_state(SPACE, "acme", "Suspended")
    wait_instance(api, "pg", "True", "Hibernated")
    more = {"name": "more", "sql": "ALTER TABLE notes ADD more text DEFAULT 'new'"}
    version = {"blueprint": "notes", "version": "1.1", "from": "1.0", "migrations": [more]}
    api.apply(manifest("BlueprintVersion", "notes-1.1", version, namespace=SPACE))
    api.patch("blueprint", "notes", SPACE, {"spec": {"version": "1.1"}})
    api.wait("rollout", "notes-1.1", SPACE, lambda found: reason(found) == ("True", "Completed"), 90)
    # The dry run and the migration had it up for a while.
    wait_instance(api, "pg", "True", "Hibernated", timeout=120)
    suspended = api.ready(SPACE, "acme", "Suspended")
    assert suspended["status"]["databases"][0]["version"] == "1.1"
    api.set_state(SPACE, "acme", "Active")
    api.ready(SPACE, "acme")
    assert api.query(SPACE, "acme", "notes", "SELECT body, more FROM notes") == [("kept", "new")]


def test_sweeps_of_it_write_nothing(api: Api) -> None:
    def versions() -> list[tuple[str, str]]:
        kinds = "databaseinstances,statefulsets,services,networkpolicies,poddisruptionbudgets,configmaps,secrets"
        listed = json.loads(api.kubectl("get", kinds, "-n", SPACE, "-o", "json"))["items"]
        return sorted((one["metadata"]["name"], one["metadata"]["resourceVersion"]) for one in listed)

    for state, wanted in (("Suspended", "Hibernated"), ("Active", "Ready")):
        api.set_state(SPACE, "acme", state)
        api.ready(SPACE, "acme", state if state != "Active" else "Ready")
        wait_instance(api, "pg", "True", wanted)
        time.sleep(5)
        before = versions()
        time.sleep(5)
        assert versions() == before, state


def test_its_volume_grows(api: Api) -> None:
    before = api.get("pod", "pg-0", SPACE)
    # Killed when the StatefulSet, whose claim cannot be changed, was taken away.
    crash_at(api, "stateful-set-taken-away")
    api.apply(instance("pg", role="Dedicated", server={"storage": "2Gi"}))
    until_dead(api)
    api.cluster.start_operator(QUICK)
    api.wait(
        "persistentvolumeclaim",
        "data-pg-0",
        SPACE,
        lambda claim: claim is not None and claim["status"].get("capacity", {}).get("storage") == "2Gi",
        30,
    )

    def made_again(found: Object | None) -> bool:
        if found is None or "deletionTimestamp" in found["metadata"]:
            return False
        (claim,) = found["spec"]["volumeClaimTemplates"]
        return bool(claim["spec"]["resources"]["requests"]["storage"] == "2Gi")

    api.wait("statefulset", "pg", SPACE, made_again, 30)
    wait_instance(api, "pg", "True", "Ready")
    after = api.get("pod", "pg-0", SPACE)
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]


def test_it_is_not_taken_from_its_stateful_set_for_one_that_cannot_be_made(api: Api) -> None:
    before = api.get("statefulset", "pg", SPACE)
    assert before is not None
    bad = {"nodeAffinity": {"required": []}}
    api.apply(instance("pg", role="Dedicated", server={"storage": "3Gi", "affinity": bad}))
    told = api.trouble("databaseinstance", SPACE, "pg", "ObjectRefused")
    assert "affinity" in told["message"]
    after = api.get("statefulset", "pg", SPACE)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    # While it is told, the server works.
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]
    api.apply(instance("pg", role="Dedicated", server={"storage": "3Gi"}))
    api.wait(
        "statefulset",
        "pg",
        SPACE,
        lambda s: s is not None and s["metadata"]["uid"] != before["metadata"]["uid"],
        30,
    )
    wait_instance(api, "pg", "True", "Ready")


def test_other_resources_are_another_pod(api: Api) -> None:
    before = api.get("pod", "pg-0", SPACE)
    assert before is not None
    server = {"storage": "3Gi", "resources": {"requests": {"cpu": "0.1", "memory": "64Mi"}}}
    api.apply(instance("pg", role="Dedicated", server=server))
    api.wait(
        "pod",
        "pg-0",
        SPACE,
        lambda pod: pod is not None and pod["metadata"]["uid"] != before["metadata"]["uid"],
        60,
    )
    wait_instance(api, "pg", "True", "Ready")
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]


def test_an_instance_with_tenants_stays(api: Api) -> None:
    # Even asleep: it runs again, for its tenants may have to be dropped from it.
    api.set_state(SPACE, "acme", "Suspended")
    wait_instance(api, "pg", "True", "Hibernated")
    api.delete("databaseinstance", "pg", SPACE)
    told = api.trouble("databaseinstance", SPACE, "pg", "HoldsTenants")
    assert f"{SPACE}/acme" in told["message"]
    api.patch("tenant", "acme", SPACE, {"spec": {"deletionPolicy": "Delete"}})
    api.delete("tenant", "acme", SPACE)
    api.gone("tenant", "acme", SPACE)
    api.gone("databaseinstance", "pg", SPACE)
    assert api.get("persistentvolumeclaim", "data-pg-0", SPACE) is not None


def test_a_volume_that_was_lost_is_told(api: Api) -> None:
    # Found again: the administrator is there, by the Secret that was kept.
    api.apply(instance("pg", role="Shared", server={"storage": "3Gi"}))
    wait_instance(api, "pg", "True", "Ready")
    api.apply(tenant("acme", "pg"))
    api.ready(SPACE, "acme")
    api.patch("statefulset", "pg", SPACE, {"spec": {"replicas": 0}})
    api.delete("persistentvolumeclaim", "data-pg-0", SPACE)
    api.delete("pod", "pg-0", SPACE)

    def told(obj: Object | None) -> bool:
        kept = condition(obj or {}, "VolumeKept") or {}
        return (kept.get("status"), kept.get("reason")) == ("False", "VolumeReplaced")

    lost = api.wait("databaseinstance", "pg", SPACE, told, 90)
    api.trouble("tenant", SPACE, "acme", "DataLost")
    claim = api.get("persistentvolumeclaim", "data-pg-0", SPACE)
    assert claim is not None
    assert claim["metadata"]["uid"] != lost["status"]["volume"]["uid"]
    annotation = {"tenantry.dev/acknowledge": claim["metadata"]["uid"]}
    api.patch("databaseinstance", "pg", SPACE, {"metadata": {"annotations": annotation}})
    api.wait(
        "databaseinstance",
        "pg",
        SPACE,
        lambda obj: (condition(obj or {}, "VolumeKept") or {}).get("status") == "True",
        30,
    )
