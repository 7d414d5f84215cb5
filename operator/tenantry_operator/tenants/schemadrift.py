"""Drift of schemas: what somebody else changed in a tenant's database.

The sweep compares fingerprints, which costs nothing for the tenant. Only when one is news is the database read in
detail, and compared with a scratch copy of its version, which a sweep makes.
"""

from __future__ import annotations

from typing import Any

from tenantry_crds.tenant_status import MAX_OBJECTS
from tenantry_operator import conditions
from tenantry_operator.context import Context
from tenantry_operator.engines.base import DatabaseState, Desired, Isolation, Presence
from tenantry_operator.instances.servers import Server
from tenantry_operator.tenants.outcome import Outcome, Seen

Object = dict[str, Any]


def is_exempt(desired: Desired) -> bool:
    """Whether a database may differ from its version: its tenant may change it, or it is shared row by row, where
    another comparison is made."""
    return desired.ddl or desired.isolation is Isolation.ROW


def version_of(desired: Desired, state: DatabaseState) -> tuple[str, str] | None:
    """Version and digest by which a database's structure is to be compared; None: it is not, or not now."""
    if is_exempt(desired) or desired.presence is not Presence.LIVE or state.target is not None:
        return None
    if state.structure is None or state.version is None or state.digest is None:
        return None
    return (state.version, state.digest)


def is_news(context: Context, server: Server, record: Object, desired: Desired, state: DatabaseState) -> bool:
    """Whether a snapshot shows another structure than the tenant's status tells of.

    :param record: the entry in ``status.databases``.
    """
    at = version_of(desired, state)
    if at is None:
        return False
    expected = context.expectations.known(server, desired.blueprint, at[1])
    if expected is None or not expected.fingerprints:
        return False
    told = (record.get("schemaDrift") or {}).get("fingerprint")
    return told != (None if state.structure in expected.fingerprints else state.structure)


async def judge(context: Context, outcome: Outcome) -> None:
    """Writes into the record of a database how its schema differs from its version."""
    seen, record = outcome.seen, outcome.record
    if seen is None or record is None or outcome.error is not None:
        return
    if is_exempt(seen.desired):
        _clear(record)
        return
    server = context.servers.peek(seen.home)
    if server is None or outcome.done or not is_news(context, server, record, seen.desired, seen.state):
        return
    at = version_of(seen.desired, seen.state)
    expected = context.expectations.known(server, seen.desired.blueprint, seen.state.digest or "")
    if at is None or expected is None:
        return
    if seen.state.structure in expected.fingerprints:
        _clear(record)
        return
    await _compare(context, server, seen, record, at)


async def _compare(context: Context, server: Server, seen: Seen, record: Object, at: tuple[str, str]) -> None:
    engine, blueprint = server.engine, seen.desired.blueprint
    wanted = context.expectations.detail(server, blueprint, *at)
    expected = context.expectations.known(server, blueprint, at[1])
    if wanted is None or expected is None:
        return
    found = await engine.structure(seen.desired)
    if found is None:
        return
    deviation = engine.compare(wanted, found)
    if not deviation.lines:
        expected.fingerprints.add(found.fingerprint)
        _clear(record)
        return
    known = record.get("schemaDrift") or {}
    record["schemaDrift"] = {
        "objects": [line[:512] for line in deviation.lines[:MAX_OBJECTS]],
        "count": len(deviation.lines),
        "since": known.get("since") or conditions.timestamp(),
        "digest": deviation.digest,
        "fingerprint": found.fingerprint,
    }


def _clear(record: Object) -> None:
    record.pop("schemaDrift", None)
    record.pop("acknowledgedSchema", None)
