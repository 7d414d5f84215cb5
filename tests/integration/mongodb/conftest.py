"""FerretDB and its PostgreSQL for the whole test run, and blueprints of their own for tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import (
    Chain,
    DatabaseState,
    Desired,
    Migration,
)
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tests.integration.engines.mongodb_harness import Application, Harness
from tests.integration.followers import Followers

PASSWORD = "a-password-of-the-tests"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """The real server."""
    made = Harness()
    try:
        made.start(tmp_path_factory.mktemp(made.name))
        yield made
    finally:
        made.stop()


@pytest.fixture
async def engine(harness: Harness) -> AsyncIterator[MongoEngine]:
    """The engine on that server."""
    made = harness.engine()
    try:
        yield made
    finally:
        await made.close()


def _lasting(state: DatabaseState) -> object:
    """Sessions come and go while it is looked, and statistics come late."""
    logins = tuple((login.name, login.enabled, login.fingerprint) for login in state.logins)
    return (replace(state, detail=None, logins=(), connections=0, writes=None, bytes=None), logins)


@dataclass(kw_only=True)
class Blueprint(Followers):
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    kind = DatabaseEngine.MONGODB
    password = PASSWORD
    harness: Harness
    clients: list[Application]

    def edition(self, version: str, *migrations: Migration) -> Chain:
        """The chain to a version."""
        self.chain = Chain.of(f"shop/{self.name}", version, [*self.chain.migrations, *migrations])
        return self.chain

    def same(self, single: DatabaseState, snapshot: DatabaseState) -> None:
        """Asserts that a single look says the same, but for what moves by itself."""
        assert _lasting(single) == _lasting(snapshot)

    async def client(self, desired: Desired, login: str | None = None, password: str = PASSWORD) -> Application:
        """The tenant's application."""
        made = await self.harness.client(desired, login or desired.login or "", password)
        assert made.client is not None  # it stays
        self.clients.append(made)
        return made


@pytest.fixture
async def blueprint(engine: MongoEngine, harness: Harness) -> AsyncIterator[Callable[..., Blueprint]]:
    """Makes blueprints: ``blueprint('[{"create": "items"}]')``."""

    clients: list[Application] = []

    def make(*texts: str) -> Blueprint:
        name = f"bp{next(_numbers)}"
        chain = Chain.of(f"shop/{name}", "0", [])
        made = Blueprint(engine=engine, name=name, chain=chain, harness=harness, clients=clients)
        made.edition("1.0", *(Migration("1.0", f"m{number}", text) for number, text in enumerate(texts)))
        return made

    yield make
    for client in clients:
        await client.close()
