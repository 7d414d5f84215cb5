"""Keeping ACL users over a restart of the server."""

from __future__ import annotations

import asyncio
import time

from redis import exceptions

from tenantry_operator.engines.redis.connections import Connections, Session

_SHARE = 4.0
"""Between two saves, the server is left alone for so many times as long as the last one took."""
_LONGEST = 5.0
"""Seconds that it is left alone at most."""
_WAYS = (("ACL", "SAVE"), ("CONFIG", "REWRITE"))


class Saver:
    """Has a server write its ACL users down; those who change some at the same time share a save."""

    def __init__(self, connections: Connections) -> None:
        self.possible = True
        """Whether the server can: it has an ACL file, or a file that it was configured by."""
        self._connections = connections
        self._lock = asyncio.Lock()
        self._asked = 0
        self._saved = 0
        self._not_before = 0.0

    @property
    def due(self) -> bool:
        """Whether something may have changed that is not kept yet."""
        return self._saved < self._asked

    def changed(self) -> None:
        """Something was changed, or may have been: an error came in between."""
        self._asked += 1

    async def save(self) -> None:
        """When this returns, what was changed before is kept, where the server can.

        To be called without a connection in hand: those who wait for a save hold up nobody.
        """
        mine = self._asked
        async with self._lock:
            if self._saved >= mine:
                return
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            covered, started = self._asked, time.monotonic()
            async with self._connections.use() as session:
                self.possible = await _save(session)
            now = time.monotonic()
            self._not_before = now + min(_SHARE * (now - started), _LONGEST)
            self._saved = covered


async def _save(session: Session) -> bool:
    for way in _WAYS:
        try:
            await session.call(*way)
        except (exceptions.NoPermissionError, exceptions.ResponseError):
            # The server has no such file, or its administrator may not: the report of the server says so.
            continue
        return True
    return False
