"""``tenantry rollout``: what is printed, what is changed, and how it ends. Watching has its own tests."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
import yaml

from tenantry_crds.common import RESUME_ANNOTATION
from tenantry_operator.cli import units
from tests.unit.cli_standin import NOW, Cli, Object, Standin, rollout

PATH = "/apis/tenantry.dev/v1alpha1/namespaces/shop/rollouts/shop-1.1"


class Keyboard(io.StringIO):
    """Somebody who types an answer."""

    def isatty(self) -> bool:
        return True


def named(name: str, created: str, namespace: str = "shop", **status: Any) -> Object:
    obj = rollout(**status)
    meta = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {**obj, "metadata": meta}


def failure(tenant: str, message: str = "it\nbroke") -> Object:
    return {"tenant": tenant, "database": "shop", "reason": "MigrationFailed", "message": message}


def test_the_list_is_a_table_with_the_oldest_first(api: Standin, cli: Cli) -> None:
    api.put("rollouts", named("a-new-one", "2026-03-02T09:00:00Z", phase="Pending", wave=None, progress=None))
    api.put("rollouts", named("old-one", "2026-02-20T10:00:00Z", phase="Completed", progress=100))
    result = cli("rollout", "list")
    lines = result.out.splitlines()
    assert lines[0].split() == [
        *("NAME", "BLUEPRINT", "VERSION", "PHASE", "WAVE"),
        *("PROGRESS", "COMPLETED", "FAILED", "TOTAL", "AGE"),
    ]
    assert lines[1].split() == [
        "old-one",
        "shop",
        "1.1",
        "Completed",
        "default",
        "100",
        "%",
        "3",
        "0",
        "10",
        "10d",
    ]
    assert lines[2].split() == ["a-new-one", "shop", "1.1", "Pending", "-", "0", "%", "3", "0", "10", "1h"]
    assert (result.code, result.err, len(lines)) == (0, "", 3)


def test_the_list_of_all_namespaces_names_them(api: Standin, cli: Cli) -> None:
    api.put("rollouts", named("two", "2026-03-02T09:00:00Z", "zoo"))
    api.put("rollouts", named("one", "2026-03-02T09:00:00Z"))
    lines = cli("rollout", "list", "-A").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["NAMESPACE", "NAME"], ["shop", "one"], ["zoo", "two"]]


def test_the_list_is_of_the_namespace_that_is_named(api: Standin, cli: Cli) -> None:
    api.put("rollouts", named("two", "2026-03-02T09:00:00Z", "zoo"))
    api.put("rollouts", named("one", "2026-03-02T09:00:00Z"))
    lines = cli("rollout", "list", "-n", "zoo").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["two"]


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_list_as_data_is_a_list_of_whole_objects(api: Standin, cli: Cli, form: str, read: Any) -> None:
    api.put("rollouts", rollout())
    result = cli("rollout", "list", "-o", form)
    value = read(result.out)
    assert (value["apiVersion"], value["kind"]) == ("v1", "List")
    (item,) = value["items"]
    assert (item["kind"], item["metadata"]["name"]) == ("Rollout", "shop-1.1")
    assert item["status"] == rollout()["status"]
    assert "managedFields" not in item["metadata"]
    assert result.code == 0


def test_an_empty_list_says_so_on_standard_error(api: Standin, cli: Cli) -> None:
    assert cli("rollout", "list").err == "no Rollouts in namespace shop\n"
    result = cli("rollout", "list", "-A")
    assert (result.code, result.out, result.err) == (0, "", "no Rollouts in any namespace\n")


def test_an_empty_list_as_json_is_still_a_list(api: Standin, cli: Cli) -> None:
    result = cli("rollout", "list", "-o", "json")
    assert json.loads(result.out)["items"] == []
    assert (result.code, result.err) == (0, "")


def test_the_status_tells_how_far_it_is_and_how_long_it_takes(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    result = cli("rollout", "status", "shop-1.1")
    assert (result.code, result.err) == (0, "")
    # Three tenants in 25 minutes that were not soaked: seven more take 58m20s.
    assert result.out.startswith(
        "Rollout:  shop/shop-1.1\n"
        "Target:   version 1.1 of blueprint shop\n"
        "Phase:    Running, wave default\n"
        "Progress: 30 %: 3/10 completed, 4 running\n"
        "Elapsed:  30m, about 58m20s left\n"
        "Message:  3 of 10 tenants have version 1.1\n\n"
        "WAVE      TOTAL   COMPLETED   FAILED   SOAKS UNTIL\n"
    )


def test_the_status_lists_what_failed_one_line_each(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout(failed=2, failures=[failure("acme"), failure("globex", "")]))
    lines = cli("rollout", "status", "shop-1.1").out.splitlines()
    assert lines[-3].split() == ["FAILED", "TENANT", "DATABASE", "REASON", "MESSAGE"]
    assert lines[-2].split() == ["acme", "shop", "MigrationFailed", "it", "broke"]
    assert lines[-1].split() == ["globex", "shop", "MigrationFailed", "-"]


def test_the_status_of_one_that_has_none_yet_is_pending(api: Standin, cli: Cli) -> None:
    obj = rollout()
    del obj["status"]
    api.put("rollouts", obj)
    result = cli("rollout", "status", "shop-1.1")
    assert "Phase:    Pending\nProgress: 0 %: 0/0 completed\n" in result.out + "\n"
    assert result.code == 0


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_status_as_data_is_the_object(api: Standin, cli: Cli, form: str, read: Any) -> None:
    put = api.put("rollouts", rollout())
    value = read(cli("rollout", "status", "shop-1.1", "-o", form).out)
    assert value["metadata"].pop("resourceVersion") == put["metadata"]["resourceVersion"]
    assert "managedFields" not in value["metadata"]
    assert (value["kind"], value["spec"], value["status"]) == ("Rollout", put["spec"], put["status"])


@pytest.mark.parametrize(
    ("phase", "code"),
    [("Running", 0), ("Paused", 0), ("Completed", 0), ("Failed", 1), ("RolledBack", 1), ("Cancelled", 1)],
)
def test_the_exit_code_of_the_status_is_one_only_for_what_failed(
    api: Standin, cli: Cli, phase: str, code: int
) -> None:
    api.put("rollouts", rollout(phase))
    assert cli("rollout", "status", "shop-1.1").code == code


def test_pause_sets_paused_and_nothing_else(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    result = cli("rollout", "pause", "shop-1.1")
    (asked,) = [asked for asked in api.asked if asked.method == "PATCH"]
    assert (asked.path, asked.body) == (PATH, {"spec": {"paused": True}})
    assert asked.query == {"fieldManager": "kubectl-tenantry"}
    assert (result.code, result.out, result.err) == (0, "rollout.tenantry.dev/shop-1.1 paused\n", "")


def test_pause_leaves_one_alone_that_is_paused_already(api: Standin, cli: Cli) -> None:
    obj = rollout()
    obj["spec"]["paused"] = True
    api.put("rollouts", obj)
    result = cli("rollout", "pause", "shop-1.1")
    assert (result.code, result.out) == (0, "rollout.tenantry.dev/shop-1.1 already paused\n")
    assert api.paths("PATCH") == []


def test_pause_refuses_one_that_has_ended(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout("Completed"))
    result = cli("rollout", "pause", "shop-1.1")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: Rollout shop/shop-1.1 is Completed; there is nothing left to pause\n"
    assert api.paths("PATCH") == []


def test_pause_stops_one_that_has_ended_and_was_just_resumed(api: Standin, cli: Cli) -> None:
    obj = rollout("Completed", failed=1)
    obj["metadata"]["annotations"] = {RESUME_ANNOTATION: "just now"}
    api.put("rollouts", obj)
    assert cli("rollout", "pause", "shop-1.1").code == 0
    assert len(api.paths("PATCH")) == 1


def test_resume_clears_paused_and_asks_anew_each_time(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("rollouts", rollout("Paused"))
    result = cli("rollout", "resume", "shop-1.1")
    monkeypatch.setattr(units, "now", lambda: NOW + timedelta(milliseconds=5))
    cli("rollout", "resume", "shop-1.1")
    first, second = (asked.body for asked in api.asked if asked.method == "PATCH")
    assert first == {
        "metadata": {"annotations": {RESUME_ANNOTATION: "2026-03-02T10:00:00.000Z"}},
        "spec": {"paused": False},
    }
    assert second["metadata"]["annotations"] == {RESUME_ANNOTATION: "2026-03-02T10:00:00.005Z"}
    assert (result.code, result.out) == (0, "rollout.tenantry.dev/shop-1.1 resumed\n")


def test_resume_refuses_one_that_was_cancelled(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout("Cancelled"))
    result = cli("rollout", "resume", "shop-1.1")
    assert result.code == 2
    assert result.err.startswith("error: Rollout shop/shop-1.1 was cancelled")
    assert api.paths("PATCH") == []


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_what_was_changed_can_be_printed_as_data(
    api: Standin, cli: Cli, command: str, form: str, read: Any
) -> None:
    api.put("rollouts", rollout())
    value = read(cli("rollout", command, "shop-1.1", "-o", form).out)
    assert value["spec"]["paused"] is (command == "pause")
    assert value["metadata"]["generation"] == 2


def test_cancel_without_a_terminal_needs_yes(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    result = cli("rollout", "cancel", "shop-1.1")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "shop-1.1" in result.err
    assert "--yes" in result.err
    assert api.asked == []


def test_cancel_deletes_that_very_object(api: Standin, cli: Cli) -> None:
    api.put("rollouts", rollout())
    result = cli("rollout", "cancel", "shop-1.1", "--yes")
    (asked,) = [asked for asked in api.asked if asked.method == "DELETE"]
    assert (asked.path, asked.body) == (PATH, {"preconditions": {"uid": "uid-shop-1.1"}})
    assert (result.code, result.out) == (0, "rollout.tenantry.dev/shop-1.1 cancelled\n")
    assert api.objects == {}


def test_cancel_spares_one_that_was_made_anew_meanwhile(
    api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.put("rollouts", rollout())
    other = {**rollout(), "metadata": {"name": "shop-1.1", "namespace": "shop", "uid": "another"}}
    monkeypatch.setattr(
        "tenantry_operator.cli.rollouts.ask", lambda question: bool(api.put("rollouts", other)) or bool(question)
    )
    monkeypatch.setattr("sys.stdin", Keyboard())
    result = cli("rollout", "cancel", "shop-1.1")
    assert result.code == 2
    assert "answered 409" in result.err
    assert len(api.objects) == 1


def test_cancel_asks_and_says_how_far_it_is(api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put("rollouts", rollout())
    monkeypatch.setattr("sys.stdin", Keyboard("y\n"))
    result = cli("rollout", "cancel", "shop-1.1")
    assert "Cancel Rollout shop/shop-1.1 (Running, 3 of 10 tenants are through)?" in result.err
    assert (result.code, len(api.paths("DELETE"))) == (0, 1)


def test_cancel_takes_no_for_an_answer(api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put("rollouts", rollout())
    monkeypatch.setattr("sys.stdin", Keyboard("n\n"))
    result = cli("rollout", "cancel", "shop-1.1")
    assert (result.code, api.paths("DELETE")) == (1, [])
    assert result.err.endswith("nothing was done\n")


def test_cancel_without_an_answer_is_interrupted(api: Standin, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    api.put("rollouts", rollout())
    monkeypatch.setattr("sys.stdin", Keyboard(""))
    result = cli("rollout", "cancel", "shop-1.1")
    assert (result.code, api.paths("DELETE")) == (130, [])


@pytest.mark.parametrize("command", [["status"], ["status", "--watch"], ["pause"], ["resume"], ["cancel", "-y"]])
def test_one_that_is_not_there_is_named(api: Standin, cli: Cli, command: list[str]) -> None:
    result = cli("rollout", *command, "shop-9")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: there is no Rollout shop/shop-9; `tenantry rollout list -n shop` shows those there are\n"
    )
