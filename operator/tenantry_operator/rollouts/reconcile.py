"""The reconcile of a Rollout: whose turn it is among those of its blueprint, and how far it is.

Which tenants are begun is decided in :class:`~tenantry_operator.rollouts.run.Run`, at once when another one
is through; a reconcile starts a run, ends it, and writes down where it is, at most once a second.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import structlog

from tenantry_crds.rollout import RolloutSpec
from tenantry_crds.rollout_policy import OnFailure
from tenantry_operator import conditions, telemetry
from tenantry_operator.blueprints.book import blueprint_of
from tenantry_operator.cache import Key, key_of
from tenantry_operator.conditions import Condition
from tenantry_operator.context import ROLLOUTS, Context
from tenantry_operator.errors import ReconcileError, Retryable, Waiting
from tenantry_operator.faults import reached, subject
from tenantry_operator.kube import NotFound
from tenantry_operator.names import FINALIZER
from tenantry_operator.rollouts import report
from tenantry_operator.rollouts.checks import check_lint, check_rollbacks
from tenantry_operator.rollouts.members import Aim
from tenantry_operator.rollouts.phase import BACK, FINAL, Phase, phase_of, round_of
from tenantry_operator.rollouts.rehearsal import rehearse
from tenantry_operator.rollouts.run import Run
from tenantry_operator.rollouts.runs import server_of
from tenantry_operator.tenants.view import placements_of

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_WRITE_EVERY = 1.0
"""Seconds between two writes of numbers; a new phase is written at once."""
_LOOK_AGAIN = 5.0
_WAITING_AGAIN = 5.0


def has_ended(obj: Object) -> bool:
    """Whether a Rollout has nothing to do any more, unless it is told to."""
    status = obj.get("status") or {}
    at = phase_of(obj)
    # What was cancelled or replaced never comes back.
    return at is Phase.CANCELLED or (at in FINAL and status.get("round") == round_of(obj))


class RolloutReconciler:
    """Brings Rollouts to their end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._written: dict[Key, float] = {}

    def restore(self) -> None:
        """Takes up what was under way when the operator stopped, before anything is reconciled."""
        for obj in self._context.rollouts:
            started = (obj.get("status") or {}).get("startedAt")
            if started and not has_ended(obj) and "deletionTimestamp" not in obj["metadata"]:
                self._start(obj, RolloutSpec.model_validate(obj["spec"]))

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile of a Rollout; seconds after which to look again."""
        obj = self._context.rollouts.get(key)
        if obj is None:
            self._context.runs.stop(key)
            self._written.pop(key, None)
            return None
        subject.set(blueprint_of(obj))
        if "deletionTimestamp" in obj["metadata"]:
            return await self._cancel(obj)
        if has_ended(obj):
            self._context.runs.stop(key)
            return None
        spec = RolloutSpec.model_validate(obj["spec"])
        try:
            if await self._is_superseded(obj, spec):
                return None
            waits_for = await self._turn(obj)
            if waits_for is not None:
                return await self._wait(obj, waits_for)
            run = self._context.runs.of(key)
            if run is None:
                obj = await self._claim(obj)
                await self._check(obj, spec)
                run = self._start(obj, spec)
        except ReconcileError as error:
            return await self._fail(obj, error)
        return await self._advance(obj, spec, run)

    # Whose turn it is

    def _others(self, obj: Object) -> list[Object]:
        """The Rollouts of the same blueprint that have not ended, this one included, oldest first."""
        found = self._context.rollouts.all("blueprint", blueprint_of(obj))
        return sorted((other for other in found if not has_ended(other)), key=_age)

    async def _is_superseded(self, obj: Object, spec: RolloutSpec) -> bool:
        """A rollout that a new version made, and that did not begin before there was a newer one."""
        owner = self._owner(obj)
        if owner is None or (obj.get("status") or {}).get("startedAt"):
            return False
        current = owner["spec"].get("version")
        if current == spec.version:
            return False
        await self._end(obj, "Superseded", f"it had not begun when the blueprint's version became {current}")
        return True

    def _owner(self, obj: Object) -> Object | None:
        meta = obj["metadata"]
        for reference in meta.get("ownerReferences") or []:
            if reference.get("kind") == "Blueprint" and reference.get("controller"):
                return self._context.blueprints.get((meta["namespace"], reference["name"]))
        return None

    async def _turn(self, obj: Object) -> Object | None:
        """The Rollout that this one has to wait for; a paused one is replaced."""
        older = True
        for other in self._others(obj):
            if other["metadata"]["uid"] == obj["metadata"]["uid"]:
                older = False
                continue
            began = bool((other.get("status") or {}).get("startedAt"))
            if not began and (not older or conditions.is_true(other, "Stalled")):
                continue  # it comes later, or a person has to mend it before it begins
            if not older or phase_of(other) is not Phase.PAUSED or self._is_busy(other):
                return other
            name = obj["metadata"]["name"]
            await self._end(other, "Superseded", f"it was paused, and Rollout {name} took its place")
        return None

    def _is_busy(self, obj: Object) -> bool:
        run = self._context.runs.of(key_of(obj))
        return run is not None and bool(run.running)

    async def _wait(self, obj: Object, other: Object) -> float:
        name = other["metadata"]["name"]
        text = (
            f"waits for Rollout {name}, which is {phase_of(other)}: one at a time for each blueprint. Pause or "
            "delete that one to go before it"
        )
        fields = {"phase": str(Phase.PENDING), "message": text}
        found = conditions.reconciling("WaitingForRollout", text)
        await self._context.write_conditions(ROLLOUTS, self._context.rollouts, obj, found, fields)
        return _WAITING_AGAIN

    # Beginning

    async def _claim(self, obj: Object) -> Object:
        """Writes the finalizer: a rollout that is deleted ends what it began."""
        meta = obj["metadata"]
        if FINALIZER in (meta.get("finalizers") or []):
            return obj
        patch = {
            "metadata": {
                "resourceVersion": meta["resourceVersion"],
                "finalizers": [*(meta.get("finalizers") or []), FINALIZER],
            }
        }
        telemetry.api_writes.labels("patch", "rollouts").inc()
        written = await self._context.kube.patch(ROLLOUTS, meta["namespace"], meta["name"], patch)
        self._context.rollouts.put_answer(written)
        reached("rollout-claimed")
        return written

    async def _check(self, obj: Object, spec: RolloutSpec) -> None:
        context = self._context
        blueprint = blueprint_of(obj)
        namespace, _, name = blueprint.partition("/")
        if context.blueprints.get((namespace, name)) is None:
            raise Waiting("BlueprintNotFound", f"there is no Blueprint {blueprint}: apply it")
        tenants = [
            t for t in map(context.tenants.get, context.tenants.find("blueprint", blueprint)) if t is not None
        ]
        if spec.tenants is not None:
            unknown = sorted(set(spec.tenants) - {tenant["metadata"]["name"] for tenant in tenants})
            if unknown:
                raise Waiting(
                    "TenantNotFound",
                    f"there are no Tenants {', '.join(unknown)} with a database of blueprint {blueprint}: create "
                    "them, or take them out of spec.tenants",
                )
        await check_rollbacks(context.book, blueprint, spec, tenants)
        await check_lint(context, blueprint, spec, tenants)
        await rehearse(context, blueprint, spec, tenants)

    def _start(self, obj: Object, spec: RolloutSpec) -> Run:
        context, status = self._context, obj.get("status") or {}
        blueprint, key = blueprint_of(obj), key_of(obj)
        current = round_of(obj)
        back = phase_of(obj) in BACK and status.get("round") == current
        run = self._make(obj, spec, back=back)
        run.started = bool(status.get("startedAt"))
        for wave in status.get("waves") or []:
            if wave.get("soakUntil"):
                run.soak_until[wave["name"]] = conditions.parse_timestamp(wave["soakUntil"]).timestamp()
        run.held = spec.paused
        context.runs.start(key, blueprint, run)
        return run

    def _make(self, obj: Object, spec: RolloutSpec, *, back: bool) -> Run:
        context, blueprint = self._context, blueprint_of(obj)
        aim = Aim(
            spec.blueprint,
            spec.version,
            obj["metadata"]["uid"],
            round_of(obj),
            back=back,
            freezes=context.runs.freezes(blueprint),
        )
        tenants = [
            t for t in map(context.tenants.get, context.tenants.find("blueprint", blueprint)) if t is not None
        ]
        return Run(spec, aim, tenants, server_of(spec.blueprint, placements_of))

    # Going on

    async def _advance(self, obj: Object, spec: RolloutSpec, run: Run) -> float | None:
        context, key = self._context, key_of(obj)
        policy = run.aim.freezes != context.runs.freezes(blueprint_of(obj))
        if run.aim.round != round_of(obj) or policy:
            # Something was changed, or mended: what failed is tried again, and what went back goes forward.
            running, before = run.running, run
            run = self._make(obj, spec, back=run.aim.back and run.aim.round == round_of(obj))
            run.soak_until, run.started = before.soak_until, before.started
            run.take_over(running)
            context.runs.start(key, blueprint_of(obj), run)
        if run.exceeded and not run.aim.back and not run.running and spec.on_failure is OnFailure.ROLL_BACK:
            await self._write(obj, run, Phase.ROLLING_BACK)
            before = run
            run = self._make(context.rollouts.get(key) or obj, spec, back=True)
            run.started = before.started
            context.runs.start(key, blueprint_of(obj), run)
        run.held = spec.paused
        context.runs.advance(run)
        at = report.phase(run, time.time())
        if at is Phase.PAUSED and run.running:
            at = Phase.RUNNING if not (run.exceeded or spec.paused) else at
        last = self._written.get(key, 0.0)
        wait = last + _WRITE_EVERY - time.monotonic()
        if wait > 0 and str(at) == (obj.get("status") or {}).get("phase"):
            return wait + 0.01
        await self._write(obj, run, at)
        if at in FINAL and not run.running:
            context.runs.stop(key)
            return None
        soaking = run.soaking(time.time())
        return min(_LOOK_AGAIN, soaking + 0.05) if soaking is not None else _LOOK_AGAIN

    async def _write(self, obj: Object, run: Run, at: Phase) -> None:
        context, status = self._context, obj.get("status") or {}
        fields = report.fields(run, at, status, datetime.now(UTC))
        found = report.conditions(run, at)
        await context.write_conditions(ROLLOUTS, context.rollouts, obj, found, fields)
        self._written[key_of(obj)] = time.monotonic()
        reached(f"rollout-written-{at}")
        if status.get("phase") == str(at):
            return
        context.runs.turned(blueprint_of(obj))
        text = report.message(run, at)
        bad = at in (Phase.PAUSED, Phase.ROLLING_BACK, Phase.FAILED) and bool(run.failures)
        (context.recorder.warning if bad else context.recorder.normal)(obj, str(at), text)
        _log.info("rollout", rollout="/".join(key_of(obj)), phase=str(at), message=text)

    # Ending

    async def _end(self, obj: Object, reason: str, why: str) -> None:
        """It is no more than a record from now on."""
        text = f"cancelled: {why}; tenants that have version {obj['spec']['version']} keep it"
        fields = {
            "phase": str(Phase.CANCELLED),
            "message": text,
            "running": 0,
            "completedAt": conditions.timestamp(),
        }
        found = [
            Condition("Ready", False, reason, text),
            Condition("Reconciling", False, reason),
            Condition("Stalled", True, reason, text),
        ]
        await self._context.write_conditions(ROLLOUTS, self._context.rollouts, obj, found, fields)
        self._context.runs.stop(key_of(obj))
        self._context.runs.turned(blueprint_of(obj))
        self._context.recorder.normal(obj, reason, text)

    async def _cancel(self, obj: Object) -> float | None:
        """It is being deleted: whom it has in hand is brought to an end, nobody else is begun."""
        context, key = self._context, key_of(obj)
        meta = obj["metadata"]
        if FINALIZER not in (meta.get("finalizers") or []):
            context.runs.stop(key)
            return None
        run = context.runs.of(key)
        if run is not None:
            run.held = True
            if run.running:
                if phase_of(obj) is not Phase.CANCELLED:
                    text = f"being deleted: waits for {len(run.running)} tenants that are being migrated"
                    found = conditions.reconciling("Cancelling", text)
                    fields = {"phase": str(Phase.CANCELLED), "message": text}
                    await context.write_conditions(ROLLOUTS, context.rollouts, obj, found, fields)
                return 1.0
        context.runs.stop(key)
        finalizers = [name for name in meta.get("finalizers") or [] if name != FINALIZER]
        patch = {"metadata": {"uid": meta["uid"], "finalizers": finalizers}}
        telemetry.api_writes.labels("patch", "rollouts").inc()
        try:
            context.rollouts.put_answer(await context.kube.patch(ROLLOUTS, meta["namespace"], meta["name"], patch))
        except NotFound:
            context.rollouts.drop(key, meta["uid"])
        return None

    async def _fail(self, obj: Object, error: ReconcileError) -> float | None:
        context = self._context
        found = conditions.failed(
            error, waited=conditions.waited(obj, error), stalled_after=context.settings.stalled_after
        )
        fields = {"phase": str(Phase.PENDING), "message": error.message}
        if not (obj.get("status") or {}).get("startedAt"):
            before = conditions.find(obj, "Ready") or {}
            await context.write_conditions(ROLLOUTS, context.rollouts, obj, found, fields)
            if before.get("reason") != error.reason:
                # GitOps tools look at the Blueprint.
                context.runs.turned(blueprint_of(obj))
        if isinstance(error, Retryable):
            raise error
        return _WAITING_AGAIN if isinstance(error, Waiting) else 60.0


def _age(obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta["creationTimestamp"], meta["name"]
