"""docs/gitops: the health check runs in the Lua that Argo CD has, and the manifests hold what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from tenantry_crds.common import API_VERSION
from tenantry_crds.kinds import KINDS

ROOT = Path(__file__).parents[2]
GITOPS = ROOT / "docs" / "gitops"
HEALTH = (GITOPS / "argocd" / "health.lua").read_text(encoding="utf-8")

Conditions = dict[str, tuple[str, str, str]]
"""Status, reason and message by type."""

READY: Conditions = {
    "Ready": ("True", "Ready", "all databases are ready"),
    "Reconciling": ("False", "Ready", ""),
    "Stalled": ("False", "Ready", ""),
}


def tenant(conditions: Conditions | None, *, observed: int = 2, deleting: bool = False) -> dict[str, Any]:
    result: dict[str, Any] = {"metadata": {"name": "acme", "generation": 2}, "spec": {}}
    if deleting:
        result["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
    if conditions is not None:
        result["status"] = {
            "observedGeneration": observed,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message}
                for kind, (status, reason, message) in conditions.items()
            ],
        }
    return result


def health(obj: dict[str, Any]) -> tuple[str, str]:
    """What Argo CD would show. It runs Lua 5.1 with the libraries base, package and table, and a few of os."""
    lua = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    for library in ("string", "math", "io", "debug", "coroutine", "python"):
        lua.globals()[library] = None
    lua.globals()["obj"] = lua.table_from(obj, recursive=True)
    result = lua.execute(HEALTH)
    return result["status"], result["message"]


def test_ready_is_healthy() -> None:
    assert health(tenant(READY)) == ("Healthy", "all databases are ready")


@pytest.mark.parametrize("state", ["Draft", "Suspended", "Archived", "Deleted"])
def test_a_state_that_was_asked_for_and_reached_is_healthy(state: str) -> None:
    assert health(tenant({**READY, "Ready": ("True", state, "")})) == ("Healthy", state)


def test_a_quota_is_told_and_does_not_degrade() -> None:
    conditions = {**READY, "QuotaExceeded": ("True", "OverLimit", "users: 12 of 10")}
    assert health(tenant(conditions)) == ("Healthy", "users: 12 of 10")


def test_stalled_is_degraded_even_while_it_waits() -> None:
    waiting = ("True", "BlueprintNotFound", "Blueprint shop/shop is missing")
    conditions = {**READY, "Ready": ("False", *waiting[1:]), "Reconciling": waiting, "Stalled": waiting}
    assert health(tenant(conditions)) == ("Degraded", "Blueprint shop/shop is missing")


def test_reconciling_is_progressing() -> None:
    conditions = {**READY, "Reconciling": ("True", "Provisioning", "making 2 databases")}
    assert health(tenant(conditions)) == ("Progressing", "making 2 databases")


def test_not_ready_for_whatever_reason_is_progressing() -> None:
    conditions = {**READY, "Ready": ("False", "ServerUnreachable", "pool-a does not answer")}
    assert health(tenant(conditions)) == ("Progressing", "pool-a does not answer")


@pytest.mark.parametrize("observed", [-1, 1])
def test_a_status_that_is_older_than_the_spec_is_progressing(observed: int) -> None:
    assert health(tenant(READY, observed=observed))[0] == "Progressing"


def test_no_status_or_no_conditions_is_progressing() -> None:
    assert health(tenant(None))[0] == "Progressing"
    assert health(tenant({}))[0] == "Progressing"
    obj = tenant({})
    del obj["status"]["conditions"]
    assert health(obj)[0] == "Progressing"


def test_a_deletion_says_what_it_waits_for() -> None:
    conditions = {**READY, "Ready": ("False", "ServerUnreachable", "pool-a does not answer")}
    assert health(tenant(conditions, deleting=True)) == ("Progressing", "pool-a does not answer")
    assert health(tenant(READY, deleting=True)) == ("Progressing", "being deleted")
    assert health(tenant(None, deleting=True)) == ("Progressing", "being deleted")


def test_every_kind_has_the_health_check() -> None:
    patch = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))
    group = API_VERSION.partition("/")[0]
    expected = {f"resource.customizations.health.{group}_{kind.kind}": HEALTH for kind in KINDS}
    assert patch == {"data": expected}


@pytest.mark.parametrize("path", sorted(GITOPS.rglob("*.yaml")), ids=lambda path: path.name)
def test_values_of_the_examples_are_values_of_the_chart(path: Path) -> None:
    known = yaml.safe_load((ROOT / "charts" / "tenantry" / "values.yaml").read_text(encoding="utf-8"))

    def unknown(given: dict[str, Any], values: dict[str, Any]) -> list[str]:
        return [
            name
            for name, value in given.items()
            if name not in values or (isinstance(value, dict) and unknown(value, values[name]))
        ]

    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        spec = document.get("spec", {})
        source = spec.get("source", {}).get("helm", {}).get("valuesObject")
        assert unknown(spec.get("values") or source or {}, known) == []
