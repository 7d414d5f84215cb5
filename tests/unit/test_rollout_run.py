"""Who is in a rollout, whose turn it is, and what its status says; all without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_crds.common import LabelSelector
from tenantry_crds.rollout import MAX_FAILURES, RolloutSpec
from tenantry_operator.cache import Key, key_of
from tenantry_operator.rollouts import report
from tenantry_operator.rollouts.members import Aim, Result, Standing, member
from tenantry_operator.rollouts.phase import Phase
from tenantry_operator.rollouts.run import Run
from tenantry_operator.rollouts.selectors import matches

Object = dict[str, Any]
AIM = Aim("shop", "1.1", "uid", "1/")
NOW = 1_000_000.0
POOL = ("ops", "pool-a")
OTHER = ("ops", "pool-b")


def tenant(
    name: str, version: str | None = "1.0", *, labels: Mapping[str, str] | None = None, **more: Any
) -> Object:
    record: Object = {"name": "shop", "blueprint": "shop", "instance": more.pop("instance", "pool-a")}
    if version is not None:
        record["version"] = version
    if "rollout" in more:
        record["rollout"] = more.pop("rollout")
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": dict(labels or {})},
        "spec": {"databases": [{"blueprint": "shop", **more.pop("database", {})}], **more},
        "status": {"databases": [record]},
    }


def server_of(obj: Object) -> Key:
    return ("ops", obj["status"]["databases"][0]["instance"])


def run(tenants: list[Object], aim: Aim = AIM, **spec: Any) -> Run:
    return Run(
        RolloutSpec.model_validate({"blueprint": "shop", "version": "1.1", **spec}), aim, tenants, server_of
    )


def admit(found: Run, now: float = NOW, down: frozenset[Key] = frozenset()) -> list[str]:
    return [name for _, name in found.admit(now, 0.0, lambda server: server not in down)]


def migrated(obj: Object, version: str = "1.1") -> Object:
    obj["status"]["databases"][0]["version"] = version
    return obj


def failed(obj: Object, round_: str = "1/", result: str = Result.FAILED) -> Object:
    obj["status"]["databases"][0]["rollout"] = {
        "name": "r",
        "uid": "uid",
        "version": "1.1",
        "previous": "1.0",
        "result": result,
        "round": round_,
        "reason": "MigrationFailed",
        "message": "table x exists",
    }
    return obj


@pytest.mark.parametrize(
    ("selector", "labels", "chosen"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, {"a": "1"}, False),
    ],
)
def test_selectors_are_those_of_kubernetes(selector: Object, labels: dict[str, str], chosen: bool) -> None:
    assert matches(LabelSelector.model_validate(selector), labels) is chosen


@pytest.mark.parametrize(
    ("obj", "standing", "reason"),
    [
        (tenant("a"), Standing.PENDING, ""),
        (tenant("a", "1.1"), Standing.DONE, ""),
        (tenant("a", None), Standing.SKIPPED, "NoData"),
        (tenant("a", database={"version": "1.0"}), Standing.SKIPPED, "Pinned"),
        # Shared tables are everybody's: a version in the spec is no pin.
        (tenant("a", database={"version": "1.0", "isolation": "Row"}), Standing.PENDING, ""),
        (tenant("a", state="Suspended"), Standing.PENDING, ""),
        (tenant("a", state="Archived"), Standing.SKIPPED, "Archived"),
        (tenant("a", state="Draft"), Standing.SKIPPED, "Draft"),
        (failed(tenant("a")), Standing.FAILED, "MigrationFailed"),
        (failed(tenant("a"), "0/"), Standing.PENDING, ""),
    ],
)
def test_how_a_tenant_stands(obj: Object, standing: Standing, reason: str) -> None:
    found = member(AIM, obj)
    assert (found.standing, found.reason) == (standing, reason)


def test_a_tenant_is_through_when_all_its_databases_are() -> None:
    obj = tenant("a", "1.1")
    obj["spec"]["databases"].append({"name": "second", "blueprint": "shop"})
    obj["status"]["databases"].append({"name": "second", "blueprint": "shop", "version": "1.0"})
    assert member(AIM, obj).standing is Standing.PENDING
    obj["status"]["databases"][1]["version"] = "1.1"
    assert member(AIM, obj).standing is Standing.DONE


def test_on_the_way_back_only_those_count_that_were_touched() -> None:
    back = Aim("shop", "1.1", "uid", "1/", back=True)
    assert member(back, tenant("a", "1.1")).standing is Standing.SKIPPED
    assert member(back, failed(tenant("a", "1.1"), result=Result.MIGRATED)).standing is Standing.PENDING
    # One that failed half-way outside of a transaction has something to undo as well.
    assert member(back, failed(tenant("a"))).standing is Standing.PENDING
    assert member(back, failed(tenant("a"), result=Result.ROLLED_BACK)).standing is Standing.DONE
    assert member(back, failed(tenant("a", "1.1"), result=Result.ROLL_BACK_FAILED)).standing is Standing.FAILED


def test_no_more_at_a_time_than_it_says_overall_and_per_server() -> None:
    tenants = [tenant(f"t{number}", instance=("pool-a", "pool-b")[number % 2]) for number in range(20)]
    found = run(tenants, maxParallel=5, maxParallelPerServer=3)
    assert len(admit(found)) == 5
    assert max(list(found._per_server.values())) == 3
    assert admit(found) == []
    first = next(iter(found.running))
    found.update(first, migrated(tenant(first[1])))
    assert len(admit(found)) == 1


def test_a_server_that_is_away_holds_up_its_own_tenants_alone() -> None:
    tenants = [tenant(f"t{number}", instance=("pool-a", "pool-b")[number % 2]) for number in range(8)]
    found = run(tenants, maxParallel=3)
    assert admit(found, down=frozenset({POOL})) == ["t1", "t3", "t5"]
    found.put_back(("ns", "t1"))
    assert admit(found, down=frozenset({POOL, OTHER})) == []
    # Who had to wait comes last.
    assert admit(found, down=frozenset({POOL})) == ["t7"]
    found.update(("ns", "t7"), migrated(tenant("t7", instance="pool-b")))
    assert admit(found, down=frozenset({POOL})) == ["t1"]


def test_who_waits_keeps_its_place_whatever_else_changes_in_it() -> None:
    found = run([tenant(f"t{number}") for number in range(4)], maxParallel=1)
    assert admit(found) == ["t0"]
    found.update(("ns", "t1"), tenant("t1", labels={"seen": "again"}))
    found.update(("ns", "t0"), migrated(tenant("t0")))
    assert admit(found) == ["t1"]
    # On another server it is a newcomer.
    found.update(("ns", "t2"), tenant("t2", instance="pool-b"))
    found.update(("ns", "t1"), migrated(tenant("t1")))
    assert admit(found) == ["t3"]
    assert sum(len(keys) for wave in found._waves for keys in wave.pending.values()) == 1


WAVES = [
    {"name": "canary", "selector": {"matchLabels": {"ring": "0"}}, "soak": "60s"},
    {"name": "early", "selector": {"matchLabels": {"ring": "1"}}},
]


def test_waves_come_in_order_and_the_rest_comes_last() -> None:
    tenants = [tenant(f"t{ring}", labels={"ring": str(ring)}) for ring in (2, 1, 0)]
    found = run(tenants, waves=WAVES)
    assert admit(found) == ["t0"]
    assert found.wave_name(found.current or 0) == "canary"
    found.update(("ns", "t0"), migrated(tenant("t0", labels={"ring": "0"})))
    assert admit(found) == []
    assert found.soaking(NOW) == 60.0
    assert admit(found, NOW + 59) == []
    assert report.phase(found, NOW + 59) is Phase.SOAKING
    assert admit(found, NOW + 61) == ["t1"]
    found.update(("ns", "t1"), migrated(tenant("t1", labels={"ring": "1"})))
    assert admit(found, NOW + 61) == ["t2"]
    assert [name for name, _ in found.waves()] == ["canary", "early", "default"]


def test_who_comes_meanwhile_gets_the_version_once_the_wave_has_begun() -> None:
    found = run([tenant(f"t{ring}", labels={"ring": str(ring)}) for ring in (0, 1)], waves=WAVES)
    new = [tenant(f"n{ring}", None, labels={"ring": str(ring)}) for ring in (0, 1, 2)]
    assert [found.reached(obj) for obj in new] == [False, False, False]
    admit(found)
    assert [found.reached(obj) for obj in new] == [True, False, False]


@pytest.mark.parametrize(("budget", "tolerated"), [(0, 0), (2, 2), ("10%", 1), ("6%", 0), ("100%", 15)])
def test_the_budget_is_a_number_or_a_share_rounded_down(budget: int | str, tolerated: int) -> None:
    found = run([tenant(f"t{number:02}") for number in range(15)], failureBudget=budget)
    assert found.budget == tolerated
    for number in range(tolerated):
        found.update(("ns", f"t{number:02}"), failed(tenant(f"t{number:02}")))
    assert not found.exceeded
    if tolerated < 15:
        found.update(("ns", "t14"), failed(tenant("t14")))
        assert found.exceeded
        assert report.phase(found, NOW) is Phase.PAUSED
        assert admit(found) == []


def test_nobody_is_begun_while_it_is_held_and_who_is_begun_goes_on() -> None:
    found = run([tenant("a"), tenant("b")], maxParallel=1)
    assert admit(found) == ["a"]
    found.held = True
    found.update(("ns", "a"), migrated(tenant("a")))
    assert admit(found) == []
    assert found.count(Standing.DONE) == 1


def test_a_tenant_that_goes_leaves_the_numbers() -> None:
    found = run([tenant("a"), tenant("b")])
    admit(found)
    found.update(("ns", "a"), None)
    assert (found.total, len(found.running)) == (1, 1)


def test_a_run_that_is_built_anew_goes_on_where_the_other_ended() -> None:
    tenants = [migrated(tenant("a")), failed(tenant("b")), tenant("c"), tenant("d")]
    found = run(tenants, failureBudget=1)
    assert (found.count(Standing.DONE), found.count(Standing.FAILED)) == (1, 1)
    assert admit(found) == ["c", "d"]


def test_another_round_tries_again_what_failed_and_keeps_who_is_being_migrated() -> None:
    tenants = [failed(tenant("a")), tenant("b"), tenant("c")]
    first = run(tenants, maxParallel=1, failureBudget=1)
    assert admit(first) == ["b"]
    again = run(tenants, Aim("shop", "1.1", "uid", "2/"), maxParallel=2, failureBudget=1)
    again.take_over(first.running)
    assert admit(again) == ["a"]
    assert sorted(name for _, name in again.running) == ["a", "b"]


@given(st.lists(st.sampled_from(["done", "failed", "gone", "admit", "new"]), max_size=60), st.integers(1, 4))
def test_whatever_happens_the_numbers_add_up(events: list[str], parallel: int) -> None:
    objects = {
        f"t{number}": tenant(f"t{number}", instance=("pool-a", "pool-b")[number % 2]) for number in range(6)
    }
    found = run(list(objects.values()), maxParallel=parallel, failureBudget="50%")
    for number, event in enumerate(events):
        key = next(iter(found.running), None)
        if event == "admit":
            admit(found)
        elif event == "new":
            obj = tenant(f"n{number}")
            objects[f"n{number}"] = obj
            found.update(key_of(obj), obj)
        elif key is not None:
            obj = objects[key[1]]
            if event == "gone":
                del objects[key[1]]
                found.update(key, None)
            else:
                found.update(key, migrated(obj) if event == "done" else failed(obj))
        assert len(found.running) <= parallel
        assert found.total == len(objects)
        assert sum(found._per_server.values()) == len(found.running)
        waiting = sum(len(keys) for wave in found._waves for keys in wave.pending.values())
        assert waiting + len(found.running) == found.count(Standing.PENDING)
        assert set(found.running) <= {key_of(obj) for obj in objects.values()}


def test_the_status_of_a_rollout_over_ten_thousand_tenants_stays_small() -> None:
    long = "x" * 4000
    tenants = [failed(tenant(f"tenant-{number:05}")) for number in range(10_000)]
    for obj in tenants:
        obj["status"]["databases"][0]["rollout"]["message"] = long
    found = run(tenants, waves=[{"name": f"wave-{number}", "soak": "1h"} for number in range(32)])
    fields = report.fields(found, report.phase(found, NOW), {}, datetime.now(UTC))
    assert (fields["failed"], len(fields["failures"])) == (10_000, MAX_FAILURES)
    assert len(json.dumps(fields)) < 64 * 1024


def test_what_a_paused_rollout_says() -> None:
    tenants = [failed(tenant("bad-1")), failed(tenant("bad-2")), tenant("c"), migrated(tenant("d"))]
    found = run(tenants, failureBudget=1)
    at = report.phase(found, NOW)
    conditions = {c.type: c for c in report.conditions(found, at)}
    assert (conditions["Ready"].status, conditions["Stalled"].status) == (False, True)
    assert conditions["Stalled"].reason == "FailureBudgetExceeded"
    for words in ("1 of 4", "bad-1, bad-2", "tenantry.dev/resume"):
        assert words in conditions["Stalled"].message
    fields = report.fields(found, at, {}, datetime.now(UTC))
    assert (fields["progress"], fields["total"], fields["completed"], fields["failed"]) == (75, 4, 1, 2)
    assert fields["failures"][0] == {
        "tenant": "bad-1",
        "database": "shop",
        "reason": "MigrationFailed",
        "message": "table x exists",
    }
