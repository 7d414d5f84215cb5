"""A real MariaDB or MySQL server, and databases of tenants on it."""

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
    DatabaseState,
    Desired,
    Migration,
)
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tests.integration.engines.harness import PASSWORD
from tests.integration.engines.mysql_harness import MYSQL, Harness, MariaDb
from tests.integration.followers import INSTALLATION, Followers

collect_ignore = [] if MYSQL else ["test_mysql_itself.py"]


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


@dataclass(kw_only=True)
class Blueprint(Followers):
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    kind = DatabaseEngine.MYSQL
    password = PASSWORD
    server: MariaDb

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

    def same(self, single: DatabaseState, snapshot: DatabaseState) -> None:
        """Asserts that a single look says the same, but for what moves by itself."""
        moving: dict[str, Any] = {"logins": (), "connections": 0, "structure": None, "detail": None}
        assert replace(single, **moving) == replace(snapshot, **moving)

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
        made = Blueprint(engine=engine, name=name, chain=Chain(f"shop/{name}", "0", ()), server=server)
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
        root.execute(f"SELECT User, Host FROM {server.accounts} WHERE User LIKE %s", (like,))
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
