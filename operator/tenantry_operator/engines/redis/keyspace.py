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
"""Keys that one script looks at, about, at most."""
_LEAST = 10
"""And at least."""
_BUDGET = 0.2
"""Seconds of each sweep that go into measuring."""
_SAMPLES = 10_000
"""Members of a hash, set, sorted set or stream that are looked at, at most; a few would do for what is even, but
small ones hide large ones. Lists are looked at as a whole: what comes first in them is the tenant's choice."""
_EFFORT = 30_000
"""Members that one script looks at, about: some hundredths of a second."""
_FEW = 100_000
"""Keys that are looked through before a prefix is given away, whatever was measured."""
_MANY = 100_000
"""Prefixes that are remembered."""

_MEASURE = """
local found = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
local most, effort = tonumber(ARGV[3]), tonumber(ARGV[4])
local counts = {hash = 'HLEN', set = 'SCARD', zset = 'ZCARD', stream = 'XLEN', list = 'LLEN'}
local order, sums, spent = {}, {}, 0
for _, key in ipairs(found[2]) do
  local kind = redis.call('TYPE', key).ok
  local samples = 5
  if counts[kind] and spent < effort then
    local count = redis.call(counts[kind], key)
    if kind == 'list' then
      samples, spent = 0, spent + count / 10
    else
      samples, spent = most, spent + math.min(count, most)
    end
  end
  local bytes = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', samples)
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
return {found[1], math.floor(spent), lines}
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
    _step: int = _STEP

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
            self._cursor, spent, lines = await session.call(
                "EVAL", _MEASURE, 0, self._cursor, self._step, _SAMPLES, _EFFORT
            )
            # Where many members are to be looked at, it is done for fewer keys at a time.
            if spent >= _EFFORT:
                self._step = max(_LEAST, self._step // 2)
            elif spent < _EFFORT / 4:
                self._step = min(_STEP, 2 * self._step)
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
        match = ("MATCH", pattern(database), "COUNT", 10 * _STEP)
        there, (cursor, keys) = await session.all([("DBSIZE",), ("SCAN", "0", *match)])
        if absent and int(there) > _FEW:
            return False
        while not keys and cursor != "0":
            cursor, keys = await session.call("SCAN", cursor, *match)
        return bool(keys)


async def remove(session: Session, database: str) -> None:
    """Removes all keys of a prefix. Nobody may write to them meanwhile."""
    cursor = "0"
    while True:
        cursor = await session.call("EVAL", _REMOVE, 0, cursor, pattern(database), _STEP)
        if cursor == "0":
            return
