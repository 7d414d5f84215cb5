"""Ending the sessions of accounts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pymysql

from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.errno import NO_SUCH_THREAD, number_of
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.parts import processes
from tenantry_operator.engines.mysql.privileges import sees_all
from tenantry_operator.engines.mysql.sql import literals
from tenantry_operator.errors import Retryable, Stalled

_PATIENCE = 15.0
"""Seconds to wait for sessions to end."""


async def end_sessions(connection: Connection, flavour: Flavour, names: Sequence[str], where: str) -> None:
    """Ends all sessions of accounts, until there are none.

    :raises Retryable: SessionsRemain, when some do not end.
    :raises Stalled: AdminLacksRights, when the administrator would not see them.
    """
    if not sees_all(connection.rights):
        raise Stalled(
            "AdminLacksRights",
            f"{where}: an administrator who does not see sessions cannot end them: GRANT PROCESS ON *.* to it",
        )
    deadline = time.monotonic() + _PATIENCE
    pause = 0.005
    query = f"SELECT id FROM {processes(flavour)} WHERE user IN ({literals(names)})"
    while rows := await connection.run(query):
        for (number,) in rows:
            try:
                await connection.run(f"KILL {int(number)}")
            except pymysql.MySQLError as error:
                if number_of(error) != NO_SUCH_THREAD:
                    raise
        if time.monotonic() > deadline:
            raise Retryable("SessionsRemain", f"{where}: {len(rows)} sessions of {', '.join(names)} do not end")
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)
