"""Which Events are posted, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tenantry_operator import recorder
from tenantry_operator.errors import Retryable
from tenantry_operator.kube import KubeClient, Resource
from tenantry_operator.recorder import Recorder

TENANT = {
    "apiVersion": "tenantry.dev/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "acme", "namespace": "shop", "uid": "1", "resourceVersion": "7"},
}


class Posted:
    """Takes what would go to the API server."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.refuses: set[str] = set()

    async def create(self, resource: Resource, namespace: str | None, body: dict[str, Any]) -> dict[str, Any]:
        if body["reason"] in self.refuses:
            raise Retryable("Forbidden", "the namespace is being deleted")
        self.events.append(body)
        return body

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Posted:
    monkeypatch.setattr(recorder, "_PAUSES", {"Warning": 0.0, "Normal": 0.0})
    return Posted()


async def posted(events: Recorder, api: Posted, count: int) -> list[str]:
    running = asyncio.create_task(events.run())
    async with asyncio.timeout(30):
        while len(api.events) < count:
            await asyncio.sleep(0.001)
    running.cancel()
    return api.reasons()


async def test_warnings_come_first_and_then_the_order_they_were_given_in(api: Posted) -> None:
    events = Recorder(cast(KubeClient, api))
    events.normal(TENANT, "Ready", "")
    events.normal(TENANT, "CredentialsRotated", "")
    events.warning(TENANT, "NameTaken", "database shop__acme")
    assert await posted(events, api, 3) == ["NameTaken", "Ready", "CredentialsRotated"]
    assert api.events[0]["type"] == "Warning"
    assert api.events[0]["involvedObject"]["uid"] == "1"
    assert api.events[0]["metadata"]["namespace"] == "shop"


async def test_the_same_is_not_said_again(api: Posted) -> None:
    events = Recorder(cast(KubeClient, api))
    for message in ("one", "one", "two"):
        events.warning(TENANT, "MigrationFailed", message)
    events.normal(TENANT, "Ready", "")
    assert await posted(events, api, 3) == ["MigrationFailed", "MigrationFailed", "Ready"]


async def test_one_that_is_refused_holds_up_no_other(api: Posted) -> None:
    api.refuses = {"Lost"}
    events = Recorder(cast(KubeClient, api))
    events.warning(TENANT, "Lost", "")
    events.warning(TENANT, "Kept", "")
    assert await posted(events, api, 1) == ["Kept"]


async def test_when_thousands_become_ready_there_is_room_for_warnings(api: Posted) -> None:
    events = Recorder(cast(KubeClient, api))
    for number in range(2000):
        events.normal(TENANT, "Ready", str(number))
    events.warning(TENANT, "NameTaken", "")
    reasons = await posted(events, api, 100)
    assert reasons[0] == "NameTaken"
