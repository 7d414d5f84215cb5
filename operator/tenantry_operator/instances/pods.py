"""What a pod, its volume and its StatefulSet say of a server that is not up. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

Object = dict[str, Any]

_TELLING = re.compile(r"\b(FATAL|PANIC)\b|\[ERROR\]|No space left", re.IGNORECASE)
"""Lines of servers that say why one ends. Others may hold what tenants wrote."""
_LONGEST = 300
FAILED = "FailedCreate"
"""The reason of an event: a pod could not be made."""
_QUIET = frozenset({"ContainerCreating", "PodInitializing"})


def is_ready(pod: Object | None) -> bool:
    """Whether a pod serves."""
    if pod is None or "deletionTimestamp" in pod["metadata"]:
        return False
    return _condition(pod, "Ready").get("status") == "True"


def address(pod: Object) -> str:
    """A pod's address; "" when it has none yet."""
    found: str = (pod.get("status") or {}).get("podIP") or ""
    return found


def trouble(pod: Object | None, claim: Object | None, stateful_set: Object, events: Iterable[Object] = ()) -> str:
    """What stands in the way, in the words of Kubernetes.

    :param events: of the StatefulSet, with the reason :data:`FAILED`.
    """
    name = f"{stateful_set['metadata']['name']}-0"
    waiting = _condition(claim or {}, "Pending")
    if pod is None:
        failed = max(events, key=_last_time, default={})
        return f"pod {name} is not there yet{_colon(str(failed.get('message') or ''))}"
    if "deletionTimestamp" in pod["metadata"]:
        return f"pod {name} is being replaced"
    stuck = [*_stuck(pod)]
    if stuck:
        return f"pod {name}: {'; '.join(stuck)}"
    scheduled = _condition(pod, "PodScheduled")
    phase = ((claim or {}).get("status") or {}).get("phase")
    if claim is None or phase != "Bound":
        what = claim["metadata"]["name"] if claim is not None else f"data-{name}"
        # A volume may be made where the pod is to run: not before there is such a node.
        said = _colon("; ".join(filter(None, (waiting.get("message"), scheduled.get("message")))))
        state = phase or "not there yet"
        return f"pod {name} waits for its volume: PersistentVolumeClaim {what} is {state}{said}"
    if scheduled.get("status") != "True":
        return f"pod {name} has no node yet{_colon(scheduled.get('message') or '')}"
    return f"pod {name} is starting"


def _last_time(event: Object) -> str:
    """When an event was seen last."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(str(time or "") for time in times)


def _stuck(pod: Object) -> Iterator[str]:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or []:
            state = container.get("state") or {}
            waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
            if waiting.get("reason") and waiting["reason"] not in _QUIET:
                last = (container.get("lastState") or {}).get("terminated") or {}
                said = "; ".join(word for word in (waiting.get("message"), _last_words(last)) if word)
                yield f"container {container['name']}: {waiting['reason']}{_colon(said)}"
            elif ended and (ended.get("exitCode") or kind == "containerStatuses"):
                reason = ended.get("reason") or f"exit code {ended.get('exitCode')}"
                said = _last_words(ended) if reason == "Error" else ended.get("message") or ""
                yield f"container {container['name']} ended: {reason}{_colon(said)}"
    if status.get("phase") == "Failed":
        yield f"{status.get('reason') or 'Failed'}{_colon(status.get('message') or '')}"


def _last_words(ended: Object) -> str:
    """What a server said of its end, as far as that is for everybody's eyes; "" when nothing is."""
    lines = str(ended.get("message") or "").splitlines()
    telling = [line.strip() for line in lines if _TELLING.search(line)]
    return telling[-1][-_LONGEST:] if telling else ""


def _condition(obj: Object, kind: str) -> Object:
    for condition in (obj.get("status") or {}).get("conditions") or []:
        if condition.get("type") == kind:
            found: Object = condition
            return found
    return {}


def _colon(text: str) -> str:
    return f": {text}" if text else ""
