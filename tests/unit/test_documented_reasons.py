"""Every reason that an error gives is in the documentation, where people look it up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
RAISED = re.compile(r'\b(?:Stalled|Waiting|Retryable)\(\s*"([A-Z]\w+)"')
CODES = re.compile(r'^\s+(?:\d+|"\w+"): "([A-Z][A-Za-z]+)",$', re.MULTILINE)
"""Lines of a table from what a server says to a reason."""


def reasons() -> list[str]:
    found: set[str] = set()
    for path in (ROOT / "operator").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(RAISED.findall(text))
        if path.name in ("sqlstate.py", "errno.py", "errors.py"):
            found.update(CODES.findall(text))
    return sorted(found)


def test_there_are_reasons() -> None:
    assert {"MigrationFailed", "LockTimeout", "ServerIsReplica", "InstanceGoing"} <= set(reasons())


@pytest.mark.parametrize("reason", reasons())
def test_a_reason_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PAGES, f"docs/operations.md does not say what {reason} means"
