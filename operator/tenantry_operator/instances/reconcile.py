"""The reconcile of a DatabaseInstance: whether it can be reached, what it holds, what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from tenantry_crds.database_instance import InstanceRole
from tenantry_operator import conditions, telemetry
from tenantry_operator.cache import Key
from tenantry_operator.conditions import Condition
from tenantry_operator.context import INSTANCES, Context
from tenantry_operator.engines.base import ServerReport
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.faults import reached, subject
from tenantry_operator.instances.hibernation import HIBERNATED, ends_with_namespace, has_left, is_asleep
from tenantry_operator.instances.provider import Instance, Notes
from tenantry_operator.instances.servers import Server
from tenantry_operator.kube import NAMESPACE_ENDS, Conflict, NotFound
from tenantry_operator.names import FINALIZER, RELEASED_ANNOTATION

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_WAITING_AGAIN = 5.0
_STALLED_AGAIN = 15.0
_REMOVING_AGAIN = 1.0
_REFUSED = "AdminLoginRefused"
_HOLDS = "HoldsTenants"
_NAMED = 5


class InstanceReconciler:
    """Brings DatabaseInstances to Ready, and keeps those that hold tenants from going.

    :param became_ready: told of an instance that can be used from now on.
    """

    def __init__(self, context: Context, became_ready: Callable[[Object], None]) -> None:
        self._context = context
        self._became_ready = became_ready
        self._problems: dict[Key, Stalled] = {}
        """What a person must mend of servers that can be used nevertheless."""

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile.

        :raises Retryable: when the server cannot be reached, after it was written to the status.
        """
        context = self._context
        obj = context.instances.get(key)
        if obj is None:
            self._problems.pop(key, None)
            await context.servers.drop(key)
            return None
        subject.set("/".join(key))
        if "deletionTimestamp" in obj["metadata"]:
            return await self._remove(key, obj)
        try:
            obj = await self._claim(obj)
            if context.sleep_is_due(key):
                await self._send_to_sleep(key, obj)
                return None
            if is_asleep(obj):
                obj = await self._wake(obj)
            server = await self._bring(key, Instance(obj))
        except ReconcileError as error:
            await self._fail(context.instances.get(key) or obj, error)
            if isinstance(error, Retryable):
                raise
            return _WAITING_AGAIN if isinstance(error, Waiting) else _STALLED_AGAIN
        await self.report(server, context.instances.get(key) or obj)
        problem = self._problems.get(key)
        return None if problem is None else _STALLED_AGAIN

    async def _bring(self, key: Key, instance: Instance) -> Server:
        """The server is made, and answers.

        What a person must mend of how it is made does not keep it from being used as it is.
        """
        context = self._context
        provider = context.providers.of(instance)
        self._problems.pop(key, None)
        try:
            await provider.ensure(instance)
        except Stalled as problem:
            self._problems[key] = problem
            _log.info(
                "not as it should be", instance="/".join(key), reason=problem.reason, message=problem.message
            )
        try:
            if not instance.status.get("version"):
                await provider.prepare(instance)
            return await self._observed(key, instance)
        except (Stalled, Waiting):
            # That it is not up may be because of it.
            if key in self._problems:
                raise self._problems[key] from None
            raise

    async def _observed(self, key: Key, instance: Instance) -> Server:
        before = self._context.servers.peek(key)
        server = await self._context.servers.refresh(key)
        if before is not None and before is not server:
            self._became_ready(instance.obj)  # the tenants' Secrets say where it is
        if server.snapshot is not None and server.error is None and conditions.is_true(instance.obj, "Ready"):
            return server  # the sweep keeps it up to date
        try:
            await server.observe()
        except Stalled as error:
            if error.reason != _REFUSED or not await self._context.providers.of(instance).prepare(instance):
                raise
            await server.observe()
        return server

    async def _send_to_sleep(self, key: Key, obj: Object) -> None:
        """All its tenants rest: it runs again as soon as one of them does not."""
        context, instance = self._context, Instance(obj)
        await context.providers.of(instance).sleep(instance)
        reached("scaled-to-zero")
        await context.servers.drop(key)
        if not is_asleep(obj):
            context.recorder.normal(obj, HIBERNATED, "all its tenants are at rest: it is scaled to zero")
        found = conditions.ready(HIBERNATED, "all its tenants are at rest; it starts when one is active again")
        await context.write_conditions(INSTANCES, context.instances, obj, found, {"connections": 0})

    async def _wake(self, obj: Object) -> Object:
        """Says that it wakes before anything else, so that nobody takes it for asleep while it starts."""
        self._context.recorder.normal(obj, "Waking", "a tenant is active: it starts")
        found = conditions.reconciling("InstanceStarting", "it starts, since a tenant is not at rest any more")
        return await self._context.write_conditions(INSTANCES, self._context.instances, obj, found)

    async def report(self, server: Server, obj: Object) -> None:
        """Writes what the last snapshot says of the server."""
        context = self._context
        if is_asleep(obj):
            return
        snapshot = server.snapshot
        if snapshot is None:
            return
        report = snapshot.report
        known = obj.get("status") or {}
        fields = {
            "endpoint": {"host": server.access.host, "port": server.access.port},
            "version": report.version,
            "tenants": context.tenants.count("instance", server.name),
            "maxConnections": report.max_connections,
            # Sizes and sessions move all the time; they are written when they moved enough to tell.
            "bytes": _settled(known.get("bytes"), report.bytes, 1 << 26),
            "connections": _settled(known.get("connections"), report.connections, 20),
        }
        instance = Instance(obj)
        notes = context.providers.of(instance).notes(instance)
        fields.update(notes.fields)
        problem = self._problems.get(server.key)
        # Some say which of several products they are: MariaDB 11.8.
        product = "" if report.version[:1].isalpha() else f"{server.access.engine} "
        found = conditions.ready("Ready", f"{product}{report.version}")
        if problem is not None:
            found = conditions.failed(problem)
        found = [*found, *_details(report), *notes.conditions]
        before = conditions.find(obj, "Ready") or {}
        self._events(obj, before, problem, notes)
        await context.write_conditions(INSTANCES, context.instances, obj, found, fields)
        if before.get("status") != "True" and problem is None:
            self._became_ready(obj)

    def _events(self, obj: Object, before: Object, problem: Stalled | None, notes: Notes) -> None:
        recorder = self._context.recorder
        if problem is not None:
            if before.get("reason") != problem.reason:
                recorder.warning(obj, problem.reason, problem.message)
        elif before.get("status") == "False":
            recorder.normal(obj, "Reachable", "the server is reached again")
        for note in notes.conditions:
            known = conditions.find(obj, note.type) or {}
            if note.status is False and known.get("reason") != note.reason:
                recorder.warning(obj, note.reason, note.message)

    async def _fail(self, obj: Object, error: ReconcileError) -> None:
        before = conditions.find(obj, "Ready") or {}
        if before.get("reason") != error.reason:
            self._context.recorder.warning(obj, error.reason, error.message)
        telemetry.reconcile_errors.labels("DatabaseInstance", error.reason).inc()
        waited = conditions.waited(obj, error)
        await self._context.write_failure(INSTANCES, self._context.instances, obj, error, waited=waited)

    async def _claim(self, obj: Object) -> Object:
        meta = obj["metadata"]
        if FINALIZER in (meta.get("finalizers") or []):
            return obj
        claimed = await self._finalizers(obj, [*(meta.get("finalizers") or []), FINALIZER])
        if FINALIZER not in (claimed["metadata"].get("finalizers") or []):
            raise Retryable(
                "ObjectChanging", f"DatabaseInstance {meta['namespace']}/{meta['name']} changed just now"
            )
        return claimed

    async def _finalizers(self, obj: Object, finalizers: list[str]) -> Object:
        meta = obj["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}
        telemetry.api_writes.labels("patch", "databaseinstances").inc()
        try:
            written = await self._context.kube.patch(INSTANCES, meta["namespace"], meta["name"], patch)
        except (Conflict, NotFound):
            return obj
        self._context.let_go(INSTANCES, self._context.instances, obj, written)
        return written

    async def _remove(self, key: Key, obj: Object) -> float | None:
        """Waits until no tenant is on it."""
        context = self._context
        finalizers = obj["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        tenants = self._held(key, obj)
        if tenants:
            names = ", ".join("/".join(tenant) for tenant in sorted(tenants)[:_NAMED])
            more = f" and {len(tenants) - _NAMED} more" if len(tenants) > _NAMED else ""
            message = f"it goes when these tenants are gone from it: {names}{more}"
            reason, why = await self._keep_up(obj)
            news = reason == NAMESPACE_ENDS and not ends_with_namespace(obj)
            found = conditions.reconciling(reason, message + why)
            obj = await context.write_conditions(INSTANCES, context.instances, obj, found)
            if news:
                self._became_ready(obj)  # so that its tenants do not wait for it
            return None
        instance = Instance(obj)
        await context.servers.drop(key)
        try:
            await context.providers.of(instance).remove(instance)
        except ReconcileError as error:
            await self._fail(obj, error)
            if isinstance(error, Retryable):
                raise
            return _REMOVING_AGAIN
        reached("removed")
        await self._finalizers(obj, [name for name in finalizers if name != FINALIZER])
        return None

    def _held(self, key: Key, obj: Object) -> list[Key]:
        """The tenants that keep an instance from going."""
        context = self._context
        annotations = obj["metadata"].get("annotations") or {}
        released = (key[0], annotations.get(RELEASED_ANNOTATION))
        dedicated = obj["spec"].get("role") == InstanceRole.DEDICATED
        return [
            each
            for each in context.tenants.find("instance", "/".join(key))
            if each != released and not (dedicated and has_left(context.tenants.get(each) or {}, key))
        ]

    async def _keep_up(self, obj: Object) -> tuple[str, str]:
        """A server that is to go runs until its tenants are gone: they may have to be dropped from it.

        :returns: the reason that it waits for, and what stands in the way.
        """
        try:
            await self._context.providers.of(Instance(obj)).ensure(Instance(obj))
        except ReconcileError as error:
            return error.reason if error.reason == NAMESPACE_ENDS else _HOLDS, f"; {error.message}"
        return _HOLDS, ""


def _settled(old: int | None, new: int, step: int) -> int:
    return new if old is None or abs(new - old) >= max(step, old // 10) else old


def _details(report: ServerReport) -> list[Condition]:
    if report.unhardened:
        message = "PUBLIC reaches what it need not; close it with: " + " ".join(report.unhardened)
        hardened = Condition("Hardened", False, "PublicAccess", message)
    else:
        hardened = Condition("Hardened", True, "Hardened")
    if report.missing:
        privileged = Condition("Privileged", False, "RightsMissing", "; ".join(report.missing))
    else:
        privileged = Condition("Privileged", True, "AllRights")
    return [hardened, privileged]
