"""The sweep: every server is observed as a whole, and tenants that differ are reconciled.

Costs a fixed number of queries per server, and no write when nothing changed. Servers are swept apart
from each other: one that does not answer holds up nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog

from tenantry_operator import telemetry
from tenantry_operator.cache import Key, key_of
from tenantry_operator.engines.base import Chain, DatabaseState, ServerState
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.instances.hibernation import is_asleep
from tenantry_operator.instances.servers import Server
from tenantry_operator.operator import Operator
from tenantry_operator.rollouts.phase import Phase, phase_of
from tenantry_operator.tenants.outcome import Seen
from tenantry_operator.tenants.quotas import STORAGE, Usage
from tenantry_operator.tenants.schemadrift import is_news, version_of
from tenantry_operator.tenants.status import settled_size
from tenantry_operator.tenants.view import records_of

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

Unknown = tuple[str, str, str]
"""Blueprint, version and digest."""

_BATCH = 200
_LEARNING = 5.0
"""Seconds of a sweep that may go into finding out how versions look inside."""
_DOWN_AFTER = 2
_VACUUM_AGAIN = 60.0


def outline(state: DatabaseState) -> tuple[object, ...]:
    """What of a state a reconcile would act on; sizes and sessions move by themselves."""
    logins = tuple((login.name, login.enabled, login.fingerprint) for login in state.logins)
    return (state.ownership, state.exists, state.version, state.digest, logins, state.drift, state.node)


def differs(seen: Seen, state: DatabaseState) -> bool:
    """Whether a tenant database is to be looked at again."""
    if outline(seen.state) != outline(state):
        return True
    limit = seen.limits.storage if seen.limits is not None else None
    if state.bytes is None or seen.state.bytes is None:
        return False
    before, after = Usage(STORAGE, seen.state.bytes, limit), Usage(STORAGE, state.bytes, limit)
    if (before.exceeded, before.near) != (after.exceeded, after.near):
        return True
    if settled_size(before.used, after.used) != before.used:
        return True
    # Vacuuming lets deleting help; what an old transaction still needed is vacuumed later.
    refused = after.exceeded and seen.limits is not None and seen.limits.enforce_storage
    return refused and (seen.state.writes != state.writes or time.monotonic() - seen.at > _VACUUM_AGAIN)


class Sweep:
    """Observes all servers, again and again."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._context = operator.context
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._failures: Counter[Key] = Counter()
        self._swept: dict[Key, float] = {}

    async def run(self) -> None:
        """Sweeps until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._context.settings.sweep_interval)
                for key in self._context.instances.keys():  # noqa: SIM118 - a Store is no mapping
                    task = self._running.get(key)
                    if task is None or task.done():
                        self._running[key] = group.create_task(self._guarded(key), name=f"sweep {key[1]}")
                await self._refresh_blueprints()
                self._count()

    async def _guarded(self, key: Key) -> None:
        try:
            await self._sweep(key)
        except ReconcileError as error:
            _log.warning("a server was not swept", instance="/".join(key), reason=error.reason)
        except Exception:
            _log.exception("a sweep failed unexpectedly", instance="/".join(key))

    async def _sweep(self, key: Key) -> None:
        context, operator = self._context, self._operator
        obj = context.instances.get(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            operator.other_queue.add(("DatabaseInstance", key))
            return
        if is_asleep(obj):
            self._forget(key)
            if not context.sleep_is_due(key):
                operator.other_queue.add(("DatabaseInstance", key))
            return
        if "external" not in obj["spec"]:
            operator.other_queue.add(("DatabaseInstance", key))  # whether it still is as it was made
        try:
            server = await context.servers.refresh(key)
            snapshot = await server.observe()
        except ReconcileError as error:
            self._failures[key] += 1
            operator.other_queue.add(("DatabaseInstance", key))
            if self._failures[key] == _DOWN_AFTER and isinstance(error, Retryable | Waiting):
                # Their Ready would not be true any more.
                self._requeue_all(key)
            raise
        if self._failures.pop(key, 0) >= _DOWN_AFTER:
            self._requeue_all(key)
        self._swept[key] = time.monotonic()
        await operator.instances.report(server, context.instances.get(key) or obj)
        await self._learn(server, await self._compare(server, snapshot))
        await server.engine.keep_templates(await self._chains(snapshot))

    def _forget(self, key: Key) -> None:
        """A server that sleeps is not looked at, and its age is nobody's concern."""
        self._failures.pop(key, None)
        if self._swept.pop(key, None) is not None:
            telemetry.sweep_age.remove("/".join(key))

    async def _chains(self, snapshot: ServerState) -> dict[str, Chain]:
        """What new tenants of the server's blueprints get: databases of their own are copied."""
        found = {}
        for blueprint in snapshot.blueprints():
            namespace, _, name = blueprint.partition("/")
            obj = self._context.blueprints.get((namespace, name))
            version = ((obj or {}).get("status") or {}).get("currentVersion")
            if version:
                with suppress(Waiting, Stalled):  # its own status tells
                    found[blueprint] = await self._context.book.chain(blueprint, version)
        return found

    def _requeue_all(self, key: Key) -> None:
        for tenant in self._context.tenants.find("instance", "/".join(key)):
            self._operator.tenant_queue.add(tenant)

    async def _compare(self, server: Server, snapshot: ServerState) -> set[Unknown]:
        """Has tenants reconciled that differ from what was seen last.

        :returns: what nobody knows yet: how the databases of some versions look inside.
        """
        reconciler = self._operator.tenants
        unknown: set[Unknown] = set()
        for number, tenant in enumerate(self._context.tenants.find("instance", server.name)):
            if number % _BATCH == _BATCH - 1:
                await asyncio.sleep(0)
            if tenant in reconciler.unverified:
                self._operator.tenant_queue.add(tenant)
                continue
            records = records_of(self._context.tenants.get(tenant) or {})
            for seen in reconciler.seen.get(tenant, ()):
                if seen.home != server.key:
                    continue
                state, record = snapshot.database(seen.desired), records.get(seen.desired.entry, {})
                if differs(seen, state) or is_news(self._context, server, record, seen.desired, state):
                    self._operator.tenant_queue.add(tenant)
                    break
                at = version_of(seen.desired, state)
                if (
                    at is not None
                    and self._context.expectations.known(server, seen.desired.blueprint, at[1]) is None
                ):
                    unknown.add((seen.desired.blueprint, *at))
        return unknown

    async def _learn(self, server: Server, unknown: Iterable[Unknown]) -> None:
        """Finds out how the databases of some versions look inside; what takes too long comes next time."""
        deadline = time.monotonic() + _LEARNING
        expectations = self._context.expectations
        for blueprint, version, digest in sorted(unknown):
            await expectations.learn(server, blueprint, version, digest)
            if time.monotonic() > deadline:
                return
        for blueprint, version, digest in expectations.asked(server):
            await expectations.structure(server, blueprint, version, digest)

    async def _refresh_blueprints(self) -> None:
        context, queue = self._context, self._operator.other_queue
        for version in context.versions:
            if any("configMapRef" in step for step in version["spec"].get("migrations") or []):
                try:
                    changed = await context.book.refresh(version)
                except ReconcileError as error:
                    _log.info("a ConfigMap was not read", version=version["metadata"]["name"], error=str(error))
                    continue
                if changed:
                    self._operator.version_changed(None, version)
        for obj in context.blueprints:
            queue.add(("Blueprint", key_of(obj)))
        for obj in context.plans:
            queue.add(("Plan", key_of(obj)))

    def _count(self) -> None:
        phases = Counter((obj.get("status") or {}).get("phase") or "Pending" for obj in self._context.tenants)
        for phase in (
            "Pending",
            "Draft",
            "Provisioning",
            "Ready",
            "Suspended",
            "Archived",
            "Deleted",
            "Failed",
        ):
            telemetry.tenants_by_phase.labels(phase).set(phases.get(phase, 0))
        rollouts = Counter(phase_of(obj) for obj in self._context.rollouts)
        for rollout_phase in Phase:
            telemetry.rollouts_by_phase.labels(rollout_phase).set(rollouts.get(rollout_phase, 0))
        changed = sum(
            any(record.get("schemaDrift") for record in records_of(obj).values()) for obj in self._context.tenants
        )
        telemetry.changed_schemas.set(changed)
        telemetry.queue_depth.labels("tenants").set(len(self._operator.tenant_queue))
        telemetry.queue_depth.labels("others").set(len(self._operator.other_queue))
        now = time.monotonic()
        for key, at in self._swept.items():
            telemetry.sweep_age.labels("/".join(key)).set(now - at)
