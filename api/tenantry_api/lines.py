"""Who wants the same waits in line, in the order of coming, within this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tenantry_api.problems import Unavailable


@dataclass(slots=True)
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    """Who has his turn included."""


class Lines:
    """A line for each thing that somebody wants just now."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, _Line] = {}

    def waiting(self, what: Hashable) -> int:
        """How many are in a line, who has his turn included."""
        line = self._lines.get(what)
        return line.waiting if line is not None else 0

    @asynccontextmanager
    async def turn(self, what: Hashable, patience: float) -> AsyncIterator[None]:
        """Waits for one's turn; the next one's comes after the block.

        :param patience: seconds to wait for it.
        :raises Unavailable: when it does not come.
        """
        line = self._lines.setdefault(what, _Line())
        line.waiting += 1
        try:
            try:
                async with asyncio.timeout(patience):
                    await line.lock.acquire()
            except TimeoutError as error:
                raise Unavailable("many ask for the same just now; try again", retry_after=1) from error
            try:
                yield
            finally:
                line.lock.release()
        finally:
            line.waiting -= 1
            if not line.waiting:
                del self._lines[what]
