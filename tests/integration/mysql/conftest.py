"""A real MariaDB server, and databases of tenants on it."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
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
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tenantry_operator.tenants.naming import names_for
from tests.integration.engines.harness import PASSWORD
from tests.integration.engines.mysql_harness import Harness, MariaDb

INSTALLATION = "test"


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    """The server of this test run."""
    made = Harness()
    # The server runs as another user, who must be able to pass.
    made.start(Path(tempfile.mkdtemp(prefix="tenantry-mysql-", dir="/tmp")))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def server(harness: Harness) -> MariaDb:
    """The server itself."""
    return harness.server


@pytest.fixture
async def engine(harness: Harness) -> AsyncIterator[MySqlEngine]:
    """The engine on that server, impatient."""
    made = harness.engine(INSTALLATION)
    try:
        yield made
    finally:
        await made.close()


_numbers = itertools.count(1)


@dataclass
class Blueprint:
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    engine: MySqlEngine
    server: MariaDb
    name: str
    chain: Chain

    def edition(self, version: str, *texts: str, rollbacks: tuple[str, ...] = ()) -> Chain:
        """The chain to a version; its migrations are called m0, m1, ..."""
        steps = [
            Migration(version, f"m{number}", text, rollback=rollbacks[number] if rollbacks else None)
            for number, text in enumerate(texts)
        ]
        self.chain = Chain.of(
            f"shop/{self.name}", version, [*self.chain.migrations, *steps], [*self.chain.versions, version]
        )
        return self.chain

    def desired(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database as it should be."""
        names = names_for(
            Isolation.DATABASE, self.name, tenant, "main", namespace="shop", engine=DatabaseEngine.MYSQL
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
        """A tenant's database that works, its first login's password being the tests' own."""
        desired = self.desired(tenant, **changes)
        await self.bring(desired, Credentials(desired.names.login_a, PASSWORD))
        return desired

    async def state(self, desired: Desired) -> DatabaseState:
        """What a fresh snapshot says; a single look must say the same."""
        snapshot = (await self.engine.observe()).database(desired)
        single = await self.engine.observe_one(desired)
        same = {"logins": (), "connections": 0, "structure": None, "detail": None}
        assert replace(single, **same) == replace(snapshot, **same)
        return snapshot

    async def is_settled(self, desired: Desired) -> bool:
        """Whether nothing is left to do, and nothing differs."""
        state = await self.state(desired)
        return self.engine.plan(desired, state, None) == () and state.drift == ()

    def login(self, desired: Desired, login: str | None = None, password: str = PASSWORD) -> Any:
        """A session of the tenant's login."""
        name = login or desired.login or desired.names.login_a
        return self.server.login(name, desired.names.database, password)


@pytest.fixture
def blueprint(engine: MySqlEngine, server: MariaDb) -> Iterator[Callable[..., Blueprint]]:
    """Makes blueprints: ``blueprint("CREATE TABLE ...")``. What was made goes afterwards."""
    names: list[str] = []

    def make(*texts: str) -> Blueprint:
        name = f"bp{next(_numbers)}"
        names.append(name)
        made = Blueprint(engine, server, name, Chain(f"shop/{name}", "0", ()))
        made.edition("1.0", *texts)
        return made

    yield make
    for name in names:
        _remove(server, name)


def _remove(server: MariaDb, blueprint: str) -> None:
    """Drops everything that is called after a blueprint."""
    like = f"{blueprint}\\_%"
    with server.root() as root:
        root.execute("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s", (like,))
        for (name,) in root.fetchall():
            root.execute(f"DROP DATABASE `{name}`")
        root.execute("SELECT User, Host FROM mysql.global_priv WHERE User LIKE %s", (like,))
        for user, host in root.fetchall():
            root.execute(f"DROP USER '{user}'@'{host}'")
        root.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'tenantry'")
        tables = [name for (name,) in root.fetchall()]
        if "marks" in tables:
            root.execute("DELETE FROM tenantry.marks WHERE name LIKE %s", (like,))
            for table in ("ledger", "unfinished"):
                root.execute(f"DELETE FROM tenantry.{table} WHERE tenant_database LIKE %s", (like,))
        for table in tables:
            if table.startswith("run_"):
                root.execute(f"DROP TABLE tenantry.{table}")
