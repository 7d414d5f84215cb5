"""From watches to the cache and the queues: one handler, registered for every kind."""

from __future__ import annotations

from typing import Any

import kopf

from tenantry_operator.operator import Kind, Operator

Object = dict[str, Any]


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """Registers the handlers of all kinds."""
    for kind in operator.kinds:
        watch(registry, kind)


def watch(registry: kopf.OperatorRegistry, kind: Kind) -> None:
    """Keeps what is known of a kind up to date."""
    resource = kind.resource

    # A coroutine: kopf runs plain functions in threads, which is slow, and nothing here is safe for threads.
    async def event(event: kopf.RawEvent, **_: Any) -> None:
        obj: Object = {**event["object"]}
        obj["metadata"] = {**obj["metadata"]}  # kopf keeps the original
        if event["type"] == "DELETED":
            kind.deleted(obj)
        else:
            kind.seen(obj)

    kopf.on.event(
        resource.group, resource.version, resource.plural, registry=registry, id=f"watch-{resource.plural}"
    )(event)
