"""The shared instance ``pool-a``: the cluster's PostgreSQL, as Tenantry is told about it."""

from __future__ import annotations

from typing import Any

from tenantry_local.chart import MANAGER, NAMESPACE
from tenantry_local.kubectl import Kubectl
from tenantry_local.postgres import ADMIN, Postgres

NAME = "pool-a"
REGION = "eu-central-1"
"""One of the regions that the facade knows."""
CAPACITY = 100_000
"""Tenants. No real server is meant to hold as many; benchmarks try."""


def objects(postgres: Postgres) -> list[dict[str, Any]]:
    """The Secret with the operator's login, and the DatabaseInstance that names it."""
    secret = f"{NAME}-admin"
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret, "namespace": NAMESPACE},
            "type": "Opaque",
            "stringData": {"username": ADMIN, "password": postgres.admin_password},
        },
        {
            "apiVersion": "tenantry.dev/v1alpha1",
            "kind": "DatabaseInstance",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "engine": "PostgreSQL",
                "role": "Shared",
                "region": REGION,
                "capacity": {"tenants": CAPACITY},
                "external": {"host": "127.0.0.1", "port": postgres.port, "adminSecret": {"name": secret}},
            },
        },
    ]


def apply(postgres: Postgres, kubectl: Kubectl) -> None:
    """Registers the server with Tenantry; changes nothing when it is registered."""
    kubectl.apply(objects(postgres), manager=MANAGER)
