"""PostgreSQL's pod. Pure.

The image makes a superuser, which nobody uses but the operator, once: to make the administrator that it works
with from then on, who may make databases and roles and no more. Migrations run in sessions of the administrator:
a superuser's would let them run programs on the server.
"""

from __future__ import annotations

from tenantry_operator.instances.manifests.design import (
    CONFIG,
    Design,
    Object,
    Plan,
    confined,
    mount,
    probes,
    secret_env,
)
from tenantry_operator.instances.manifests.flavours import is_alpine

PORT = 5432
SUPERUSER = "postgres"
SUPERUSER_KEY = "superuser-password"
"""In the administrator's Secret: the password of the image's superuser."""
ADMIN = "tenantry_admin"
DATA = "/var/lib/postgresql"
_WAITS = 4
"""Seconds that the startup probe waits for the server."""

SETTINGS = """\
listen_addresses = '*'
password_encryption = 'scram-sha-256'
max_connections = 200
log_destination = 'stderr'
logging_collector = off
# Statements may hold what is nobody's business.
log_statement = 'none'
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
"""


def design(plan: Plan) -> Design:
    """PostgreSQL as the only container."""
    return Design(
        port=PORT,
        user=user_of(plan.image),
        containers=(container(plan, plan.image),),
        config={"postgresql.conf": SETTINGS},
        scratch=("run", "tmp"),
    )


def user_of(image: str) -> int:
    """The user ``postgres`` of the official images."""
    return 70 if is_alpine(image) else 999


def container(plan: Plan, image: str, name: str = "server", database: str = "postgres") -> Object:
    """The container, with its data at the root of the volume ``data``.

    :param database: made at the first start.
    """
    asked = ["pg_isready", "-h", "127.0.0.1", "-p", str(PORT), "-U", SUPERUSER, "-q"]
    ready = {"exec": {"command": asked}}
    # A new server is up within a second, which is as often as probes can be repeated.
    waits = ["timeout", str(_WAITS), "sh", "-c", 'until "$@"; do sleep 0.1; done', "wait"]
    started = {"exec": {"command": [*waits, *asked]}}
    return {
        "name": name,
        "image": image,
        "args": ["postgres", "-c", f"config_file={CONFIG}/postgresql.conf"],
        "env": [
            {"name": "POSTGRES_USER", "value": SUPERUSER},
            secret_env("POSTGRES_PASSWORD", plan.secret, SUPERUSER_KEY),
            {"name": "POSTGRES_DB", "value": database},
            # Without it, whoever is in the pod is trusted, and so is FerretDB with whatever password.
            {
                "name": "POSTGRES_INITDB_ARGS",
                "value": "--auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums",
            },
            {"name": "POSTGRES_HOST_AUTH_METHOD", "value": "scram-sha-256"},
            {"name": "PGDATA", "value": f"{DATA}/pgdata"},
        ],
        "ports": [{"name": "postgresql", "containerPort": PORT, "protocol": "TCP"}],
        **probes(started, ready, ready, lasting=_WAITS),
        "securityContext": confined(),
        "volumeMounts": [
            mount("data", DATA),
            mount("config", CONFIG, read_only=True),
            mount("run", "/var/run/postgresql"),
            mount("tmp", "/tmp"),  # noqa: S108 - of the container
        ],
    }
