"""Versions reach tenants: on their own after a change in Git, in waves, within a budget, and back."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.e2e.support import Api, Object, blueprint, condition, is_ready, manifest, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "rollouts"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "2s", "TENANTRY_LEASE_DURATION": "5s"}
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
    assert is_ready(own)
    # Who loses the pin catches up, without another rollout.
    api.patch("tenant", "auto-pinned", SPACE, {"spec": {"databases": [{"blueprint": "auto"}]}})
    api.ready(SPACE, "auto-pinned")
    api.wait(
        "tenant", "auto-pinned", SPACE, lambda t: t is not None and t["status"]["databases"][0]["version"] == "1.1"
    )


def test_waves_come_one_after_the_other_and_soak(api: Api) -> None:
    waves = [
        {"name": "canary", "selector": {"matchLabels": {"ring": "canary"}}, "soak": "8s"},
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
        assert time.monotonic() - since < 7.5, "too slow to tell"
        assert made["status"]["databases"][0]["version"] == wanted
    status = ended(api, "waves-1.1", "Completed")
    assert [wave["name"] for wave in status["waves"]] == ["canary", "early", "default"]
    assert [wave["completed"] for wave in status["waves"]] == [2, 1, 2]
    assert set(versions(api, "waves").values()) == {"1.1"}


def wait_for_all(api: Api, of: str, count: int, done: Callable[[Object], bool], timeout: float = 180) -> None:
    """Waits until so many tenants of a blueprint are as wanted."""
    deadline = time.monotonic() + timeout
    found: list[Object] = []
    while time.monotonic() < deadline:
        listed = json.loads(api.kubectl("get", "tenants", "-n", SPACE, "-o", "json"))["items"]
        found = [t for t in listed if t["spec"]["databases"][0]["blueprint"] == of]
        if sum(done(t) for t in found) == count:
            return
        time.sleep(0.5)
    waiting = [(t["metadata"]["name"], condition(t, "Ready")) for t in found if not done(t)][:5]
    raise AssertionError(f"after {timeout} s not as wanted: {waiting}")


def metric(api: Api, prefix: str) -> float:
    """The sum of the operator's metrics whose names, with labels, begin so."""
    with urllib.request.urlopen(api.cluster.metrics_url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(prefix))


def schema_of(api: Api, name: str) -> str:
    found = api.get("tenant", name, SPACE)
    assert found is not None
    schema: str = found["status"]["databases"][0]["schema"]
    return schema


