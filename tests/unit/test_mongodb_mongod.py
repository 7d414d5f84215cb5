"""The flavour MongoDB, against a stand-in that knows the commands the documentation has.

No real server has run these: what is shown is that the commands have the shape of the manual's, and that the
transitions come to their end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    Desired,
    Isolation,
    LoginLimits,
    Migration,
    Ownership,
    Presence,
    fingerprint,
)
from tenantry_operator.engines.mongodb.clients import Clients
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.errors import Stalled
from tenantry_operator.tenants.naming import names_for

Document = dict[str, Any]
ITEMS = Migration("1", "items", '[{"create": "items", "validator": {"sku": {"$type": "string"}}}]')
ORDERS = Migration("2", "orders", '[{"create": "orders"}]', rollback='[{"drop": "orders"}]')
FIRST = Chain.of("shop/shop", "1", [ITEMS])
SECOND = Chain.of("shop/shop", "2", [ITEMS, ORDERS])


class Server:
    """Databases, users and roles."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Any]] = {}
        self.users: dict[tuple[str, str], Document] = {}
        self.roles: set[tuple[str, str]] = set()
        self.kept: dict[str, Document] = {}
        self.seen: list[tuple[str, Document]] = []
        self.logins: list[str] = []
        self.monitor = True

    def command(self, database: str, document: Document) -> Document:
        self.seen.append((database, document))
        name, value = next(iter(document.items()))
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            raise OperationFailure(f"no such command: {name}", 59)
        answer: Document = handler(database, value, document) or {}
        return {"ok": 1.0, **answer}

    def _hello(self, database: str, value: Any, document: Document) -> Document:
        return {}

    def _buildInfo(self, database: str, value: Any, document: Document) -> Document:
        return {"version": "8.0.4"}

    def _listDatabases(self, database: str, value: Any, document: Document) -> Document:
        assert document["nameOnly"] is True
        wanted = document.get("filter", {}).get("name")
        names = [name for name, found in self.collections.items() if found and wanted in (None, name)]
        return {"databases": [{"name": name} for name in names]}

    def _serverStatus(self, database: str, value: Any, document: Document) -> Document:
        assert database == "admin"
        self._need_monitor()
        return {"connections": {"current": 5, "available": 95}}

    def _top(self, database: str, value: Any, document: Document) -> Document:
        assert database == "admin"
        self._need_monitor()
        counts = {"insert": {"count": 2}, "update": {"count": 3}, "remove": {"count": 4}}
        return {"totals": {"note": "in microseconds", "shop__acme.items": counts}}

    def _need_monitor(self) -> None:
        if not self.monitor:
            raise OperationFailure("not authorized", 13)

    def _dbStats(self, database: str, value: Any, document: Document) -> Document:
        return {"dataSize": 1000, "indexSize": 24, "storageSize": 4096}

    def _usersInfo(self, database: str, value: Any, document: Document) -> Document:
        if isinstance(value, dict):
            assert value == {"forAllDBs": True}
            return {"users": list(self.users.values())}
        found = [user for (where, name), user in self.users.items() if where == database and value in (1, name)]
        return {"users": found}

    def _createUser(self, database: str, value: Any, document: Document) -> Document:
        if (database, value) in self.users:
            raise OperationFailure("User already exists", 51003)
        assert document["mechanisms"] == ["SCRAM-SHA-256"]
        self.users[database, value] = {
            "user": value,
            "db": database,
            "roles": document["roles"],
            "customData": document["customData"],
            "pwd": document["pwd"],
            "from": [],
        }
        return {}

    def _updateUser(self, database: str, value: Any, document: Document) -> Document:
        user = self.users[database, value]
        assert set(document) <= {
            "updateUser",
            "pwd",
            "customData",
            "roles",
            "authenticationRestrictions",
            "mechanisms",
        }
        for key in ("roles", "customData", "pwd"):
            if key in document:
                user[key] = document[key]
        user["from"] = document.get("authenticationRestrictions", user["from"])
        return {}

    def _dropUser(self, database: str, value: Any, document: Document) -> Document:
        if (database, value) not in self.users:
            raise OperationFailure("User not found", 11)
        del self.users[database, value]
        return {}

    def _createRole(self, database: str, value: Any, document: Document) -> Document:
        assert document["privileges"] == [{"resource": {"db": database, "collection": ""}, "actions": ["remove"]}]
        if (database, value) in self.roles:
            raise OperationFailure("Role already exists", 51002)
        self.roles.add((database, value))
        return {}

    def _dropAllRolesFromDatabase(self, database: str, value: Any, document: Document) -> Document:
        self.roles = {role for role in self.roles if role[0] != database}
        return {}

    def _dropDatabase(self, database: str, value: Any, document: Document) -> Document:
        self.collections.pop(database, None)
        return {}

    def _killAllSessions(self, database: str, value: Any, document: Document) -> Document:
        assert database == "admin"
        assert all(set(user) == {"user", "db"} for user in value)
        return {}

    def _create(self, database: str, value: Any, document: Document) -> Document:
        found = self.collections.setdefault(database, {})
        if value in found:
            raise OperationFailure("exists", 48)
        found[value] = document
        return {}

    def _drop(self, database: str, value: Any, document: Document) -> Document:
        if value not in self.collections.get(database, {}):
            raise OperationFailure("ns not found", 26)
        del self.collections[database][value]
        return {}


