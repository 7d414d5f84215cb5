"""A pod's status, in the words of a kubelet."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_local.node import status
from tenantry_local.node.probes import Verdict, port_of
from tenantry_local.node.status import View

NOW, BEFORE = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"


def view(name: str = "main", *, state: dict[str, Any] | None = None, **more: Any) -> View:
    return View(name, "postgres:18", state or status.waiting("ContainerCreating"), **more)


def running(name: str = "main", **more: Any) -> View:
    return view(name, state=status.running(BEFORE), started=True, **{"ready": True, **more})


def ended(code: int, name: str = "main") -> View:
    return view(name, state=status.terminated(code, BEFORE, NOW))


def pod(*main: View, init: tuple[View, ...] = (), policy: str = "Always", **spec: Any) -> status.Pod:
    whole = {"restartPolicy": policy, **spec}
    return status.Pod(whole, 1, ["127.16.0.5"], "127.0.0.1", BEFORE, init, main)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pod(view()), "Pending"),
        (pod(running(), view("second")), "Pending"),
        (pod(running(), running("second", ready=False)), "Running"),
        (pod(view(state=status.waiting("CrashLoopBackOff"), last=status.terminated(1, BEFORE, NOW))), "Running"),
        (pod(ended(0)), "Running"),
        (pod(ended(0), policy="OnFailure"), "Succeeded"),
        (pod(ended(1), policy="OnFailure"), "Running"),
        (pod(ended(1), ended(0, "second"), policy="Never"), "Failed"),
        (pod(ended(1), running("second"), policy="Never"), "Running"),
        (pod(view(), init=(ended(1, "first"),), policy="Never"), "Failed"),
        (pod(view(), init=(ended(1, "first"),)), "Pending"),
        (pod(running(), init=(ended(0, "first"),)), "Running"),
    ],
)
def test_phases(value: status.Pod, expected: str) -> None:
    assert status.phase(value) == expected


def conditions(value: status.Pod, before: dict[str, Any] | None = None) -> dict[str, Any]:
    found = status.compute(value, before or {}, NOW)["conditions"]
    return {entry["type"]: entry for entry in found}


def test_an_unready_container_is_named() -> None:
    found = conditions(pod(running("a"), running("b", ready=False), running("c", ready=False)))
    assert found["Ready"]["status"] == "False"
    assert found["ContainersReady"]["message"] == "containers with unready status: [b c]"
    assert found["Initialized"]["status"] == "True"


def test_an_init_container_that_is_not_done_is_named() -> None:
    found = conditions(pod(view(), init=(ended(0, "a"), running("b"))))
    assert found["Initialized"]["status"] == "False"
    assert found["Initialized"]["message"] == "containers with incomplete status: [b]"


def test_a_sidecar_is_done_when_it_has_started() -> None:
    sidecars = [{"name": "side", "restartPolicy": "Always"}]
    assert status.phase(pod(running(), init=(running("side"),), initContainers=sidecars)) == "Running"
    assert status.phase(pod(running(), init=(view("side"),), initContainers=sidecars)) == "Pending"


def test_a_readiness_gate_holds_the_pod_back() -> None:
    value = pod(running(), readinessGates=[{"conditionType": "example.org/open"}])
    assert conditions(value)["Ready"]["status"] == "False"
    assert conditions(value)["ContainersReady"]["status"] == "True"
    given = {"conditions": [{"type": "example.org/open", "status": "True"}]}
    assert conditions(value, given)["Ready"]["status"] == "True"


def test_others_conditions_and_times_of_what_did_not_change_are_kept() -> None:
    first = status.compute(pod(running()), {}, BEFORE)
    scheduled = {"type": "PodScheduled", "status": "True"}
    again = status.compute(pod(running()), {**first, "conditions": [*first["conditions"], scheduled]}, NOW)
    assert scheduled in again["conditions"]
    assert {**again, "conditions": again["conditions"][:-1]} == first
    changed = status.compute(pod(running(ready=False)), first, NOW)
    times = {entry["type"]: entry["lastTransitionTime"] for entry in changed["conditions"]}
    assert times["Ready"] == NOW
    assert times["Initialized"] == BEFORE


def test_a_containers_entry() -> None:
    found = view(state=status.terminated(128, BEFORE, NOW, "no such program"), restarts=2).status()
    assert found["restartCount"] == 2
    assert found["state"]["terminated"]["reason"] == "StartError"
    assert found["state"]["terminated"]["message"] == "no such program"
    assert "containerID" not in view().status()


def test_a_probe_needs_as_many_equal_answers_as_it_says() -> None:
    verdict = Verdict({"failureThreshold": 2, "successThreshold": 3}, value=False)
    answers = [True, True, False, True, True, True, False, True, False, False]
    reached = [verdict.add(answer) for answer in answers]
    assert reached == [False, False, False, False, False, True, False, False, False, True]
    assert verdict.value is False


def test_ports_have_names() -> None:
    container = {"name": "main", "ports": [{"name": "db", "containerPort": 5432}]}
    assert port_of("db", container) == 5432
    assert port_of("80", container) == port_of(80, container) == 80
    with pytest.raises(ValueError, match="no port web"):
        port_of("web", container)
