"""Usage queries."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry_operator.engines.base import Desired, UsageRow
from tenantry_operator.engines.postgres.connections import Connections
from tenantry_operator.engines.postgres.installation import Installation


async def count(
    connections: Connections, installation: Installation, desired: Desired, queries: Mapping[str, str]
) -> dict[str, tuple[UsageRow, ...]]:
    """Runs usage queries."""
    return {}
