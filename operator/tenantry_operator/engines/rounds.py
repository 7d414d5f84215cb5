"""Looking closely at some of many things, round by round: those that changed and waited longest first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Known(Generic[T]):
    counter: int
    value: T
    at: float


@dataclass(slots=True)
class Rounds(Generic[T]):
    """What was found by name, and what is to be looked at next.

    :param at_once: how many are looked at in one round.
    :param longest: seconds after which something is looked at again although its counter did not move.
    """

    at_once: int
    longest: float = math.inf
    clock: Callable[[], float] = time.monotonic
    _known: dict[str, _Known[T]] = field(default_factory=dict)

    def due(self, counters: Mapping[str, int]) -> list[str]:
        """What is to be looked at now; what is not listed any more is forgotten.

        :param counters: of everything there is; they move when what is to be found may have changed.
        """
        now = self.clock()
        self._known = {name: known for name, known in self._known.items() if name in counters}
        waiting = []
        for name, counter in counters.items():
            known = self._known.get(name)
            if known is None:
                waiting.append((float("-inf"), name))
            elif known.counter != counter or now - known.at > self.longest:
                waiting.append((known.at, name))
        return [name for _, name in sorted(waiting)[: self.at_once]]

    def take(self, counters: Mapping[str, int], found: Mapping[str, T]) -> None:
        """Takes in what was found."""
        now = self.clock()
        for name, value in found.items():
            self._known[name] = _Known(counters.get(name, 0), value, now)

    def again(self, name: str) -> None:
        """Has something looked at again although its counter did not move; it is known until then."""
        known = self._known.get(name)
        if known is not None:
            self._known[name] = replace(known, counter=-1)

    def forget(self, name: str) -> None:
        """Nothing is known any more."""
        self._known.pop(name, None)

    def get(self, name: str) -> T | None:
        """What is known of one."""
        known = self._known.get(name)
        return known.value if known is not None else None

    def current(self, counters: Mapping[str, int]) -> dict[str, T]:
        """What is known of those whose counter has not moved since."""
        return {name: known.value for name, known in self._known.items() if known.counter == counters.get(name)}

    def all(self) -> dict[str, T]:
        """What is known, by name."""
        return {name: known.value for name, known in self._known.items()}
