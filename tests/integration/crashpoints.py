"""An engine's process dies after any step of a transition, and another one takes over."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


class Crash(BaseException):
    """Nothing catches it, as nothing survives SIGKILL."""


class CrashPoints:
    """Passes points, and dies at the one that is asked for."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.at: int | None = None

    def __call__(self, point: str) -> None:
        self.passed.append(point)
        if self.at is not None and len(self.passed) > self.at:
            raise Crash(point)


def watch(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> CrashPoints:
    """The points that these modules pass."""
    made = CrashPoints()
    for module in modules:
        monkeypatch.setattr(module, "reached", made)
    return made


async def crash_everywhere(
    points: CrashPoints,
    another_engine: Callable[[], Any],
    prepare: Callable[[], Any],
    transition: Callable[[Any], Any],
    check: Callable[[Any], Any],
) -> list[str]:
    """Runs a transition again and again, dying after one step more each time, then to its end.

    :param another_engine: an engine of a process of its own: it knows nothing but what the server says.
    :returns: the points that it passes.
    """
    number = 0
    while True:
        shop = await prepare()
        shop.engine = another_engine()
        points.passed, points.at = [], number
        crashed = False
        try:
            await transition(shop)
        except Crash:
            crashed = True
        passed, points.at = points.passed, None
        try:
            if crashed:
                await shop.engine.close()
                shop.engine = another_engine()
                await transition(shop)
            await check(shop)
        finally:
            await shop.engine.close()
        if not crashed:
            return passed
        number += 1
