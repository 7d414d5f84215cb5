"""FerretDB and its PostgreSQL for the whole test run, and blueprints of their own for tests."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
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
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.tenants.naming import names_for
from tests.integration.engines.mongodb_harness import Application, Harness

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


@dataclass
class Blueprint:
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    engine: MongoEngine
    harness: Harness
    name: str
    chain: Chain
    clients: list[Application]

    def edition(self, version: str, *migrations: Migration) -> Chain:
        """The chain to a version."""
        self.chain = Chain.of(f"shop/{self.name}", version, [*self.chain.migrations, *migrations])
        return self.chain

    def desired(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database as it should be."""
        names = names_for(
            Isolation.DATABASE, self.name, tenant, "main", namespace="shop", engine=DatabaseEngine.MONGODB
        )
        wanted = Desired(
            installation="test",
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

    async def bring(self, desired: Desired, credentials: Credentials | None = None) -> list[str]:
        """Observes, plans and applies, as the operator does; the names of the steps."""
        state = (await self.engine.observe()).database(desired)
        for _ in range(5):
            steps = self.engine.plan(desired, state, credentials)
            try:
                await self.engine.apply(desired, steps, credentials)
            except Stale:
                state = await self.engine.observe_one(desired)
                continue
            return [step.name for step in steps]
        raise AssertionError("it does not settle")

    async def make(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database that works."""
        desired = self.desired(tenant, **changes)
        await self.bring(desired, Credentials(desired.names.login_a, PASSWORD))
        return desired

    async def state(self, desired: Desired) -> DatabaseState:
        """What a fresh snapshot says; a single look must say the same."""
        snapshot = (await self.engine.observe()).database(desired)
        assert _lasting(await self.engine.observe_one(desired)) == _lasting(snapshot)
        return snapshot

    async def is_settled(self, desired: Desired) -> bool:
        """Whether nothing is left to do, and nothing differs."""
        state = await self.state(desired)
        return self.engine.plan(desired, state, None) == () and state.drift == ()

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
        made = Blueprint(engine, harness, name, Chain.of(f"shop/{name}", "0", []), clients)
        made.edition("1.0", *(Migration("1.0", f"m{number}", text) for number, text in enumerate(texts)))
        return made

    yield make
    for client in clients:
        await client.close()
