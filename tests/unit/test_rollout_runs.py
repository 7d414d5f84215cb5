"""What rollouts mean for single tenants: whose turn it is, and what is written about what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tenantry_crds.rollout import RolloutSpec
from tenantry_operator.blueprints.book import blueprint_of
from tenantry_operator.cache import Key, Store
from tenantry_operator.engines.base import DatabaseState, Ownership
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.rollouts.members import Aim, Standing
from tenantry_operator.rollouts.run import Run
from tenantry_operator.rollouts.runs import Runs
from tenantry_operator.tenants.outcome import Outcome
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]
KEY = ("ns", "acme")
POOL = ("ops", "pool-a")


class World:
    """A blueprint at 1.0, one tenant that follows it, and a rollout to 1.1."""

    def __init__(self, *, back: bool = False, freezes: bool = False, **spec: Any) -> None:
        self.tenants = Store(blueprint=lambda obj: ("ns/shop",))
        self.blueprints, self.rollouts = Store(), Store(blueprint=lambda obj: (blueprint_of(obj),))
        self.blueprints.put(
            {
                "metadata": {"namespace": "ns", "name": "shop", "uid": "b"},
                "spec": {"rollout": {"drift": "Freeze" if freezes else "Report"}},
                "status": {"currentVersion": "1.0"},
            }
        )
        self.rollouts.put(
            {
                "metadata": {"namespace": "ns", "name": "go", "uid": "r"},
                "spec": {"blueprint": "shop", "version": "1.1"},
                "status": {"phase": "Running"},
            }
        )
        self.put({"version": "1.0"})
        self.runs = Runs(self.rollouts, self.blueprints, self.tenants, lambda server: True)
        self.woken: list[Key] = []
        self.runs.wake = self.woken.append
        parsed = RolloutSpec.model_validate({"blueprint": "shop", "version": "1.1", **spec})
        self.run = Run(parsed, Aim("shop", "1.1", "r", "1/", back, freezes), self.tenants, lambda obj: POOL)
        self.runs.start(("ns", "go"), "ns/shop", self.run)

    def put(self, record: Mapping[str, Any]) -> None:
        self.tenants.put(
            {
                "metadata": {
                    "namespace": "ns",
                    "name": "acme",
                    "uid": "t",
                    "resourceVersion": str(time.monotonic_ns()),
                },
                "spec": {"databases": [{"blueprint": "shop"}]},
                "status": {"databases": [{"name": "shop", "blueprint": "shop", **record}]},
            }
        )

    @property
    def view(self) -> TenantView:
        obj = self.tenants.get(KEY)
        assert obj is not None
        return TenantView(obj)

    def judge(self, version: str | None, error: ReconcileError | None = None) -> Object:
        """What is written after a reconcile that found the data at a version, or ended in an error."""
        outcome = Outcome("shop", {**self.view.known["shop"], "version": version}, error=error)
        if error is not None and outcome.record is not None:
            outcome.record["version"] = self.view.known["shop"].get("version")
        self.runs.judge(self.view, [outcome], None)
        assert outcome.record is not None
        found: Object = outcome.record.get("rollout") or {}
        return found

    def choose(self, **state: Any) -> str | None:
        found = DatabaseState(Ownership.OURS, exists=True, **state)
        return self.runs.choose(self.view, self.view.entries[0], "1.1", found, row=False).version


def test_a_tenant_gets_the_version_when_its_turn_has_come_and_not_before() -> None:
    world = World()
    assert world.choose(version="1.0") == "1.0"
    world.runs.advance(world.run)
    assert world.woken == [KEY]
    assert world.choose(version="1.0") == "1.1"


def test_what_was_done_is_written_with_the_version_from_before() -> None:
    world = World()
    world.runs.advance(world.run)
    found = world.judge("1.1")
    assert (found["result"], found["previous"], found["uid"]) == ("Migrated", "1.0", "r")


def test_a_crash_between_the_commit_and_the_status_forgets_nothing() -> None:
    """The data is at 1.1, the status is from before, and after the restart it is nobody's turn yet."""
    world = World()
    assert world.choose(version="1.1") == "1.1"
    assert world.judge("1.1")["previous"] == "1.0"


