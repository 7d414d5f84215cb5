"""FerretDB and the PostgreSQL behind it: what is there, what all tenants share, and making a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import psycopg
from pymongo.errors import OperationFailure, PyMongoError

from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Desired, Mark, ServerReport, Stale
from tenantry_operator.engines.mongodb import ferretsql
from tenantry_operator.engines.mongodb.clients import Clients
from tenantry_operator.engines.mongodb.errors import NAMESPACE_NOT_FOUND, is_of_server, translate
from tenantry_operator.engines.mongodb.ferretcatalog import (
    FerretCatalog,
    Group,
    Rights,
    SchemaRow,
    read_rights,
    read_schemas,
)
from tenantry_operator.engines.mongodb.ferretsingle import observe_single
from tenantry_operator.engines.postgres import hardening
from tenantry_operator.engines.postgres.catalog import Facts, ServerCatalog, observe_server
from tenantry_operator.engines.postgres.connections import Connection, Connections, ConnectionSettings
from tenantry_operator.engines.postgres.sizes import MEASURED_AGAIN, MEASURED_AT_ONCE, measure_schemas
from tenantry_operator.engines.postgres.sqlstate import translate as translate_sql
from tenantry_operator.engines.postgres.statements import Script
from tenantry_operator.engines.rounds import Rounds
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import connect_group_of

DATABASE = "ferretdb"
"""PostgreSQL's database that FerretDB uses when nobody says which."""
_PROBE = "tenantry"
"""A collection that is made and dropped, so that FerretDB makes the database."""
_ATTEMPTS = 4


