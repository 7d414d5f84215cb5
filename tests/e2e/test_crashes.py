"""The operator is killed after every step of making, suspending and finding again: it comes to the same end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crashes import ISOLATIONS, Adopt, Make, Provision, Suspend, crash_after_every_step, prepared
from tests.e2e.support import Api


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Iterator[Api]:
    yield from prepared(private_cluster)


CASES = [*itertools.product([Provision, Suspend], ISOLATIONS), (Adopt, "Database")]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(("make", "isolation"), CASES)
def test_a_crash_after_any_step_is_harmless(api: Api, make: Make, isolation: str, tmp_path: Path) -> None:
    crash_after_every_step(api, make, isolation, tmp_path)
