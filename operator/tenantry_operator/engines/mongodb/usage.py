"""Usage queries: what a tenant's own data says of its use of a resource."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from tenantry_operator.engines.base import Desired, UsageRow
from tenantry_operator.engines.mongodb.accounts import Accounts, Database
from tenantry_operator.engines.mongodb.commands import usage_command
from tenantry_operator.engines.mongodb.errors import is_of_server, passing, text_of, translate
from tenantry_operator.engines.usagerows import ROWS
from tenantry_operator.errors import Stalled

TIMEOUT = 10.0
"""Seconds that one query may take."""


async def count(
    accounts: Accounts, desired: Desired, queries: Mapping[str, str]
) -> dict[str, tuple[UsageRow, ...]]:
    """Runs usage queries with the rights of the tenant, in its database only.

    :param queries: by resource; documents of an aggregate have ``count`` and, if they like, ``label`` (or
        ``_id``) and ``latest``.
    :raises Stalled: UsageQueryFailed.
    """
    where = f"database {desired.names.database} on {accounts.server}"
    commands = {}
    for resource, query in queries.items():
        what = f"{where}: the usage query of {resource} of blueprint {desired.blueprint}"
        try:
            commands[resource] = (what, usage_command(query))
        except ValueError as error:
            raise Stalled("UsageQueryFailed", f"{what} failed: {error}") from None
    if not commands:
        return {}
    counted = {}
    async with accounts.confined(desired, TIMEOUT) as database:
        for resource, (what, command) in commands.items():
            counted[resource] = await _run(database, command, what)
    return counted


async def _run(database: Database, command: dict[str, Any], what: str) -> tuple[UsageRow, ...]:
    try:
        answer = await database.command({**command, "maxTimeMS": round(TIMEOUT * 1000)})
        if "count" in command:
            return (UsageRow("", int(answer["n"])),)
        cursor = answer["cursor"]
        rows = list(cursor["firstBatch"])
        while cursor["id"] and len(rows) <= ROWS:
            answer = await database.command({"getMore": cursor["id"], "collection": command["aggregate"]})
            cursor = answer["cursor"]
            rows += cursor["nextBatch"]
    except PyMongoError as error:
        if passing(error) == "Timeout":
            raise Stalled("UsageQueryFailed", f"{what} took longer than {TIMEOUT:.0f} s") from None
        if not isinstance(error, OperationFailure) or is_of_server(error) or passing(error):
            raise translate(error, what) from None
        raise Stalled("UsageQueryFailed", f"{what} failed: {text_of(error)}") from None
    if len(rows) > ROWS:
        raise Stalled("UsageQueryFailed", f"{what} has more than {ROWS} rows: group by something coarser")
    return tuple(_row(row, what) for row in rows)


def _row(row: Mapping[str, Any], what: str) -> UsageRow:
    label = row.get("label", row.get("_id"))
    latest = row.get("latest")
    number = row.get("count")
    if isinstance(number, bool) or not isinstance(number, (int, float)) or number != int(number):
        raise Stalled(
            "UsageQueryFailed",
            f"{what} needs count with a whole number in each document, and may have label and latest",
        )
    if isinstance(latest, datetime):
        latest = latest.isoformat()
    return UsageRow(
        label="" if label is None else str(label)[:253],
        count=int(number),
        latest=None if latest is None else str(latest)[:64],
    )
