"""What Deployments and pods say of a tenant's service."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tenantry_operator.cache import Store
from tenantry_operator.engines.base import Presence
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.services.objects import said_of_pod
from tenantry_operator.services.observe import Phase, by_tenant, differs, health, is_watched, remember_deployment
from tenantry_operator.services.outcome import ServiceOutcome, updating
from tenantry_operator.tenants import status
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def deployment(wanted: int = 2, conditions: dict[str, str] | None = None, **counts: int) -> Object:
    return {
        "metadata": {
            "name": "acme-web",
            "namespace": "shop",
            "uid": "u",
            "resourceVersion": "5",
            "generation": 3,
            "labels": {"tenantry.dev/tenant": "acme", "tenantry.dev/service": "web"},
        },
        "spec": {"replicas": wanted, "template": {"metadata": {"annotations": {"theirs": "1"}}, "spec": {}}},
        "status": {
            "observedGeneration": 3,
            "conditions": [
                {"type": kind, "status": word, "reason": "R", "message": f"{kind} is {word}"}
                for kind, word in (conditions or {}).items()
            ],
            **counts,
        },
    }


def known(obj: Object) -> Object:
    store = Store(tenant=by_tenant)
    assert remember_deployment(store, obj)
    (found,) = store.all("tenant", "shop/acme")
    return found


ALL = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
UP, DOWN = {"Available": "True"}, {"Available": "False"}


@pytest.mark.parametrize(
    ("obj", "phase"),
    [
        (deployment(**ALL, conditions=UP), Phase.RUNNING),
        (deployment(**ALL | {"observedGeneration": 2}, conditions=UP), Phase.UPDATING),
        (deployment(**ALL | {"updatedReplicas": 1, "replicas": 3}, conditions=UP), Phase.UPDATING),
        (deployment(**ALL | {"availableReplicas": 1}, conditions=DOWN), Phase.STARTING),
        (deployment(), Phase.STARTING),
        (deployment(observedGeneration=2, conditions=UP), Phase.STARTING),
        (deployment(conditions=DOWN | {"Progressing": "False"}), Phase.FAILED),
        (deployment(**ALL | {"updatedReplicas": 1}, conditions=UP | {"Progressing": "False"}), Phase.FAILED),
        (deployment(0), Phase.STOPPED),
        (deployment(0, observedGeneration=2), Phase.STOPPING),
        (deployment(0, replicas=1), Phase.STOPPING),
    ],
)
def test_the_phase_of_a_deployment(obj: Object, phase: Phase) -> None:
    assert health(known(obj)).phase is phase


def test_that_pods_are_refused_says_more_than_that_none_is_there() -> None:
    conditions = {"Available": "False", "Progressing": "True", "ReplicaFailure": "True"}
    assert health(known(deployment(conditions=conditions))).message == "ReplicaFailure is True"


def test_only_what_matters_is_news() -> None:
    before = known(deployment(**ALL))
    same = deployment(**ALL)
    same["metadata"]["resourceVersion"] = "6"
    assert not differs(before, known(same))
    assert differs(before, known(deployment(**ALL | {"readyReplicas": 1})))
    edited = deployment(**ALL)
    edited["metadata"]["generation"] = 4
    assert differs(before, known(edited))
    assert differs(before, None)
    assert differs(None, before)
    assert before["others"] == {"theirs": "1"}


def pod(*containers: Object, **fields: Any) -> Object:
    return {"metadata": {"name": "p", **fields}, "status": {"containerStatuses": list(containers)}}


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (
            pod({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}),
            "pod p: ErrImagePull: no such image",
        ),
        (pod({"state": {"waiting": {"reason": "ContainerCreating"}}}), ""),
        (
            pod(
                {
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                    "lastState": {"terminated": {"exitCode": 3}},
                }
            ),
            "pod p: CrashLoopBackOff: it ended with exit code 3: back-off",
        ),
        (pod({"state": {"terminated": {"exitCode": 1}}}), "pod p: it ended with exit code 1"),
        (pod({"state": {"waiting": {"reason": "ErrImagePull"}}}, deletionTimestamp="now"), ""),
        (pod({"state": {"running": {}}}), ""),
        (
            {
                "metadata": {"name": "p"},
                "status": {
                    "conditions": [{"type": "PodScheduled", "status": "False", "message": "no node has room"}]
                },
            },
            "pod p: no node has room",
        ),
    ],
)
def test_what_a_pod_says(obj: Object, said: str) -> None:
    assert said_of_pod(obj) == said


def rendered(phase: str, error: ReconcileError | None) -> Object:
    metadata = {"name": "acme", "namespace": "shop", "uid": "u", "generation": 3}
    view = TenantView({"metadata": metadata, "spec": {}, "status": {}})
    outcome = ServiceOutcome("web", {"name": "web", "phase": phase}, error=error)
    goal = Goal(Presence.LIVE, "Ready", "Ready")
    return status.render(view, goal, [], error, [], [], services=[outcome], now=NOW, stalled_after=300)


def words(found: Object) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found["conditions"]}


def test_a_service_that_does_not_come_up_takes_nothing_from_the_databases() -> None:
    found = rendered("Starting", Waiting("ServicesStarting", "service web: ErrImagePull"))
    assert words(found) == {
        "Ready": ("False", "ServicesStarting"),
        "Reconciling": ("True", "ServicesStarting"),
        "Stalled": ("False", "ServicesStarting"),
        "DatabasesReady": ("True", "Ready"),
        "Drifted": ("False", "AsDesired"),
        "ServicesReady": ("False", "ServicesStarting"),
        "QuotaExceeded": ("False", "WithinLimits"),
    }
    assert found["phase"] == "Provisioning"
    assert words(rendered("Failed", Stalled("ServiceFailed", "x")))["DatabasesReady"] == ("True", "Ready")


def test_pods_that_are_replaced_leave_the_tenant_ready_and_reconciling() -> None:
    found = words(rendered("Updating", None))
    assert found["Ready"] == ("True", "Ready")
    assert found["Reconciling"] == ("True", "ServicesUpdating")
    assert found["ServicesReady"] == ("True", "Ready")


def test_pods_that_a_quota_leaves_out_are_told_while_others_do_the_work() -> None:
    found = [ServiceOutcome(name, {"name": name, "phase": "Updating"}) for name in ("web", "api")]
    found[0].said = "exceeded quota: few"
    later = updating(found)
    assert later is not None
    assert later.message == "pods are being replaced: api, web (exceeded quota: few)"


def test_what_nobody_tells_of_is_not_remembered() -> None:
    ours = {"app.kubernetes.io/managed-by": "tenantry", "tenantry.dev/service": "web"}
    assert is_watched({"metadata": {"labels": ours}})
    for name in ours:
        assert not is_watched({"metadata": {"labels": {key: ours[key] for key in ours if key != name}}})
    assert not is_watched({"metadata": {}})


def test_services_that_were_not_looked_at_keep_what_was_said_of_them() -> None:
    first = rendered("Running", None)
    metadata = {"name": "acme", "namespace": "shop", "uid": "u", "generation": 3}
    view = TenantView({"metadata": metadata, "spec": {}, "status": first})
    goal = Goal(Presence.LIVE, "Ready", "Ready")
    error = Waiting("PlanNotFound", "apply it")
    found = status.render(view, goal, [], error, [], [], now=NOW, stalled_after=300)
    assert found["services"] == first["services"]
    assert words(found)["ServicesReady"] == ("True", "Ready")
    assert words(found)["DatabasesReady"] == ("False", "PlanNotFound")
