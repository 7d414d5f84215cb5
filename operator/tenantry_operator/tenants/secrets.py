"""Writing and reading the Secrets of tenants' databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tenantry_operator import telemetry
from tenantry_operator.cache import Store
from tenantry_operator.context import Context
from tenantry_operator.errors import Stalled
from tenantry_operator.kube import SECRETS, Conflict, NotFound
from tenantry_operator.names import MANAGED_BY, MANAGED_BY_LABEL, TENANT_LABEL
from tenantry_operator.tenants import credentials
from tenantry_operator.tenants.credentials import Binding, SecretSummary
from tenantry_operator.tenants.view import TenantView

Object = dict[str, Any]


def remember(store: Store, secret: Object) -> bool:
    """Keeps what may be remembered of a Secret; True when it was news. No password stays in memory."""
    meta = secret["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "labels")
    return store.put(
        {
            "metadata": {name: meta[name] for name in kept if name in meta},
            "summary": credentials.summarise(secret),
        }
    )


def summary(context: Context, view: TenantView, name: str) -> SecretSummary | None:
    """What is known of a Secret of the tenant's."""
    known = context.secrets.get((view.namespace, name))
    if known is None or (known["metadata"].get("labels") or {}).get(TENANT_LABEL) != view.name:
        return None
    found: SecretSummary = known["summary"]
    return found


async def password(context: Context, view: TenantView, name: str) -> str | None:
    """The password in a Secret; None when it is gone or was tampered with."""
    try:
        secret = await context.kube.get(SECRETS, view.namespace, name)
    except NotFound:
        context.secrets.drop((view.namespace, name))
        return None
    remember(context.secrets, secret)
    if not credentials.summarise(secret).intact:
        return None
    return credentials.decode_secret(secret["data"])["password"]


async def write(
    context: Context, view: TenantView, entry: str, binding: Binding, secret_password: str, rotation: str
) -> None:
    """Creates or replaces the Secret of a database.

    :raises Stalled: SecretNameTaken, when a Secret of that name is not the tenant's.
    """
    name = credentials.secret_name(view.name, entry)
    body = credentials.render_secret(
        name, view.obj, entry, binding, secret_password, rotation=rotation, now=datetime.now(UTC)
    )
    if summary(context, view, name) is None:
        telemetry.api_writes.labels("create", "secrets").inc()
        try:
            remember(context.secrets, await context.kube.create(SECRETS, view.namespace, body))
        except Conflict:
            pass
        else:
            return
    await _replace(context, view, name, body)


async def _replace(context: Context, view: TenantView, name: str, body: Object) -> None:
    try:
        present = await context.kube.get(SECRETS, view.namespace, name)
    except NotFound:
        telemetry.api_writes.labels("create", "secrets").inc()
        remember(context.secrets, await context.kube.create(SECRETS, view.namespace, body))
        return
    labels = present["metadata"].get("labels") or {}
    if (labels.get(MANAGED_BY_LABEL), labels.get(TENANT_LABEL)) != (MANAGED_BY, view.name):
        raise Stalled(
            "SecretNameTaken",
            f"Secret {view.namespace}/{name} is not Tenantry's: rename or delete it, it is left alone",
        )
    if present.get("type") != body["type"]:
        await context.kube.delete(SECRETS, view.namespace, name, uid=present["metadata"]["uid"])
        present = {}
    telemetry.api_writes.labels("update", "secrets").inc()
    if present:
        body["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
        written = await context.kube.replace(SECRETS, view.namespace, name, body)
    else:
        written = await context.kube.create(SECRETS, view.namespace, body)
    remember(context.secrets, written)


async def remove(context: Context, view: TenantView, entry: str) -> None:
    """Deletes the Secret of a database, if it is the tenant's."""
    name = credentials.secret_name(view.name, entry)
    known = summary(context, view, name)
    if known is None:
        return
    telemetry.api_writes.labels("delete", "secrets").inc()
    await context.kube.delete(SECRETS, view.namespace, name, uid=known.uid)
    context.secrets.drop((view.namespace, name))
