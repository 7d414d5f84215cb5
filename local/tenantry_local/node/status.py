"""A pod's status from what its containers do, in the words of a kubelet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


@dataclass(slots=True)
class View:
    """What a container does."""

    name: str
    image: str
    state: Object = field(default_factory=lambda: waiting("PodInitializing"))
    """One of waiting, running and terminated."""
    last: Object = field(default_factory=dict)
    """How it ended the last time."""
    restarts: int = 0
    started: bool = False
    ready: bool = False

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """How its process ended; None when it did not, or is about to start again."""
        return int(self.state["terminated"]["exitCode"]) if "terminated" in self.state else None

    @property
    def ran(self) -> bool:
        """Whether it was ever started."""
        return self.running or "terminated" in self.state or bool(self.last)

    def status(self) -> Object:
        """Its entry in the pod's status."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local://{self.image}" if self.ran else "",
            "state": self.state,
            "lastState": self.last,
            "restartCount": self.restarts,
            "ready": self.ready,
            "started": self.started,
            **({"containerID": f"local://{self.name}-{self.restarts}"} if self.ran else {}),
        }


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that is not started (yet)."""
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running(at: str) -> Object:
    """The state of a container whose process runs."""
    return {"running": {"startedAt": at}}


def terminated(code: int, started: str, ended: str, error: str = "", said: str = "") -> Object:
    """The state of a container whose process ended.

    :param error: why it could not be started.
    :param said: what it said at its end.
    """
    reason = "StartError" if error else "Completed" if code == 0 else "Error"
    value: Object = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": ended}
    if error or said:
        value["message"] = error or said
    return {"terminated": value}


@dataclass(frozen=True, slots=True)
class Pod:
    """All that a status is made of."""

    spec: Mapping[str, Any]
    generation: int
    addresses: Sequence[str]
    host: str
    started: str
    """When the node took the pod up."""
    init: Sequence[View]
    main: Sequence[View]


def phase(pod: Pod) -> str:
    """Pending, Running, Succeeded or Failed."""
    policy = pod.spec.get("restartPolicy", "Always")
    sidecars = _sidecars(pod)
    for view in pod.init:
        if view.exit_code not in {None, 0} and policy == "Never" and view.name not in sidecars:
            return "Failed"
    if any(not view.ran for view in pod.main):
        return "Pending"
    codes = [view.exit_code for view in pod.main]
    if any(code is None for code in codes) or policy == "Always":
        return "Running"
    if all(code == 0 for code in codes):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def compute(pod: Pod, before: Mapping[str, Any], now: str) -> Object:
    """The fields of a status that belong to the node.

    :param before: the status as the API server has it: transition times and others' conditions are kept.
    """
    value = phase(pod)
    ended = value in {"Succeeded", "Failed"}
    unready = sorted(view.name for view in pod.main if not view.ready)
    known = {condition["type"]: condition for condition in before.get("conditions") or []}
    gates = [gate["conditionType"] for gate in pod.spec.get("readinessGates") or []]
    closed = [gate for gate in gates if known.get(gate, {}).get("status") != "True"]

    def not_ready(extra: str = "") -> tuple[str, str, str]:
        if ended:
            return "False", "PodCompleted" if value == "Succeeded" else "PodFailed", ""
        if unready:
            return "False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
        return ("False", "ReadinessGatesNotReady", extra) if extra else ("True", "", "")

    incomplete = sorted(view.name for view in pod.init if not _done(view, _sidecars(pod)))
    # What ended later, a sidecar with its pod, has been complete.
    initialized = not incomplete or any(view.ran for view in pod.main)
    wanted = {
        "PodReadyToStartContainers": ("True" if pod.addresses else "False", "", ""),
        "Initialized": ("True", "", "")
        if initialized
        else ("False", "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]"),
        "Ready": not_ready(f"conditions that are not True: {', '.join(closed)}" if closed else ""),
        "ContainersReady": not_ready(),
    }
    conditions = [_condition(kind, wanted[kind], known.get(kind), pod.generation, now) for kind in OWN]
    others = [condition for kind, condition in known.items() if kind not in OWN]
    return {
        "phase": value,
        "conditions": conditions + others,
        "hostIP": pod.host,
        "hostIPs": [{"ip": pod.host}],
        **({"podIP": pod.addresses[0], "podIPs": [{"ip": ip} for ip in pod.addresses]} if pod.addresses else {}),
        "startTime": before.get("startTime") or pod.started,
        "observedGeneration": pod.generation,
        **({"initContainerStatuses": [view.status() for view in pod.init]} if pod.init else {}),
        "containerStatuses": [view.status() for view in pod.main],
    }


def _condition(
    kind: str, wanted: tuple[str, str, str], before: Object | None, generation: int, now: str
) -> Object:
    state, reason, message = wanted
    same = before is not None and before.get("status") == state
    value: Object = {
        "type": kind,
        "status": state,
        "observedGeneration": generation,
        "lastProbeTime": None,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and same else now,
    }
    if reason:
        value["reason"] = reason
    if message:
        value["message"] = message
    return value


def _sidecars(pod: Pod) -> set[str]:
    """Init containers that go on running."""
    return {
        entry["name"] for entry in pod.spec.get("initContainers") or [] if entry.get("restartPolicy") == "Always"
    }


def _done(view: View, sidecars: set[str]) -> bool:
    return view.started if view.name in sidecars else view.exit_code == 0
