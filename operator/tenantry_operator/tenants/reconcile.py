"""The reconcile of a Tenant: its databases one by one, then its status, written once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from tenantry_operator import telemetry
from tenantry_operator.cache import Key
from tenantry_operator.conditions import find, parse_timestamp, worst
from tenantry_operator.context import TENANTS, Context
from tenantry_operator.engines.base import LoginLimits, Presence, UsageRow
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.faults import reached, subject
from tenantry_operator.names import FINALIZER
from tenantry_operator.services.outcome import ServiceOutcome
from tenantry_operator.services.reconcile import Services
from tenantry_operator.tenants import desired, homes, lifecycle, quotas, schemadrift, status
from tenantry_operator.tenants.databases import Databases
from tenantry_operator.tenants.deviations import describe
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.outcome import Outcome, Seen
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_WAITING_AGAIN = 15.0
_SOON = 0.2
_STALLED_AGAIN = 300.0


class TenantReconciler:
    """Brings Tenants to what they should be. Level-triggered: it never asks what changed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._databases = Databases(context)
        self._services = Services(context)
        self.counted: dict[Key, dict[str, Sequence[UsageRow]]] = {}
        """What usage queries found, by tenant and resource."""
        self.counted_writes: dict[tuple[Key, str], int | None] = {}
        """The servers' write counters at that time, by tenant and database."""
        self.usage_errors: dict[Key, Stalled] = {}
        """Usage queries that could not be run, by tenant."""
        self.seen: dict[Key, tuple[Seen, ...]] = {}
        """What the last reconcile saw, when it had nothing to do: the sweep looks for what differs."""
        self.unverified: set[Key] = set()
        """Tenants that were changed since they were observed: the next sweep looks at them once more."""

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile.

        :returns: seconds after which to look again.
        :raises Retryable: for a passing fault, after it was written to the status.
        """
        obj = self._context.tenants.get(key)
        if obj is None:
            for memory in (self.counted, self.usage_errors, self.seen):
                memory.pop(key, None)
            self.unverified.discard(key)
            return None
        try:
            view = TenantView(obj)
        except ValidationError as error:
            # The API server validates the same schema: this object is from before a schema change.
            await self._invalid(obj, error)
            return None
        subject.set(view.tenant)
        if view.deleting:
            return await self._remove(view) if view.claimed else None
        return await self._bring(view)

    async def _bring(self, view: TenantView) -> float | None:
        now = datetime.now(UTC)
        goal = self._goal(view, now)
        error: ReconcileError | None = goal.error
        outcomes: list[Outcome] = []
        services: list[ServiceOutcome] | None = None
        limits: quotas.Limits | None = None
        failure: ReconcileError | None = self._older_twin(view)
        if failure is None and goal.presence is Presence.LIVE:
            try:
                limits = desired.limits(self._context, view)
            except ReconcileError as problem:
                failure = problem
        if failure is None:
            if goal.presence is not Presence.LIVE:
                # What uses the databases ends before its logins are refused.
                services = await self._services.bring(view, goal, ())
            view, outcomes = await self._all(view, goal, limits)
            if goal.presence is Presence.LIVE:
                services = await self._services.bring(view, goal, outcomes)
            for outcome in outcomes:
                writes = self.counted_writes.get((view.key, outcome.entry))
                if outcome.record is not None and writes is not None:
                    outcome.record["countedWrites"] = writes
            for outcome in outcomes:
                await schemadrift.judge(self._context, outcome)
        else:
            outcomes = [Outcome(name, dict(record)) for name, record in view.known.items()]
        self._context.runs.judge(view, outcomes, failure)
        uncounted = self.usage_errors.get(view.key) if goal.presence is Presence.LIVE else None
        for outcome in outcomes:
            outcome.behind = self._context.runs.behind(view, outcome)
            if isinstance(outcome.behind, Waiting):
                outcome.look_again = _SOON
        problems = [failure, error, uncounted]
        problems += [problem for outcome in outcomes for problem in (outcome.error, outcome.behind)]
        problems += [service.error for service in services or ()]
        error = worst([problem for problem in problems if problem is not None])
        await self._report(view, goal, outcomes, services, error, limits, now)
        return self._again(view, goal, [*outcomes, *(services or ())], error)

    async def _all(
        self, view: TenantView, goal: Goal, limits: quotas.Limits | None
    ) -> tuple[TenantView, list[Outcome]]:
        outcomes = []
        for entry in view.entries:
            entry_goal = goal
            if entry.removed and goal.presence is not Presence.ABSENT:
                entry_goal = lifecycle.removal(view.spec.deletion_policy)
                if entry_goal.error is not None:
                    record = {**view.known[entry.name], "removing": True}
                    outcomes.append(Outcome(entry.name, record, error=entry_goal.error))
                    continue
            view, outcome = await self._databases.bring(view, entry, entry_goal, lambda: limits or _no_limits)
            outcomes.append(outcome)
        return view, outcomes

    async def _remove(self, view: TenantView) -> float | None:
        """The Tenant is being deleted: its policy decides what stays; then it is let go."""
        now = datetime.now(UTC)
        goal = lifecycle.removal(view.spec.deletion_policy)
        outcomes: list[Outcome] = []
        services: list[ServiceOutcome] | None = None
        if self._older_twin(view) is None:
            services = await self._services.bring(view, goal, ())
            if goal.error is None:
                view, outcomes = await self._all(view, goal, None)
        errors = [goal.error, *(outcome.error for outcome in (*outcomes, *(services or ())))]
        error = worst([problem for problem in errors if problem is not None])
        if error is None:
            await homes.release(self._context, view)
            reached("released")
            self._context.recorder.normal(
                view.obj,
                goal.reason,
                "the tenant's data "
                + (
                    "was dropped"
                    if goal.presence is Presence.ABSENT
                    else "stays on its server; a Tenant of this name finds it again"
                ),
            )
            return None
        await self._report(view, goal, outcomes, services, error, None, now)
        return self._again(view, goal, outcomes, error)

    def _goal(self, view: TenantView, now: datetime) -> Goal:
        text = view.status.get("deletedAt")
        return lifecycle.goal(
            view.spec.state,
            view.spec.deletion_policy,
            timedelta(days=view.spec.retention_days),
            deleted_at=parse_timestamp(text) if text else None,
            now=now,
        )

    def _older_twin(self, view: TenantView) -> Stalled | None:
        """Two Tenants of a namespace with one id: the older one has it."""
        for key in self._context.tenants.find("id", f"{view.namespace}/{view.id}"):
            other = self._context.tenants.get(key)
            if other is None or key == view.key:
                continue
            if _age(other) < _age(view.obj):
                return Stalled(
                    "IdTaken",
                    f"the id {view.id} is that of the older Tenant {key[1]}: delete one of the two, and create "
                    "this one again with another spec.id",
                )
        return None

    async def _report(
        self,
        view: TenantView,
        goal: Goal,
        outcomes: Sequence[Outcome],
        services: Sequence[ServiceOutcome] | None,
        error: ReconcileError | None,
        limits: quotas.Limits | None,
        now: datetime,
    ) -> None:
        counted: Mapping[str, Sequence[UsageRow]] = self.counted.get(view.key) or status.counted_before(view)
        usage = status.usages(view, outcomes, limits, counted) if limits is not None else None
        entries = (
            status.render_usage(view, usage, counted, now) if usage is not None else view.status.get("usage") or []
        )
        rendered = status.render(
            view,
            goal,
            outcomes,
            error,
            usage,
            entries,
            services=services,
            now=now,
            stalled_after=self._context.settings.stalled_after,
        )
        self._events(view, goal, outcomes, error, rendered)
        for service in services or ():
            if service.mended and service.error is None:
                message = f"service {service.name}: somebody changed its Deployment or Service"
                self._context.recorder.warning(view.obj, "DriftMended", message)
        written = await self._context.write_status(TENANTS, self._context.tenants, view.obj, rendered)
        if written is not view.obj:
            reached("status-written")
        self._context.runs.changed(view.key)
        self._remember(view, outcomes, error)

    def _remember(self, view: TenantView, outcomes: Sequence[Outcome], error: ReconcileError | None) -> None:
        self.seen.pop(view.key, None)
        self.unverified.discard(view.key)
        if any(outcome.done for outcome in outcomes):
            self.unverified.add(view.key)
        elif error is None or not any(outcome.error for outcome in outcomes):
            self.seen[view.key] = tuple(o.seen for o in outcomes if o.seen is not None)

    def _events(
        self,
        view: TenantView,
        goal: Goal,
        outcomes: Sequence[Outcome],
        error: ReconcileError | None,
        rendered: Object,
    ) -> None:
        recorder = self._context.recorder
        before = find(view.obj, "Ready") or {}
        if error is not None:
            if before.get("reason") != error.reason and not isinstance(error, Retryable):
                recorder.warning(view.obj, error.reason, error.message)
        elif (before.get("status"), before.get("reason")) != ("True", goal.reason):
            recorder.normal(view.obj, goal.reason, f"the tenant is {goal.phase}")
        for outcome in outcomes:
            if outcome.drift and outcome.error is None:
                telemetry.drift_found.inc()
                recorder.warning(view.obj, "DriftMended", f"database {outcome.entry}: {'; '.join(outcome.drift)}")
            drift, known = (
                (record or {}).get("schemaDrift") for record in (outcome.record, view.known.get(outcome.entry))
            )
            if drift is not None and drift["digest"] != (known or {}).get("digest"):
                recorder.warning(view.obj, "SchemaChanged", describe(outcome.record or {}))
            if "secret" in outcome.done and (view.known.get(outcome.entry) or {}).get("login"):
                recorder.normal(view.obj, "CredentialsRotated", f"database {outcome.entry} has new credentials")
        quota = next((c for c in rendered["conditions"] if c["type"] == "QuotaExceeded"), None)
        known = find(view.obj, "QuotaExceeded") or {}
        if quota is not None and quota["reason"] != known.get("reason"):
            if quota["status"] == "True":
                recorder.warning(view.obj, "QuotaExceeded", quota["message"])
            elif quota["reason"] == "NearLimit":
                recorder.warning(view.obj, "NearLimit", quota["message"])

    def _again(
        self,
        view: TenantView,
        goal: Goal,
        outcomes: Sequence[Outcome | ServiceOutcome],
        error: ReconcileError | None,
    ) -> float | None:
        if error is not None:
            _log.info("not there yet", tenant=view.tenant, reason=error.reason, message=error.message)
            telemetry.reconcile_errors.labels("Tenant", error.reason).inc()
        if isinstance(error, Retryable):
            raise error
        times = [outcome.look_again for outcome in outcomes if outcome.look_again is not None]
        if goal.look_again is not None:
            times.append(goal.look_again)
        if isinstance(error, Waiting):
            times.append(_WAITING_AGAIN * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
        elif error is not None:
            times.append(_STALLED_AGAIN * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load
        return min(times) + 0.01 if times else None

    async def _invalid(self, obj: Object, error: ValidationError) -> None:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = Stalled("Invalid", f"spec.{where}: {first['msg']}; mend it")
        await self._context.write_failure(TENANTS, self._context.tenants, obj, problem)


_no_limits = quotas.Limits(LoginLimits(), None, False, {})


def _age(obj: Object) -> tuple[bool, str, str]:
    """What decides who has an id: who has databases already, then who was there first."""
    meta = obj["metadata"]
    return (FINALIZER not in (meta.get("finalizers") or []), meta["creationTimestamp"], meta["uid"])