@pytest.mark.slow
def test_two_of_two_hundred_fail_with_a_budget_of_one(api: Api) -> None:
    names = [f"budget-{number:03}" for number in range(200)]
    bad = [names[57], names[140]]
    api.apply(*blueprint(SPACE, "budget", ITEMS, rollout={"failureBudget": 1, "maxParallel": 8}))
    api.apply(*(tenant(SPACE, name, "budget") for name in names))
    wait_for_all(api, "budget", 200, is_ready)
    for name in bad:
        run(api.cluster.admin_dsn("budget"), f'CREATE TABLE "{schema_of(api, name)}".extra (id int)')
    once = "CREATE TABLE extra (id int); CREATE SEQUENCE times; SELECT nextval('times')"
    api.apply(version("budget", "1.1", "1.0", {"name": "extra", "sql": once}))
    written = metric(api, 'tenantry_api_writes_total{resource="rollouts/status"')
    since = time.monotonic()
    bump(api, "budget", "1.1")
    status = ended(api, "budget-1.1", "Paused")
    # A write a second, and one for each new phase.
    written = metric(api, 'tenantry_api_writes_total{resource="rollouts/status"') - written
    assert 0 < written <= time.monotonic() - since + 4
    assert [failure["tenant"] for failure in status["failures"]] == bad
    assert {failure["reason"] for failure in status["failures"]} == {"MigrationFailed"}
    assert "already exists" in status["failures"][0]["message"]
    # Whoever was begun before the second failure is brought to the end, and nobody after it is begun.
    status = api.wait("rollout", "budget-1.1", SPACE, lambda r: r is not None and r["status"]["running"] == 0)[
        "status"
    ]
    assert status["completed"] + status["failed"] < 200
    assert status["failed"] == 2
    api.trouble("blueprint", SPACE, "budget", "FailureBudgetExceeded")
    assert sum(found == "1.1" for found in versions(api, "budget").values()) == status["completed"]
    found = api.get("rollout", "budget-1.1", SPACE)
    assert found is not None
    stalled = condition(found, "Stalled")
    assert stalled is not None
    assert (stalled["status"], stalled["reason"]) == ("True", "FailureBudgetExceeded")
    for name in bad:
        # They are not as asked for, and go on working as they were.
        assert "extra" in api.trouble("tenant", SPACE, name, "MigrationFailed")["message"]
        assert api.query(SPACE, name, "budget", "SELECT count(*) FROM items") == [(0,)]
        run(api.cluster.admin_dsn("budget"), f'DROP TABLE "{schema_of(api, name)}".extra')
    wait_for_all(api, "budget", 198, is_ready)
    api.kubectl("annotate", "rollout", "budget-1.1", "-n", SPACE, "tenantry.dev/resume=now")
    status = api.wait("rollout", "budget-1.1", SPACE, in_phase("Completed"))["status"]
    assert (status["completed"], status["failed"], status.get("failures") or []) == (200, 0, [])
    assert versions(api, "budget") == dict.fromkeys(names, "1.1")
    wait_for_all(api, "budget", 200, is_ready)
    counts = " UNION ALL ".join(f'SELECT last_value FROM "{name}".times' for name in names)
    assert set(run(api.cluster.admin_dsn("budget"), counts)) == {(1,)}


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["operator", "postgres", "kube-apiserver", "sessions"])
def test_what_goes_away_in_the_middle_costs_nothing_but_time(api: Api, gone: str) -> None:
    of = f"gone-{gone}"
    names = [f"{of}-{number}" for number in range(20)]
    make(api, of, names, rollout={"maxParallel": 4})
    steps = "SELECT pg_sleep(0.1); CREATE TABLE once (id int); INSERT INTO once VALUES (1)"
    index = {"name": "index", "sql": "CREATE INDEX CONCURRENTLY i ON items (more)", "transactional": False}
    api.apply(version(of, "1.1", "1.0", {"name": "slow", "sql": steps}, MORE, index))
    bump(api, of, "1.1")
    api.wait("rollout", f"{of}-1.1", SPACE, lambda r: r is not None and (r.get("status") or {}).get("completed"))
    if gone == "sessions":
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenantry'"
        for _ in range(5):
            run(api.cluster.admin_dsn(), end)
            time.sleep(0.1)
    elif gone == "operator":
        api.cluster.kill_operator()
        api.cluster.start_operator(QUICK)
    else:
        assert api.cluster.kill(gone)
        time.sleep(1)
        api.cluster.up(operator=False, api=False)
        if api.cluster.operator_pid() is None:
            # It could not renew its Lease and ended, as it must; something restarts it.
            api.cluster.start_operator(QUICK)
    status = api.wait("rollout", f"{of}-1.1", SPACE, in_phase("Completed"), 180)["status"]
    assert (status["completed"], status["failed"]) == (20, 0)
    assert versions(api, of) == dict.fromkeys(names, "1.1")
    for name in names:
        api.ready(SPACE, name, timeout=150)
        assert api.query(SPACE, name, of, "SELECT count(more) FROM items") == [(0,)]
    admin = api.cluster.admin_dsn(of)
    counts = " UNION ALL ".join(f'SELECT count(*) FROM "{name}".once' for name in names)
    assert set(run(admin, counts)) == {(1,)}
    assert set(run(admin, "SELECT schema::text, count(*) FROM tenantry.ledger GROUP BY schema")) == {
        (name, 4) for name in names
    }
    assert run(admin, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


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


def test_a_version_that_does_not_work_touches_nobody(api: Api) -> None:
    make(api, "broken", ["broken-a"])
    step = {"name": "typo", "sql": "SELECT 1;\nALTER TABLE itmes ADD more text"}
    api.apply(version("broken", "1.1", "1.0", step))
    bump(api, "broken", "1.1")
    ready = api.trouble("rollout", SPACE, "broken-1.1", "DryRunFailed")
    assert "migration typo of version 1.1" in ready["message"]
    assert "line 2" in ready["message"]
    found = api.get("blueprintversion", "broken-1.1", SPACE)
    assert found is not None
    assert found["status"]["dryRun"]["result"] == "Failed"
    assert versions(api, "broken") == {"broken-a": "1.0"}
    api.ready(SPACE, "broken-a")
    # The mend is a version of its own, which takes the place of the one that never began.
    api.apply(version("broken", "1.2", "1.0", MORE))
    bump(api, "broken", "1.2")
    ended(api, "broken-1.2", "Completed")
    assert versions(api, "broken") == {"broken-a": "1.2"}
    assert run(api.cluster.admin_dsn(), "SELECT 1 FROM pg_database WHERE datname LIKE '%scratch%'") == []
    cancelled = api.wait("rollout", "broken-1.1", SPACE, in_phase("Cancelled"))
    assert "1.2" in cancelled["status"]["message"]


def test_what_destroys_data_is_shown_and_refused_until_it_is_acknowledged(api: Api) -> None:
    make(api, "lint", ["lint-a"], rollout={"lint": "Refuse"})
    api.apply(version("lint", "1.1", "1.0", MORE))
    bump(api, "lint", "1.1")
    ended(api, "lint-1.1", "Completed")
    api.apply(
        version("lint", "1.2", "1.1", {"name": "less", "sql": "SELECT 1;\nALTER TABLE items DROP COLUMN more"})
    )

    def has_findings(found: Object | None) -> bool:
        return bool(found and (found.get("status") or {}).get("findings"))

    finding = api.wait("blueprintversion", "lint-1.2", SPACE, has_findings)["status"]["findings"][0]
    assert (finding["rule"], finding["kind"], finding["line"]) == ("ban-drop-column", "Destructive", 2)
    bump(api, "lint", "1.2")
    ready = api.trouble("rollout", SPACE, "lint-1.2", "LintRefused")
    assert "ban-drop-column in migration less, line 2" in ready["message"]
    assert versions(api, "lint") == {"lint-a": "1.1"}
    api.kubectl(
        "annotate", "blueprintversion", "lint-1.2", "-n", SPACE, "tenantry.dev/acknowledge=ban-drop-column"
    )
    ended(api, "lint-1.2", "Completed")
    assert versions(api, "lint") == {"lint-a": "1.2"}


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


@pytest.mark.parametrize(
    ("name", "spec", "reason", "words"),
    [
        ("no-blueprint", {"blueprint": "nowhere", "version": "1.1"}, "BlueprintNotFound", "rollouts/nowhere"),
        ("no-version", {"blueprint": "nonsense", "version": "9.9"}, "BlueprintVersionNotFound", "9.9"),
        (
            "no-tenant",
            {"blueprint": "nonsense", "version": "1.0", "tenants": ["nonsense-a", "nobody"]},
            "TenantNotFound",
            "nobody",
        ),
    ],
)
def test_what_is_missing_is_named_and_waited_for(
    api: Api, name: str, spec: dict[str, Any], reason: str, words: str
) -> None:
    api.apply(*blueprint(SPACE, "nonsense", ITEMS), tenant(SPACE, "nonsense-a", "nonsense"))
    api.ready(SPACE, "nonsense-a")
    api.apply(manifest("Rollout", name, spec, namespace=SPACE))
    ready = api.trouble("rollout", SPACE, name, reason)
    assert words in ready["message"]
    found = api.get("rollout", name, SPACE)
    assert found is not None
    assert (found["status"]["phase"], found["status"]["message"]) == ("Pending", ready["message"])
    api.delete("rollout", name, SPACE)
    api.gone("rollout", name, SPACE)


def test_nobody_to_migrate_is_a_rollout_that_is_through(api: Api) -> None:
    api.apply(
        *blueprint(SPACE, "empty", ITEMS), rollout("none", "empty", "1.0", selector={"matchLabels": {"a": "b"}})
    )
    status = ended(api, "none", "Completed")
    assert (status["total"], status["progress"]) == (0, 100)


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


def test_the_next_one_waits_for_one_that_runs(api: Api) -> None:
    make(api, "queue", ["queue-a", "queue-b"])
    slow = {"name": "slow", "sql": "SELECT pg_sleep(1.5)"}
    api.apply(version("queue", "1.1", "1.0", slow), version("queue", "1.2", "1.1", MORE))
    api.apply(rollout("one", "queue", "1.1", maxParallel=1))
    api.wait("rollout", "one", SPACE, in_phase("Running"))
    api.apply(rollout("two", "queue", "1.2"))
    assert "waits for Rollout one" in api.trouble("rollout", SPACE, "two", "WaitingForRollout")["message"]
    assert ended(api, "one", "Completed")["completed"] == 2
    ended(api, "two", "Completed")
    assert set(versions(api, "queue").values()) == {"1.2"}


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


def test_one_that_was_cancelled_is_not_begun_again_and_can_be_made_by_hand(api: Api) -> None:
    make(api, "again", ["again-a", "again-b"], rollout={"maxParallel": 1})
    api.apply(version("again", "1.1", "1.0", {"name": "slow", "sql": "SELECT pg_sleep(2)"}, MORE))
    bump(api, "again", "1.1")
    api.wait("rollout", "again-1.1", SPACE, in_phase("Running"))
    api.delete("rollout", "again-1.1", SPACE)
    api.gone("rollout", "again-1.1", SPACE)
    api.trouble("blueprint", SPACE, "again", "RolloutCancelled")
    assert sorted(versions(api, "again").values()) == ["1.0", "1.1"]
    # Later ones get the version from before, until somebody decides.
    api.apply(tenant(SPACE, "again-c", "again"))
    api.ready(SPACE, "again-c")
    assert versions(api, "again")["again-c"] == "1.0"
    api.apply(rollout("by-hand", "again", "1.1"))
    ended(api, "by-hand", "Completed")
    api.wait("blueprint", "again", SPACE, lambda b: b is not None and is_ready(b))
    assert set(versions(api, "again").values()) == {"1.1"}


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
