"""The operator dies at any point of any transition: what it left is taken up and brought to an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Credentials, Presence
from tenantry_operator.engines.mysql import accounts, engine, execute, migrate
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import Retryable
from tests.integration.crashpoints import Crash, CrashPoints, crash_everywhere, watch
from tests.integration.engines.harness import PASSWORD

ITEMS = "CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"
OTHER_PASSWORD = "another-password"


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> CrashPoints:
    return watch(monkeypatch, accounts, engine, execute, migrate)


async def works(shop: Any, desired: Any, login: str, password: str) -> None:
    with shop.login(desired, login, password) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")
    assert await shop.is_settled(replace(desired, login=login))


async def test_making(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        return blueprint(ITEMS, "INSERT INTO items (name) VALUES ('first')")

    async def transition(shop: Any) -> None:
        await shop.make()

    async def check(shop: Any) -> None:
        acme = shop.desired()
        await works(shop, acme, acme.names.login_a, PASSWORD)
        assert shop.server.query(f"SELECT name FROM `{acme.names.database}`.items") == [("first",), ("x",)]

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert {"database-claimed", "database-created", "account-claimed", "account-created"} <= set(passed)
    assert {"create-database", "migrate", "login-created", "create-login"} <= set(passed)


async def test_suspending_and_resuming(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        await shop.bring(shop.desired(presence=Presence.REFUSED, login=None))
        with pytest.raises(pymysql.MySQLError), shop.login(shop.desired()):
            pass
        await shop.bring(shop.desired())

    async def check(shop: Any) -> None:
        await works(shop, shop.desired(), shop.desired().names.login_a, PASSWORD)

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert passed == ["refuse-logins", "end-sessions", "enable-login"]


async def test_rotating(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        acme = shop.desired()
        a, b = acme.names.logins
        await shop.bring(replace(acme, login=b), Credentials(b, OTHER_PASSWORD))
        await shop.bring(replace(acme, login=b, retired=(a,)))

    async def check(shop: Any) -> None:
        acme = shop.desired()
        await works(shop, acme, acme.names.login_b, OTHER_PASSWORD)
        accounts_there = f"SELECT 1 FROM {shop.server.accounts} WHERE User = %s"
        assert shop.server.query(accounts_there, acme.names.login_a) == []

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert {"login-created", "login-refused", "login-sessions-ended", "login-dropped"} <= set(passed)


async def test_a_password_that_was_set_by_halves_is_known_to_be_another(
    points: CrashPoints, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    points.passed, points.at = [], 0
    with pytest.raises(Crash, match="password-set"):
        await shop.bring(acme, Credentials(acme.names.login_a, OTHER_PASSWORD))
    points.at = None
    # Whoever has the old one in a Secret sees that the login has another.
    assert (await shop.state(acme)).logins[0].fingerprint == "unknown"


async def test_over_a_quota_and_back(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        await shop.bring(shop.desired(read_only=True))
        with shop.login(shop.desired()) as session, pytest.raises(pymysql.MySQLError, match="denied"):
            session.execute("INSERT INTO items (name) VALUES ('x')")
        await shop.bring(shop.desired())

    async def check(shop: Any) -> None:
        await works(shop, shop.desired(), shop.desired().names.login_a, PASSWORD)

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert passed == ["writes-noted", "refuse-writes", "vacuum", "writes-noted", "allow-writes"]


async def test_removing(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        await shop.bring(shop.desired(presence=Presence.ABSENT, login=None, chain=None))

    async def check(shop: Any) -> None:
        assert await harness.leftovers(shop.desired()) == []

    passed = await crash_everywhere(points, harness.engine, prepare, transition, check)
    assert {"drop-database", "accounts-dropped", "marks-dropped", "drop-accounts"} <= set(passed)


async def test_rehearsing(points: CrashPoints, blueprint: Callable[..., Any], harness: Any) -> None:
    shop = blueprint(ITEMS)
    copy = scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.MYSQL)
    points.at = 6
    with pytest.raises((Crash, Retryable)):
        await shop.engine.rehearse(copy, [shop.chain])
    points.at = None
    await shop.engine.observe()
    await shop.engine.keep_templates({})
    assert await harness.leftovers(copy) == []
