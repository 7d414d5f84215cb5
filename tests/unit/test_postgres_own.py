"""What a look into a tenant's own database is worth while the database is being changed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.postgres.catalog import DatabaseRow, ServerCatalog
from tenantry_operator.engines.postgres.connections import Connections
from tenantry_operator.engines.postgres.own import AT_ONCE, Inside, OwnDatabases
from tenantry_operator.errors import Retryable

NOTHING = Inside((), {})


def catalog(*names: str, version: str | None = "1.0", tenant: str = "shop/acme", writes: int = 1) -> ServerCatalog:
    mark = Mark("here", tenant, "main", "shop/shop", version).encode()
    rows = {
        name: DatabaseRow(name, name, mark, acl=None, open=True, sessions=0, writes=writes, relations=None)
        for name in names
    }
    return cast(ServerCatalog, SimpleNamespace(databases=rows, roles={}))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> OwnDatabases:
    own = OwnDatabases(cast(Connections, None), "here")
    looked: list[str] = []

    async def look_into(row: DatabaseRow, *, read_only: bool) -> Inside:
        looked.append(row.name)
        return NOTHING

    monkeypatch.setattr(own, "_look_into", look_into)
    monkeypatch.setattr(own, "looked", looked, raising=False)
    return own


async def look(own: Any, found: ServerCatalog) -> list[str]:
    own.looked.clear()
    await own.look(found, time.monotonic())
    return sorted(own.looked)


async def test_only_what_changed_is_looked_into_and_only_some_at_once(own: OwnDatabases) -> None:
    many = [f"d{number:02}" for number in range(AT_ONCE + 5)]
    assert len(await look(own, catalog(*many))) == AT_ONCE
    assert len(await look(own, catalog(*many))) == 5
    assert await look(own, catalog(*many)) == []
    assert len(await look(own, catalog(*many, writes=2))) == AT_ONCE


async def test_what_is_not_built_or_not_a_tenants_of_ours_is_not_looked_into(own: OwnDatabases) -> None:
    assert await look(own, catalog("half", version=None)) == []
    assert await look(own, catalog("shared", tenant="")) == []
    own._installation = "elsewhere"
    assert await look(own, catalog("theirs")) == []


async def test_a_look_that_a_change_came_into_says_nothing(
    own: OwnDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def changed_meanwhile(row: DatabaseRow, *, read_only: bool) -> Inside:
        own.forget(row.name)
        return NOTHING

    with monkeypatch.context() as patch:
        patch.setattr(own, "_look_into", changed_meanwhile)
        await own.look(catalog("acme"), time.monotonic())
    assert own.known("acme") is None
    assert await look(own, catalog("acme")) == ["acme"]
    assert own.known("acme") == NOTHING


async def test_one_that_cannot_be_looked_into_holds_up_no_other(
    own: OwnDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_into(row: DatabaseRow, *, read_only: bool) -> Inside:
        if row.name == "closed":
            raise Retryable("ServerUnreachable", "no")
        return NOTHING

    monkeypatch.setattr(own, "_look_into", look_into)
    await own.look(catalog("closed", "open"), time.monotonic())
    assert own.all() == {"open": NOTHING}