def test_what_was_made_during_a_rollout_would_go_back_to_the_version_from_before() -> None:
    world = World()
    world.put({})
    assert world.judge("1.1")["previous"] == "1.0"


def test_a_tenant_that_had_the_version_is_not_touched() -> None:
    world = World()
    world.put({"version": "1.1"})
    assert world.judge("1.1") == {}


def test_what_a_person_must_mend_fails_at_once() -> None:
    world = World()
    world.runs.advance(world.run)
    found = world.judge(None, Stalled("MigrationFailed", "table x exists"))
    assert (found["result"], found["reason"], found["message"]) == ("Failed", "MigrationFailed", "table x exists")
    assert found["round"] == "1/"


def test_passing_faults_are_tried_again_so_many_times() -> None:
    world = World(retries=2)
    world.runs.advance(world.run)
    error = Retryable("MigrationBlocked", "locked")
    assert [world.judge(None, error).get("result") for _ in range(3)] == [None, None, "Failed"]


def test_something_missing_is_waited_for_until_the_time_is_over() -> None:
    world = World(timeout="1s")
    world.runs.advance(world.run)
    error = Waiting("PlanNotFound", "no plan")
    assert world.judge(None, error) == {}
    world.run.running[KEY].since -= 2
    found = world.judge(None, error)
    assert (found["result"], found["reason"]) == ("Failed", "PlanNotFound")
    assert "not done within 1s" in found["message"]


def test_a_server_that_is_away_is_no_tenants_failure() -> None:
    world = World(retries=0)
    world.runs.advance(world.run)
    assert world.judge(None, Retryable("ServerUnreachable", "gone")) == {}
    assert world.run.running == {}
    assert world.run.standing(KEY) is Standing.PENDING


def test_nobody_fails_who_was_not_begun() -> None:
    world = World()
    assert world.judge(None, Stalled("NameTaken", "x")) == {}


def failed(world: World) -> None:
    world.runs.advance(world.run)
    world.put({"version": "1.0", "rollout": world.judge(None, Stalled("MigrationFailed", "bad"))})
    world.runs.changed(KEY)


def test_who_failed_says_so_as_long_as_the_rollout_stands_by_it() -> None:
    world = World()
    failed(world)
    assert world.run.count(Standing.FAILED) == 1
    assert world.woken == [KEY, KEY], "it is looked at again, without the version"
    record = world.view.known["shop"]
    error = world.runs.failure_of(world.view, record)
    assert (error.reason if error else "") == "MigrationFailed"
    assert world.choose(version="1.0") == "1.0"
    assert world.choose(version="1.0", target="1.1") is None
    world.rollouts.drop(("ns", "go"))
    assert world.runs.failure_of(world.view, record) is None


@pytest.mark.parametrize("phase", ["RolledBack", "Cancelled"])
def test_a_rollout_that_is_over_with_lets_go(phase: str) -> None:
    world = World()
    failed(world)
    obj = world.rollouts.get(("ns", "go"))
    assert obj is not None
    obj["status"]["phase"] = phase
    assert world.runs.failure_of(world.view, world.view.known["shop"]) is None


def test_the_way_back_goes_to_the_version_from_before_and_says_so() -> None:
    world = World(back=True)
    touched = {"name": "go", "uid": "r", "version": "1.1", "previous": "0.9", "result": "Migrated"}
    world.put({"version": "1.1", "rollout": touched})
    world.runs.changed(KEY)
    assert world.woken == [KEY]
    assert world.choose(version="1.1") == "0.9"
    found = world.judge("0.9")
    assert (found["result"], found["previous"]) == ("RolledBack", "0.9")