class Rows:
    """The operator's collection."""

    def __init__(self, rows: dict[str, Document]) -> None:
        self.rows = rows

    async def find(self, query: Document, projection: Document) -> AsyncIterator[Document]:
        for row in list(self.rows.values()):
            yield row

    async def find_one(self, query: Document, projection: Document | None = None) -> Document | None:
        row = self.rows.get(query["_id"])
        return dict(row) if row is not None else None

    async def insert_one(self, row: Document) -> None:
        if row["_id"] in self.rows:
            raise DuplicateKeyError("duplicate")
        self.rows[row["_id"]] = dict(row)

    async def update_one(self, query: Document, change: Document) -> Any:
        row = self.rows.get(query["_id"])
        if row is None or ("mark" in query and row["mark"] != query["mark"]):
            return type("Result", (), {"matched_count": 0})()
        row.update(change.get("$set", {}))
        for key, value in change.get("$push", {}).items():
            row[key] = [*row[key], value]
        for key, value in change.get("$pull", {}).items():
            row[key] = [line for line in row[key] if not value.items() <= line.items()]
        return type("Result", (), {"matched_count": 1})()

    async def delete_one(self, query: Document) -> None:
        if self.rows.get(query["_id"], {}).get("mark") == query["mark"]:
            del self.rows[query["_id"]]


