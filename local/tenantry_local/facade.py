"""The facade as it is started here: its Secret, its administrator, and the Blueprint that its contracts use."""

from __future__ import annotations

from typing import Any

import jwt

from tenantry_local.chart import MANAGER, NAMESPACE
from tenantry_local.kubectl import Kubectl
from tenantry_local.paths import CHECKOUT
from tenantry_local.state import State

SECRET = "tenantry-api-local"  # noqa: S105 - a name
ADMIN_EMAIL = "admin@tenantry.example"
BLUEPRINT = CHECKOUT / "examples" / "rest" / "app.yaml"
_NEVER = 4_102_444_800
"""When the administrator's token ends: in the year 2100. It is for a cluster on the loopback address."""


def variables(state: State) -> dict[str, str]:
    """The administrator, and the key that tokens are signed with, for ``.local/dev.env``."""
    secret = state.secret("api-jwt")
    claims = {"iss": "tenantry", "sub": ADMIN_EMAIL, "role": "SUPER_ADMIN", "exp": _NEVER}
    return {
        "TENANTRY_ADMIN_EMAIL": ADMIN_EMAIL,
        "TENANTRY_ADMIN_PASSWORD": state.secret("api-admin-password"),
        "TENANTRY_ADMIN_TOKEN": jwt.encode(claims, secret, algorithm="HS256"),
        "TENANTRY_JWT_SECRET": secret,
    }


def secret(state: State) -> dict[str, Any]:
    """The Secret that the chart's Deployment names."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "type": "Opaque",
        "stringData": {
            "jwt-secret": state.secret("api-jwt"),
            "admin-email": ADMIN_EMAIL,
            "admin-password": state.secret("api-admin-password"),
        },
    }


def apply(state: State, kubectl: Kubectl) -> None:
    """Applies both; changes nothing when they are there."""
    kubectl.apply([secret(state)], manager=MANAGER)
    if BLUEPRINT.is_file():
        kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}", "-f", str(BLUEPRINT))
