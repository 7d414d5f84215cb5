"""The Secrets of tenants' databases: written, read, and held against the logins on the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tenantry_crds.common import ROTATE_ANNOTATION
from tenantry_operator import telemetry
from tenantry_operator.cache import Store
from tenantry_operator.context import Context
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import LoginState, Names
from tenantry_operator.engines.binding import Binding
from tenantry_operator.errors import Retryable, Stalled
from tenantry_operator.kube import SECRETS, Conflict, NotFound
from tenantry_operator.names import MANAGED_BY, MANAGED_BY_LABEL, TENANT_LABEL
from tenantry_operator.tenants import credentials
from tenantry_operator.tenants.credentials import SecretSummary, Turn
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


async def _read(context: Context, view: TenantView, name: str) -> tuple[SecretSummary, str] | None:
    """A Secret of the tenant's as the API server has it, with its password; None when there is none.

    :raises Stalled: SecretNameTaken, when it is not the tenant's.
    """
    try:
        secret = await context.kube.get(SECRETS, view.namespace, name)
    except NotFound:
        context.secrets.drop((view.namespace, name))
        return None
    _check_owner(view, secret)
    remember(context.secrets, secret)
    return credentials.summarise(secret), credentials.decode_secret(secret.get("data") or {}).get("password", "")


def _check_owner(view: TenantView, secret: Object) -> None:
    labels = secret["metadata"].get("labels") or {}
    if (labels.get(MANAGED_BY_LABEL), labels.get(TENANT_LABEL)) != (MANAGED_BY, view.name):
        raise Stalled(
            "SecretNameTaken",
            f"Secret {view.namespace}/{secret['metadata']['name']} is not Tenantry's: rename or delete it, it is "
            "left alone",
        )


async def whose_turn(
    context: Context, view: TenantView, entry: str, names: Names, logins: Sequence[LoginState]
) -> tuple[Turn, str | None]:
    """Which login is to work, and the password to set on it; None: it has the one in the Secret.

    Before the password of a login that exists is changed, the Secret is read: it may hold what was written
    by a request whose answer got lost, and a password that applications have must not stop working.
    """
    name = credentials.secret_name(view.name, entry)

    def turn_with(secret: SecretSummary | None) -> Turn:
        return credentials.turn(
            names,
            logins,
            secret,
            rotation=view.annotation(ROTATE_ANNOTATION),
            now=datetime.now(UTC),
            retire_after=context.settings.retire_after,
            lifetime=credentials.password_lifetime(view.obj["metadata"]["uid"], view.spec.rotation_days),
        )

    secret = summary(context, view, name)
    turn = turn_with(secret)
    if not logins and turn.new_password:
        return turn, credentials.new_password()
    if secret is not None and not turn.new_password and _has_password_of(secret, logins):
        return turn, None
    found = await _read(context, view, name)
    turn = turn_with(found[0] if found is not None else None)
    if found is None or turn.new_password:
        return turn, credentials.new_password()
    secret, password = found
    return turn, None if _has_password_of(secret, logins) else password


def _has_password_of(secret: SecretSummary, logins: Sequence[LoginState]) -> bool:
    """Whether the login in a Secret exists, with the password in it as far as is known."""
    return any(
        login.name == secret.username and login.fingerprint in (None, secret.fingerprint) for login in logins
    )


async def bind(
    context: Context, view: TenantView, entry: str, access: Access, names: Names, turn: Turn, password: str | None
) -> bool:
    """Writes the Secret, when it does not say what it should.

    :param password: the password of the login; None: the one in the Secret.
    :returns: whether it was written.
    :raises Stalled: SecretNameTaken, when a Secret of that name is not the tenant's.
    """
    binding = Binding.of(access, names, turn.login)
    name = credentials.secret_name(view.name, entry)
    kept = None if turn.new_password else summary(context, view, name)
    # One that an earlier Tenant of this name left would soon be collected as garbage.
    wanted = (view.obj["metadata"]["uid"], binding.digest())
    if kept is not None and (kept.owner, kept.binding_digest) == wanted:
        return False
    if password is None:
        found = await _read(context, view, name)
        if found is None or not found[0].intact:
            raise Retryable("SecretChanging", f"Secret {view.namespace}/{name} changes while it is read")
        password = found[1]
    body = credentials.render_secret(
        name,
        view.obj,
        entry,
        binding,
        password,
        rotation=view.annotation(ROTATE_ANNOTATION),
        # The age of the password.
        written_at=datetime.now(UTC) if kept is None else kept.written_at,
    )
    await _write(context, view, name, body)
    return True


async def _write(context: Context, view: TenantView, name: str, body: Object) -> None:
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
    _check_owner(view, present)
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
