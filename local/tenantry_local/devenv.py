"""``.local/dev.env``: where the cluster is and how to get in, for shells and tests."""

from __future__ import annotations

import shlex

from tenantry_local import facade
from tenantry_local.paths import Paths, write_private
from tenantry_local.postgres import Postgres
from tenantry_local.state import State


def variables(paths: Paths, state: State, postgres: Postgres) -> dict[str, str]:
    """The lines of the file. ``DATABASE_ADMIN_URL`` is the superuser's: for people and tests."""
    return {
        "KUBECONFIG": str(paths.kubeconfig),
        "TENANTRY_API_URL": f"http://127.0.0.1:{state.port('api')}",
        **facade.variables(state),
        "DATABASE_ADMIN_URL": postgres.superuser_dsn(),
    }


def write(paths: Paths, state: State, postgres: Postgres) -> None:
    """Writes the file; ``set -a; . .local/dev.env; set +a`` puts it into a shell."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in variables(paths, state, postgres).items()]
    write_private(paths.dev_env, "".join(lines))