class FerretServer:
    """One FerretDB, and the PostgreSQL behind it."""

    def __init__(self, access: Access, clients: Clients, installation: str, settings: ConnectionSettings) -> None:
        if access.backend is None:
            raise ValueError("the PostgreSQL behind FerretDB is not known")
        self._database = access.backend.database or DATABASE
        settings = replace(settings, maintenance_database=self._database)
        self._backend = Connections(access.backend, settings)
        # Drift and quotas do not wait behind tenants that are made.
        self._observing = Connections(access.backend, replace(settings, concurrency=1))
        self.secret = access.backend.password.encode()
        self.clients = clients
        self._installation = installation
        self._connect = connect_group_of(self._database)
        self._sizes = Rounds[int](MEASURED_AT_ONCE, MEASURED_AGAIN)
        self._prepared = asyncio.Lock()
        self._rights: Rights | None = None
        self._facts: Facts | None = None
        self._locks: dict[str, asyncio.Lock] = {}
        self.server = clients.server

    @asynccontextmanager
    async def use(self, what: str, connections: Connections | None = None) -> AsyncIterator[Connection]:
        """A connection to FerretDB's database, its errors translated.

        :param what: is worked on, for messages.
        """
        try:
            async with (connections or self._backend).use() as connection:
                yield connection
        except psycopg.Error as error:
            # Something that all tenants share may be gone: it is looked at again before the next step.
            self._rights = None
            raise translate_sql(error, f"{what}, PostgreSQL {self._backend.server}") from None
        except Stale as stale:
            if f'database "{self._database}" does not exist' not in str(stale):
                raise
            raise Stalled(
                "BackendMissing",
                f"{what}: PostgreSQL {self._backend.server} has no database {self._database} for FerretDB: make "
                "it",
            ) from None

    def where(self, desired: Desired) -> str:
        return f"database {desired.names.database} on {self.server}"

    def lock(self, desired: Desired) -> asyncio.Lock:
        return self._locks.setdefault(desired.names.owner, asyncio.Lock())

    def group(self, desired: Desired) -> Group:
        return Group.of(desired, self._database)

    async def observe(self) -> FerretCatalog:
        """Looks at the whole server."""
        with translated(f"server {self.server}"):
            async with self.clients.admin() as client:
                about = await client.admin.command("buildInfo")
        version = str(about.get("ferretdbVersion") or about.get("version")).removeprefix("v")
        async with self.use(f"server {self.server}", self._observing) as connection:
            roles = await observe_server(connection, [self._backend.admin])
            self._facts = roles.facts
            schemas = await read_schemas(connection, None)
            rights = await read_rights(connection)
            counters = {
                name: schema.writes for name, schema in schemas.items() if Mark.decode(schema.mark) is not None
            }
            due = self._sizes.due(counters)
            if due:
                self._sizes.take(counters, await measure_schemas(connection, due))
        sizes = self._sizes.all()
        doors = await self.clients.open_doors()
        report = self._report(doors, f"FerretDB {version}, PostgreSQL {roles.facts.version}", roles, rights, sizes)
        return self._catalog(report, roles, schemas, sizes)

    async def observe_one(self, desired: Desired) -> FerretCatalog:
        """Looks at one tenant's roles and schema."""
        group = self.group(desired)
        names = [group.owner, group.read_only, group.migrator, *desired.names.logins]
        database = desired.names.database
        async with self.use(self.where(desired)) as connection:
            if self._facts is None:
                about = await observe_server(connection, (), roles=(), members=(), databases=())
                self._facts = about.facts
            found = await observe_single(connection, self._facts, names, database)
        schemas = {database: found.schema} if found.schema is not None else {}
        report = ServerReport(found.roles.facts.version, 0, 0, 0)
        return self._catalog(report, found.roles, schemas, {database: found.size} if schemas else {})

    def measure_again(self, desired: Desired) -> None:
        """Has the size taken anew with the next observation, although nothing was written."""
        self._sizes.again(desired.names.database)

    def _catalog(
        self,
        report: ServerReport,
        roles: ServerCatalog,
        schemas: Mapping[str, SchemaRow],
        sizes: Mapping[str, int],
    ) -> FerretCatalog:
        return FerretCatalog(
            report=report,
            installation=self._installation,
            server=self.server,
            database=self._database,
            roles=roles,
            schemas=schemas,
            sizes=sizes,
        )

    def _report(
        self, doors: tuple[str, ...], version: str, roles: ServerCatalog, rights: Rights, sizes: dict[str, int]
    ) -> ServerReport:
        facts = roles.facts
        return ServerReport(
            version=version,
            bytes=sum(sizes.values()),
            connections=facts.sessions,
            max_connections=facts.max_connections,
            unhardened=(*doors, *hardening.unhardened(facts, roles.databases, self._database)),
            missing=hardening.missing_behind_ferretdb(facts, self._database, rights.create, rights.let_in),
        )

    async def prepare(self, desired: Desired) -> Rights:
        """Sees to it that what all tenants share is there.

        :raises Stalled: NameTaken.
        """
        async with self._prepared:
            if self._rights is not None:
                return self._rights
            mark = Mark(self._installation, "", "", "")
            async with self.use(self.where(desired)) as connection:
                roles = await observe_server(connection, (), roles=[self._connect], members=(), databases=())
                schemas = await read_schemas(connection, ["tenantry"])
                found = {
                    f"role {self._connect}": roles.roles.get(self._connect),
                    "schema tenantry": schemas.get("tenantry"),
                }
                for what, row in found.items():
                    if row is not None and Mark.decode(row.mark) != mark:
                        raise Stalled(
                            "NameTaken",
                            f"PostgreSQL {self._backend.server} behind {self.server} has a {what} that this "
                            "installation did not make; it is left alone. Rename it there",
                        )
                script = ferretsql.render_prepare(
                    self._database,
                    self._connect,
                    mark,
                    group=self._connect not in roles.roles,
                    tables="tenantry" not in schemas,
                )
                await send(connection, script)
                self._rights = await read_rights(connection)
            return self._rights

    async def create(self, desired: Desired) -> None:
        """Roles and schema in one transaction; then FerretDB makes its table in there, and it is opened."""
        group, where = self.group(desired), self.where(desired)
        rights = await self.prepare(desired)
        async with self.lock(desired):
            for attempt in range(_ATTEMPTS):
                catalog = await self.observe_one(desired)
                schema = catalog.schemas.get(desired.names.database)
                missing = [name for name in (group.owner, group.read_only) if name not in catalog.roles.roles]
                if attempt == 0 or missing or schema is None:
                    script = ferretsql.render_create(
                        desired, group, missing, schema=schema is None, own=not rights.superuser
                    )
                    async with self.use(where) as connection:
                        await send(connection, script)
                reached("schema-created")
                if schema is not None and schema.metadata:
                    if schema.metadata_acl is None:
                        await self._clear(desired)
                    break
                await self._found(desired)
                if attempt == _ATTEMPTS - 1:
                    raise Retryable("ServerChanging", f"{where}: FerretDB does not make it; trying again")
            async with self.use(where) as connection:
                await send(connection, ferretsql.render_open(desired, group))

    async def _found(self, desired: Desired) -> None:
        """Has FerretDB make a database in an empty schema, by a collection that goes again in the next round.

        When FerretDB knows a database of that name from before, it is told to forget it: the schema goes
        with it, and is made anew in the next round.
        """
        with translated(self.where(desired)):
            async with self.clients.admin() as client:
                database = client[desired.names.database]
                try:
                    await database.command("create", _PROBE)
                except OperationFailure as error:
                    if is_of_server(error):
                        raise
                    await database.command("dropDatabase")
        reached("database-founded")

    async def _clear(self, desired: Desired) -> None:
        """Drops the collection that the database was made by. Nobody has a right to the database yet."""
        with translated(self.where(desired)):
            async with self.clients.admin() as client:
                try:
                    await client[desired.names.database].command("drop", _PROBE)
                except OperationFailure as error:
                    if error.code != NAMESPACE_NOT_FOUND:
                        raise
        reached("database-cleared")

    async def close(self) -> None:
        """Closes all connections."""
        await self._backend.close()
        await self._observing.close()


async def send(connection: Connection, script: Script) -> None:
    """Sends a script, as one transaction."""
    if script:
        await connection.execute(script.transaction())


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the MongoDB protocol are those of a reconcile. :param what: is worked on."""
    try:
        yield
    except PyMongoError as error:
        raise translate(error, what) from None
