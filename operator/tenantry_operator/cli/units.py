"""Sizes, spans and moments as people read them. Pure, but for :func:`now`."""

from __future__ import annotations

from datetime import UTC, datetime

_POWERS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def size(count: int | None) -> str:
    """Bytes as ``512 B``, ``7.8 MiB``, ``120 GiB``; ``-`` for what is not known."""
    if count is None:
        return "-"
    value, power = float(count), 0
    # Half a digit below 1024 it would be shown as 1024.
    while value >= 1023.5 and power < len(_POWERS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f} {_POWERS[power]}" if power and value < 9.95 else f"{value:.0f} {_POWERS[power]}"


def span(seconds: float) -> str:
    """A span of time in its two largest units: ``42s``, ``3m5s``, ``1h3m``, ``41d``."""
    left = max(0, int(seconds))
    days, left = divmod(left, 86400)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    if days:
        return f"{days}d{hours}h" if days < 8 and hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{left}s" if left else f"{minutes}m"
    return f"{left}s"


def since(stamp: str | None, at: datetime) -> float:
    """Seconds from a moment of the API's to another one; 0 where the API names none, or one to come."""
    return 0.0 if not stamp else max(0.0, (at - datetime.fromisoformat(stamp)).total_seconds())


def until(stamp: str | None, at: datetime) -> float:
    """Seconds that are left until a moment of the API's; 0 where it is over, or none is named."""
    return 0.0 if not stamp else max(0.0, (datetime.fromisoformat(stamp) - at).total_seconds())
