"""What usage queries said, for as long as nothing was written to their server since.

Some servers have no counter of what a tenant writes, and one of what everybody does: where nobody writes, on the
server of a single tenant or at night, nothing has to be counted anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from tenantry_operator.engines.base import UsageRow

Rows = Mapping[str, tuple[UsageRow, ...]]

AGAIN = 900.0
"""Seconds after which it is counted again all the same: queries may ask what time it is, and keys expire."""


@dataclass(frozen=True, slots=True)
class _Known:
    queries: Mapping[str, str]
    counter: Hashable
    rows: Rows
    at: float


@dataclass(slots=True)
class Counted:
    """The rows of the databases of one server."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known] = field(default_factory=dict)

    def get(self, database: str, queries: Mapping[str, str], counter: Hashable) -> Rows | None:
        """What the queries said, when they were the same and the counter has not moved; None: count anew.

        :param counter: moves whenever something is written to the server; None: it is not known.
        """
        known = self._known.get(database)
        if known is None or counter is None or (known.queries, known.counter) != (queries, counter):
            return None
        return known.rows if self.clock() - known.at < AGAIN else None

    def put(self, database: str, queries: Mapping[str, str], counter: Hashable, rows: Rows) -> None:
        """Keeps what they said.

        :param counter: as it was read before they were asked.
        """
        self._known[database] = _Known(dict(queries), counter, rows, self.clock())

    def forget(self, database: str) -> None:
        """It is somebody else's, or gone."""
        self._known.pop(database, None)
