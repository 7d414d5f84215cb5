"""Sizes and durations as manifests write them."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>[kMGTPE]|[KMGTPE]i)?")
_DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>ms|s|m|h)")
_UNITS = {"": 1, "k": 1000}
_UNITS |= {letter: 1000**power for power, letter in enumerate("MGTPE", start=2)}
_UNITS |= {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}


def parse_quantity(value: int | str) -> int:
    """A size in bytes; a fraction of a byte is rounded up.

    :param value: bytes, or a Kubernetes quantity with the suffix k M G T P E (powers of 1000) or
        Ki Mi Gi Ti Pi Ei (powers of 1024). The suffixes below one (``m``) make no size and are refused.
    :raises ValueError: with the value, when it is no size.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a size; write bytes or a quantity such as 5Gi")  # noqa: TRY004
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"{value} is not a size; it must not be negative")
        return value
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ValueError(
            f"{value!r} is not a size; write a number and one of k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, "
            "such as 5Gi"
        )
    return math.ceil(Fraction(match["number"]) * _UNITS[match["unit"] or ""])


def parse_duration(value: str) -> float:
    """A duration in seconds.

    :param value: a number and one of ``ms``, ``s``, ``m``, ``h``: ``500ms``, ``60s``, ``5m``, ``2h``.
    :raises ValueError: with the value, when it is no duration.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write a number and one of ms, s, m, h, such as 60s")
    return float(Decimal(match["number"]) * _SECONDS[match["unit"]])
