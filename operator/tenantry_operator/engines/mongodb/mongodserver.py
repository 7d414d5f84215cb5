"""A MongoDB server: what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from tenantry_operator.engines.base import Desired, ServerReport
from tenantry_operator.engines.mongodb.clients import Client, Clients
from tenantry_operator.engines.mongodb.errors import refused, translate
from tenantry_operator.engines.mongodb.mongodcatalog import (
    MARKS,
    OWN,
    MongodCatalog,
    sessions_of,
    writes_of,
)
from tenantry_operator.engines.rounds import Rounds

_KEPT = {"mark": 1, "made": 1, "held": 1}
_MEASURED_AT_ONCE = 100
"""Databases that are measured in one sweep: each takes a command."""
_MEASURED_AGAIN = 900.0
_MONITOR = "db.getSiblingDB('admin').grantRolesToUser('{admin}', ['clusterMonitor'])"

Document = dict[str, Any]


class MongodServer:
    """One MongoDB server."""

    def __init__(self, clients: Clients, installation: str) -> None:
        self.clients = clients
        self._installation = installation
        self._sizes = Rounds[int](_MEASURED_AT_ONCE, _MEASURED_AGAIN)
        self.server = clients.server

    @asynccontextmanager
    async def use(self, what: str) -> AsyncIterator[Client]:
        with _translated(what):
            async with self.clients.admin() as client:
                yield client

    def where(self, desired: Desired) -> str:
        return f"database {desired.names.database} on {self.server}"

    async def observe(self) -> MongodCatalog:
        """Looks at the whole server; sizes of what was written to are measured some at a time."""
        async with self.use(f"server {self.server}") as client:
            admin = client.admin
            about = await admin.command("buildInfo")
            databases = await self.databases(client)
            kept = {
                row["_id"]: row async for row in client[OWN][MARKS].find({}, {"mark": 1, "made": 1, "held": 1})
            }
            users = await self.users(client)
            missing: list[str] = []
            top = await self._monitor(client, {"top": 1}, "counting writes", missing)
            status = await self._monitor(client, {"serverStatus": 1}, "counting connections", missing)
            operations = await self._operations(client, missing)
            writes = writes_of(top)
            counters = {name: writes.get(name, 0) for name in kept if name in databases}
            due = self._sizes.due(counters)
            self._sizes.take(counters, {name: await self._measure(client, name) for name in due})
        sessions, active = sessions_of(operations)
        sizes = self._sizes.all()
        connections = status.get("connections") or {}
        report = ServerReport(
            version=str(about.get("version")),
            bytes=sum(sizes.values()),
            connections=int(connections.get("current", 0)),
            max_connections=int(connections.get("current", 0)) + int(connections.get("available", 0)),
            unhardened=await self.clients.open_doors(),
            missing=tuple(missing),
        )
        return MongodCatalog(
            report,
            self._installation,
            self.server,
            databases,
            kept,
            users,
            sessions,
            active,
            sizes,
            writes if top else {},
        )

    async def databases(self, client: Client) -> frozenset[str]:
        answer = await client.admin.command("listDatabases", nameOnly=True)
        return frozenset(str(row["name"]) for row in answer["databases"])

    async def users(self, client: Client, database: str | None = None) -> dict[str, dict[str, Document]]:
        if database is None:
            answer = await client.admin.command("usersInfo", {"forAllDBs": True})
        else:
            answer = await client[database].command("usersInfo", 1)
        users: dict[str, dict[str, Document]] = {}
        for user in answer["users"]:
            users.setdefault(str(user["db"]), {})[str(user["user"])] = user
        return users

    async def _monitor(
        self, client: Client, command: Document, what: str, missing: list[str]
    ) -> Mapping[str, Any]:
        try:
            answer: Document = await client.admin.command(command)
        except OperationFailure as error:
            if not refused(error):
                raise
            missing.append(f"{what}: {_MONITOR.format(admin=self.clients.administrator.login)}")
            return {}
        return answer

    async def _operations(self, client: Client, missing: list[str]) -> list[Document]:
        pipeline = [{"$currentOp": {"allUsers": True, "idleConnections": True}}]
        try:
            return [row async for row in await client.admin.aggregate(pipeline)]
        except OperationFailure as error:
            if not refused(error):
                raise
            missing.append(f"counting sessions: {_MONITOR.format(admin=self.clients.administrator.login)}")
            return []

    async def _measure(self, client: Client, name: str) -> int:
        # What is stored, not what the files take: it shrinks as soon as documents are deleted.
        stats = await client[name].command("dbStats")
        return int(stats.get("dataSize", 0)) + int(stats.get("indexSize", 0))

    async def observe_one(self, desired: Desired) -> MongodCatalog:
        """Looks at one tenant's document, users and database."""
        name = desired.names.database
        async with self.use(self.where(desired)) as client:
            answer = await client.admin.command("listDatabases", nameOnly=True, filter={"name": name})
            databases = frozenset(str(row["name"]) for row in answer["databases"])
            row = await client[OWN][MARKS].find_one({"_id": name}, _KEPT)
            users = await self.users(client, name)
            size = await self._measure(client, name) if name in databases else 0
            operations = await self._operations(client, [])
            top = await self._monitor(client, {"top": 1}, "", [])
        sessions, active = sessions_of(operations)
        report = ServerReport("", 0, 0, 0)
        kept = {name: row} if row is not None else {}
        return MongodCatalog(
            report,
            self._installation,
            self.server,
            databases,
            kept,
            users,
            sessions,
            active,
            {name: size},
            writes_of(top) if top else {},
        )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise translate(error, what) from None
