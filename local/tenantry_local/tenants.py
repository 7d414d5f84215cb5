"""Tenants as the demo and the tests see them: their state, their Secrets, and what their logins may do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl


@dataclass(frozen=True, slots=True)
class TenantView:
    """What a Tenant says about itself, and where its first database is."""

    name: str
    state: str
    phase: str
    ready: bool
    message: str
    isolation: str
    instance: str
    database: str
    schema: str
    version: str
    secret: str

    @classmethod
    def of(cls, tenant: Mapping[str, Any]) -> TenantView:
        """A Tenant as kubectl gives it."""
        spec, status = tenant["spec"], tenant.get("status") or {}
        conditions = {c["type"]: c for c in status.get("conditions") or []}
        current = status.get("observedGeneration") == tenant["metadata"]["generation"]
        ready = conditions.get("Ready", {})
        # The reason why something is stuck is more telling than that it is not ready.
        stalled = conditions.get("Stalled", {})
        telling = stalled if stalled.get("status") == "True" else ready
        found = (status.get("databases") or [{}])[0]

        def text(key: str) -> str:
            return str(found.get(key) or "")

        return cls(
            name=str(tenant["metadata"]["name"]),
            state=str(spec.get("state", "Active")),
            phase=str(status.get("phase") or "Waiting"),
            ready=current and ready.get("status") == "True",
            message=str(telling.get("message", "")),
            isolation=text("isolation"),
            instance=text("instance"),
            database=text("database"),
            schema=text("schema"),
            version=text("version"),
            secret=text("secret"),
        )


def observe_tenants(kubectl: Kubectl, namespace: str) -> list[TenantView]:
    """The tenants of a namespace, by name."""
    return [TenantView.of(item) for item in kubectl.get("tenants.tenantry.dev", "-n", namespace)["items"]]


def wait_for_tenants(
    kubectl: Kubectl,
    namespace: str,
    done: Callable[[TenantView], bool],
    *,
    timeout: float = 120,
    show: Callable[[list[TenantView]], None] = lambda _: None,
) -> list[TenantView]:
    """Waits until every tenant of a namespace is as wanted; returns them.

    :param timeout: seconds.
    :param show: told the tenants every time they are looked at.
    :raises LocalError: when the time is over, with what the tenants say.
    """
    deadline = time.monotonic() + timeout
    while True:
        tenants = observe_tenants(kubectl, namespace)
        show(tenants)
        if tenants and all(done(tenant) for tenant in tenants):
            return tenants
        if time.monotonic() > deadline:
            lines = [f"  {t.name}: {t.phase}. {t.message}" for t in tenants if not done(t)]
            raise LocalError(f"after {timeout:.0f} s these tenants are not there yet:\n" + "\n".join(lines))
        time.sleep(0.3)


def try_login(uri: str) -> str | None:
    """Logs in; returns None when that works, else what the server says."""
    try:
        psycopg.connect(uri, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        return server_message(error)
    return None


def try_statement(uri: str, statement: sql.Composed) -> str | None:
    """Logs in and runs a statement; returns None when that works, else what the server says."""
    try:
        with psycopg.connect(uri, connect_timeout=10) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return server_message(error)
    return None


def server_message(error: psycopg.Error) -> str:
    """What the server says, without the host and port that libpq puts before a refused login."""
    if error.diag.message_primary:
        return error.diag.message_primary
    lines = str(error).strip().splitlines() or [""]
    fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
    return fatal[0] if fatal else lines[-1]
