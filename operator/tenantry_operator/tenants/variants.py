"""Which names a database may have on its server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Isolation, Names
from tenantry_operator.tenants import naming
from tenantry_operator.tenants.view import Entry, TenantView


def name_variants(
    view: TenantView, entry: Entry, record: Mapping[str, Any], isolation: Isolation, engine: DatabaseEngine
) -> list[Names]:
    """The names to try, in order: the longer ones are for when the plain ones are another tenant's.

    :param record: the entry in ``status.databases``. Once it has names, they are the only ones.
    """
    several = sum(other.blueprint == entry.blueprint for other in view.entries) > 1
    variants: list[Names] = []
    # The names it was made with may be from when it was the only database of its blueprint.
    for extended, longer in product((several, not several), (False, True)):
        names = naming.names_for(
            isolation,
            entry.blueprint,
            view.id,
            entry.name,
            namespace=view.namespace,
            several=extended,
            disambiguate=longer,
            engine=engine,
        )
        if names not in variants:
            variants.append(names)
    database, schema, login = (record.get(field) for field in ("database", "schema", "login"))
    for names in variants:
        if (database, schema) == (names.database, names.schema) and login in (None, *names.logins):
            return [names]
    return variants[:2]
