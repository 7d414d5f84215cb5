"""Requests with an Idempotency-Key are made once: by one process, by two replicas, whoever is faster."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import jwt
import pytest
from pydantic import SecretStr

from tenantry_api.app import create_app
from tenantry_api.facade import Facade
from tenantry_api.idempotency import Request, requests_of
from tenantry_api.problems import Invalid, Problem
from tenantry_api.settings import Settings
from tenantry_api.tenants import REQUESTS_ANNOTATION
from tenantry_operator.kube import ApiError, Conflict, KubeClient, NotFound, Resource

Object = dict[str, Any]
SECRET = "a secret of thirty-two characters"
ADMIN = {"Authorization": f"Bearer {jwt.encode({'sub': 'me', 'role': 'admin', 'exp': 4e9}, SECRET)}"}
Connect = Callable[[], httpx.AsyncClient]


# The pure part


def bare(**annotations: str) -> Object:
    return {"metadata": {"annotations": annotations}}


def request(key: str = "k", body: Any = None, **other: str) -> Request:
    asked = {"subject": "me", "method": "POST", "path": "/tenants"} | other
    found = Request.of(key, asked["subject"], asked["method"], asked["path"], body)
    assert found is not None
    return found


def test_without_a_key_there_is_nothing_to_remember() -> None:
    assert Request.of(None, "me", "POST", "/", {}) is None
    assert Request.of("", "me", "POST", "/", {}) is None


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(Invalid, match="255"):
        request("k" * 256)


def test_the_same_request_finds_its_answer() -> None:
    obj = bare()
    assert request(body={"a": 1, "b": 2}).answered(obj) is None
    request(body={"a": 1, "b": 2}).note(obj, {"said": "this"})
    assert request(body={"b": 2, "a": 1}).answered(obj) == {"said": "this"}
    assert request("another", {"a": 1, "b": 2}).answered(obj) is None
    assert request(subject="somebody else", body={"a": 1, "b": 2}).answered(obj) is None


@pytest.mark.parametrize("other", [{"method": "PUT"}, {"path": "/tenants/x"}, {"body": {"a": 2}}])
def test_the_same_key_for_another_request_is_refused(other: Any) -> None:
    obj = bare()
    request(body={"a": 1}).note(obj, {})
    with pytest.raises(Problem) as refused:
        request(**({"body": {"a": 1}} | other)).answered(obj)
    assert (refused.value.status, refused.value.code) == (422, "idempotency_mismatch")


def test_a_request_is_forgotten_after_a_day() -> None:
    obj = bare()
    request().note(obj, {}, datetime.now(UTC) - timedelta(hours=24, seconds=1))
    assert request().answered(obj) is None
    request("new").note(obj, {})
    assert len(json.loads(obj["metadata"]["annotations"][REQUESTS_ANNOTATION])) == 1


def test_only_the_last_requests_are_kept() -> None:
    obj = bare()
    for number in range(260):
        request(f"k{number}").note(obj, {"updated_at": "2026-01-01T00:00:00Z", "number": number})
    assert len(requests_of(obj)) == 256
    assert request("k3").answered(obj) is None
    assert (request("k259").answered(obj) or {})["number"] == 259
    # Of the 256 KiB that annotations may have, others need some.
    assert len(obj["metadata"]["annotations"][REQUESTS_ANNOTATION]) < 64 << 10


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"key": "k"}]', '[{"at": 5}]', '[{"at": "yesterday"}]'])
def test_an_annotation_that_somebody_spoiled_holds_nothing(text: str) -> None:
    obj = bare(**{REQUESTS_ANNOTATION: text})
    assert requests_of(obj) == []
    request().note(obj, {"said": 1})
    assert request().answered(obj) == {"said": 1}


# Replicas


class ApiServer:
    """As much of an API server as the facade needs to write Tenants: names, versions, merge patches."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.writes = 0
        self.lose_answers = False
        """Writes are done, and the connection breaks before the answer."""
        self._version = 0

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        await asyncio.sleep(0)
        path = resource.path(namespace, name)
        if path not in self.objects:
            raise NotFound(404, "NotFound", f"GET {path}: not found")
        return copy.deepcopy(self.objects[path])

    async def request(self, method: str, path: str, body: Object, **more: Any) -> Object:
        await asyncio.sleep(0)
        made = self._create(path, body) if method == "POST" else self._change(path, body)
        if "tenants" in path:
            self.writes += 1
            if self.lose_answers:
                raise ApiError(0, "ApiServerUnreachable", f"{method} {path}: the connection broke")
        return copy.deepcopy(made)

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> None:
        await asyncio.sleep(0)
        path = resource.path(namespace, name)
        if path in self.objects and self.objects[path]["metadata"]["uid"] == uid:
            del self.objects[path]

    def _create(self, path: str, body: Object) -> Object:
        name = f"{path}/{body['metadata']['name']}"
        if name in self.objects:
            raise Conflict(409, "AlreadyExists", f"POST {path}: already exists")
        obj = copy.deepcopy(body)
        obj["metadata"] |= {"namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
        return self._keep(name, obj)

    def _change(self, path: str, patch: Object) -> Object:
        obj = copy.deepcopy(self.objects[path])
        if patch["metadata"].get("resourceVersion") != obj["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", f"PATCH {path}: was changed")
        merge(obj, patch)
        return self._keep(path, obj)

    def _keep(self, path: str, obj: Object) -> Object:
        self._version += 1
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        managed = [{"manager": "tenantry-api", "time": at, "fieldsV1": {}}]
        obj["metadata"] |= {"resourceVersion": str(self._version), "managedFields": managed}
        self.objects[path] = obj
        return obj


def merge(target: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def connect(server: ApiServer) -> AsyncIterator[Connect]:
    """Starts a replica, and returns a client of it. It knows what is there now, and hears of nothing later."""
    clients: list[httpx.AsyncClient] = []

    def start() -> httpx.AsyncClient:
        settings = Settings(jwt_secret=SecretStr(SECRET), dialects=["management"], wait=0.01)
        facade = Facade(settings, cast(KubeClient, server))
        for path, obj in server.objects.items():
            if "tenants" in path:
                facade.cache.tenants.put(copy.deepcopy(obj))
        transport = httpx.ASGITransport(app=create_app(settings, facade))
        base = "http://facade/tenant-management/v1"
        clients.append(httpx.AsyncClient(transport=transport, base_url=base, headers=ADMIN))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()


ACME = {"slug": "acme", "legal_name": "Acme Inc"}


def key(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


async def test_create_is_replayed_by_the_same_process_and_after_a_restart(
    server: ApiServer, connect: Connect
) -> None:
    first = connect()
    answer = await first.post("/tenants", json=ACME, headers=key("1"))
    assert answer.status_code == 201, answer.text
    for client in (first, connect()):
        again = await client.post("/tenants", json=ACME, headers=key("1"))
        assert (again.status_code, again.json()) == (201, answer.json())
    assert server.writes == 1
    assert (await first.post("/tenants", json=ACME, headers=key("2"))).status_code == 409
    assert (await first.post("/tenants", json=ACME)).status_code == 409
    other = await first.post("/tenants", json=ACME | {"slug": "other"}, headers=key("1"))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_create_is_replayed_by_a_replica_that_has_not_heard_of_it(
    server: ApiServer, connect: Connect
) -> None:
    first, second = connect(), connect()
    answer = await first.post("/tenants", json=ACME, headers=key("1"))
    again = await second.post("/tenants", json=ACME, headers=key("1"))
    assert (again.status_code, again.json()) == (201, answer.json())
    third = connect()
    server.objects = {path: obj for path, obj in server.objects.items() if "tenants" not in path}
    assert (await third.post("/tenants", json=ACME, headers=key("2"))).status_code == 409
    assert server.writes == 1


async def test_create_by_all_replicas_at_once_makes_one(server: ApiServer, connect: Connect) -> None:
    clients = [connect() for _ in range(4)]
    calls = [client.post("/tenants", json=ACME, headers=key("1")) for client in clients for _ in range(4)]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert server.writes == 1


async def test_create_with_keys_of_different_requests_is_made_by_one_of_them(connect: Connect) -> None:
    clients = [connect() for _ in range(3)]
    answers = await asyncio.gather(
        *(client.post("/tenants", json=ACME, headers=key(str(number))) for number, client in enumerate(clients))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]


async def test_a_change_is_replayed_with_the_same_time_and_changes_nothing_again(
    server: ApiServer, connect: Connect
) -> None:
    first = connect()
    await first.post("/tenants", json=ACME)
    second = connect()
    answer = await first.put("/tenants/acme", json={"legal_name": "One"}, headers=key("1"))
    assert answer.status_code == 200, answer.text
    await first.put("/tenants/acme", json={"legal_name": "Two"})
    writes = server.writes
    again = await second.put("/tenants/acme", json={"legal_name": "One"}, headers=key("1"))
    assert (again.status_code, again.json()) == (200, answer.json())
    assert server.writes == writes
    assert (await first.get("/tenants/acme")).json()["legal_name"] == "Two"
    other = await second.put("/tenants/acme", json={"legal_name": "Three"}, headers=key("1"))
    assert other.status_code == 422


async def test_a_change_by_all_replicas_at_once_is_one_write(server: ApiServer, connect: Connect) -> None:
    await connect().post("/tenants", json=ACME)
    clients, before = [connect() for _ in range(3)], server.writes
    tags = {"items": [{"tag_key": "a", "tag_value": "b"}]}
    answers = await asyncio.gather(
        *(client.put("/tenants/acme/tags", json=tags, headers=key("1")) for client in clients for _ in range(2))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert server.writes == before + 1


async def test_a_change_whose_answer_was_lost_is_not_made_twice(server: ApiServer, connect: Connect) -> None:
    client = connect()
    await client.post("/tenants", json=ACME)
    server.lose_answers = True
    lost = await client.post("/tenants/acme/lifecycle/activate", headers=key("1"))
    assert lost.status_code == 503
    server.lose_answers = False
    again = await client.post("/tenants/acme/lifecycle/activate", headers=key("1"))
    assert (again.status_code, again.json()["status"]) == (200, "active")
    assert (await client.post("/tenants/acme/lifecycle/activate", headers=key("2"))).status_code == 409


async def test_a_replay_comes_before_the_precondition_and_the_transition(connect: Connect) -> None:
    client = connect()
    await client.post("/tenants", json=ACME)
    tag = (await client.get("/tenants/acme")).headers["etag"]
    headers = key("1") | {"If-Match": tag}
    answer = await client.put("/tenants/acme", json={"legal_name": "New"}, headers=headers)
    again = await client.put("/tenants/acme", json={"legal_name": "New"}, headers=headers)
    assert (again.status_code, again.json()) == (200, answer.json())
    stale = await client.put("/tenants/acme", json={"legal_name": "New"}, headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")


async def test_one_of_two_changes_that_read_the_same_version_is_refused(connect: Connect) -> None:
    await connect().post("/tenants", json=ACME)
    first, second = connect(), connect()
    tag = (await first.get("/tenants/acme/tags")).headers["etag"]
    bodies = [{"items": [{"tag_key": name}]} for name in "ab"]
    answers = await asyncio.gather(
        *(
            client.put("/tenants/acme/tags", json=body, headers={"If-Match": tag})
            for client, body in zip((first, second), bodies, strict=True)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_a_key_is_refused_for_another_tenant_and_is_the_same_by_slug_and_uuid(connect: Connect) -> None:
    client = connect()
    uuid = (await client.post("/tenants", json=ACME)).json()["tenant_id"]
    await client.post("/tenants", json=ACME | {"slug": "other"})
    answer = await client.put("/tenants/acme/contacts", json={"items": []}, headers=key("1"))
    again = await client.put(f"/tenants/{uuid}/contacts", json={"items": []}, headers=key("1"))
    assert (again.status_code, again.json()) == (200, answer.json())
    elsewhere = await client.put("/tenants/other/contacts", json={"items": []}, headers=key("1"))
    assert elsewhere.status_code == 422


async def test_a_refused_change_is_not_remembered(connect: Connect) -> None:
    client = connect()
    await client.post("/tenants", json=ACME)
    assert (await client.post("/tenants/acme/lifecycle/suspend", headers=key("1"))).status_code == 409
    await client.post("/tenants/acme/lifecycle/activate")
    assert (await client.post("/tenants/acme/lifecycle/suspend", headers=key("1"))).status_code == 200
