"""Usage queries: what a tenant's own data says of its use of a resource.

The text is a blueprint author's. It runs as an account that may do nothing but SELECT in the tenant's database,
inside a SELECT of the operator's, so that it can be no other statement, in a read-only transaction. The account's
password is made by each process anew, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import pymysql

from tenantry_operator.engines.base import Credentials, Desired, Stale, UsageRow
from tenantry_operator.engines.mysql import accounts, privileges
from tenantry_operator.engines.mysql.connections import Connection, Connections
from tenantry_operator.engines.mysql.errno import TIMEOUTS, describe, is_of_server, number_of
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.look import look, mark_on_database
from tenantry_operator.engines.mysql.names import reader_of
from tenantry_operator.engines.usagerows import ROWS, usage_rows
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.tenants.credentials import new_password

TIMEOUT = 10
"""Seconds that one query may take."""


class Usage:
    """Counts in the databases of one server."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._passwords: dict[str, str] = {}

    async def count(
        self, flavour: Flavour, desired: Desired, queries: Mapping[str, str]
    ) -> dict[str, tuple[UsageRow, ...]]:
        """Runs usage queries.

        :param queries: by resource; each has the columns ``count`` and, if it likes, ``label`` and ``latest``.
        :raises Stalled: UsageQueryFailed.
        """
        login = reader_of(desired.names)
        where = f"database {desired.names.database} on {self._connections.server}"
        if login not in self._passwords:
            await self._open(flavour, desired)
        variables: dict[str, int | float] = {"lock_wait_timeout": TIMEOUT}
        if flavour.mariadb:
            variables["max_statement_time"] = TIMEOUT
        else:
            variables["max_execution_time"] = TIMEOUT * 1000
        counted = {}
        credentials = Credentials(login, self._passwords[login])
        try:
            for resource, query in queries.items():
                what = f"{where}: the usage query of {resource} of blueprint {desired.blueprint}"
                async with self._connections.session(
                    desired.names.database, credentials, variables=variables, within=TIMEOUT
                ) as session:
                    counted[resource] = await _count(session, query, what)
        except Stale as stale:
            self._passwords.pop(login, None)
            raise Retryable("ServerChanging", str(stale)) from None
        except Retryable as error:
            if error.reason == "LoginRefused":
                # It was locked, or somebody else set its password: it is opened anew the next time.
                self._passwords.pop(login, None)
            raise
        return counted

    def forget(self, desired: Desired) -> None:
        """The account may be gone, or locked."""
        self._passwords.pop(reader_of(desired.names), None)

    async def _open(self, flavour: Flavour, desired: Desired) -> None:
        credentials = Credentials(reader_of(desired.names), new_password())
        try:
            async with self._connections.use() as connection:
                catalog = (await look(connection, flavour, desired)).catalog
                mark_on_database(catalog, desired)
                if credentials.login in catalog.accounts:
                    await accounts.let_in(connection, flavour, credentials)
                else:
                    await accounts.create(connection, catalog, desired, credentials, privileges.READ)
                    await accounts.set_locked(connection, [credentials.login], locked=False)
        except Stale as stale:
            raise Retryable("ServerChanging", str(stale)) from None
        self._passwords[credentials.login] = credentials.password


async def _count(session: Connection, query: str, what: str) -> tuple[UsageRow, ...]:
    text = query.rstrip().rstrip(";")
    try:
        await session.run("START TRANSACTION READ ONLY")
        rows = await session.run(f"SELECT * FROM ({text}\n) AS tenantry_rows LIMIT {ROWS + 1}")
    except pymysql.MySQLError as error:
        if number_of(error) in TIMEOUTS:
            raise Stalled("UsageQueryFailed", f"{what} took longer than {TIMEOUT} s: {describe(error)}") from None
        if is_of_server(error):
            raise
        raise Stalled("UsageQueryFailed", f"{what} failed: {describe(error)}") from None
    columns = session.columns()
    return usage_rows([dict(zip(columns, values, strict=True)) for values in rows], what)
