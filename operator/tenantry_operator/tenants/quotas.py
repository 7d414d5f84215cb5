"""Limits from plan and tenant, and what the use of them means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tenantry_crds.plan import PlanSpec
from tenantry_crds.quantities import parse_duration, parse_quantity
from tenantry_crds.tenant import TenantSpec
from tenantry_operator.conditions import Condition
from tenantry_operator.engines.base import LoginLimits

STORAGE = "storage"
CONNECTIONS = "connections"
_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may use. Resources without a limit are not in ``counted``."""

    login: LoginLimits
    storage: int | None
    """Bytes."""
    enforce_storage: bool
    """Whether writing is refused over the storage quota, or only a warning given."""
    counted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a resource a tenant uses; ``limit`` None: measured, but not limited."""

    resource: str
    used: int
    limit: int | None

    @property
    def exceeded(self) -> bool:
        """More than the limit is used."""
        return self.limit is not None and self.used > self.limit

    @property
    def near(self) -> bool:
        """At least 80 % of the limit is used."""
        return self.limit is not None and not self.exceeded and self.used >= _NEAR * self.limit and self.limit > 0


def merge(plan: PlanSpec | None, tenant: TenantSpec) -> Limits:
    """The plan's limits, overridden by the tenant's, resource by resource.

    :raises ValueError: for a quantity or duration that cannot be read, naming it.
    """
    limits: dict[str, int] = {}
    connections = storage = timeout = temp_files = None
    enforce = True
    if plan is not None:
        limits.update({limit.resource: parse_quantity(limit.limit) for limit in plan.limits})
        database = plan.database
        if database is not None:
            connections = database.connections
            storage = parse_quantity(database.storage) if database.storage is not None else None
            timeout = database.statement_timeout
            temp_files = parse_quantity(database.temp_files) if database.temp_files is not None else None
            enforce = database.enforcement != "Warn"
    limits.update({limit.resource: parse_quantity(limit.limit) for limit in tenant.limits})
    storage = limits.pop(STORAGE, storage)
    connections = limits.pop(CONNECTIONS, connections)
    login = LoginLimits(
        connections=connections,
        statement_timeout_ms=round(parse_duration(timeout) * 1000) if timeout is not None else None,
        temp_files_bytes=temp_files,
    )
    return Limits(login, storage, enforce, limits)


def condition(usages: Iterable[Usage]) -> Condition:
    """``QuotaExceeded``: True above a limit; False, reason NearLimit, from 80 % on."""
    usages = list(usages)
    exceeded = [usage for usage in usages if usage.exceeded]
    if exceeded:
        return Condition("QuotaExceeded", True, "QuotaExceeded", _words(exceeded))
    near = [usage for usage in usages if usage.near]
    if near:
        return Condition("QuotaExceeded", False, "NearLimit", _words(near))
    return Condition("QuotaExceeded", False, "WithinLimits")


def _words(usages: Iterable[Usage]) -> str:
    # Whole percent: a message that changed with every byte would be written with every byte.
    return "; ".join(
        f"{usage.resource}: {100 * usage.used // max(1, usage.limit or 1)} % of {usage.limit}" for usage in usages
    )
