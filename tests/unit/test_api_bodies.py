"""Whose body is looked at: nobody's who is not known, nor theirs who may not do what they ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import product
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jwt
import pytest
from pydantic import SecretStr

from tenantry_api.app import MOUNTS, create_app
from tenantry_api.facade import Facade
from tenantry_api.identity import uuid_of
from tenantry_api.settings import Settings
from tenantry_api.tenants import NUMBER_LABEL
from tenantry_operator.kube import KubeClient

SECRET = "a secret that is long enough, even for those who take the longer hash"
JSON = {"Content-Type": "application/json"}
BROKEN = {
    "cut off": b'{"name": ',
    "no text": b"\xff\xfe\xff",
    "too deep": b"[" * 100_000,
    "too long a number": b"9" * 5000,
}
TENANT = {
    "metadata": {
        "namespace": "default",
        "name": "acme",
        "uid": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {NUMBER_LABEL: "1"},
    },
    "spec": {},
}
UUID = uuid_of("default", "acme")
WRITES = {
    "neostack": [("POST", "/tenants"), ("PATCH", "/tenants/acme"), ("POST", "/tenants/acme/resources")],
    "institutions": [("POST", "/tenants"), ("PUT", f"/tenants/{UUID}")],
    "render": [("POST", "/tenants/"), ("POST", "/tenants"), ("PUT", "/tenants/1/"), ("PUT", "/tenants/1")],
    "management": [("POST", "/tenants")]
    + [
        ("PUT", f"/tenants/acme{part}")
        for part in ("", "/regions", "/residency", "/plan", "/contacts", "/external-ids", "/tags")
    ],
}
each_dialect = pytest.mark.parametrize("dialect", MOUNTS)


def bearer(key: str = SECRET, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': 'x', 'exp': 4_000_000_000, **claims}, key)}"}


STRANGERS = {
    "nobody": {},
    "no token": {"Authorization": "Bearer"},
    "nonsense": {"Authorization": "Bearer nonsense"},
    "another's key": bearer("another secret of at least thirty-two characters", role="admin"),
    "expired": bearer(role="admin", exp=1_000_000_000),
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was parsed."""
    found: list[bytes] = []

    def loads(value: bytes) -> Any:
        found.append(value)
        return json.loads(value)

    monkeypatch.setattr("tenantry_api.bodies.json", SimpleNamespace(loads=loads))
    return found


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr("tenantry_api.facade.Accounts", lambda *parts: None)  # a hash takes long
    settings = Settings(jwt_secret=SecretStr(SECRET))
    facade = Facade(settings, cast(KubeClient, None))
    facade.cache.tenants.put(TENANT)
    transport = httpx.ASGITransport(app=create_app(settings, facade))
    async with httpx.AsyncClient(transport=transport, base_url="http://facade") as connected:
        yield connected


async def test_every_body_that_is_taken_is_tried_here(client: httpx.AsyncClient) -> None:
    found = dict.fromkeys(MOUNTS, 0)
    for dialect, mount in MOUNTS.items():
        for operations in (await client.get(f"{mount}/openapi.json")).json()["paths"].values():
            found[dialect] += sum("requestBody" in operation for operation in operations.values())
    tried = {dialect: len(writes) for dialect, writes in WRITES.items()}
    # Who logs in is not known yet; render's paths are also there without their slash.
    assert found == {**tried, "institutions": tried["institutions"] + 1, "render": tried["render"] // 2}


@each_dialect
async def test_no_body_is_parsed_for_somebody_who_is_not_known(
    client: httpx.AsyncClient, reads: list[bytes], dialect: str
) -> None:
    for (method, path), (who, headers) in product(WRITES[dialect], STRANGERS.items()):
        for content in (*BROKEN.values(), b"{}"):
            answer = await client.request(
                method, f"{MOUNTS[dialect]}{path}", content=content, headers={**JSON, **headers}
            )
            assert answer.status_code == 401, (method, path, who, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert reads == []


@each_dialect
async def test_no_body_is_parsed_for_somebody_who_may_not_send_it(
    client: httpx.AsyncClient, reads: list[bytes], dialect: str
) -> None:
    for (method, path), claims in product(WRITES[dialect], ({"role": "USER"}, {"tenant_id": "other"})):
        headers = {**JSON, **bearer(**claims), "X-Tenant-ID": "acme"}
        for content in BROKEN.values():
            answer = await client.request(method, f"{MOUNTS[dialect]}{path}", content=content, headers=headers)
            assert answer.status_code == 403, (method, path, claims, answer.text)
    assert reads == []


@each_dialect
async def test_a_body_of_an_administrator_is_parsed_and_what_is_wrong_is_said(
    client: httpx.AsyncClient, dialect: str
) -> None:
    admin = bearer(role="admin")
    for method, path in WRITES[dialect]:
        url = f"{MOUNTS[dialect]}{path}"
        for what, content in BROKEN.items():
            answer = await client.request(method, url, content=content, headers={**JSON, **admin})
            assert answer.status_code == 400, (method, path, what, answer.text)
            assert "JSON decode error" in answer.text
        for kind in ("text/plain", "multipart/form-data; boundary=x", "", None):
            headers = admin if kind is None else {**admin, "Content-Type": kind}
            answer = await client.request(method, url, content=b"{}", headers=headers)
            assert answer.status_code == 400, (method, path, kind, answer.text)
            assert "application/json" in answer.text


async def test_a_kind_of_json_is_json(client: httpx.AsyncClient) -> None:
    for kind in ("application/json; charset=utf-8", "application/merge-patch+json", "APPLICATION/JSON"):
        headers = {**bearer(role="admin"), "Content-Type": kind}
        answer = await client.patch("/api/v3/tenants/acme", content=b'{"plan_id": 77}', headers=headers)
        assert answer.json() == {"detail": "plan_id: there is no plan 77"}
