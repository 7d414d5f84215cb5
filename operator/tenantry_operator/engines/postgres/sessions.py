"""Refusing logins, ending their sessions, and taking a login away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from psycopg import sql

from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.statements import Script, render_as_steward
from tenantry_operator.errors import Retryable

_PATIENCE = 15.0
"""Seconds to wait for sessions to end."""

_END = """
SELECT pg_catalog.pg_terminate_backend(a.pid)
FROM pg_catalog.pg_stat_activity a
WHERE a.usename = ANY (%s)
"""


async def existing(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of the roles that exist."""
    cursor = await connection.execute(
        "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname = ANY (%s) ORDER BY 1", (list(names),)
    )
    return [name for (name,) in await cursor.fetchall()]


def render_can_login(steward: str, names: Sequence[str], *, allowed: bool) -> Script:
    """Lets logins in, or refuses them; who is in already stays in."""
    script = render_as_steward(steward)
    for name in names:
        if allowed:
            script.format("ALTER ROLE {login} LOGIN", login=sql.Identifier(name))
        else:
            script.format("ALTER ROLE {login} NOLOGIN", login=sql.Identifier(name))
    return script


async def end_sessions(connection: Connection, names: Sequence[str], where: str) -> None:
    """Ends all sessions of logins that are refused, until there are none.

    :raises Retryable: SessionsRemain, when some do not end.
    """
    deadline = time.monotonic() + _PATIENCE
    pause = 0.01
    while True:
        rows = await (await connection.execute(_END, (list(names),))).fetchall()
        if not rows:
            return
        if time.monotonic() > deadline:
            raise Retryable("SessionsRemain", f"{where}: {len(rows)} sessions of {', '.join(names)} do not end")
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)


def render_retire(steward: str, login: str, heir: str) -> Script:
    """Drops a login; what it made, such as large objects, goes to its heir. In the tenant's database."""
    return render_as_steward(steward).format(
        "GRANT {login}, {heir} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE;\n"
        "REASSIGN OWNED BY {login} TO {heir};\n"
        "DROP OWNED BY {login};\n"
        "REVOKE {heir} FROM CURRENT_USER GRANTED BY CURRENT_USER;\n"
        "DROP ROLE {login}",
        login=sql.Identifier(login),
        heir=sql.Identifier(heir),
    )


def render_drop_roles(steward: str, names: Sequence[str]) -> Script:
    """Drops roles that own nothing any more."""
    script = render_as_steward(steward)
    for name in names:
        script.format("DROP ROLE {name}", name=sql.Identifier(name))
    return script
