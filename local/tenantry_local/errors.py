"""The one error of the one-machine cluster."""

from __future__ import annotations


class LocalError(RuntimeError):
    """Something of the one-machine cluster cannot be done; the message says why and what to do."""
