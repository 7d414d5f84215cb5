"""Looks are taken where something changed, a limited number at a time."""

from __future__ import annotations

from tenantry_operator.engines.rounds import Rounds

AT_ONCE = 5
LONGEST = 900


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def looked(known: Rounds[int], counters: dict[str, int]) -> list[str]:
    due = known.due(counters)
    known.take(counters, dict.fromkeys(due, 1))
    return due


def test_only_what_changed_is_measured_again() -> None:
    known = Rounds[int](AT_ONCE, LONGEST, Clock())
    assert looked(known, {"a": 1, "b": 1}) == ["a", "b"]
    assert looked(known, {"a": 1, "b": 1}) == []
    assert looked(known, {"a": 1, "b": 2}) == ["b"]
    assert known.all() == {"a": 1, "b": 1}


def test_what_changed_since_it_was_looked_at_is_not_current() -> None:
    known = Rounds[int](AT_ONCE, LONGEST, Clock())
    looked(known, {"a": 1, "b": 1})
    assert known.current({"a": 1, "b": 2, "c": 1}) == {"a": 1}
    known.again("a")
    assert known.current({"a": 1}) == {}


def test_what_is_gone_is_forgotten() -> None:
    known = Rounds[int](AT_ONCE, LONGEST, Clock())
    looked(known, {"a": 1})
    assert looked(known, {}) == []
    assert known.all() == {}


def test_what_is_asked_for_is_looked_at_again_and_known_until_then() -> None:
    known = Rounds[int](AT_ONCE, LONGEST, Clock())
    looked(known, {"a": 1})
    known.again("a")
    known.again("never heard of")
    assert known.all() == {"a": 1}
    assert looked(known, {"a": 1}) == ["a"]


def test_what_is_forgotten_is_unknown() -> None:
    known = Rounds[int](AT_ONCE, LONGEST, Clock())
    looked(known, {"a": 1})
    known.forget("a")
    assert known.get("a") is None
    assert looked(known, {"a": 1}) == ["a"]


def test_everything_is_measured_again_after_a_while() -> None:
    clock = Clock()
    known = Rounds[int](AT_ONCE, LONGEST, clock)
    looked(known, {"a": 1})
    clock.now = LONGEST + 1
    assert looked(known, {"a": 1}) == ["a"]


def test_who_waited_longest_comes_first() -> None:
    clock = Clock()
    known = Rounds[int](AT_ONCE, LONGEST, clock)
    everything = {f"s{number:05}": 0 for number in range(2 * AT_ONCE)}
    first = looked(known, everything)
    assert len(first) == AT_ONCE
    clock.now = 1
    changed = dict.fromkeys(everything, 1)
    second = looked(known, changed)
    assert set(first).isdisjoint(second)
    clock.now = 2
    assert set(looked(known, changed)) == set(first)
