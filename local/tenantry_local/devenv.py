"""``.local/dev.env``: where the cluster is and how to get in, for shells and tests."""

from __future__ import annotations

import shlex

from tenantry_local.paths import Paths, write_private
from tenantry_local.postgres import Postgres
from tenantry_local.state import State

ADMIN_EMAIL = "admin@tenantry.example"


def variables(paths: Paths, state: State, postgres: Postgres) -> dict[str, str]:
    """The lines of the file. ``DATABASE_ADMIN_URL`` is the superuser's: for people and tests."""
    return {
        "KUBECONFIG": str(paths.kubeconfig),
        "TENANTRY_API_URL": f"http://127.0.0.1:{state.port('api')}",
        **facade_variables(state),
        "DATABASE_ADMIN_URL": postgres.superuser_dsn(),
    }


def facade_variables(state: State) -> dict[str, str]:
    """The facade's administrator and its signing key: what it is started with."""
    return {
        "TENANTRY_ADMIN_EMAIL": ADMIN_EMAIL,
        "TENANTRY_ADMIN_PASSWORD": state.secret("api-admin-password"),
        "TENANTRY_ADMIN_TOKEN": state.secret("api-admin-token"),
        "TENANTRY_JWT_SECRET": state.secret("api-jwt"),
    }


def write(paths: Paths, state: State, postgres: Postgres) -> None:
    """Writes the file; ``set -a; . .local/dev.env; set +a`` puts it into a shell."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables(paths, state, postgres).items()]
    write_private(paths.dev_env, "".join(lines))
