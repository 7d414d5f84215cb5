"""Sizes are measured where something changed, a limited number at a time."""

from __future__ import annotations

from tenantry_operator.engines.postgres.sizes import AT_ONCE, LONGEST, Sizes


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def measured(known: Sizes, counters: dict[str, int]) -> list[str]:
    due = known.due(counters)
    known.take(counters, dict.fromkeys(due, 1))
    return due


def test_only_what_changed_is_measured_again() -> None:
    known = Sizes(Clock())
    assert measured(known, {"a": 1, "b": 1}) == ["a", "b"]
    assert measured(known, {"a": 1, "b": 1}) == []
    assert measured(known, {"a": 1, "b": 2}) == ["b"]
    assert known.all() == {"a": 1, "b": 1}


def test_what_is_gone_is_forgotten() -> None:
    known = Sizes(Clock())
    measured(known, {"a": 1})
    assert measured(known, {}) == []
    assert known.all() == {}


def test_what_is_forgotten_is_measured_again_and_known_until_then() -> None:
    known = Sizes(Clock())
    measured(known, {"a": 1})
    known.forget("a")
    known.forget("never heard of")
    assert known.all() == {"a": 1}
    assert measured(known, {"a": 1}) == ["a"]


def test_everything_is_measured_again_after_a_while() -> None:
    clock = Clock()
    known = Sizes(clock)
    measured(known, {"a": 1})
    clock.now = LONGEST + 1
    assert measured(known, {"a": 1}) == ["a"]


def test_who_waited_longest_comes_first() -> None:
    clock = Clock()
    known = Sizes(clock)
    everything = {f"s{number:05}": 0 for number in range(2 * AT_ONCE)}
    first = measured(known, everything)
    assert len(first) == AT_ONCE
    clock.now = 1
    changed = dict.fromkeys(everything, 1)
    second = measured(known, changed)
    assert set(first).isdisjoint(second)
    clock.now = 2
    assert set(measured(known, changed)) == set(first)
