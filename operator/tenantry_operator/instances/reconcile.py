"""The reconcile of a DatabaseInstance: whether it can be reached, what it holds, what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenantry_operator import conditions, telemetry
from tenantry_operator.cache import Key
from tenantry_operator.conditions import Condition
from tenantry_operator.context import INSTANCES, Context
from tenantry_operator.engines.base import ServerReport
from tenantry_operator.errors import ReconcileError, Retryable, Waiting
from tenantry_operator.instances.servers import Server
from tenantry_operator.kube import Conflict, NotFound
from tenantry_operator.names import FINALIZER

Object = dict[str, Any]

_WAITING_AGAIN = 5.0
_NAMED = 5


class InstanceReconciler:
    """Brings DatabaseInstances to Ready, and keeps those that hold tenants from going.

    :param became_ready: told of an instance that can be used from now on.
    """

    def __init__(self, context: Context, became_ready: Callable[[Object], None]) -> None:
        self._context = context
        self._became_ready = became_ready

    async def reconcile(self, key: Key) -> float | None:
        """One reconcile.

        :raises Retryable: when the server cannot be reached, after it was written to the status.
        """
        context = self._context
        obj = context.instances.get(key)
        if obj is None:
            await context.servers.drop(key)
            return None
        if "deletionTimestamp" in obj["metadata"]:
            return await self._remove(key, obj)
        try:
            server = await context.servers.refresh(key)
            await server.observe()
        except ReconcileError as error:
            await self._fail(obj, error)
            if isinstance(error, Retryable):
                raise
            return _WAITING_AGAIN if isinstance(error, Waiting) else None
        obj = await self._claim(obj)
        await self.report(server, obj)
        return None

    async def report(self, server: Server, obj: Object) -> None:
        """Writes what the last snapshot says of the server."""
        context = self._context
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
        found = [*conditions.ready("Ready", f"{server.access.engine} {report.version}"), *_details(report)]
        before = conditions.find(obj, "Ready") or {}
        if before.get("status") == "False":
            context.recorder.normal(obj, "Reachable", "the server is reached again")
        await context.write_conditions(INSTANCES, context.instances, obj, found, fields)
        if before.get("status") != "True":
            self._became_ready(obj)

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
        return await self._finalizers(obj, [*(meta.get("finalizers") or []), FINALIZER])

    async def _finalizers(self, obj: Object, finalizers: list[str]) -> Object:
        meta = obj["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": finalizers}}
        telemetry.api_writes.labels("patch", "databaseinstances").inc()
        try:
            written = await self._context.kube.patch(INSTANCES, meta["namespace"], meta["name"], patch)
        except (Conflict, NotFound):
            return obj
        self._context.instances.put_answer(written)
        return written

    async def _remove(self, key: Key, obj: Object) -> float | None:
        """Waits until no tenant is on it."""
        context = self._context
        finalizers = obj["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        tenants = context.tenants.find("instance", "/".join(key))
        if tenants:
            names = ", ".join("/".join(tenant) for tenant in sorted(tenants)[:_NAMED])
            more = f" and {len(tenants) - _NAMED} more" if len(tenants) > _NAMED else ""
            message = f"it goes when these tenants are gone from it: {names}{more}"
            found = conditions.reconciling("HoldsTenants", message)
            await context.write_conditions(INSTANCES, context.instances, obj, found)
            return None
        await self._finalizers(obj, [name for name in finalizers if name != FINALIZER])
        return None


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
