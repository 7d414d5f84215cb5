"""The accounts of a tenant beside its logins. Pure."""

from __future__ import annotations

from enum import StrEnum

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Names
from tenantry_operator.engines.kinds import KINDS
from tenantry_operator.tenants.naming import MIGRATOR_SUFFIX, fit

BOOKS = "tenantry"
"""The operator's own database on a server; no tenant's is ever called so."""
_READER_SUFFIX = "__reader"
_LIMIT = KINDS[DatabaseEngine.MYSQL].login_bytes


class Kind(StrEnum):
    """What a mark is on."""

    DATABASE = "database"
    LOGIN = "login"


def definer_of(names: Names) -> str:
    """The account that runs migrations. It stays, locked: views, triggers and routines act with its rights."""
    return fit(names.database, MIGRATOR_SUFFIX, _LIMIT)


def reader_of(names: Names) -> str:
    """The account that runs usage queries; it may do nothing but SELECT."""
    return fit(names.database, _READER_SUFFIX, _LIMIT)


def own_accounts(names: Names) -> tuple[str, ...]:
    """All accounts of a tenant database."""
    return (*names.logins, definer_of(names), reader_of(names))
