"""Scratch copies of blueprints: databases of nobody, made to see what a version does, and dropped. Pure."""

from __future__ import annotations

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Desired, Isolation, Pace, Presence
from tenantry_operator.tenants.naming import scratch_names

ENTRY = "scratch"
"""In the marks of a copy, which belongs to no tenant, the place of the database's name."""
_TIMEOUT = 300.0
"""Seconds for one migration of an empty schema."""


def scratch_copy(installation: str, blueprint: str, engine: DatabaseEngine = DatabaseEngine.POSTGRESQL) -> Desired:
    """The scratch copy of a blueprint, on any server.

    :param blueprint: ``<namespace>/<name>``.
    """
    return Desired(
        installation=installation,
        tenant="",
        tenant_id=ENTRY,
        entry=ENTRY,
        isolation=Isolation.DATABASE,
        names=scratch_names(blueprint, engine),
        blueprint=blueprint,
        presence=Presence.LIVE,
        pace=Pace(lock_timeout=_TIMEOUT, timeout=_TIMEOUT),
    )
