"""The Secrets of administrators: read, made once, and never made again while there is data."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any

from tenantry_crds.database_instance import Tls, TlsMode
from tenantry_operator import telemetry
from tenantry_operator.errors import Retryable, Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.instances.manifests.design import labels_of
from tenantry_operator.instances.provider import Instance
from tenantry_operator.kube import SECRETS, Conflict, KubeClient, NotFound

Object = dict[str, Any]

CERTIFICATES = ("ca.crt", "tls.crt", "tls.key")

_SSLMODES = {
    TlsMode.DISABLE: "disable",
    TlsMode.PREFER: "prefer",
    TlsMode.REQUIRE: "require",
    TlsMode.VERIFY_CA: "verify-ca",
    TlsMode.VERIFY_FULL: "verify-full",
}


def sslmode(tls: Tls | None, values: Mapping[str, str]) -> str:
    """How far connections are protected, in libpq's words."""
    mode = tls.mode if tls is not None else None
    if mode is None:
        mode = TlsMode.VERIFY_FULL if "ca.crt" in values else TlsMode.PREFER
    return _SSLMODES[mode]


def certificates(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The certificates in a Secret."""
    return tuple((name, values[name]) for name in CERTIFICATES if values.get(name))


async def read(
    kube: KubeClient, instance: Instance, name: str, keys: tuple[str, ...] = ("username", "password")
) -> tuple[dict[str, str], str]:
    """The values of an administrator's Secret, and its version.

    :raises Waiting: SecretNotFound, SecretIncomplete.
    :raises Stalled: SecretInvalid.
    """
    where = f"Secret {instance.namespace}/{name}, the adminSecret of {instance.what},"
    try:
        secret = await kube.get(SECRETS, instance.namespace, name)
    except NotFound:
        raise Waiting("SecretNotFound", f"{where} is not there: create it") from None
    return decode(secret, where, keys), secret["metadata"]["resourceVersion"]


def decode(secret: Object, where: str, keys: tuple[str, ...]) -> dict[str, str]:
    """The values of a Secret as text.

    :raises Waiting: SecretIncomplete.
    :raises Stalled: SecretInvalid.
    """
    values = {}
    for entry, value in (secret.get("data") or {}).items():
        try:
            values[entry] = b64decode(value).decode()
        except ValueError:
            raise Stalled("SecretInvalid", f"{where} has no text under {entry}: mend it") from None
    missing = [entry for entry in keys if not values.get(entry)]
    if missing:
        raise Waiting("SecretIncomplete", f"{where} lacks {' and '.join(missing)}: add it")
    return values


async def ensure(
    kube: KubeClient,
    instance: Instance,
    name: str,
    make: Callable[[], Mapping[str, str]],
    *,
    data: str | None,
    keys: tuple[str, ...],
) -> None:
    """Makes the Secret of a new server.

    The Secret is made before anything that data could be on. So where there is data and no Secret, it was lost,
    and another password would be of no use: the server has the old one. And where there is data, a Secret of this
    name is the one that was restored, whoever made it.

    :param make: the values of a new one.
    :param data: what holds the data, in words; None: there is none.
    :raises Stalled: AdminSecretLost; NameTaken, when another's Secret has the name.
    """
    where = f"Secret {instance.namespace}/{name}, of the administrator of {instance.what},"
    labels = labels_of(instance.name)
    try:
        secret = await kube.get(SECRETS, instance.namespace, name)
    except NotFound:
        if data is not None:
            raise Stalled(
                "AdminSecretLost",
                f"{where} is gone, and {data} has data that its password is for. Restore the Secret, with the "
                f"keys {', '.join(keys)}; nothing is made in its place",
            ) from None
        telemetry.api_writes.labels("create", "secrets").inc()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": instance.namespace, "labels": labels},
            "type": "Opaque",
            "stringData": dict(make()),
        }
        try:
            await kube.create(SECRETS, instance.namespace, body)
        except Conflict:
            raise Retryable("SecretChanging", f"{where} was made by somebody else; looking again") from None
        reached("admin-secret-written")
        return
    if data is None and not _is_ours(secret, labels):
        raise Stalled("NameTaken", f"{where} was not made for it and is left alone: rename or delete it")
    decode(secret, where, keys)
    if not _is_ours(secret, labels):
        await _adopt(kube, instance, secret, labels)


async def _adopt(kube: KubeClient, instance: Instance, secret: Object, labels: Mapping[str, str]) -> None:
    """One that was restored by hand, without labels, goes with the server as the one before would have."""
    meta = secret["metadata"]
    body = {**secret, "metadata": {**meta, "labels": {**(meta.get("labels") or {}), **labels}}}
    telemetry.api_writes.labels("update", "secrets").inc()
    try:
        await kube.replace(SECRETS, instance.namespace, meta["name"], body)
    except (Conflict, NotFound):
        raise Retryable(
            "SecretChanging", f"Secret {instance.namespace}/{meta['name']} changed just now; looking again"
        ) from None


async def remove(kube: KubeClient, instance: Instance, name: str) -> None:
    """Deletes the Secret, if it was made for the instance."""
    try:
        secret = await kube.get(SECRETS, instance.namespace, name)
    except NotFound:
        return
    if _is_ours(secret, labels_of(instance.name)):
        telemetry.api_writes.labels("delete", "secrets").inc()
        await kube.delete(SECRETS, instance.namespace, name, uid=secret["metadata"]["uid"])


def _is_ours(secret: Object, labels: Mapping[str, str]) -> bool:
    found = secret["metadata"].get("labels") or {}
    return all(found.get(name) == value for name, value in labels.items())
