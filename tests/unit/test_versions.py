"""Which version a tenant's database is to be at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenantry_operator.tenants.versions import Choice, Situation, Turn, choose

SETTLED = Situation(pin=None, current="1.1", settled="1.1", installed="1.1", unfinished=None, record={})
TURN = Turn("r", "uid", "1.2", 5, 60)
FROZEN = {"rollout": {"result": "Frozen", "version": "1.1"}}
FAILED = {"rollout": {"result": "Failed", "version": "1.1"}}


@pytest.mark.parametrize(
    ("changes", "choice"),
    [
        ({}, Choice("1.1")),
        # Nothing there yet.
        ({"installed": None, "settled": None}, Choice("1.1")),
        ({"installed": None, "current": "1.2"}, Choice("1.1")),
        ({"installed": None, "current": "1.2", "joins": "1.2"}, Choice("1.2")),
        # A pin is obeyed, whatever goes on.
        ({"pin": "1.0", "turn": TURN, "unfinished": "1.2"}, Choice("1.0")),
        # Its turn in a rollout.
        ({"turn": TURN}, Choice("1.2")),
        ({"turn": TURN, "failed": True}, Choice("1.2")),
        # Not its turn: it stays, and catches up once nobody else is responsible.
        ({"installed": "1.0", "busy": True}, Choice("1.0")),
        ({"installed": "1.0"}, Choice("1.1", only_forward=True)),
        ({"installed": "1.0", "settled": None}, Choice("1.0")),
        # What was half done is done.
        ({"installed": "1.0", "unfinished": "1.1", "busy": True}, Choice("1.1")),
        # Unless it failed: then nothing is touched until its turn comes again.
        ({"installed": "1.0", "unfinished": "1.1", "failed": True}, Choice(None)),
        ({"installed": "1.0", "failed": True}, Choice("1.0")),
        ({"installed": "1.0", "record": FAILED}, Choice("1.0")),
        # Where a rollout by hand brought it, it stays.
        ({"installed": "1.2", "record": {"rollout": {"result": "Migrated", "version": "1.2"}}}, Choice("1.2")),
        ({"installed": "1.0", "record": {"rollout": {"result": "Migrated", "version": "1.0"}}}, Choice("1.0")),
        (
            {"installed": "1.0", "record": {"rollout": {"result": "RolledBack", "version": "1.1"}}},
            Choice("1.1", only_forward=True),
        ),
        # Somebody changed its schema, and the policy is to keep off.
        ({"installed": "1.0", "frozen": True}, Choice("1.0")),
        ({"installed": "1.0", "frozen": True, "turn": TURN}, Choice("1.0")),
        ({"installed": "1.2", "frozen": True, "turn": replace(TURN, version="1.1", back=True)}, Choice("1.1")),
        ({"installed": "1.0", "frozen": True, "unfinished": "1.1"}, Choice("1.1")),
        ({"installed": None, "frozen": True}, Choice("1.1")),
        ({"installed": "1.0", "frozen": True, "pin": "1.2"}, Choice("1.2")),
        # What was kept from it then is made up for, be it backwards.
        ({"installed": "1.2", "record": FROZEN}, Choice("1.1")),
        ({"installed": "1.2", "record": FROZEN, "busy": True}, Choice("1.2")),
    ],
)
def test_the_version_follows_from_the_situation(changes: dict[str, object], choice: Choice) -> None:
    assert choose(replace(SETTLED, **changes)) == choice  # type: ignore[arg-type]
