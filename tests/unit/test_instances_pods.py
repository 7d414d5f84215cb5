"""What a pod says of a server that is not up."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_operator.instances.pods import trouble

SET = {"metadata": {"name": "pg"}, "status": {}}
FULL = 'PANIC:  could not write to file "pg_wal/xlogtemp.30": No space left on device'
SAID = f"LOG:  starting\nSTATEMENT:  INSERT INTO users VALUES ('somebody')\n{FULL}\nLOG:  aborting startup"


def pod(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "server", "state": state, "lastState": last or {}}]}
    return {"metadata": {"name": "pg-0"}, "status": status}


@pytest.mark.parametrize(
    "found",
    [
        pod({"terminated": {"exitCode": 1, "reason": "Error", "message": SAID}}),
        pod(
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            {"terminated": {"exitCode": 1, "reason": "Error", "message": SAID}},
        ),
    ],
)
def test_a_server_that_ended_is_quoted_but_not_what_tenants_wrote(found: dict[str, Any]) -> None:
    told = trouble(found, None, SET)
    assert FULL in told
    assert "somebody" not in told


def test_why_there_is_no_pod_is_told_by_the_last_event() -> None:
    events = [
        {"message": "exceeded quota", "lastTimestamp": "2026-01-01T00:00:00Z"},
        {"message": "no PriorityClass", "series": {"lastObservedTime": "2026-01-01T00:00:02.000000Z"}},
        {"message": "older", "eventTime": "2026-01-01T00:00:01.000000Z", "lastTimestamp": None},
    ]
    assert trouble(None, None, SET, events) == "pod pg-0 is not there yet: no PriorityClass"
    assert trouble(None, None, SET) == "pod pg-0 is not there yet"


def test_a_pod_without_a_node_is_told_where_its_volume_waits_for_it() -> None:
    """Storage classes that bind on first use wait for the scheduler."""
    said = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector"
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    lost = {"metadata": {"name": "pg-0"}, "status": {"phase": "Pending", "conditions": [scheduled]}}
    claim = {"metadata": {"name": "data-pg-0"}, "status": {"phase": "Pending"}}

    told = trouble(lost, claim, SET)

    assert "data-pg-0 is Pending" in told
    assert said in told


def test_without_last_words_the_reason_is_told() -> None:
    assert (
        trouble(pod({"terminated": {"exitCode": 3}}), None, SET) == "pod pg-0: container server ended: exit code 3"
    )
