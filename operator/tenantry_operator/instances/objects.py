"""Objects that the operator makes for servers: created, kept as rendered, and removed, if they are its own."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import structlog

from tenantry_operator import telemetry
from tenantry_operator.cache import Key, Store, key_of
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.instances.manifests.design import labels_of
from tenantry_operator.instances.manifests.paths import dig, put
from tenantry_operator.instances.manifests.render import PODS, RENDERED, Rendered
from tenantry_operator.instances.provider import Instance
from tenantry_operator.kube import (
    NAMESPACE_ENDS,
    ApiError,
    Conflict,
    KubeClient,
    NotFound,
    Resource,
    merge_patch,
)

Object = dict[str, Any]
_log = structlog.get_logger(__name__)

_LOOK_AGAIN = 300.0
"""Seconds for which an object that is not watched is taken to be as it was."""


_REFUSED = frozenset({400, 403, 422})
"""Statuses that say that the object is wrong, or not allowed; an admission webhook may use any of them."""

_QUOTED = re.compile(r'"(?:[^"\\]|\\.){200,}"')
"""What the API server quotes in full: to a patch that it cannot read it says the whole object."""

_QUANTITY = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>[mkMGTPE]|[KMGTPE]i)?")
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)}
_UNITS |= {letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", start=2)}
_UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}


def covers(found: Any, wanted: Any) -> bool:
    """Whether an object has all that is wanted; what the API server fills in besides does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            covers(found.get(name), value) for name, value in wanted.items() if value not in ({}, [], None)
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(covers(one, other) for one, other in zip(found, wanted, strict=True))
        )
    # What is left out has its zero value: the API server does not keep "false" and "0" everywhere.
    return found == wanted or (found is None and wanted in (False, 0, "")) or _same_quantity(found, wanted)


