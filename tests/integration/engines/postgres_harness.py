"""PostgreSQL in the engines' common test."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tenantry_crds.common import DatabaseEngine, Isolation
from tenantry_operator.engines.base import Chain, Desired, Engine, Migration
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tests.integration.engines.harness import Refused
from tests.integration.postgres.conftest import Server, running_server

BLUEPRINT = "shop/contract"


class PostgresClient:
    """A session."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a statement; none for one that gives none."""
        try:
            cursor = await self.connection.execute(statement.encode(), values or None)
            return await cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            raise Refused(str(error)) from None

    async def put(self, key: str, value: str) -> None:
        await self.run("INSERT INTO items (key, value) VALUES (%s, %s)", key, value)

    async def get(self, key: str) -> str | None:
        rows = await self.run("SELECT value FROM items WHERE key = %s", key)
        return str(rows[0][0]) if rows else None

    async def delete(self, key: str) -> None:
        await self.run("DELETE FROM items WHERE key = %s", key)

    async def has_version_2(self) -> bool:
        query = "SELECT 1 FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'note'"
        return bool(await self.run(f"{query} AND NOT attisdropped"))

    async def close(self) -> None:
        await self.connection.close()


class PostgresHarness:
    """One server."""

    name = "postgresql"
    kind = DatabaseEngine.POSTGRESQL

    def start(self, folder: Path) -> None:
        self._stack = contextlib.ExitStack()
        self.server: Server = self._stack.enter_context(running_server())

    def stop(self) -> None:
        self._stack.close()

    def stop_server(self) -> None:
        self.server.stop()

    def start_server(self) -> None:
        self.server.start()

    def engine(self, installation: str = "test") -> Engine:
        settings = ConnectionSettings(lock_timeout=0.5, pause=0.2)
        return PostgresEngine(self.server.access, installation=installation, settings=settings)

    def chain(self, version: int) -> Chain:
        table = "CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, value text)"
        steps = [Migration("1", "items", table)]
        if version >= 2:
            undo = "ALTER TABLE items DROP COLUMN note"
            steps.append(Migration("2", "note", "ALTER TABLE items ADD COLUMN note text", rollback=undo))
        if version >= 3:
            steps.append(Migration("3", "wrong", "ALTER TABLE nowhere ADD COLUMN more text"))
        return Chain.of(BLUEPRINT, str(version), steps, [str(number + 1) for number in range(version)])

    async def client(self, desired: Desired, login: str, password: str) -> PostgresClient:
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=self.server.host,
                port=self.server.port,
                user=login,
                password=password,
                dbname=desired.names.database,
                autocommit=True,
            )
        except psycopg.OperationalError as error:
            raise Refused(str(error)) from None
        return PostgresClient(connection)

    async def attacks(self, own: PostgresClient, other: Desired) -> Mapping[str, Callable[[], Awaitable[object]]]:
        names = other.names
        schema = sql.Identifier(names.schema or "public").as_string()

        def statement(text: str) -> Callable[[], Awaitable[object]]:
            return lambda: own.run(text)

        tried = {
            "become the owner": f"SET ROLE {sql.Identifier(names.owner).as_string()}",
            "make a role": "CREATE ROLE more LOGIN",
            "end a session": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE usename = '{names.login_a}'",
            "change the other's password": f"ALTER ROLE {sql.Identifier(names.login_a).as_string()} PASSWORD 'x'",
            "make a table": "CREATE TABLE mine (id int)",
        }
        if other.isolation is Isolation.SCHEMA:
            tried["read the other's schema"] = f"SELECT * FROM {schema}.items"
        if other.isolation is Isolation.ROW:
            tried["read the other's rows"] = "SELECT * FROM items WHERE value = 'secret of the other'"
        found = {name: statement(text) for name, text in tried.items()}
        if other.isolation in (Isolation.DATABASE, Isolation.INSTANCE):

            async def connect() -> object:
                login = own.connection.info.user
                return await self.client(other, login, own.connection.info.password or "")

            found["connect to the other's database"] = connect
        return found

    async def break_something(self, desired: Desired) -> str:
        login = sql.Identifier(desired.login or "")
        with self.server.superuser() as connection:
            connection.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 3").format(login))
        return "CONNECTION LIMIT"

    async def lose_data(self, desired: Desired) -> None:
        names = desired.names
        database = "postgres" if names.schema is None else names.database
        if names.schema is None:
            text = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(names.database))
        else:
            text = sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(names.schema))
        with self.server.superuser(database) as connection:
            connection.execute(text)

    async def leftovers(self, desired: Desired) -> list[str]:
        names, found = desired.names, []
        roles = [*names.logins, *([names.owner] if desired.isolation is not Isolation.ROW else [])]
        with self.server.superuser() as connection:
            query = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
            found += [f"role {name}" for (name,) in connection.execute(query, (roles,))]
            query = "SELECT datname FROM pg_database WHERE datname = %s"
            databases = [name for (name,) in connection.execute(query, (names.database,))]
        if names.schema is None:
            return found + [f"database {name}" for name in databases]
        for database in databases:
            with self.server.superuser(database) as connection:
                if desired.isolation is Isolation.SCHEMA:
                    query = "SELECT nspname FROM pg_namespace WHERE nspname = %s"
                    found += [f"schema {name}" for (name,) in connection.execute(query, (names.schema,))]
                else:
                    rows = sql.SQL("SELECT key FROM {}.items WHERE tenant_id = %s")
                    query = rows.format(sql.Identifier(names.schema)).as_string()
                    found += [f"row {key}" for (key,) in connection.execute(query, (desired.tenant_id,))]
        return found
