"""The status of a Rollout, from its run. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from tenantry_crds.rollout import MAX_FAILURES
from tenantry_operator.cache import Key
from tenantry_operator.conditions import Condition, ready, reconciling, timestamp
from tenantry_operator.rollouts.members import Standing
from tenantry_operator.rollouts.phase import FINAL, Phase
from tenantry_operator.rollouts.run import Run

Object = dict[str, Any]


def phase(run: Run, now: float) -> Phase:
    """Where a run is.

    :param now: seconds since the epoch.
    """
    if run.aim.back:
        if not run.done:
            return Phase.ROLLING_BACK
        return Phase.FAILED if run.failures else Phase.ROLLED_BACK
    if run.exceeded:
        return Phase.PAUSED
    if run.done:
        return Phase.COMPLETED
    if run.spec.paused:
        return Phase.PAUSED
    return Phase.SOAKING if run.soaking(now) is not None else Phase.RUNNING


def message(run: Run, at: Phase) -> str:
    """What is going on, in a sentence for people."""
    total, done, failed = run.total, run.count(Standing.DONE), run.count(Standing.FAILED)
    numbers = f"{done} of {total} tenants have version {run.aim.version}"
    if run.aim.back:
        numbers = f"{done} of {total} tenants are back at the version they had"
    if failed:
        numbers += f", {failed} failed ({_named(run.failures)})"
    if run.frozen:
        numbers += (
            f", {len(run.frozen)} frozen ({_named(run.frozen)}): their schemas were changed, which nobody has "
            "acknowledged"
        )
    if at is Phase.PAUSED and run.exceeded:
        return (
            f"{numbers}: more than the failure budget of {run.spec.failure_budget} allows. Mend what failed, then "
            "give the annotation tenantry.dev/resume a new value or change the spec: what failed is tried again"
        )
    if at is Phase.PAUSED:
        return f"{numbers}; paused by spec.paused"
    if at is Phase.SOAKING:
        until = datetime.fromtimestamp(max(run.soak_until.values(), default=0.0), UTC)
        return f"{numbers}; the next wave begins at {timestamp(until)}"
    if at is Phase.FAILED:
        return f"{numbers}; give the annotation tenantry.dev/resume a new value to try them again"
    return numbers


def _named(keys: Collection[Key]) -> str:
    """The first of some tenants by name, and how many more there are."""
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(sorted(name for _, name in keys)[:5]) + more


def conditions(run: Run, at: Phase) -> list[Condition]:
    """The conditions that a person, kubectl wait and GitOps tools look at."""
    text = message(run, at)
    if at is Phase.COMPLETED:
        return ready("Completed", text)
    if at is Phase.ROLLED_BACK:
        text += "; the new version is nobody's. Mend it in a version of its own"
    if at in (Phase.ROLLED_BACK, Phase.FAILED) or (at is Phase.PAUSED and run.exceeded):
        reason = "FailureBudgetExceeded" if at is Phase.PAUSED else str(at)
        return [
            Condition("Ready", False, reason, text),
            Condition("Reconciling", False, reason),
            Condition("Stalled", True, reason, text),
        ]
    return reconciling(str(at), text)


def fields(run: Run, at: Phase, known: Object, now: datetime) -> Object:
    """The status apart from its conditions; None removes a field."""
    done, failed = run.count(Standing.DONE), run.count(Standing.FAILED)
    total = run.total
    waves = []
    for name, counts in run.waves():
        wave: Object = {
            "name": name,
            "total": sum(counts[s] for s in (Standing.PENDING, Standing.DONE, Standing.FAILED)),
            "completed": counts[Standing.DONE],
            "failed": counts[Standing.FAILED],
        }
        if name in run.soak_until:
            wave["soakUntil"] = timestamp(datetime.fromtimestamp(run.soak_until[name], UTC))
        waves.append(wave)
    current = run.current
    failures = [
        {
            "tenant": name,
            "database": found.database,
            "reason": found.reason,
            "message": found.message[:512],
        }
        for (_, name), found in sorted(run.failures.items())[:MAX_FAILURES]
    ]
    started = known.get("startedAt") or (timestamp(now) if run.started or at in FINAL else None)
    back = run.aim.back
    return {
        "phase": str(at),
        "message": message(run, at),
        "wave": run.wave_name(current) if current is not None and not back else None,
        "waves": known.get("waves") if back else waves,
        "total": known.get("total", 0) if back else total,
        "completed": known.get("completed", 0) if back else done,
        "failed": known.get("failed", 0) if back else failed,
        "skipped": known.get("skipped", 0) if back else run.count(Standing.SKIPPED),
        "running": len(run.running),
        "rolledBack": done if back else None,
        "progress": 100 if total == 0 else 100 * (done + failed) // total,
        "failures": failures if failures or not back else known.get("failures"),
        "startedAt": started,
        "completedAt": (known.get("completedAt") or timestamp(now)) if at in FINAL else None,
        "round": run.aim.round,
    }
