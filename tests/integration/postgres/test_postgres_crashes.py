"""The operator dies after any step of any transition: what it left is taken up and brought to an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry_operator.engines.base import Chain, Credentials, Desired, Isolation, Migration, Presence
from tenantry_operator.engines.postgres import engine as engine_module
from tenantry_operator.engines.postgres import execute as execute_module
from tenantry_operator.engines.postgres import vacuum as vacuum_module
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tests.integration.crashpoints import CrashPoints, crash_everywhere, watch
from tests.integration.followers import INSTALLATION
from tests.integration.postgres.conftest import Server

ITEMS = """
CREATE TABLE items (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL DEFAULT tenantry.tenant_id()
)
"""
MORE = Migration("1.1", "more", "ALTER TABLE items ADD COLUMN more text")


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> CrashPoints:
    return watch(monkeypatch, engine_module, execute_module, vacuum_module)


@pytest.fixture
def another_engine(server: Server) -> Callable[[], PostgresEngine]:
    """Makes the engine of another process."""
    return lambda: PostgresEngine(server, installation=INSTALLATION, settings=ConnectionSettings())


def wanted(shop: Any, **changes: Any) -> Desired:
    desired: Desired = shop.desired(**changes)
    return desired


ALL = pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])


@ALL
async def test_provisioning_survives(
    isolation: Isolation, blueprint: Callable[..., Any], points: CrashPoints, another_engine: Callable[[], Any]
) -> None:
    async def prepare() -> Any:
        return blueprint(isolation, ITEMS)

    async def provision(shop: Any) -> None:
        acme = wanted(shop)
        # The password is the one in the Secret, which was written before, or a new one: it is set again.
        await shop.bring(acme, Credentials(acme.names.login_a, "not-a-secret-in-a-test"))

    async def check(shop: Any) -> None:
        acme = wanted(shop)
        assert await shop.is_settled(acme)
        with shop.login(acme) as session:
            session.execute("INSERT INTO items DEFAULT VALUES")

    passed = await crash_everywhere(points, another_engine, prepare, provision, check)
    assert passed[-1] in ("create-schema", "build-database", "register-tenant")


@ALL
@pytest.mark.parametrize("presence", [Presence.REFUSED, Presence.ABSENT])
async def test_refusal_and_removal_survive(
    isolation: Isolation,
    presence: Presence,
    blueprint: Callable[..., Any],
    points: CrashPoints,
    another_engine: Callable[[], Any],
) -> None:
    async def prepare() -> Any:
        shop = blueprint(isolation, ITEMS)
        for tenant in ("acme", "globex"):
            desired = await shop.make(tenant)
            with shop.login(desired) as session:
                session.execute("INSERT INTO items DEFAULT VALUES")
        return shop

    async def away(shop: Any) -> None:
        await shop.bring(wanted(shop, presence=presence, login=None))

    async def check(shop: Any) -> None:
        assert await shop.bring(wanted(shop, presence=presence, login=None)) == []
        state = await shop.state(wanted(shop, presence=presence))
        assert state.exists is (presence is Presence.REFUSED)
        assert await shop.is_settled(wanted(shop, tenant="globex"))
        with shop.login(wanted(shop, tenant="globex")) as session:
            assert session.execute("SELECT count(*) FROM items").fetchone() == (1,)
        if presence is Presence.REFUSED:
            await shop.bring(wanted(shop))
            with shop.login(wanted(shop)) as session:
                assert session.execute("SELECT count(*) FROM items").fetchone() == (1,)

    assert await crash_everywhere(points, another_engine, prepare, away, check)


@ALL
async def test_rotation_survives(
    isolation: Isolation, blueprint: Callable[..., Any], points: CrashPoints, another_engine: Callable[[], Any]
) -> None:
    async def prepare() -> Any:
        shop = blueprint(isolation, ITEMS)
        await shop.make()
        return shop

    async def rotate(shop: Any) -> None:
        acme = wanted(shop)
        rotated = replace(acme, login=acme.names.login_b)
        await shop.bring(rotated, Credentials(acme.names.login_b, "second"))
        await shop.bring(replace(rotated, retired=(acme.names.login_a,)))

    async def check(shop: Any) -> None:
        acme = wanted(shop)
        rotated = replace(acme, login=acme.names.login_b, retired=(acme.names.login_a,))
        assert await shop.is_settled(rotated)
        with shop.login(acme, acme.names.login_b, password="second") as session:
            session.execute("INSERT INTO items DEFAULT VALUES")

    assert "login-refused" in await crash_everywhere(points, another_engine, prepare, rotate, check)


@ALL
async def test_migration_and_quota_survive(
    isolation: Isolation, blueprint: Callable[..., Any], points: CrashPoints, another_engine: Callable[[], Any]
) -> None:
    async def prepare() -> Any:
        shop = blueprint(isolation, ITEMS)
        await shop.make()
        shop.chain = Chain.of(shop.chain.blueprint, "1.1", [*shop.chain.migrations, MORE])
        return shop

    async def change(shop: Any) -> None:
        await shop.bring(wanted(shop, read_only=True))
        await shop.bring(wanted(shop))

    async def check(shop: Any) -> None:
        assert await shop.is_settled(wanted(shop))
        with shop.login(wanted(shop)) as session:
            session.execute("INSERT INTO items (more) VALUES ('x')")

    assert "migrate" in await crash_everywhere(points, another_engine, prepare, change, check)
