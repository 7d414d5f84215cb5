"""What usage queries answer, read row by row. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenantry_operator.engines.base import UsageRow
from tenantry_operator.errors import Stalled

ROWS = 1000
"""The most rows of an answer."""


def usage_rows(rows: Sequence[Mapping[str, Any]], what: str) -> tuple[UsageRow, ...]:
    """The rows of an answer.

    :param what: the query, in words.
    :raises Stalled: UsageQueryFailed, for too many rows, or others than a usage query has.
    """
    if len(rows) > ROWS:
        raise Stalled("UsageQueryFailed", f"{what} has more than {ROWS} rows: group by something coarser")
    result = []
    for row in rows:
        label, latest = row.get("label"), row.get("latest")
        try:
            result.append(
                UsageRow(
                    label="" if label is None else str(label)[:253],
                    count=int(row["count"]),
                    latest=None if latest is None else str(latest)[:64],
                )
            )
        except (KeyError, TypeError, ValueError):
            raise Stalled(
                "UsageQueryFailed",
                f"{what} needs a column count with whole numbers, and may have label and latest",
            ) from None
    return tuple(result)
