"""Walking over all keys of a server, a little at a time: measuring what tenants have, removing it.

Redis keeps no list of the keys of a prefix. Every step is a script that looks at some hundred keys within
the server: nobody waits for long, and no key travels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry_operator.engines.redis.acl import pattern
from tenantry_operator.engines.redis.connections import Session

_STEP = 500
"""Keys that one script looks at, about."""
_BUDGET = 0.2
"""Seconds of each sweep that go into measuring."""
_FEW = 100_000
"""Keys that are looked through before a prefix is given away, whatever was measured."""
_MANY = 100_000
"""Prefixes that are remembered."""

_MEASURE = """
local found = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
local order, sums = {}, {}
for _, key in ipairs(found[2]) do
  local bytes = redis.call('MEMORY', 'USAGE', key)
  local prefix = string.match(key, '^([^:]*):')
  if bytes and prefix then
    if not sums[prefix] then
      sums[prefix] = 0
      order[#order + 1] = prefix
    end
    sums[prefix] = sums[prefix] + bytes
  end
end
local lines = {}
for _, prefix in ipairs(order) do
  lines[#lines + 1] = prefix
  lines[#lines + 1] = sums[prefix]
end
return {found[1], lines}
"""

_REMOVE = """
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
for _, key in ipairs(found[2]) do
  redis.call('UNLINK', key)
end
return found[1]
"""


@dataclass(slots=True)
class KeySpace:
    """What was measured of a server's keys.

    A server whose keys are all looked at within one sweep is measured anew with each; a larger one takes
    several, and the figures of the last whole round count until the next is through.
    """

    bytes: Mapping[str, int] | None = None
    """By what keys begin with, up to the first colon; None: no round is through yet."""
    measured_at: float = 0.0
    """When the last whole round was begun, in seconds of :func:`time.monotonic`."""
    complete: bool = False
    """Whether all prefixes are among them."""
    _cursor: str = "0"
    _begun_at: float = 0.0
    _next: dict[str, int] = field(default_factory=dict)
    _full: bool = True

    def size(self, database: str) -> int | None:
        """Bytes of a tenant's keys; None: not known yet."""
        return None if self.bytes is None else self.bytes.get(database, 0)

    def forget(self) -> None:
        """The server was started anew."""
        self.bytes, self.complete, self._cursor = None, False, "0"

    def removed(self, database: str) -> None:
        """All keys of a tenant are gone."""
        if self.bytes is not None:
            self.bytes = {name: size for name, size in self.bytes.items() if name != database}
        self._next.pop(database, None)

    async def measure(self, session: Session, budget: float = _BUDGET) -> None:
        """Goes on with the round, or begins one, for a part of a second."""
        deadline = time.monotonic() + budget
        while True:
            if self._cursor == "0":
                self._begun_at, self._next, self._full = time.monotonic(), {}, True
            self._cursor, lines = await session.call("EVAL", _MEASURE, 0, self._cursor, _STEP)
            for name, size in zip(lines[::2], lines[1::2], strict=True):
                if name in self._next or len(self._next) < _MANY:
                    self._next[name] = self._next.get(name, 0) + int(size)
                else:
                    self._full = False
            if self._cursor == "0":
                self.bytes, self.measured_at, self.complete = self._next, self._begun_at, self._full
                return
            if time.monotonic() > deadline:
                return

    async def holds(self, session: Session, database: str) -> bool:
        """Whether there are keys of a prefix that is about to be given to a tenant.

        On servers with very many keys, those count that were there when they were last measured.
        """
        absent = self.complete and self.bytes is not None and database not in self.bytes
        if absent and int(await session.call("DBSIZE")) > _FEW:
            return False
        cursor = "0"
        while True:
            cursor, keys = await session.call("SCAN", cursor, "MATCH", pattern(database), "COUNT", 10 * _STEP)
            if keys or cursor == "0":
                return bool(keys)


async def remove(session: Session, database: str) -> None:
    """Removes all keys of a prefix. Nobody may write to them meanwhile."""
    cursor = "0"
    while True:
        cursor = await session.call("EVAL", _REMOVE, 0, cursor, pattern(database), _STEP)
        if cursor == "0":
            return