def test_a_way_back_that_fails_is_told_apart() -> None:
    world = World(back=True, retries=0)
    touched = {"name": "go", "uid": "r", "version": "1.1", "previous": "1.0", "result": "Migrated"}
    world.put({"version": "1.1", "rollout": touched})
    world.runs.changed(KEY)
    found = world.judge(None, Stalled("MigrationFailed", "rollback of x"))
    assert (found["result"], found["previous"]) == ("RollBackFailed", "1.0")


def test_who_was_failed_or_under_way_is_looked_at_when_the_rollout_ends() -> None:
    world = World()
    world.runs.advance(world.run)
    world.woken.clear()
    world.runs.stop(("ns", "go"))
    assert world.woken == [KEY]
    assert world.runs.get("ns/shop") is None


DRIFT = {"schemaDrift": {"digest": "d", "objects": ["table extra: added"], "count": 1}}


def drifted(world: World, **record: Any) -> None:
    world.put({"version": "1.0", **DRIFT, **record})
    world.runs.changed(KEY)


def reason(world: World, record: Object | None = None) -> str:
    found = world.runs.behind(world.view, Outcome("shop", record or world.view.known["shop"]))
    return found.reason if found is not None else ""


def test_a_tenant_whose_schema_was_changed_is_kept_from_the_version_and_says_so() -> None:
    world = World(freezes=True)
    drifted(world)
    assert world.woken == [KEY]
    world.runs.advance(world.run)
    assert world.run.running == {}
    assert (world.run.done, world.run.count(Standing.SKIPPED), world.run.frozen) == (True, 1, {KEY})
    found = world.judge("1.0")
    assert (found["result"], found["version"], found["previous"]) == ("Frozen", "1.1", "1.0")
    assert reason(world, {**world.view.known["shop"], "rollout": found}) == "Frozen"
    assert world.choose(version="1.0") == "1.0"


def test_without_that_policy_it_is_taken_along() -> None:
    world = World()
    drifted(world)
    world.runs.advance(world.run)
    assert list(world.run.running) == [KEY]
    assert reason(world) == ""


def test_what_was_acknowledged_takes_its_turn() -> None:
    world = World(freezes=True)
    drifted(world)
    drifted(world, acknowledgedSchema="d")
    assert world.run.frozen == set()
    assert list(world.run.running) == [KEY]
    assert world.choose(version="1.0") == "1.1"


def test_a_change_that_is_seen_while_it_is_migrated_ends_its_turn() -> None:
    world = World(freezes=True)
    world.runs.advance(world.run)
    drifted(world)
    assert (world.run.running, world.run.done) == ({}, True)
    assert world.choose(version="1.0") == "1.0"


def test_the_way_back_freezes_nobody() -> None:
    world = World(back=True, freezes=True)
    touched = {"name": "go", "uid": "r", "version": "1.1", "previous": "0.9", "result": "Migrated"}
    world.put({"version": "1.1", **DRIFT, "rollout": touched})
    world.runs.changed(KEY)
    assert world.choose(version="1.1") == "0.9"
    world.put({"version": "1.0", **DRIFT, "rollout": {**touched, "result": "Frozen"}})
    world.runs.changed(KEY)
    assert world.run.standing(KEY) is Standing.SKIPPED


def test_once_nothing_is_in_its_way_any_more_it_makes_up_for_the_version() -> None:
    world = World(freezes=True)
    world.runs.stop(("ns", "go"))
    kept = {"rollout": {"name": "go", "uid": "r", "version": "1.0", "result": "Frozen"}}
    world.put({"version": "0.9", **kept})
    obj = world.rollouts.get(("ns", "go"))
    assert obj is not None
    assert reason(world) == "", "not while there is another rollout"
    obj["status"]["phase"] = "Completed"
    assert reason(world) == "Thawed"
    assert world.choose(version="0.9") == "1.0"
    world.put({"version": "1.0", **kept})
    assert reason(world) == ""


def test_a_pin_is_no_rollout() -> None:
    world = World(freezes=True)
    drifted(world)
    tenant = world.view.obj
    tenant["spec"]["databases"][0]["version"] = "1.1"
    assert world.choose(version="1.0") == "1.1"
    assert reason(world) == ""