class Database:
    """One database, as a client sees it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    async def command(self, document: Any, value: Any = 1, **options: Any) -> Document:
        whole = document if isinstance(document, dict) else {document: value, **options}
        return self.server.command(self.name, whole)

    async def aggregate(self, pipeline: list[Document]) -> AsyncIterator[Document]:
        assert self.name == "admin"
        assert pipeline == [{"$currentOp": {"allUsers": True, "idleConnections": True}}]
        self.server._need_monitor()

        async def rows() -> AsyncIterator[Document]:
            for login in self.server.logins:
                yield {"active": False, "effectiveUsers": [{"user": login, "db": "shop__acme"}]}

        return rows()

    def __getitem__(self, name: str) -> Rows:
        assert (self.name, name) == ("tenantry", "databases")
        return Rows(self.server.kept)


class Client:
    """A client."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.admin = Database(server, "admin")

    def __getitem__(self, name: str) -> Database:
        return Database(self.server, name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    @asynccontextmanager
    async def admin(self: Clients) -> AsyncIterator[Client]:
        yield Client(made)

    @asynccontextmanager
    async def login(self: Clients, credentials: Credentials, source: str, longest: float) -> AsyncIterator[Client]:
        user = made.users[source, credentials.login]
        assert user["pwd"] == credentials.password
        assert user["roles"] == [{"role": "readWrite", "db": source}, {"role": "dbAdmin", "db": source}]
        yield Client(made)

    async def open_doors(self: Clients) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(Clients, "admin", admin)
    monkeypatch.setattr(Clients, "login", login)
    monkeypatch.setattr(Clients, "open_doors", open_doors)
    return made


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[MongoEngine]:
    access = Access(DatabaseEngine.MONGODB, "127.0.0.1", 27017, "root", "secret")
    made = MongoEngine(access, installation="test")
    yield made
    await made.close()


def wanted(**changes: Any) -> Desired:
    names = names_for(Isolation.DATABASE, "shop", "acme", "main", namespace="shop", engine=DatabaseEngine.MONGODB)
    made = Desired(
        installation="test",
        tenant="shop/acme",
        tenant_id="acme",
        entry="main",
        isolation=Isolation.DATABASE,
        names=names,
        blueprint="shop/shop",
        presence=Presence.LIVE,
        chain=FIRST,
        login=names.login_a,
    )
    return replace(made, **changes)


async def bring(engine: MongoEngine, desired: Desired, credentials: Credentials | None = None) -> list[str]:
    state = (await engine.observe()).database(desired)
    assert state == await engine.observe_one(desired)
    steps = engine.plan(desired, state, credentials)
    await engine.apply(desired, steps, credentials)
    return [step.name for step in steps]


async def is_settled(engine: MongoEngine, desired: Desired) -> bool:
    state = (await engine.observe()).database(desired)
    return engine.plan(desired, state, None) == () and state.drift == ()


async def make(engine: MongoEngine) -> Desired:
    desired = wanted()
    await bring(engine, desired, Credentials(desired.names.login_a, "first"))
    return desired


async def test_making(engine: MongoEngine, server: Server) -> None:
    desired = wanted()
    assert (await engine.observe()).database(desired).ownership is Ownership.FREE
    steps = await bring(engine, desired, Credentials(desired.names.login_a, "first"))
    assert steps == ["create-database", "create-login", "migrate"]
    assert await is_settled(engine, desired)
    user = server.users["shop__acme", "shop__acme__a"]
    assert user["roles"] == [{"role": "readWrite", "db": "shop__acme"}]
    assert list(server.users) == [("shop__acme", "shop__acme__a")]
    assert [line["migration"] for line in server.kept["shop__acme"]["ledger"]] == ["items"]
    state = (await engine.observe()).database(desired)
    assert (state.version, state.digest, state.target) == ("1", FIRST.digest, None)
    assert (state.bytes, state.writes) == (1024, 9)
    assert state.logins[0].fingerprint == fingerprint("first")
    # The mark is there before anything that it is on.
    order = [next(iter(document)) for _, document in server.seen]
    assert order.index("createRole") < order.index("createUser") < order.index("create")


async def test_refused_and_back(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    server.logins = ["shop__acme__a", "shop__acme__a"]
    assert (await engine.observe()).database(desired).connections == 2
    refused = replace(desired, presence=Presence.REFUSED, login=None, chain=None)
    assert await bring(engine, refused) == ["refuse-logins", "end-sessions"]
    user = server.users["shop__acme", "shop__acme__a"]
    assert user["roles"] == []
    assert user["from"] == [{"clientSource": ["255.255.255.255/32"]}]
    assert user["pwd"] == "first"
    assert ("admin", {"killAllSessions": [{"user": "shop__acme__a", "db": "shop__acme"}]}) in server.seen
    # Its connections stay, and may do nothing.
    assert await is_settled(engine, refused)
    assert await bring(engine, desired) == ["enable-login"]
    assert user["roles"] == [{"role": "readWrite", "db": "shop__acme"}]
    assert (user["from"], user["pwd"]) == ([], "first")
    assert await is_settled(engine, desired)


async def test_rotation(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    rotated = replace(desired, login=desired.names.login_b, retired=(desired.names.login_a,))
    steps = await bring(engine, rotated, Credentials(desired.names.login_b, "second"))
    assert steps == ["create-login", "retire-login"]
    assert list(server.users) == [("shop__acme", "shop__acme__b")]
    assert await bring(engine, rotated, Credentials(desired.names.login_b, "third")) == ["set-password"]
    assert server.users["shop__acme", "shop__acme__b"]["pwd"] == "third"
    assert await is_settled(engine, rotated)


async def test_read_only_and_back(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    full = replace(desired, read_only=True)
    assert await bring(engine, full) == ["refuse-writes", "vacuum"]
    assert server.users["shop__acme", "shop__acme__a"]["roles"] == [
        {"role": "read", "db": "shop__acme"},
        {"role": "tenantryRemover", "db": "shop__acme"},
    ]
    assert (await engine.observe()).database(full).drift == ()
    assert await bring(engine, desired) == ["allow-writes"]
    assert await is_settled(engine, desired)


async def test_versions(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    assert await bring(engine, replace(desired, chain=SECOND, installed=FIRST)) == ["migrate"]
    assert set(server.collections["shop__acme"]) == {"items", "orders"}
    assert await bring(engine, replace(desired, chain=FIRST, installed=SECOND)) == ["migrate"]
    assert set(server.collections["shop__acme"]) == {"items"}
    assert await is_settled(engine, desired)


async def test_drift_is_mended(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    server.users["shop__acme", "shop__acme__a"]["roles"] = [{"role": "root", "db": "admin"}]
    state = (await engine.observe()).database(desired)
    assert state.drift == ("login shop__acme__a: has the roles root of admin",)
    assert await bring(engine, replace(desired, limits=LoginLimits())) == ["mend"]
    assert await is_settled(engine, desired)


async def test_absent(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    absent = replace(desired, presence=Presence.ABSENT, login=None, chain=None)
    assert await bring(engine, absent) == ["refuse-logins", "end-sessions", "drop-database", "drop-rest"]
    assert (server.users, server.roles, server.kept) == ({}, set(), {})
    assert "shop__acme" not in server.collections
    assert await bring(engine, absent) == []


async def test_lost(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    del server.collections["shop__acme"]
    state = (await engine.observe()).database(desired)
    assert not state.exists
    with pytest.raises(Stalled, match="DataLost"):
        engine.plan(desired, state, None)
    assert await bring(engine, replace(desired, recreate=True)) == ["create-database", "migrate"]
    assert "items" in server.collections["shop__acme"]
    assert await is_settled(engine, desired)


async def test_strangers(engine: MongoEngine, server: Server) -> None:
    desired = wanted()
    server.collections["shop__acme"] = {"theirs": {}}
    assert (await engine.observe()).database(desired).ownership is Ownership.STRANGER
    del server.collections["shop__acme"]
    await make(engine)
    other = replace(desired, tenant="shop/other")
    assert (await engine.observe()).database(other).ownership is Ownership.OTHER_TENANT
    elsewhere = replace(desired, installation="elsewhere")
    assert (await engine.observe()).database(elsewhere).ownership is Ownership.STRANGER
    server.users["shop__acme", "hers"] = {"user": "hers", "db": "shop__acme", "roles": []}
    assert (await engine.observe()).database(desired).ownership is Ownership.STRANGER


async def test_an_administrator_without_rights_to_watch(engine: MongoEngine, server: Server) -> None:
    desired = await make(engine)
    server.monitor = False
    report = (await engine.observe()).report
    assert len(report.missing) == 3
    assert all("clusterMonitor" in line for line in report.missing)
    assert await is_settled(engine, desired)


async def test_observing_takes_as_many_commands_for_many_tenants(engine: MongoEngine, server: Server) -> None:
    await make(engine)
    await engine.observe()
    server.seen.clear()
    await engine.observe()
    few = len(server.seen)
    for number in range(30):
        server.kept[f"shop__{number}"] = {**server.kept["shop__acme"], "_id": f"shop__{number}"}
    server.seen.clear()
    await engine.observe()
    assert len(server.seen) == few
