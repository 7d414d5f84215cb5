"""Crash points for reliability tests.

``reached("secret-written")`` does nothing in production. With ``TENANTRY_CRASH_AT=shop/acme:secret-written``
in the environment the process kills itself with SIGKILL, as a lost node would, when it gets there while it
works for the Tenant ``shop/acme``; ``shop/acme:secret-written:3`` means the third time.
``TENANTRY_CRASH_LOG`` names a file that collects the points that were passed, so that a test can crash at
every one of them without a list of its own.
"""

from __future__ import annotations

import os
import signal
from contextvars import ContextVar
from pathlib import Path

subject: ContextVar[str] = ContextVar("subject", default="")
"""For whom is worked: ``<namespace>/<name>`` of a Tenant, or of the Blueprint of a rollout."""

_tenant, _, _rest = os.environ.get("TENANTRY_CRASH_AT", "").partition(":")
_point, _, _count = _rest.partition(":")
_remaining = int(_count or 1)
_log = os.environ.get("TENANTRY_CRASH_LOG")


def reached(point: str) -> None:
    """Marks a point of a transition after which a crash must be harmless."""
    global _remaining  # noqa: PLW0603
    if _log:
        with Path(_log).open("a", encoding="utf-8") as file:
            file.write(f"{subject.get()} {point}\n")
    if _point and point == _point and subject.get() == _tenant:
        _remaining -= 1
        if _remaining == 0:
            os.kill(os.getpid(), signal.SIGKILL)
