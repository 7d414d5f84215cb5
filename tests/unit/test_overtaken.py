"""A change that the answer to the operator's own write tells of, before any watch does."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_operator.context import TENANTS, Context
from tenantry_operator.kube import KubeClient, Resource
from tenantry_operator.operator import Operator
from tenantry_operator.settings import Settings

Object = dict[str, Any]


class Api(KubeClient):
    """Stands in for the API server: answers a write with what others have changed meanwhile."""

    def __init__(self, answer: Object) -> None:
        self._answer = answer

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Object, *, sub: str | None = None
    ) -> Object:
        return {**self._answer, "status": patch["status"]}


def tenant(version: int, generation: int) -> Object:
    meta = {"namespace": "ns", "name": "acme", "uid": "u"}
    return {
        "metadata": {**meta, "resourceVersion": str(version), "generation": generation},
        "spec": {"databases": []},
    }


@pytest.mark.parametrize(("generation", "queued"), [(2, 1), (1, 0)])
async def test_a_change_that_came_while_the_status_was_written_is_reconciled(generation: int, queued: int) -> None:
    """The watch shows the change with version 11, which is older than the answer: no news to the cache."""
    context = Context(Settings(), "test", Api(tenant(12, generation)), lambda access: None)  # type: ignore[arg-type, return-value]
    operator = Operator(context)
    known = tenant(10, 1)
    context.tenants.put(known)
    await context.write_status(TENANTS, context.tenants, known, {"phase": "Ready"})
    kind = next(kind for kind in operator.kinds if kind.resource == TENANTS)
    kind.seen(tenant(11, generation))
    assert len(operator.tenant_queue) == queued


@pytest.mark.parametrize("others", [[], ["somebody.else/finalizer"]])
def test_what_is_let_go_is_gone_though_no_watch_tells(others: list[str]) -> None:
    """A watch that begins after the listing from which an object is known says nothing of it."""
    context = Context(Settings(), "test", Api({}), lambda access: None)  # type: ignore[arg-type, return-value]
    operator = Operator(context)
    known = tenant(10, 1)
    known["metadata"] |= {"deletionTimestamp": "now", "finalizers": ["tenantry.dev/finalizer", *others]}
    context.tenants.put(known)
    left = {**known, "metadata": {**known["metadata"], "finalizers": others}}
    context.let_go(TENANTS, context.tenants, known, left)
    assert (context.tenants.get(("ns", "acme")) is None) is (not others)
    assert len(operator.tenant_queue) == (0 if others else 1)
