"""What the engines' common test asks of each engine: a real server, clients of tenants, and an administrator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from tenantry_crds.common import DatabaseEngine, Isolation
from tenantry_operator.engines.base import Chain, Desired, Engine

PASSWORD = "not-a-secret-in-a-test-of-engines-0123456789"


class Refused(Exception):
    """The server refuses what a tenant's login asks for."""


class Client(Protocol):
    """A session of a tenant's login."""

    async def put(self, key: str, value: str) -> None:
        """Writes.

        :raises Refused: when the server refuses.
        """

    async def get(self, key: str) -> str | None:
        """Reads."""

    async def delete(self, key: str) -> None:
        """Deletes."""

    async def has_version_2(self) -> bool:
        """Whether what the second version adds is there."""

    async def close(self) -> None:
        """Ends it."""


class Harness(Protocol):
    """One real server."""

    name: str
    kind: DatabaseEngine

    def start(self, folder: Path) -> None:
        """Starts it."""

    def stop(self) -> None:
        """Ends it."""

    def stop_server(self) -> None:
        """Ends the server, and keeps its data."""

    def start_server(self) -> None:
        """Starts it again."""

    def engine(self, installation: str = "test") -> Engine:
        """A new engine, as the server's administrator."""

    def chain(self, version: int) -> Chain:
        """1: makes ``items``. 2: adds something, with a rollback. 3: goes on from 2, its last one is wrong."""

    async def client(self, desired: Desired, login: str, password: str) -> Client:
        """A session.

        :raises Refused: when the login is refused.
        """

    async def attacks(self, own: Client, other: Desired) -> Mapping[str, Callable[[], Awaitable[object]]]:
        """What a login might try on another tenant; each must raise Refused, or find nothing (falsy)."""

    async def break_something(self, desired: Desired) -> str:
        """Changes something that the engine must find and mend; returns a word that the drift must have."""

    async def lose_data(self, desired: Desired) -> None:
        """Drops the tenant's data behind the engine's back."""

    async def leftovers(self, desired: Desired) -> list[str]:
        """All that the server has of the tenant, marks included."""


ISOLATIONS: Mapping[DatabaseEngine, tuple[Isolation, ...]] = {
    DatabaseEngine.POSTGRESQL: (Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE, Isolation.INSTANCE),
    DatabaseEngine.MYSQL: (Isolation.DATABASE, Isolation.INSTANCE),
    DatabaseEngine.MONGODB: (Isolation.DATABASE, Isolation.INSTANCE),
    DatabaseEngine.REDIS: (Isolation.DATABASE, Isolation.INSTANCE),
}
