"""Versions reach tenants: on their own after a change in Git, in waves, within a budget, and back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.e2e.support import Api, Object, blueprint, condition, is_ready, manifest, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "rollouts"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "2s", "TENANTRY_LEASE_DURATION": "2s"}
ITEMS = [{"name": "items", "sql": "CREATE TABLE items (id int PRIMARY KEY)", "rollback": "DROP TABLE items"}]
MORE = {
    "name": "more",
    "sql": "ALTER TABLE items ADD more text NOT NULL DEFAULT 'new'",
    "rollback": "ALTER TABLE items DROP more",
}
RING = {"key": "ring", "operator": "In"}
FINAL = ("Completed", "Failed", "RolledBack", "Cancelled")


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Iterator[Api]:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE))
    yield api
    private_cluster.kill_operator()


def version(of: str, number: str, before: str, *migrations: Object) -> Object:
    spec = {"blueprint": of, "version": number, "from": before, "migrations": list(migrations)}
    return manifest("BlueprintVersion", f"{of}-{number}", spec, namespace=SPACE)


def rollout(name: str, of: str, to: str, **spec: Any) -> Object:
    return manifest("Rollout", name, {"blueprint": of, "version": to, **spec}, namespace=SPACE)


def labelled(obj: Object, **labels: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}}


def make(api: Api, of: str, names: Sequence[str], isolation: str = "Schema", **spec: Any) -> None:
    """A blueprint at version 1.0 with tenants that follow it."""
    api.apply(*blueprint(SPACE, of, ITEMS, **spec))
    api.apply(*(tenant(SPACE, name, of, isolation) for name in names))
    for name in names:
        api.ready(SPACE, name)


def bump(api: Api, of: str, to: str) -> None:
    api.patch("blueprint", of, SPACE, {"spec": {"version": to}})


def in_phase(*phases: str) -> Callable[[Object | None], bool]:
    return lambda obj: obj is not None and (obj.get("status") or {}).get("phase") in phases


def ended(api: Api, name: str, phase: str, timeout: float = 120) -> Object:
    found = api.wait("rollout", name, SPACE, in_phase(*FINAL, "Paused"), timeout)["status"]
    assert found["phase"] == phase, found
    return dict(found)


def versions(api: Api, of: str) -> dict[str, str]:
    listed = json.loads(api.kubectl("get", "tenants", "-n", SPACE, "-o", "json"))["items"]
    return {
        t["metadata"]["name"]: record.get("version")
        for t in listed
        for record in (t.get("status") or {}).get("databases") or []
        if record.get("blueprint") == of
    }


def test_a_new_version_in_git_reaches_all_that_follow_it(api: Api) -> None:
    names = [f"auto-{number}" for number in range(4)]
    make(api, "auto", names)
    pinned = tenant(SPACE, "auto-pinned", "auto")
    pinned["spec"]["databases"][0]["version"] = "1.0"
    api.apply(pinned)
    api.ready(SPACE, "auto-pinned")
    run(api.cluster.tenant_uri(SPACE, "auto-0-auto-db"), "INSERT INTO items VALUES (1)")
    api.apply(version("auto", "1.1", "1.0", MORE))
    bump(api, "auto", "1.1")
    status = ended(api, "auto-1.1", "Completed")
    assert (status["total"], status["completed"], status["failed"], status["skipped"]) == (4, 4, 0, 1)
    assert status["progress"] == 100
    assert status["startedAt"] <= status["completedAt"]
    found = api.get("rollout", "auto-1.1", SPACE)
    assert found is not None
    assert is_ready(found, "Completed")
    assert found["metadata"]["ownerReferences"][0]["name"] == "auto"
    assert versions(api, "auto") == {**dict.fromkeys(names, "1.1"), "auto-pinned": "1.0"}
    assert api.query(SPACE, "auto-0", "auto", "SELECT id, more FROM items") == [(1, "new")]
    own = api.wait("blueprint", "auto", SPACE, lambda b: b is not None and b["status"]["currentVersion"] == "1.1")
    assert own["status"]["rollout"]["phase"] == "Completed"
    # Who loses the pin catches up, without another rollout.
    api.patch("tenant", "auto-pinned", SPACE, {"spec": {"databases": [{"blueprint": "auto"}]}})
    api.ready(SPACE, "auto-pinned")
    api.wait(
        "tenant", "auto-pinned", SPACE, lambda t: t is not None and t["status"]["databases"][0]["version"] == "1.1"
    )


def test_waves_come_one_after_the_other_and_soak(api: Api) -> None:
    waves = [
        {"name": "canary", "selector": {"matchLabels": {"ring": "canary"}}, "soak": "4s"},
        {
            "name": "early",
            "selector": {"matchExpressions": [{"key": "ring", "operator": "In", "values": ["early"]}]},
        },
    ]
    api.apply(*blueprint(SPACE, "waves", ITEMS, rollout={"waves": waves, "maxParallel": 1}))
    rings = {"waves-a": "canary", "waves-b": "early", "waves-c": "late"}
    api.apply(*(labelled(tenant(SPACE, name, "waves"), ring=ring) for name, ring in rings.items()))
    for name in rings:
        api.ready(SPACE, name)
    api.apply(version("waves", "1.1", "1.0", MORE))
    bump(api, "waves", "1.1")
    soaking = api.wait("rollout", "waves-1.1", SPACE, in_phase("Soaking"))["status"]
    since = time.monotonic()
    assert soaking["wave"] == "early"
    assert versions(api, "waves") == {"waves-a": "1.1", "waves-b": "1.0", "waves-c": "1.0"}
    # Who comes meanwhile gets the version that the wave has.
    api.apply(labelled(tenant(SPACE, "waves-d", "waves"), ring="canary"), tenant(SPACE, "waves-e", "waves"))
    for name, wanted in (("waves-d", "1.1"), ("waves-e", "1.0")):
        made = api.wait("tenant", name, SPACE, lambda t: t is not None and is_ready(t))
        assert time.monotonic() - since < 3.5, "too slow to tell"
        assert made["status"]["databases"][0]["version"] == wanted
    status = ended(api, "waves-1.1", "Completed")
    assert [wave["name"] for wave in status["waves"]] == ["canary", "early", "default"]
    assert [wave["completed"] for wave in status["waves"]] == [2, 1, 2]
    assert set(versions(api, "waves").values()) == {"1.1"}


def test_more_failures_than_the_budget_pause_and_resuming_finishes(api: Api) -> None:
    names = [f"budget-{number}" for number in range(6)]
    make(api, "budget", names, rollout={"failureBudget": 1, "maxParallel": 1})
    bad = names[1:3]
    for name in bad:
        schema = api.get("tenant", name, SPACE)["status"]["databases"][0]["schema"]  # type: ignore[index]
        run(api.cluster.admin_dsn("budget"), f'CREATE TABLE "{schema}".extra (id int)')
    api.apply(version("budget", "1.1", "1.0", {"name": "extra", "sql": "CREATE TABLE extra (id int)"}))
    bump(api, "budget", "1.1")
    status = ended(api, "budget-1.1", "Paused")
    assert sorted(failure["tenant"] for failure in status["failures"]) == bad
    assert {failure["reason"] for failure in status["failures"]} == {"MigrationFailed"}
    assert "already exists" in status["failures"][0]["message"]
    assert status["failed"] == 2
    found = api.get("rollout", "budget-1.1", SPACE)
    assert found is not None
    stalled = condition(found, "Stalled")
    assert stalled is not None
    assert (stalled["status"], stalled["reason"]) == ("True", "FailureBudgetExceeded")
    trouble = api.trouble("tenant", SPACE, bad[0], "MigrationFailed")
    assert "extra" in trouble["message"]
    # They go on working as they were.
    assert api.query(SPACE, bad[0], "budget", "SELECT count(*) FROM items") == [(0,)]
    for name in bad:
        schema = api.get("tenant", name, SPACE)["status"]["databases"][0]["schema"]  # type: ignore[index]
        run(api.cluster.admin_dsn("budget"), f'DROP TABLE "{schema}".extra')
    api.kubectl("annotate", "rollout", "budget-1.1", "-n", SPACE, "tenantry.dev/resume=now")
    api.wait("rollout", "budget-1.1", SPACE, in_phase("Completed"))
    assert versions(api, "budget") == dict.fromkeys(names, "1.1")
    for name in names:
        api.ready(SPACE, name)


def test_what_was_migrated_goes_back_when_the_budget_is_exceeded(api: Api) -> None:
    names = [f"back-{number}" for number in range(4)]
    make(api, "back", names, rollout={"onFailure": "RollBack", "maxParallel": 1})
    for name in names:
        run(api.cluster.tenant_uri(SPACE, f"{name}-back-db"), "INSERT INTO items VALUES (7)")
    schema = api.get("tenant", names[2], SPACE)["status"]["databases"][0]["schema"]  # type: ignore[index]
    run(api.cluster.admin_dsn("back"), f'ALTER TABLE "{schema}".items ADD more int')
    api.apply(version("back", "1.1", "1.0", MORE))
    bump(api, "back", "1.1")
    status = ended(api, "back-1.1", "RolledBack")
    assert status["rolledBack"] == 3
    assert [failure["tenant"] for failure in status["failures"]] == [names[2]]
    assert versions(api, "back") == dict.fromkeys(names, "1.0")
    for name in names:
        api.ready(SPACE, name)
        assert api.query(SPACE, name, "back", "SELECT id FROM items") == [(7,)]
    # A tenant that comes now gets what the others have.
    api.apply(tenant(SPACE, "back-new", "back"))
    api.ready(SPACE, "back-new")
    assert versions(api, "back")["back-new"] == "1.0"


def test_a_rollback_that_is_promised_must_be_there(api: Api) -> None:
    make(api, "promise", ["promise-a"], rollout={"onFailure": "RollBack"})
    api.apply(version("promise", "1.1", "1.0", {"name": "more", "sql": "ALTER TABLE items ADD more text"}))
    bump(api, "promise", "1.1")
    ready = api.trouble("rollout", SPACE, "promise-1.1", "RollbackMissing")
    assert "more of version 1.1" in ready["message"]
    assert versions(api, "promise") == {"promise-a": "1.0"}


def test_by_hand_to_some_and_back_again(api: Api) -> None:
    names = ["hand-a", "hand-b", "hand-c"]
    make(api, "hand", names)
    api.apply(version("hand", "1.1", "1.0", MORE))
    api.apply(rollout("try-it", "hand", "1.1", tenants=["hand-b"]))
    ended(api, "try-it", "Completed")
    assert versions(api, "hand") == {"hand-a": "1.0", "hand-b": "1.1", "hand-c": "1.0"}
    api.ready(SPACE, "hand-b")
    time.sleep(3)
    assert versions(api, "hand")["hand-b"] == "1.1", "a rollout by hand is no drift"
    api.apply(rollout("take-it-back", "hand", "1.0", tenants=["hand-b"]))
    ended(api, "take-it-back", "Completed")
    assert versions(api, "hand") == dict.fromkeys(names, "1.0")


def test_one_at_a_time_and_a_paused_one_is_replaced(api: Api) -> None:
    make(api, "turns", ["turns-a", "turns-b"])
    api.apply(version("turns", "1.1", "1.0", MORE), version("turns", "1.2", "1.1"))
    api.apply(rollout("first", "turns", "1.1", paused=True))
    api.wait("rollout", "first", SPACE, in_phase("Paused"))
    api.apply(rollout("second", "turns", "1.2"))
    ended(api, "second", "Completed")
    first = api.get("rollout", "first", SPACE)
    assert first is not None
    assert first["status"]["phase"] == "Cancelled"
    assert "second took its place" in first["status"]["message"]
    assert set(versions(api, "turns").values()) == {"1.2"}


def test_deleting_it_cancels_it(api: Api) -> None:
    names = [f"stop-{number}" for number in range(8)]
    make(api, "stop", names)
    api.apply(version("stop", "1.1", "1.0", {"name": "slow", "sql": "SELECT pg_sleep(1)"}, MORE))
    api.apply(rollout("slow", "stop", "1.1", maxParallel=1))
    api.wait(
        "rollout", "slow", SPACE, lambda r: r is not None and (r.get("status") or {}).get("completed", 0) >= 1
    )
    api.delete("rollout", "slow", SPACE)
    api.gone("rollout", "slow", SPACE)
    found = versions(api, "stop")
    assert {"1.0", "1.1"} == set(found.values())
    time.sleep(3)
    assert versions(api, "stop") == found
    for name in names:
        api.ready(SPACE, name)


@pytest.mark.parametrize("isolation", ["Row", "Database"])
def test_under_the_other_isolations(api: Api, isolation: str) -> None:
    of = f"iso-{isolation.lower()}"
    names = [f"{of}-a", f"{of}-b"]
    items = {"name": "items", "sql": "CREATE TABLE items (id int, tenant_id text)"}
    api.apply(*blueprint(SPACE, of, [items]), *(tenant(SPACE, name, of, isolation) for name in names))
    for name in names:
        api.ready(SPACE, name)
    api.set_state(SPACE, names[1], "Suspended")
    api.ready(SPACE, names[1], "Suspended")
    index = {"name": "index", "sql": "CREATE INDEX CONCURRENTLY i ON items (id)", "transactional": False}
    api.apply(version(of, "1.1", "1.0", MORE, index))
    bump(api, of, "1.1")
    status = ended(api, f"{of}-1.1", "Completed")
    assert (status["total"], status["completed"]) == (2, 2)
    assert versions(api, of) == dict.fromkeys(names, "1.1")
    api.ready(SPACE, names[1], "Suspended")
    api.query(SPACE, names[0], of, "SELECT more FROM items")
