"""What usage queries said is kept for as long as nothing was written."""

from __future__ import annotations

from tenantry_operator.engines.base import UsageRow
from tenantry_operator.engines.counted import AGAIN, Counted

ROWS = {"items": (UsageRow("", 3),)}
QUERIES = {"items": "SELECT COUNT(*) AS count FROM items"}


def test_only_what_was_asked_at_the_same_counter_is_known() -> None:
    counted = Counted()
    assert counted.get("acme", QUERIES, 1) is None
    counted.put("acme", QUERIES, 1, ROWS)
    assert counted.get("acme", dict(QUERIES), 1) == ROWS
    assert counted.get("acme", QUERIES, 2) is None
    assert counted.get("acme", {"items": "SELECT 1 AS count"}, 1) is None
    assert counted.get("other", QUERIES, 1) is None


def test_a_counter_that_is_not_known_says_nothing() -> None:
    counted = Counted()
    counted.put("acme", QUERIES, None, ROWS)
    assert counted.get("acme", QUERIES, None) is None


def test_it_is_counted_again_after_a_while_all_the_same() -> None:
    now = 0.0
    counted = Counted(clock=lambda: now)
    counted.put("acme", QUERIES, 1, ROWS)
    now = AGAIN - 1
    assert counted.get("acme", QUERIES, 1) == ROWS
    now = AGAIN
    assert counted.get("acme", QUERIES, 1) is None


def test_what_is_gone_is_forgotten() -> None:
    counted = Counted()
    counted.put("acme", QUERIES, 1, ROWS)
    counted.forget("acme")
    assert counted.get("acme", QUERIES, 1) is None
