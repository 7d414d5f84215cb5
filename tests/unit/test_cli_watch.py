"""``tenantry rollout status --watch``: each change is told, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import yaml

from tenantry_crds.common import RESUME_ANNOTATION
from tenantry_operator.cli import follow
from tests.unit.cli_standin import Act, Cli, Object, Standin, rollout

WATCH = ("rollout", "status", "shop-1.1", "--watch")
ESCAPE = "\x1b"


def changes(api: Standin, *objects: Object) -> Act:
    """Puts objects, one shortly after the other."""

    async def act() -> None:
        for obj in objects:
            await asyncio.sleep(0.05)
            api.put("rollouts", obj)

    return act


def completed(**status: Any) -> Object:
    return rollout("Completed", completed=10, running=0, progress=100, **status)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TENANTRY_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def test_each_change_is_one_line_until_it_is_completed(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    api.acts.append(changes(api, rollout(completed=5, running=2), rollout(completed=5, running=2), completed()))
    result = cli(*WATCH)
    assert result.out.splitlines() == [
        "2026-03-02T10:00:00Z Running, wave default: 3/10 completed, 4 running",
        "2026-03-02T10:00:00Z Running, wave default: 5/10 completed, 2 running",
        "2026-03-02T10:00:00Z Completed, wave default: 10/10 completed",
    ]
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("variable", ["NO_COLOR", "FORCE_COLOR"])
def test_what_is_no_terminal_gets_no_escape_codes(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    api.put("rollouts", rollout())
    api.acts.append(changes(api, completed()))
    result = cli(*WATCH)
    assert ESCAPE not in result.out + result.err + cli("rollout", "list").out
    assert len(result.out.splitlines()) == 2


def test_a_failure_is_told_once(api: Standin, cli: Cli) -> None:
    failed = {"tenant": "acme", "database": "shop", "reason": "MigrationFailed", "message": "it\nbroke"}
    api.put("rollouts", rollout())
    api.acts.append(changes(api, rollout(failed=1, failures=[failed]), completed(failed=1, failures=[failed])))
    lines = [line for line in cli(*WATCH).out.splitlines() if "acme" in line]
    assert lines == ["2026-03-02T10:00:00Z acme/shop failed: MigrationFailed: it broke"]


def test_json_is_one_document_a_line(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    api.acts.append(changes(api, completed()))
    documents = [json.loads(line) for line in cli(*WATCH, "-o", "json").out.splitlines()]
    assert [obj["status"]["phase"] for obj in documents] == ["Running", "Completed"]
    assert all("managedFields" not in obj["metadata"] for obj in documents)


def test_yaml_is_a_stream_of_documents(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    api.acts.append(changes(api, completed()))
    documents = list(yaml.safe_load_all(cli(*WATCH, "-o", "yaml").out))
    assert [obj["status"]["phase"] for obj in documents] == ["Running", "Completed"]


@pytest.mark.parametrize("phase", ["Failed", "RolledBack", "Cancelled"])
def test_an_end_without_the_goal_is_code_one_and_says_why(api: Standin, cli: Cli, phase: str) -> None:
    api.put("rollouts", rollout())
    api.acts.append(changes(api, rollout(phase, message="because of this")))
    result = cli(*WATCH)
    assert result.code == 1
    assert result.err == f"error: Rollout shop/shop-1.1 is {phase}: because of this\n"


def test_a_paused_one_is_code_three(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    api.acts.append(changes(api, rollout("Paused", running=0, message="over its budget")))
    result = cli(*WATCH)
    assert (result.code, result.err) == (3, "error: Rollout shop/shop-1.1 is Paused: over its budget\n")


def test_a_paused_one_with_tenants_under_way_is_waited_for(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout("Paused", running=2))
    api.acts.append(changes(api, rollout("Paused", running=0)))
    result = cli(*WATCH)
    assert (result.code, len(result.out.splitlines())) == (3, 2)


def test_one_that_is_stalled_before_it_began_is_code_three(api: Standin, cli: Cli) -> None:
    stalled = {"type": "Stalled", "status": "True", "reason": "DryRunFailed", "observedGeneration": 1}
    api.put("rollouts", rollout("Pending", conditions=[stalled], message="line 1"))
    result = cli(*WATCH)
    assert (result.code, result.err) == (3, "error: Rollout shop/shop-1.1 is Pending: line 1\n")


def test_follow_stays_while_it_is_paused(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout("Paused", running=0))
    api.acts.append(changes(api, rollout(), completed()))
    result = cli(*WATCH, "--follow")
    assert [line.split()[1].rstrip(",:") for line in result.out.splitlines()] == ["Paused", "Running", "Completed"]
    assert result.code == 0


def test_the_old_status_of_a_resumed_one_is_no_end(api: Standin, cli: Cli) -> None:
    old = rollout("Paused", running=0)
    old["metadata"]["annotations"] = {RESUME_ANNOTATION: "now"}
    new = completed(round="1/now")
    new["metadata"]["annotations"] = {RESUME_ANNOTATION: "now"}
    api.put("rollouts", old)
    api.acts.append(changes(api, new))
    result = cli(*WATCH)
    assert (result.code, result.err) == (0, "")


def test_the_timeout_is_code_four(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    began = time.monotonic()
    result = cli(*WATCH, "--timeout", "1s")
    assert (result.code, result.out.count("\n")) == (4, 1)
    assert result.err == (
        "error: Rollout shop/shop-1.1 is Running after 1s; it goes on, watch it again to see how\n"
    )
    assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize("option", [["--follow"], ["--timeout", "1m"]])
def test_options_of_watching_need_watch(api: Standin, cli: Cli, option: list[str]) -> None:
    result = cli("rollout", "status", "shop-1.1", *option)
    assert (result.code, result.err.count("\n"), api.asked) == (2, 1, [])
    assert "--watch" in result.err


def test_a_duration_that_is_none_is_refused(api: Standin, cli: Cli) -> None:
    result = cli(*WATCH, "--timeout", "soon")
    assert (result.code, result.err.count("\n"), api.asked) == (2, 1, [])
    assert "soon" in result.err


def test_a_cut_connection_is_opened_again(api: Standin, cli: Cli) -> None:
    async def cut() -> None:
        api.put("rollouts", rollout(completed=4))
        await asyncio.sleep(0.05)
        api.cut()

    api.put("rollouts", rollout())
    api.acts.extend([cut, changes(api, completed())])
    result = cli(*WATCH)
    assert (result.code, result.err) == (0, "")
    assert [line.split("default: ")[1][:4] for line in result.out.splitlines()] == ["3/10", "4/10", "10/1"]


def test_a_change_while_the_connection_was_cut_is_told(api: Standin, cli: Cli) -> None:
    async def cut_then_change() -> None:
        api.cut()
        api.put("rollouts", rollout(completed=6))

    api.put("rollouts", rollout())
    api.acts.extend([cut_then_change, changes(api, completed())])
    assert "6/10 completed" in cli(*WATCH).out


def test_a_version_that_is_too_old_is_read_anew(api: Standin, cli: Cli) -> None:
    async def forget() -> None:
        api.put("rollouts", {**rollout(), "metadata": {"name": "other", "namespace": "shop"}})
        api.forget()
        api.put("rollouts", completed())
        api.cut()

    api.put("rollouts", rollout())
    api.acts.append(forget)
    result = cli(*WATCH)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].endswith("10/10 completed")


def test_a_watch_that_is_open_but_silent_does_not_hide_the_end(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def untold() -> None:
        obj = api.objects["rollouts", "shop", "shop-1.1"]
        meta = {**obj["metadata"], "resourceVersion": "200"}
        api.objects["rollouts", "shop", "shop-1.1"] = {
            **obj,
            **{"status": completed()["status"], "metadata": meta},
        }

    monkeypatch.setattr(follow, "WATCH", 1)
    api.put("rollouts", rollout())
    api.acts.append(untold)
    assert cli(*WATCH).code == 0


def test_watches_that_are_always_too_old_do_not_hide_the_end(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "POLL", 0.1)
    api.refusals["WATCH", "rollouts"] = (410, "too old")
    api.put("rollouts", rollout())

    async def soon() -> None:
        while not any(asked.query.get("watch") for asked in api.asked):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        api.put("rollouts", completed())

    asyncio.run_coroutine_threadsafe(soon(), api._loop)
    assert cli(*WATCH).code == 0


def test_who_may_not_watch_looks_from_time_to_time(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "POLL", 0.1)
    api.refusals["WATCH", "rollouts"] = (403, "no watching")
    api.put("rollouts", rollout())

    async def soon() -> None:
        await asyncio.sleep(0.5)
        api.put("rollouts", completed())

    asyncio.run_coroutine_threadsafe(soon(), api._loop)
    result = cli(*WATCH)
    assert (result.code, result.err) == (0, "")
    assert len([asked for asked in api.asked if asked.query.get("watch")]) == 1


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(api: Standin, cli: Cli) -> None:
    async def away() -> None:
        await api.away(0.6)

    api.put("rollouts", rollout())
    api.acts.extend([away, changes(api, completed())])
    result = cli(*WATCH)
    assert result.code == 0
    assert result.err.count("the API server does not answer") == 1
    assert result.err.count("\n") == 1


def test_each_time_that_the_api_server_is_away_is_told(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "POLL", 0.2)

    async def away() -> None:
        await api.away(0.6)

    api.put("rollouts", rollout())
    api.acts.extend([away, away, changes(api, completed())])
    assert cli(*WATCH).err.count("the API server does not answer") == 2


def test_an_api_server_that_stays_away_is_given_up(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "GIVE_UP", 0.3)

    async def away() -> None:
        await api.away(3)

    api.put("rollouts", rollout())
    api.acts.append(away)
    result = cli(*WATCH)
    assert result.code == 2
    assert result.err.splitlines()[-1].startswith("error: cannot reach the API server")


@pytest.mark.parametrize("replaced", [False, True])
def test_one_that_is_deleted_meanwhile_is_code_one(api: Standin, cli: Cli, replaced: bool) -> None:
    async def delete() -> None:
        api.remove("rollouts", "shop", "shop-1.1")
        if replaced:
            obj = completed()
            obj["metadata"]["uid"] = "another"
            api.put("rollouts", obj)

    api.put("rollouts", rollout())
    api.acts.append(delete)
    began = time.monotonic()
    result = cli(*WATCH)
    assert time.monotonic() - began < 10  # not only when the watch is renewed
    assert (result.code, result.err) == (1, "error: Rollout shop/shop-1.1 was deleted before its end\n")


def test_one_that_was_replaced_while_nobody_watched_is_another_one(api: Standin, cli: Cli) -> None:
    async def replace() -> None:
        api.cut()
        obj = completed()
        obj["metadata"]["uid"] = "another"
        api.put("rollouts", obj)

    api.put("rollouts", rollout())
    api.acts.append(replace)
    result = cli(*WATCH)
    assert result.code == 1
    assert "Completed" not in result.out
