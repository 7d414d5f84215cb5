"""Dedicated servers sleep while all their tenants rest. Pure but for what is known of the cluster.

Whether a server sleeps stands in its status: ``Ready=True``, reason ``Hibernated``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tenantry_crds.database_instance import InstanceRole
from tenantry_crds.tenant import TenantState
from tenantry_operator import conditions
from tenantry_operator.cache import Key
from tenantry_operator.kube import NAMESPACE_ENDS
from tenantry_operator.names import TENANT_LABEL
from tenantry_operator.tenants.view import placements_of, records_of

Object = dict[str, Any]

HIBERNATED = "Hibernated"
_RESTING = frozenset({TenantState.DRAFT, TenantState.SUSPENDED, TenantState.ARCHIVED, TenantState.DELETED})
AT_REST = frozenset({"Draft", "Suspended", "Archived", "Deleted"})
"""Phases of a database whose logins are refused, or that is gone."""


def is_asleep(instance: Object | None) -> bool:
    """Whether a DatabaseInstance sleeps."""
    ready = conditions.find(instance or {}, "Ready") or {}
    return (ready.get("status"), ready.get("reason")) == ("True", HIBERNATED)


def ends_with_namespace(instance: Object | None) -> bool:
    """Whether a DatabaseInstance's server is gone for good, since the whole namespace is being deleted."""
    ready = conditions.find(instance or {}, "Ready") or {}
    return "deletionTimestamp" in (instance or {}).get("metadata", {}) and ready.get("reason") == NAMESPACE_ENDS


def may_sleep(instance: Object) -> bool:
    """Whether a DatabaseInstance is one that sleeps at times: it is dedicated, and runs in the cluster.

    Several MariaDBs do not: whoever has the newest data must be found when they start.
    """
    spec = instance["spec"]
    if spec.get("role") != InstanceRole.DEDICATED or "deletionTimestamp" in instance["metadata"]:
        return False
    return "external" not in spec and (spec.get("mariaDB") or {}).get("replicas", 1) == 1


def at_rest(tenant: Object, home: Key) -> bool:
    """Whether a Tenant asks for nothing of a server, and has reached that."""
    if "deletionTimestamp" in tenant["metadata"]:
        return False
    if (tenant["spec"].get("state") or TenantState.ACTIVE) not in _RESTING:
        return has_left(tenant, home)
    records = records_of(tenant)
    return all(
        records.get(name, {}).get("phase") in AT_REST
        for name, where in placements_of(tenant).items()
        if where == home and name in records
    )


def has_left(tenant: Object, home: Key) -> bool:
    """Whether all that a Tenant had on a server was taken out of it, and what is there is only retained."""
    wanted = {one.get("name") or one.get("blueprint") for one in tenant["spec"].get("databases") or []}
    wanted |= set(records_of(tenant))
    return not any(where == home and name in wanted for name, where in placements_of(tenant).items())


def due(instance: Object, home: Key, tenants: Iterable[Object], is_wanted: Callable[[Object], bool]) -> bool:
    """Whether a DatabaseInstance should sleep now. One without tenants stays up for those to come, unless it was
    made for one that is gone, whose data is retained.

    :param is_wanted: whether something else is about to be done to a tenant, such as a migration.
    """
    if not may_sleep(instance):
        return False
    placed = list(tenants)
    if not placed:
        return TENANT_LABEL in (instance["metadata"].get("labels") or {})
    return all(at_rest(tenant, home) and not is_wanted(tenant) for tenant in placed)