def _same_quantity(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return False
    one, other = _quantity(found), _quantity(wanted)
    return one is not None and one == other


def _quantity(value: Any) -> Decimal | None:
    """A quantity of a resource: the API server writes "0.5" as "500m"."""
    text = str(value) if isinstance(value, int | str) else ""
    match = _QUANTITY.fullmatch(text)
    return Decimal(match["number"]) * _UNITS[match["unit"] or ""] if match else None


class Objects:
    """Makes objects and keeps them as rendered; an object that is as it should be costs no write.

    :param stores: by resource, what is watched. The others are read, now and then.
    """

    def __init__(self, kube: KubeClient, stores: Mapping[Resource, Store]) -> None:
        self._kube = kube
        self._stores = stores
        self._looked: dict[tuple[Resource, Key], tuple[str, float]] = {}
        self._futile: dict[tuple[Resource, Key], str] = {}

    async def find(self, resource: Resource, key: Key) -> Object | None:
        """An object as the API server has it."""
        try:
            return await self._kube.get(resource, *key)
        except NotFound:
            return None

    async def keep(self, instance: Instance, rendered: Rendered, *, always: bool = False) -> Object | None:
        """Makes an object, or mends it.

        :param always: look at it, even if it was looked at lately.
        :returns: the object; None when it was looked at lately and need not be again.
        :raises Stalled: NameTaken, when another's object has its name; ObjectRefused.
        """
        resource, wanted = rendered.resource, rendered.body
        key = key_of(wanted)
        mark = wanted["metadata"]["annotations"][RENDERED]
        store = self._stores.get(resource)
        now = time.monotonic()
        if store is None and not always:
            before, at = self._looked.get((resource, key), ("", 0.0))
            if before == mark and now - at < _LOOK_AGAIN:
                return None
        found = store.get(key) if store is not None else None
        if found is None:
            found = await self.find(resource, key)
        if found is None:
            found = await self._create(instance, rendered)
        check_own(instance, resource, found)
        if "deletionTimestamp" in found["metadata"]:
            raise Retryable("ObjectChanging", f"{resource.kind} {'/'.join(key)} is being deleted, and made again")
        if not covers(found, changeable(rendered)):
            found = await self._mend(instance, rendered, found, mark)
        self._looked[resource, key] = (mark, now)
        return found

    async def _create(self, instance: Instance, rendered: Rendered) -> Object:
        resource, wanted = rendered.resource, rendered.body
        telemetry.api_writes.labels("create", resource.plural).inc()
        namespace, name = key_of(wanted)
        try:
            made = await self._kube.create(resource, namespace, wanted, strict=bool(rendered.given))
        except Conflict:
            raise Retryable(
                "ObjectChanging", f"{resource.kind} {namespace}/{name} was made by somebody else just now"
            ) from None
        except ApiError as error:
            raise _refused(error, instance, rendered) from error
        self._remember(resource, made)
        return made

    async def check(self, instance: Instance, rendered: Rendered) -> None:
        """Asks whether the API server would take an object, before the one that is there goes for it.

        :raises Stalled: ObjectRefused.
        """
        resource, body = rendered.resource, rendered.body
        try:
            await self._kube.create(resource, instance.namespace, body, strict=bool(rendered.given), dry_run=True)
        except Conflict:
            return  # it is looked at first, and only then found to be there
        except ApiError as error:
            raise _refused(error, instance, rendered) from error

    async def _mend(self, instance: Instance, rendered: Rendered, found: Object, mark: str) -> Object:
        resource, wanted = rendered.resource, changeable(rendered)
        key = key_of(wanted)
        known = (found["metadata"].get("annotations") or {}).get(RENDERED)
        if known == mark and self._futile.get((resource, key)) == mark:
            return found  # somebody, such as an admission webhook, changes it each time
        patch = change(rendered, found)
        telemetry.api_writes.labels("patch", resource.plural).inc()
        _log.info("an object is brought to what it should be", kind=resource.kind, object="/".join(key))
        try:
            written = await self._kube.patch(resource, *key, patch, strict=bool(rendered.given))
        except Conflict as error:
            raise Retryable("ObjectChanging", f"{resource.kind} {'/'.join(key)} changed: {error}") from None
        except ApiError as error:
            raise _refused(error, instance, rendered) from error
        self._remember(resource, written)
        if not covers(written, wanted):
            _log.warning("an object does not stay as it is written", kind=resource.kind, object="/".join(key))
            self._futile[resource, key] = mark
        return written

    def _remember(self, resource: Resource, obj: Object) -> None:
        store = self._stores.get(resource)
        if store is not None:
            store.put(obj)

    async def remove(self, instance: Instance, resource: Resource, name: str, *, orphan: bool = False) -> bool:
        """Deletes an object of the instance.

        :returns: whether it is still there.
        """
        found = await self.find(resource, (instance.namespace, name))
        if found is None or not is_own(instance, found):
            return False
        if "deletionTimestamp" not in found["metadata"]:
            telemetry.api_writes.labels("delete", resource.plural).inc()
            await self._kube.delete(
                resource, instance.namespace, name, uid=found["metadata"]["uid"], orphan=orphan
            )
            self._looked.pop((resource, (instance.namespace, name)), None)
            found = await self.find(resource, (instance.namespace, name))
        return found is not None


def changeable(rendered: Rendered) -> Object:
    """The part of an object that can be changed once it is there."""
    if rendered.mutable is None:
        return rendered.body
    spec = {name: value for name, value in rendered.body["spec"].items() if name in rendered.mutable}
    return {**rendered.body, "spec": spec}


def change(rendered: Rendered, found: Object) -> Object:
    """The JSON merge patch that brings an object to what is wanted of it, from the version that was found."""
    wanted = changeable(rendered)
    meta = found["metadata"]
    patch: Object = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": meta["resourceVersion"]}}
    earlier = (meta.get("annotations") or {}).get(PODS)
    for path in rendered.pods:
        before, after = dig(found, path), dig(wanted, path)
        if after is None and ".".join(path) in (earlier or "").split(","):
            patch = put(patch, path, None)
        elif isinstance(after, Mapping) and isinstance(before, Mapping):
            # In a merge patch, what an object had stays unless it is taken away by name.
            patch = put(patch, path, merge_patch(before, after) or {})
    if earlier is not None and not rendered.given:
        patch = put(patch, ("metadata", "annotations", PODS), None)
    return patch


def _refused(error: ApiError, instance: Instance, rendered: Rendered) -> ReconcileError:
    """What it means that the API server does not take an object: what does not pass by itself stalls."""
    if error.status not in _REFUSED or error.reason == NAMESPACE_ENDS:
        return error
    said = _QUOTED.sub('"…"', error.message.partition(": ")[2] or error.message)
    return Stalled(
        "ObjectRefused",
        f"{instance.what}: the API server refuses its {rendered.resource.kind}: {said}; mend the spec, or where "
        "it leaves something out the chart's instances.pods or instances.defaults",
    )


def fits(rendered: Rendered, found: Object) -> bool:
    """Whether an object has what cannot be changed as wanted; otherwise it must be made again."""
    mutable = rendered.mutable or frozenset()
    fixed = {name: value for name, value in rendered.body.get("spec", {}).items() if name not in mutable}
    return covers(found.get("spec") or {}, fixed)


def is_own(instance: Instance, found: Object) -> bool:
    """Whether an object was made for the instance, or for one of its name before it."""
    meta = found["metadata"]
    labels = meta.get("labels") or {}
    owners: Sequence[Object] = meta.get("ownerReferences") or []
    foreign = [one for one in owners if one.get("controller") and one.get("kind") != "DatabaseInstance"]
    ours = all(labels.get(name) == value for name, value in labels_of(instance.name).items())
    return ours and not foreign


def check_own(instance: Instance, resource: Resource, found: Object) -> None:
    """:raises Stalled: NameTaken, when an object was not made for the instance."""
    if not is_own(instance, found):
        name = found["metadata"]["name"]
        raise Stalled(
            "NameTaken",
            f"{resource.kind} {instance.namespace}/{name} was not made for {instance.what} and is left alone: "
            "rename or delete it, or give the instance another name",
        )
