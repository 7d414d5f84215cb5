"""Looking at one tenant just before something of it is changed."""

from __future__ import annotations

from tenantry_operator.engines.base import Desired, Ownership, Stale
from tenantry_operator.engines.mysql.catalog import Catalog, Single, observe_tenant
from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.names import Kind
from tenantry_operator.engines.mysql.parts import MarkRow
from tenantry_operator.engines.mysql.state import ownership


async def look(connection: Connection, flavour: Flavour, desired: Desired, *, ledger: bool = False) -> Single:
    """The tenant's objects as they are now, in one query.

    :param ledger: with what was applied to its database.
    :raises Stale: when one of them is somebody else's.
    """
    found = await observe_tenant(connection, flavour, desired.names, ledger=ledger)
    whose, conflict = ownership(found.catalog, desired)
    if whose in (Ownership.STRANGER, Ownership.OTHER_TENANT):
        raise Stale(f"{conflict} is not the tenant's")
    return found


def mark_on_database(catalog: Catalog, desired: Desired) -> MarkRow:
    """The mark on a tenant's database.

    :raises Stale: when it has none.
    """
    row = catalog.marks.get((Kind.DATABASE, desired.names.database))
    if row is None:
        raise Stale(f"database {desired.names.database} has not the mark of {desired.tenant} any more")
    return row
