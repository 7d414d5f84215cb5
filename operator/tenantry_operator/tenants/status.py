"""The status of a Tenant, from what became of its databases. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION, RECREATE_ANNOTATION, ROTATE_ANNOTATION
from tenantry_operator import conditions
from tenantry_operator.conditions import Condition
from tenantry_operator.engines.base import Presence, UsageRow
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.services import outcome as service_outcomes
from tenantry_operator.services.outcome import ServiceOutcome
from tenantry_operator.tenants import quotas
from tenantry_operator.tenants.deviations import acknowledge, describe
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.outcome import Outcome
from tenantry_operator.tenants.quotas import Usage
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]

_ONCE = {
    "rotate": ROTATE_ANNOTATION,
    "recreate": RECREATE_ANNOTATION,
    "acknowledge": ACKNOWLEDGE_ANNOTATION,
}
"""Annotations that ask for something once, by their word in ``status.handled``."""
_BYTES_STEP = 1 << 20
"""Sizes are written when they moved by this much and by 5 %: a status that follows every page would be
written all day."""


def settled_size(old: int | None, new: int | None) -> int | None:
    """The size to write: the old one, unless the new one differs enough to tell."""
    if old is None or new is None:
        return new if new is not None else old
    far = abs(new - old) >= max(_BYTES_STEP, old // 20)
    return new if far else old


def _settled_count(old: int | None, new: int) -> int:
    """The number of sessions to write: they come and go all the time."""
    if old is None or 0 in (old, new):
        return new
    return new if abs(new - old) >= max(5, old // 5) else old


def waited(status: Object, error: ReconcileError | None, now: datetime) -> tuple[str | None, float]:
    """Since when something has been waited for, and for how many seconds."""
    if not isinstance(error, Waiting):
        return None, 0.0
    since = status.get("waitingSince") or conditions.timestamp(now)
    return since, max(0.0, (now - conditions.parse_timestamp(since)).total_seconds())


def usages(
    view: TenantView,
    outcomes: Sequence[Outcome],
    limits: quotas.Limits,
    counted: Mapping[str, Sequence[UsageRow]],
) -> list[Usage]:
    """What the tenant uses: measured, then counted. What is not known yet is left out."""
    found = []
    sizes = [o.state.bytes for o in outcomes if o.state is not None and o.state.bytes is not None]
    if sizes:
        known = {entry["resource"]: entry for entry in view.status.get("usage") or []}
        old = known.get(quotas.STORAGE, {}).get("used")
        used = settled_size(old, sum(sizes))
        if limits.storage is not None and used is not None:
            # Close to a threshold the exact size counts: it decides whether writing is refused.
            exact = Usage(quotas.STORAGE, sum(sizes), limits.storage)
            settled = Usage(quotas.STORAGE, used, limits.storage)
            if (exact.exceeded, exact.near) != (settled.exceeded, settled.near):
                used = exact.used
        if used is not None:
            found.append(Usage(quotas.STORAGE, used, limits.storage))
    for resource, rows in sorted(counted.items()):
        found.append(Usage(resource, sum(row.count for row in rows), limits.counted.get(resource)))
    for resource, used in reported(view.status):
        if resource not in counted and resource != quotas.STORAGE:
            found.append(Usage(resource, used, limits.counted.get(resource)))
    return found


def reported(status: Object) -> list[tuple[str, int]]:
    """What the product itself reported: resources, and how much of each is used."""
    entries = status.get("usage") or []
    return [(each["resource"], each.get("used") or 0) for each in entries if each.get("source") == "Reported"]


def counted_before(view: TenantView) -> dict[str, list[UsageRow]]:
    """What usage queries found when they ran last, from the status."""
    found = {}
    for entry in view.status.get("usage") or []:
        if entry.get("source") == "Query":
            parts = entry.get("breakdown") or [{"label": "", "count": entry.get("used") or 0}]
            found[entry["resource"]] = [UsageRow(p["label"], p.get("count") or 0, p.get("latest")) for p in parts]
    return found


def render_usage(
    view: TenantView, found: Sequence[Usage], counted: Mapping[str, Sequence[UsageRow]], now: datetime
) -> list[Object]:
    """``status.usage``: entries that did not change keep their time; reported ones are kept."""
    known = {entry["resource"]: entry for entry in view.status.get("usage") or []}
    rendered = []
    for usage in found:
        known_entry = known.get(usage.resource, {})
        measured = usage.resource == quotas.STORAGE or usage.resource in counted
        if known_entry.get("source") == "Reported" and not measured:
            kept = {name: value for name, value in known.pop(usage.resource).items() if name != "limit"}
            rendered.append({**kept, **({} if usage.limit is None else {"limit": usage.limit})})
            continue
        rows = counted.get(usage.resource, ())
        entry: Object = {
            "resource": usage.resource,
            "used": usage.used,
            "source": "Measured" if usage.resource == quotas.STORAGE else "Query",
        }
        if usage.limit is not None:
            entry["limit"] = usage.limit
        if len(rows) > 1 or any(row.label for row in rows):
            entry["breakdown"] = [
                {k: v for k, v in (("label", r.label), ("count", r.count), ("latest", r.latest)) if v is not None}
                for r in rows[:256]
            ]
        old = dict(known.pop(usage.resource, {}))
        written = old.pop("updatedAt", None)
        entry["updatedAt"] = written if written and old == entry else conditions.timestamp(now)
        rendered.append(entry)
    rendered += [entry for entry in known.values() if entry.get("source") == "Reported"]
    return rendered


def render(
    view: TenantView,
    goal: Goal,
    outcomes: Sequence[Outcome],
    error: ReconcileError | None,
    usage: Sequence[Usage] | None,
    usage_entries: Sequence[Object],
    *,
    services: Sequence[ServiceOutcome] | None = None,
    now: datetime,
    stalled_after: float,
) -> Object:
    """The whole status.

    :param error: what stands in the way of the goal, the worst of it; None when it is reached.
    :param services: what became of the services; None: they were not looked at.
    :param usage: None when it is not known, as for a tenant that is not active.
    """
    status = {k: v for k, v in view.status.items() if k not in ("waitingSince", "databases", "binding")}
    since, seconds = waited(view.status, error, now)
    if since is not None:
        status["waitingSince"] = since
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    for outcome in outcomes:
        if outcome.record is not None and outcome.state is not None and outcome.state.bytes is not None:
            size = settled_size(outcome.record.get("bytes"), outcome.state.bytes)
            outcome.record["bytes"] = size
            outcome.record["connections"] = _settled_count(
                outcome.record.get("connections"), outcome.state.connections
            )
        if outcome.record is not None and outcome.state is not None:
            outcome.record.pop("node", None)
            outcome.record |= {"node": outcome.state.node} if outcome.state.node else {}
    if records:
        status["databases"] = records
    bound = [record["secret"] for record in records if record.get("secret")]
    if len(bound) == 1 and goal.presence is Presence.LIVE:
        status["binding"] = {"name": bound[0]}
    if services is not None:
        status["services"] = [service.record for service in services]
        if not services:
            del status["services"]
    status["id"] = view.id
    status["observedGeneration"] = view.generation
    status["phase"] = _phase(goal, outcomes, error)
    if error is None or not any(outcome.error for outcome in outcomes):
        for record in records:
            acknowledge(view.obj, view.known, record)
        _handled(status, view)
    if usage_entries:
        status["usage"] = list(usage_entries)
    if goal.phase == "Deleted" and error is None:
        status.setdefault("deletedAt", conditions.timestamp(now))
    else:
        status.pop("deletedAt", None) if goal.phase != "Deleted" else None
    found = (
        conditions.ready(goal.reason)
        if error is None
        else conditions.failed(error, waited=seconds, stalled_after=stalled_after)
    )
    later = service_outcomes.updating(services or ()) if error is None else None
    if later is not None:
        found[1] = Condition("Reconciling", True, later.reason, later.message)
    of_services = {service.error for service in services or () if service.error is not None}
    found += _details(goal, outcomes, None if error in of_services else error)
    running = service_outcomes.condition(services or (), goal.reason)
    if services is None:
        running = _kept(view, "ServicesReady")
    if running is not None:
        found.append(running)
    if usage is not None:
        found.append(quotas.condition(usage))
    status["conditions"] = conditions.render(found, view.status.get("conditions") or [], view.generation, now)
    return status


def _kept(view: TenantView, kind: str) -> Condition | None:
    """A condition as it was reported last."""
    known = conditions.find(view.obj, kind)
    if known is None:
        return None
    return Condition(kind, known["status"] == "True", known["reason"], known["message"])


def _phase(goal: Goal, outcomes: Sequence[Outcome], error: ReconcileError | None) -> str:
    if error is None:
        return goal.phase
    if goal.presence is not Presence.LIVE and not any(outcome.error for outcome in outcomes):
        return goal.phase
    return "Failed" if isinstance(error, Stalled) else "Provisioning"


def _handled(status: Object, view: TenantView) -> None:
    handled = dict(status.get("handled") or {})
    for word, annotation in _ONCE.items():
        value = view.annotation(annotation)
        if value:
            handled[word] = value[:253]
    if handled:
        status["handled"] = handled


def _details(goal: Goal, outcomes: Sequence[Outcome], error: ReconcileError | None) -> list[Condition]:
    live = goal.presence is Presence.LIVE
    failures = [outcome for outcome in outcomes if outcome.error is not None]
    if failures:
        first = failures[0].error
        assert first is not None  # noqa: S101 - only outcomes with an error are in the list
        names = ", ".join(sorted(outcome.entry for outcome in failures))
        databases = Condition("DatabasesReady", False, first.reason, f"not as they should be: {names}")
    elif error is not None and live and not any(outcome.behind is error for outcome in outcomes):
        databases = Condition("DatabasesReady", False, error.reason, error.message)
    else:
        databases = Condition("DatabasesReady", live, goal.reason)
    found = [databases]
    if live and outcomes:
        secrets = all(outcome.record and outcome.record.get("secret") for outcome in outcomes)
        found.append(Condition("CredentialsReady", secrets, "SecretsWritten" if secrets else databases.reason))
        behind = next((outcome.behind for outcome in outcomes if outcome.behind is not None), None)
        if behind is not None:
            found.append(Condition("SchemaCurrent", False, behind.reason, behind.message))
        else:
            current = error is None or not failures
            found.append(Condition("SchemaCurrent", current, "UpToDate" if current else databases.reason))
    lost = [f.error for f in failures if f.error is not None and f.error.reason == "DataLost"]
    mended = [finding for outcome in outcomes for finding in outcome.drift]
    records = [outcome.record for outcome in outcomes if outcome.record is not None]
    changed = [describe(record) for record in records if record.get("schemaDrift")]
    if lost:
        found.append(Condition("Drifted", True, "DataLost", lost[0].message))
    elif failures and mended:
        found.append(Condition("Drifted", True, "NotMended", "; ".join(mended)[:1024]))
    elif changed and live:
        found.append(Condition("Drifted", True, "SchemaChanged", "; ".join(changed)[:1024]))
    elif live:
        found.append(Condition("Drifted", False, "AsDesired"))
    return found
