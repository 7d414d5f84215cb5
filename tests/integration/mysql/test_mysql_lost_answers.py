"""The server does what it is asked, and its answer is lost: repeating converges, nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from tenantry_operator.engines.base import Credentials, Desired, Presence
from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.errors import Retryable
from tests.integration.engines.harness import PASSWORD

ITEMS = """
    CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50));
    INSERT INTO items (name) VALUES ('first');
    ALTER TABLE items ADD COLUMN more INT NOT NULL DEFAULT 0;
    UPDATE items SET more = more + 1
"""
OTHER_PASSWORD = "another-password"
_STRIDE = 3
"""Every so many statements the answer of one is lost; another remainder for each transition."""


class Line:
    """The way to the server, on which the answer to one statement is lost."""

    def __init__(self) -> None:
        self.count = 0
        self.lost: int | None = None
        self.statement = ""

    async def run(self, connection: Connection, statement: str, **options: Any) -> Any:
        rows = await _run(connection, statement, **options)
        self.count += 1
        if self.lost is not None and self.count > self.lost:
            self.lost, self.statement = None, statement
            connection.close()
            raise pymysql.err.OperationalError(2013, "lost on purpose")
        return rows


_run = Connection.run


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    made = Line()

    async def run(self: Connection, statement: str, **options: Any) -> Any:
        return await made.run(self, statement, **options)

    monkeypatch.setattr(Connection, "run", run)
    return made


async def lose_each(
    line: Line,
    first: int,
    prepare: Callable[[], Any],
    transition: Callable[[Any], Any],
    check: Callable[[Any], Any],
) -> int:
    """Runs a transition again and again, losing a later answer each time.

    :returns: how many answers were lost.
    """
    number, lost = first, 0
    while True:
        shop = await prepare()
        line.count, line.lost, line.statement = 0, number, ""
        for _ in range(3):
            try:
                await transition(shop)
                break
            except Retryable:
                continue
        else:
            raise AssertionError(f"it does not converge after {line.statement!r}")
        line.lost = None
        await check(shop)
        if not line.statement:
            return lost
        number += _STRIDE
        lost += 1


async def works(shop: Any, desired: Desired, login: str, password: str) -> None:
    with shop.login(desired, login, password) as session:
        session.execute("SELECT name, more FROM items")
        assert session.fetchall() == (("first", 1),)
    assert await shop.is_settled(replace(desired, login=login))


async def test_making(line: Line, blueprint: Callable[..., Any]) -> None:
    async def prepare() -> Any:
        return blueprint(ITEMS)

    async def transition(shop: Any) -> None:
        acme = shop.desired()
        state = await shop.engine.observe_one(acme)
        known = any(login.fingerprint == Credentials("", PASSWORD).fingerprint for login in state.logins)
        await shop.bring(acme, None if known else Credentials(acme.names.login_a, PASSWORD))

    async def check(shop: Any) -> None:
        await works(shop, shop.desired(), shop.desired().names.login_a, PASSWORD)

    assert await lose_each(line, 0, prepare, transition, check) > 14


async def test_rotating(line: Line, blueprint: Callable[..., Any]) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        acme = shop.desired()
        a, b = acme.names.logins
        state = await shop.engine.observe_one(acme)
        known = any(login.fingerprint == Credentials("", OTHER_PASSWORD).fingerprint for login in state.logins)
        await shop.bring(replace(acme, login=b), None if known else Credentials(b, OTHER_PASSWORD))
        await shop.bring(replace(acme, login=b, retired=(a,)))

    async def check(shop: Any) -> None:
        await works(shop, shop.desired(), shop.desired().names.login_b, OTHER_PASSWORD)

    assert await lose_each(line, 1, prepare, transition, check) > 10


async def test_going_away(line: Line, blueprint: Callable[..., Any], harness: Any) -> None:
    async def prepare() -> Any:
        shop = blueprint(ITEMS)
        await shop.make()
        return shop

    async def transition(shop: Any) -> None:
        await shop.bring(shop.desired(presence=Presence.REFUSED, login=None))
        await shop.bring(shop.desired(presence=Presence.ABSENT, login=None, chain=None))

    async def check(shop: Any) -> None:
        assert await harness.leftovers(shop.desired()) == []

    assert await lose_each(line, 2, prepare, transition, check) > 10
