"""A real Redis server with an ACL file, for the whole test run."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    Desired,
    Migration,
)
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis.connections import ConnectionSettings
from tenantry_operator.engines.redis.engine import RedisEngine
from tests.integration.engines.redis_harness import Client, RedisServer
from tests.integration.followers import INSTALLATION, Followers

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


@dataclass(kw_only=True)
class Shop(Followers):
    """Tenants of a blueprint of their own on one server."""

    kind = DatabaseEngine.REDIS
    password = ""
    server: RedisServer

    def at(self, version: str, *migrations: Migration) -> Chain:
        """A chain of this blueprint."""
        return Chain.of(f"shop/{self.name}", version, migrations)

    def credentials(self, desired: Desired, login: str | None = None) -> Credentials:
        """A password for a login, of its own and the same each time."""
        name = super().credentials(desired, login).login
        return Credentials(name, f"password of {name}")

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
        return Shop(engine=engines[-1], server=server, name=name, chain=Chain.of(f"shop/{name}", "1", [ITEMS]))

    yield make
    for engine in engines:
        await engine.close()


@pytest.fixture
def shop(engine: RedisEngine, server: RedisServer) -> Iterator[Shop]:
    """A blueprint of a test's own. What was made goes afterwards."""
    name = f"bp{next(_numbers)}"
    yield Shop(engine=engine, server=server, name=name, chain=Chain.of(f"shop/{name}", "1", [ITEMS]))
    clean(server)


def clean(server: RedisServer) -> None:
    """Empties a server."""
    with server.admin() as admin:
        admin.flushall()
        users = [user for user in admin.acl_users() if user not in ("default", server.access.username)]
        if users:
            admin.acl_deluser(*users)
