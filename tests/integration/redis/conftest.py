"""A real Redis server with an ACL file, for the whole test run."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Isolation,
    Migration,
    Presence,
    Stale,
)
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis.connections import ConnectionSettings
from tenantry_operator.engines.redis.engine import RedisEngine
from tenantry_operator.tenants.naming import names_for
from tests.integration.engines.redis_harness import Client, RedisServer

INSTALLATION = "test"
SETTINGS = ConnectionSettings(pause=0.1, longest_pause=0.2, connect_timeout=2, failures=2)
_numbers = itertools.count(1)
Commands = Sequence[Sequence[Any]]


def migration(
    version: str, name: str, commands: Commands, undo: Commands | None = None, *, transactional: bool = True
) -> Migration:
    """A migration of commands."""
    rollback = None if undo is None else json.dumps(undo)
    return Migration(version, name, json.dumps(commands), transactional=transactional, rollback=rollback)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """Redis whose default user is off, with an administrator who may do everything."""
    folder = Path(tempfile.mkdtemp(prefix="tenantry-redis-", dir="/tmp"))
    running = RedisServer(folder)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


@pytest.fixture
def own_server() -> Iterator[Callable[..., RedisServer]]:
    """Starts servers of a test's own, with options."""
    started: list[RedisServer] = []

    def start(*options: str, **how: Any) -> RedisServer:
        made = RedisServer(Path(tempfile.mkdtemp(prefix="tenantry-redis-", dir="/tmp")), *options, **how)
        started.append(made)
        made.start()
        return made

    yield start
    for made in started:
        made.stop()
        shutil.rmtree(made.folder)


@dataclass
class Shop:
    """Tenants of a blueprint of their own on one server."""

    engine: RedisEngine
    server: RedisServer
    name: str
    chain: Chain

    def desired(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database as it should be."""
        names = names_for(
            Isolation.DATABASE, self.name, tenant, "main", namespace="shop", engine=DatabaseEngine.REDIS
        )
        wanted = Desired(
            installation=INSTALLATION,
            tenant=f"shop/{tenant}",
            tenant_id=tenant,
            entry="main",
            isolation=Isolation.DATABASE,
            names=names,
            blueprint=f"shop/{self.name}",
            presence=Presence.LIVE,
            chain=self.chain,
            login=names.login_a,
        )
        return replace(wanted, **changes)

    def at(self, version: str, *migrations: Migration) -> Chain:
        """A chain of this blueprint."""
        return Chain.of(f"shop/{self.name}", version, migrations)

    async def bring(
        self, desired: Desired, credentials: Credentials | None = None, engine: RedisEngine | None = None
    ) -> list[str]:
        """Observes, plans and applies, as the operator does; the names of the steps."""
        engine = engine or self.engine
        state = (await engine.observe()).database(desired)
        for _ in range(5):
            steps = engine.plan(desired, state, credentials)
            try:
                await engine.apply(desired, steps, credentials)
            except Stale:
                state = await engine.observe_one(desired)
                continue
            return [step.name for step in steps]
        raise AssertionError("it does not settle")

    async def make(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database that works."""
        desired = self.desired(tenant, **changes)
        await self.bring(desired, self.credentials(desired))
        return desired

    def credentials(self, desired: Desired, login: str | None = None) -> Credentials:
        """A password for a login, the same each time."""
        name = login or desired.login or desired.names.login_a
        return Credentials(name, f"password of {name}")

    async def state(self, desired: Desired) -> DatabaseState:
        """What a fresh snapshot says; a single look must say the same."""
        snapshot = (await self.engine.observe()).database(desired)
        assert await self.engine.observe_one(desired) == snapshot
        return snapshot

    async def is_settled(self, desired: Desired) -> bool:
        """Whether nothing is left to do, and nothing differs."""
        state = await self.state(desired)
        return self.engine.plan(desired, state, None) == () and state.drift == ()

    def client(self, desired: Desired, login: str | None = None, password: str | None = None) -> Client:
        """An application with a login of the tenant's."""
        known = self.credentials(desired, login)
        return Client(
            self.server.login(known.login, password or known.password), key_prefix(desired.names.database)
        )


ITEMS = migration("1", "items", [["HSET", "{prefix}items", "made", "yes"]])


@pytest.fixture
async def engine(server: RedisServer) -> AsyncIterator[RedisEngine]:
    """The engine on that server."""
    made = RedisEngine(server.access, installation=INSTALLATION, settings=SETTINGS)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def shop_on() -> AsyncIterator[Callable[[RedisServer], Shop]]:
    """Makes a blueprint on a server of a test's own."""
    engines: list[RedisEngine] = []

    def make(server: RedisServer) -> Shop:
        engines.append(RedisEngine(server.access, installation=INSTALLATION, settings=SETTINGS))
        name = f"bp{next(_numbers)}"
        return Shop(engines[-1], server, name, Chain.of(f"shop/{name}", "1", [ITEMS]))

    yield make
    for engine in engines:
        await engine.close()


@pytest.fixture
def shop(engine: RedisEngine, server: RedisServer) -> Iterator[Shop]:
    """A blueprint of a test's own. What was made goes afterwards."""
    name = f"bp{next(_numbers)}"
    yield Shop(engine, server, name, Chain.of(f"shop/{name}", "1", [ITEMS]))
    clean(server)


def clean(server: RedisServer) -> None:
    """Empties a server."""
    with server.admin() as admin:
        admin.flushall()
        users = [user for user in admin.acl_users() if user not in ("default", server.access.username)]
        if users:
            admin.acl_deluser(*users)
