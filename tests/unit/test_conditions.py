"""Conditions after kstatus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tenantry_operator import conditions
from tenantry_operator.conditions import Condition
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def statuses(found: list[Condition]) -> dict[str, str]:
    return {condition.type: condition.word for condition in found}


def test_a_transition_time_stays_while_the_status_stays() -> None:
    first = conditions.render(conditions.ready("Ready"), [], 1, NOW)
    second = conditions.render(conditions.ready("Ready", "all well"), first, 2, NOW + timedelta(hours=1))
    assert [c["lastTransitionTime"] for c in second] == [c["lastTransitionTime"] for c in first]
    third = conditions.render(conditions.reconciling("Busy", ""), second, 2, NOW + timedelta(hours=2))
    changed = {c["type"] for c in third if c["lastTransitionTime"] != first[0]["lastTransitionTime"]}
    assert changed == {"Ready", "Reconciling"}


def test_rendering_the_same_again_is_the_same() -> None:
    first = conditions.render(conditions.ready("Ready"), [], 1, NOW)
    assert conditions.render(conditions.ready("Ready"), first, 1, NOW + timedelta(days=1)) == first


@pytest.mark.parametrize(
    ("error", "waited", "reconciling", "stalled"),
    [
        (Stalled("BadSql", "mend it"), 0, "False", "True"),
        (Waiting("BlueprintNotFound", "apply it"), 0, "True", "False"),
        (Waiting("BlueprintNotFound", "apply it"), 301, "True", "True"),
        (Retryable("ServerUnreachable", "trying again"), 9999, "True", "False"),
    ],
)
def test_what_an_error_means(error: ReconcileError, waited: float, reconciling: str, stalled: str) -> None:
    found = statuses(conditions.failed(error, waited=waited))
    assert found == {"Ready": "False", "Reconciling": reconciling, "Stalled": stalled}


def test_the_worst_error_is_the_one_a_person_must_mend() -> None:
    stalled, waiting, retry = Stalled("A", ""), Waiting("B", ""), Retryable("C", "")
    assert conditions.worst([retry, waiting, stalled]) is stalled
    assert conditions.worst([retry, waiting]) is waiting
    assert conditions.worst([]) is None


def test_long_messages_are_cut() -> None:
    rendered = conditions.render([Condition("Ready", False, "X", "m" * 10_000)], [], 1, NOW)
    assert len(rendered[0]["message"]) == 2048
