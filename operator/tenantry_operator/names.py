"""Words of the API that several modules share: labels, annotations, the finalizer. Pure."""

from __future__ import annotations

from typing import Final

GROUP: Final = "tenantry.dev"
FINALIZER: Final = f"{GROUP}/finalizer"

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "tenantry"
TENANT_LABEL: Final = f"{GROUP}/tenant"
DATABASE_LABEL: Final = f"{GROUP}/database"
SERVICE_LABEL: Final = f"{GROUP}/service"
"""On a Deployment or Service of a tenant: the name in ``spec.services``."""
INSTANCE_LABEL: Final = f"{GROUP}/instance"
"""On what is made for a DatabaseInstance: its name."""
BLUEPRINT_LABEL: Final = f"{GROUP}/blueprint"
"""On a Rollout that a new version made."""

RELEASED_ANNOTATION: Final = f"{GROUP}/released"
"""On a DatabaseInstance that was made for a tenant: who lets it go, so that it waits for that one no more."""
PLACEMENT_ANNOTATION: Final = f"{GROUP}/placement"
"""On a Tenant, written with the finalizer before anything is made: which instance each database is on."""
