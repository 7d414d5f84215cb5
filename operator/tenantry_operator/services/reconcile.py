"""Bringing the services of a tenant to where they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import structlog

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_crds.service import ServiceTemplate
from tenantry_crds.tenant import TenantService, TenantState
from tenantry_operator.context import Context
from tenantry_operator.engines.base import Presence
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.services import build
from tenantry_operator.services.build import STOPPED, Bound, Wanted
from tenantry_operator.services.objects import ServiceObjects
from tenantry_operator.services.observe import Health, Phase, digest_of, health, service_of
from tenantry_operator.services.outcome import ServiceOutcome
from tenantry_operator.tenants import secrets
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.outcome import Outcome
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


_NAME_AGAIN = 15.0
"""Seconds between two looks at a name that is taken."""


class Course(Enum):
    """What is to become of a tenant's services."""

    RUN = "run"
    STOP = "stop"
    REMOVE = "remove"


def course(view: TenantView, goal: Goal) -> Course:
    """What the tenant's state asks for: who is suspended or kept after deletion comes back at once."""
    if view.deleting or goal.presence is Presence.ABSENT or view.spec.state is TenantState.ARCHIVED:
        return Course.REMOVE
    return Course.RUN if goal.presence is Presence.LIVE else Course.STOP


class Services:
    """Reconciles the services of tenants."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._objects = ServiceObjects(context)

    async def bring(self, view: TenantView, goal: Goal, databases: Sequence[Outcome]) -> list[ServiceOutcome]:
        """Brings all services of a tenant to the goal; errors come back in the outcomes.

        :param databases: what became of the tenant's databases.
        """
        way = course(view, goal)
        wanted = {} if way is Course.REMOVE else {entry.name: entry for entry in view.spec.services}
        outcomes = await self._remove_others(view, wanted)
        for entry in wanted.values():
            known = _records(view).get(entry.name) or {}
            record = {**known, "name": entry.name, "blueprint": entry.blueprint}
            outcome = ServiceOutcome(entry.name, record)
            try:
                if way is Course.RUN:
                    await self._run(view, entry, databases, outcome)
                else:
                    await self._stop(view, entry, outcome)
            except Exception as error:
                if not isinstance(error, ReconcileError):
                    _log.exception("a service was not reconciled", tenant=view.tenant, service=entry.name)
                outcome.error = _known_error(entry.name, error)
            _finish(outcome)
            outcomes.append(outcome)
        return outcomes

    async def _remove_others(self, view: TenantView, wanted: Mapping[str, TenantService]) -> list[ServiceOutcome]:
        """Removes what belongs to no service of the spec.

        :returns: the services that could not be removed.
        """
        context, objects, records = self._context, self._objects, _records(view)
        failures: dict[str, ReconcileError] = {}
        for store, find, remove in (
            (context.deployments, objects.find_deployment, objects.remove_deployment),
            (context.services, objects.find_service, objects.remove_service),
        ):
            # What is heard of by its labels, and what is known to have been made: labels can be taken away.
            names = {service_of(known) for known in store.all("tenant", view.tenant)} | records.keys()
            for name in sorted(names - wanted.keys()):
                called = build.object_name(view.name, name)
                try:
                    known = store.get((view.namespace, called))
                    if known is None and name in records:
                        known = await find(view, called)
                    if known is not None and build.belongs(known, view.obj, name):
                        await remove(known)
                except ReconcileError as error:
                    failures[name] = error.about(f"service {name}")
        outcomes = []
        for name, failure in failures.items():
            record = {**(_records(view).get(name) or {}), "name": name}
            outcomes.append(ServiceOutcome(name, record, error=failure))
            _finish(outcomes[-1])
        return outcomes

    async def _run(
        self, view: TenantView, entry: TenantService, databases: Sequence[Outcome], outcome: ServiceOutcome
    ) -> None:
        template = self._template(view, entry)
        known = self._deployment(view, entry)
        running = known is not None and known["replicas"] > 0
        bound = self._bound(view, databases, running=running)
        if bound is None:
            self._describe(outcome, view, template, known)
            raise Waiting(
                "DatabasesNotReady", f"service {entry.name}: it starts when the tenant's databases are there"
            )
        wanted = Wanted(
            name=entry.name,
            blueprint=entry.blueprint,
            template=template,
            replicas=template.replicas if entry.replicas is None else entry.replicas,
            tenant_id=view.id,
            plugin_repo=view.spec.profile.plugin_repo if view.spec.profile is not None else None,
            bound=bound,
        )
        # A name that is taken is found out before there are pods. Later on the Service follows the pods: a
        # template that is refused does not lead it to a port on which nobody listens.
        first = known is None
        if first:
            await self._front(view, wanted, outcome)
        known = await self._deploy(view, known, wanted, outcome)
        if not first:
            await self._front(view, wanted, outcome)
        self._describe(outcome, view, template, known)
        await self._judge(view, entry.name, known, outcome)

    def _template(self, view: TenantView, entry: TenantService) -> ServiceTemplate:
        """The template of a service.

        :raises Waiting: BlueprintNotFound.
        :raises Stalled: NotAService.
        """
        obj = self._context.blueprints.get((view.namespace, entry.blueprint))
        if obj is None:
            raise Waiting(
                "BlueprintNotFound",
                f"service {entry.name}: there is no Blueprint {view.namespace}/{entry.blueprint}: apply it",
            )
        template = BlueprintSpec.model_validate(obj["spec"]).service
        if template is None:
            raise Stalled(
                "NotAService",
                f"service {entry.name}: blueprint {entry.blueprint} is one of a database; name it in "
                "spec.databases, or name a blueprint with a service template here",
            )
        return template

    def _deployment(self, view: TenantView, entry: TenantService) -> Object | None:
        name = build.object_name(view.name, entry.name)
        known = self._context.deployments.get((view.namespace, name))
        return known if known is not None and build.belongs(known, view.obj, entry.name) else None

    def _bound(self, view: TenantView, databases: Sequence[Outcome], *, running: bool) -> tuple[Bound, ...] | None:
        """The databases whose credentials the services get; None while one is not there yet.

        What runs goes on when a database is in trouble, and gets a new one once it is there; what does not run
        would start in vain.
        """
        found = []
        removed = {entry.name for entry in view.entries if entry.removed}
        for outcome in sorted(databases, key=lambda each: each.entry):
            if outcome.entry in removed:
                continue
            record = outcome.record or {}
            if running and not any(each.get("login") for each in (record, view.known.get(outcome.entry) or {})):
                continue
            summary = None
            if record.get("login") and record.get("secret"):
                summary = secrets.summary(self._context, view, record["secret"])
            if summary is None or (outcome.error is not None and not running):
                return None
            digest = f"{summary.binding_digest} {summary.fingerprint}"
            found.append(Bound(outcome.entry, summary.name, digest))
        return tuple(found)

    async def _deploy(
        self, view: TenantView, known: Object | None, wanted: Wanted, outcome: ServiceOutcome
    ) -> Object:
        body = build.deployment(view.obj, wanted)
        generation = outcome.record.get("generation")
        same = labelled = False
        if known is not None:
            if "deletionTimestamp" in known["metadata"]:
                raise Waiting("ServicesStarting", f"service {wanted.name}: its old Deployment is being deleted")
            same = digest_of(known) == digest_of(body)
            labelled = build.is_of(known, view.name, wanted.name)
            if same and labelled and generation == known["metadata"].get("generation"):
                return known
        written = await self._objects.write_deployment(view, wanted.name, body)
        now = written["metadata"].get("generation", 0)
        # After a crash it may be as it should be, and only not be written down: then this changed nothing.
        if known is not None and same and generation is not None:
            outcome.mended |= now != known["metadata"].get("generation") or not labelled
        outcome.record["generation"] = now
        outcome.done.append("deployment")
        reached("service-written")
        return written

    async def _front(self, view: TenantView, wanted: Wanted, outcome: ServiceOutcome) -> None:
        """Sees to it that there is a Service, or none for a template without a port."""
        body = build.service(view.obj, wanted)
        if body is not None:
            outcome.mended |= await self._objects.write_service(view, wanted.name, body)
            return
        known = self._context.services.get((view.namespace, build.object_name(view.name, wanted.name)))
        if known is not None and build.is_of(known, view.name, wanted.name):
            await self._objects.remove_service(known)

    async def _judge(self, view: TenantView, name: str, known: Object, outcome: ServiceOutcome) -> None:
        """Waits for what is not there yet.

        :raises Waiting: ServicesStarting.
        :raises Stalled: ServiceFailed.
        """
        found = health(known)
        _note(outcome, known, found)
        if found.phase not in (Phase.STARTING, Phase.FAILED):
            outcome.said = found.message
            return
        said = await self._objects.trouble(view, name) or found.message or "its pods are not ready yet"
        if found.phase is Phase.FAILED:
            raise Stalled("ServiceFailed", f"service {name}: its pods do not come up: {said}")
        raise Waiting("ServicesStarting", f"service {name}: {said}")

    async def _stop(self, view: TenantView, entry: TenantService, outcome: ServiceOutcome) -> None:
        known = self._deployment(view, entry)
        if known is None and "generation" in outcome.record:
            # Without its labels nobody hears of it, and its pods would run on.
            hidden = await self._objects.find_deployment(view, build.object_name(view.name, entry.name))
            known = hidden if hidden is not None and build.belongs(hidden, view.obj, entry.name) else None
        if known is None:
            outcome.record["phase"] = Phase.STOPPED
            for gone in ("replicas", "ready", "generation"):
                outcome.record.pop(gone, None)
            return
        labelled = build.is_of(known, view.name, entry.name)
        if known["replicas"] != 0 or digest_of(known) != STOPPED or not labelled:
            known = await self._objects.stop(view, entry.name, known)
            outcome.done.append("stopped")
        found = health(known)
        _note(outcome, known, found)
        outcome.record["generation"] = known["metadata"].get("generation", 0)
        if found.phase is not Phase.STOPPED:
            raise Waiting("ServicesStopping", f"service {entry.name}: its pods are ending")

    def _describe(
        self, outcome: ServiceOutcome, view: TenantView, template: ServiceTemplate, known: Object | None
    ) -> None:
        record, name = outcome.record, build.object_name(view.name, outcome.name)
        record |= {"image": template.image, "deployment": name}
        record.pop("address", None)
        if template.port is not None:
            record["address"] = f"{name}.{view.namespace}.svc:{template.port}"
        if known is not None:
            _note(outcome, known, health(known))
        else:
            record["phase"] = Phase.PENDING


def _records(view: TenantView) -> dict[str, Object]:
    return {record["name"]: record for record in view.status.get("services") or []}


def _note(outcome: ServiceOutcome, known: Object, found: Health) -> None:
    outcome.record |= {
        "replicas": known["replicas"],
        "ready": found.ready,
        "phase": found.phase,
    }


def _finish(outcome: ServiceOutcome) -> None:
    record, error = outcome.record, outcome.error
    record.pop("message", None)
    if error is None and outcome.said:
        record["message"] = outcome.said
    if error is not None:
        record["message"] = error.message
        if error.reason == "NameTaken":
            outcome.look_again = _NAME_AGAIN  # nobody tells when the other object is gone
        if isinstance(error, Stalled):
            record["phase"] = Phase.FAILED
    record["phase"] = str(record.get("phase") or Phase.PENDING)


def _known_error(name: str, error: Exception) -> ReconcileError:
    """An error that a status can show. A bug shows as one, without what may be secret in its message."""
    if isinstance(error, ReconcileError):
        return error.about(f"service {name}")
    return Retryable(
        "InternalError",
        f"service {name}: {type(error).__name__}: see the operator's log, and report it; trying again",
    )
