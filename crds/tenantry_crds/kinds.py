"""All kinds of the API group, in the order of the documentation."""

from __future__ import annotations

from tenantry_crds.blueprint import BLUEPRINT
from tenantry_crds.blueprint_version import BLUEPRINT_VERSION
from tenantry_crds.database_instance import DATABASE_INSTANCE
from tenantry_crds.kind import Kind
from tenantry_crds.plan import PLAN
from tenantry_crds.rollout import ROLLOUT
from tenantry_crds.tenant import TENANT

KINDS: tuple[Kind, ...] = (TENANT, BLUEPRINT, BLUEPRINT_VERSION, ROLLOUT, DATABASE_INSTANCE, PLAN)

BY_KIND: dict[str, Kind] = {kind.kind: kind for kind in KINDS}
