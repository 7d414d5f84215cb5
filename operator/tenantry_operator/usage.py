"""Counting what tenants use: the usage queries of their blueprints.

A query runs when its interval has passed and the tenant's data was written since it ran last; the server's
own counters tell that for all tenants at once. The counter is kept in the status, so that a restart does
not count everybody again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_operator.cache import Key
from tenantry_operator.engines.base import Presence
from tenantry_operator.errors import ReconcileError, Stalled
from tenantry_operator.operator import Operator
from tenantry_operator.tenants.outcome import Seen
from tenantry_operator.tenants.view import records_of

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


class UsageCounter:
    """Runs usage queries."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._context = operator.context

    async def run(self) -> None:
        """Counts until cancelled."""
        while True:
            await asyncio.sleep(self._context.settings.usage_interval)
            for key in list(self._operator.tenants.seen):
                try:
                    await self.count(key)
                except ReconcileError as error:
                    _log.info("usage was not counted", tenant="/".join(key), error=str(error))
                except Exception:
                    _log.exception("counting usage failed unexpectedly", tenant="/".join(key))

    async def count(self, key: Key) -> None:
        """Counts one tenant's usage, if it may have changed.

        :raises ReconcileError: when its server does not answer.
        """
        reconciler = self._operator.tenants
        tenant = self._context.tenants.get(key)
        if tenant is None:
            return
        records = records_of(tenant)
        for seen in reconciler.seen.get(key, ()):
            queries = self._queries(seen)
            server = self._context.servers.peek(seen.home)
            if not queries or server is None or server.snapshot is None:
                continue
            writes = server.snapshot.database(seen.desired).writes
            record = records.get(seen.desired.entry, {})
            if writes is not None and record.get("countedWrites") == writes and key not in reconciler.usage_errors:
                continue
            try:
                rows = await server.engine.usage(seen.desired, queries)
            except Stalled as error:
                if reconciler.usage_errors.get(key) is None:
                    self._operator.tenant_queue.add(key)
                reconciler.usage_errors[key] = error
                return
            reconciler.usage_errors.pop(key, None)
            reconciler.counted[key] = {**reconciler.counted.get(key, {}), **rows}
            reconciler.counted_writes[key, seen.desired.entry] = writes
            self._operator.tenant_queue.add(key)

    def _queries(self, seen: Seen) -> dict[str, str]:
        if seen.desired.presence is not Presence.LIVE:
            return {}
        namespace, _, name = seen.desired.blueprint.partition("/")
        blueprint = self._context.blueprints.get((namespace, name))
        if blueprint is None:
            return {}
        return {usage.resource: usage.query for usage in BlueprintSpec.model_validate(blueprint["spec"]).usage}
