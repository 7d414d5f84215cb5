"""Usage queries: one reading command each, held against the tenant's prefix before it is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from redis import exceptions

from tenantry_operator.engines.base import Desired, Mark, UsageRow
from tenantry_operator.engines.redis import commands
from tenantry_operator.engines.redis.catalog import MARKS, Facts, may
from tenantry_operator.engines.redis.connections import Session
from tenantry_operator.engines.redis.errors import describe
from tenantry_operator.engines.redis.migrations import parse_command
from tenantry_operator.errors import Retryable, Stalled


async def count(
    session: Session, facts: Facts, desired: Desired, queries: Mapping[str, str], where: str
) -> dict[str, tuple[UsageRow, ...]]:
    """Runs usage queries.

    :param queries: by resource: a JSON array, ``["SCARD", "{prefix}users"]``, whose answer is a number.
    :raises Stalled: UsageQueryFailed.
    """
    mark = Mark.decode(await session.call("HGET", MARKS, desired.names.database))
    if mark is None or not mark.same_owner(desired.mark):
        raise Retryable("ServerChanging", f"{where} is gone, or not the tenant's")
    asked = []
    for resource, query in queries.items():
        what = f"{where}: the usage query of {resource} of blueprint {desired.blueprint}"
        try:
            command = parse_command(json.loads(query), desired.names.database, commands.READING)
        except ValueError as error:
            raise Stalled("UsageQueryFailed", f"{what}: {error}") from None
        asked.append((resource, what, command))
    given = [command for _, _, command in asked]
    allowed = commands.rules(commands.READING, facts.known)
    refusals, _ = await may(session, desired.names.database, allowed, given)
    for (_, what, _), refusal in zip(asked, refusals, strict=True):
        if refusal is not None:
            raise Stalled("UsageQueryFailed", f"{what} failed: {refusal}")
    answers = await session.pipeline(given)
    return {
        resource: (UsageRow("", _number(answer, what)),)
        for (resource, what, _), answer in zip(asked, answers, strict=True)
    }


def _number(answer: Any, what: str) -> int:
    if isinstance(answer, exceptions.ResponseError):
        raise Stalled("UsageQueryFailed", f"{what} failed: {describe(answer)}")
    try:
        return 0 if answer is None else int(answer)
    except (TypeError, ValueError):
        raise Stalled(
            "UsageQueryFailed", f"{what} has an answer that is no whole number: use a command that counts"
        ) from None
