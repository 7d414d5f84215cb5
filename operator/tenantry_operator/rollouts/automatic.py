"""A new ``spec.version`` of a Blueprint makes a Rollout, under the blueprint's policy."""

from __future__ import annotations

from typing import Any

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_operator import telemetry
from tenantry_operator.cache import Key, key_of
from tenantry_operator.conditions import Condition, failed, find, reconciling
from tenantry_operator.context import ROLLOUTS, Context
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.kube import Conflict
from tenantry_operator.names import BLUEPRINT_LABEL, GROUP
from tenantry_operator.rollouts.members import followers
from tenantry_operator.rollouts.phase import FINAL, Phase, phase_of
from tenantry_operator.rollouts.reconcile import has_ended

Object = dict[str, Any]


async def follow_version(context: Context, blueprint: Object, spec: BlueprintSpec) -> Object:
    """Sees to it that there is a Rollout for the blueprint's version, if it needs one.

    :returns: the fields ``currentVersion`` and ``rollout`` of the blueprint's status.
    :raises Waiting: when a Rollout of that name is in the way.
    """
    status, version = blueprint.get("status") or {}, spec.version
    known: Object | None = status.get("rollout")
    settled: str | None = status.get("currentVersion")
    if settled is None and known is None and _versions(context, blueprint) <= {version}:
        return {"currentVersion": version, "rollout": None}
    asked = known.get("version") if known is not None else settled
    if asked != version:
        made = await _make(context, blueprint, spec)
        meta = made["metadata"]
        known = {
            "name": meta["name"],
            "uid": meta["uid"],
            "version": version,
            "createdAt": meta["creationTimestamp"],
        }
    if known is not None:
        known = {**known, "phase": _phase(context, key_of(blueprint), known)}
    if _is_through(context, blueprint, spec, known):
        settled = version
    return {"currentVersion": settled, "rollout": known}


def describe_rollout(context: Context, namespace: str, follows: Object) -> list[Condition] | None:
    """The conditions of a Blueprint whose followers do not have its version; None: they do.

    GitOps tools see the Blueprint, which is in Git, and not the Rollout.

    :param follows: what :func:`follow_version` returned.
    """
    known = follows["rollout"]
    if known is None or known["phase"] == Phase.COMPLETED:
        return None
    name, version, phase = known["name"], known["version"], known["phase"]
    if phase == Phase.CANCELLED:
        if follows["currentVersion"] == version:
            return None  # one that was made by hand did it
        text = (
            f"Rollout {name} was cancelled: tenants keep the versions they have. Change spec.version, or apply a "
            f"Rollout to {version} for all of them"
        )
        return failed(Stalled("RolloutCancelled", text))
    obj = context.rollouts.get((namespace, name)) or {}
    stalled = find(obj, "Stalled") or {}
    if stalled.get("status") == "True":
        text = f"Rollout {name} to version {version} is {phase}: see its status"
        return failed(Stalled(stalled.get("reason") or phase, text))
    return reconciling("RollingOut", f"Rollout {name} brings version {version} to the tenants: it is {phase}")


def _versions(context: Context, blueprint: Object) -> set[str]:
    """The versions that the blueprint's followers have."""
    namespace, name = key_of(blueprint)
    return {
        record["version"]
        for tenant in context.tenants.all("blueprint", f"{namespace}/{name}")
        for _, record in followers(tenant, name)
        if record.get("version")
    }


def _phase(context: Context, key: Key, known: Object) -> str:
    obj = context.rollouts.get((key[0], known["name"]))
    if obj is not None and obj["metadata"]["uid"] == known.get("uid"):
        return str(phase_of(obj))
    # Deleted after its end it has done what it was for.
    return str(known["phase"]) if known.get("phase") in FINAL else str(Phase.CANCELLED)


def _is_through(context: Context, blueprint: Object, spec: BlueprintSpec, known: Object | None) -> bool:
    """Whether all followers were brought to the version, by its own Rollout or by a later one made by hand."""
    if known is None or known["phase"] == Phase.COMPLETED:
        return known is not None
    if known["phase"] not in FINAL:
        return False
    return any(
        phase_of(obj) is Phase.COMPLETED
        and obj["spec"]["version"] == spec.version
        and obj["spec"].get("selector") is None
        and obj["spec"].get("tenants") is None
        and obj["metadata"]["creationTimestamp"] > known["createdAt"]
        for obj in context.rollouts.all("blueprint", "/".join(key_of(blueprint)))
    )


async def _make(context: Context, blueprint: Object, spec: BlueprintSpec) -> Object:
    meta = blueprint["metadata"]
    name = f"{meta['name']}-{spec.version}"
    found = context.rollouts.get((meta["namespace"], name))
    if found is not None:
        owned = any(owner.get("uid") == meta["uid"] for owner in found["metadata"].get("ownerReferences") or [])
        if not has_ended(found) and "deletionTimestamp" not in found["metadata"]:
            return found
        if not owned:
            raise Waiting(
                "RolloutNameTaken",
                f"Rollout {name} was made by hand and has ended: delete it, so that version {spec.version} can be "
                "rolled out under that name",
            )
        # It is from an earlier time that the blueprint was at this version.
        await context.kube.delete(ROLLOUTS, meta["namespace"], name, uid=found["metadata"]["uid"])
        raise Waiting("RolloutRenewed", f"Rollout {name} of an earlier time makes room for a new one")
    policy = spec.effective_rollout.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"lint", "drift"}
    )
    body = {
        "apiVersion": blueprint["apiVersion"],
        "kind": "Rollout",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {BLUEPRINT_LABEL: meta["name"]},
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/v1alpha1",
                    "kind": "Blueprint",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {**policy, "blueprint": meta["name"], "version": spec.version},
    }
    telemetry.api_writes.labels("create", "rollouts").inc()
    try:
        made = await context.kube.create(ROLLOUTS, meta["namespace"], body)
    except Conflict:
        # It was made before a crash, and no watch has told of it yet.
        made = await context.kube.get(ROLLOUTS, meta["namespace"], name)
    context.rollouts.put(made)
    reached("rollout-made")
    context.runs.turned("/".join(key_of(blueprint)))
    context.recorder.normal(blueprint, "RolloutStarted", f"version {spec.version} is rolled out by Rollout {name}")
    return made
