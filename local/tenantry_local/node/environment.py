"""A container's variables, from its pod and the Secrets and ConfigMaps it names. Pure."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantry_crds.quantities import parse_quantity
from tenantry_local.errors import LocalError
from tenantry_local.node.translate import expand

Object = Mapping[str, Any]
NODE = "local"
HOST_ADDRESS = "127.0.0.1"
_ENTRY = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class Missing(LocalError):
    """Something a container names is not there (yet)."""

    def __init__(self, reference: Reference, message: str, seen: Object | None = None) -> None:
        super().__init__(message)
        self.reference = reference
        self.version: str | None = seen["metadata"]["resourceVersion"] if seen else None
        """Of the object that lacks something; None when there is no object."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An object of the pod's namespace that the pod names."""

    kind: str
    """``Secret`` or ``ConfigMap``."""
    name: str
    optional: bool = field(default=False, compare=False)


Found = Mapping[Reference, Object | None]
"""The objects; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class Variables:
    """A container's variables."""

    values: dict[str, str]
    given: frozenset[str]
    """Names of those that come from a Secret or ConfigMap."""


def references(container: Object) -> set[Reference]:
    """What a container's variables come from."""
    result: set[Reference] = set()
    for source in container.get("envFrom") or []:
        for key, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if key in source:
                result.add(Reference(kind, source[key]["name"], bool(source[key].get("optional"))))
    for entry in container.get("env") or []:
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            reference = (entry.get("valueFrom") or {}).get(key)
            if reference:
                result.add(Reference(kind, reference["name"], bool(reference.get("optional"))))
    return result


def variables(pod: Object, container: Object, address: str, found: Found, base: Mapping[str, str]) -> Variables:
    """The container's variables.

    :param base: what the image and the node set.
    :raises Missing: when an object or a key of it is not there.
    """
    values, given = dict(base), set[str]()
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key not in source:
                continue
            reference = Reference(kind, source[key]["name"], bool(source[key].get("optional")))
            prefix = source.get("prefix") or ""
            all_of_it = texts(content_of(reference, namespace, found))
            values |= {prefix + name: content for name, content in all_of_it.items()}
            given |= {prefix + name for name in all_of_it}
    for entry in container.get("env") or []:
        name, source = entry["name"], entry.get("valueFrom")
        if source is None:
            values[name] = expand(entry.get("value") or "", values)
            given.discard(name)
            continue
        if "fieldRef" in source:
            values[name] = field_value(pod, source["fieldRef"]["fieldPath"], address)
            continue
        if "resourceFieldRef" in source:
            values[name] = resource_value(container, source["resourceFieldRef"])
            continue
        content = _key(source, namespace, found)
        if content is not None:
            values[name] = content
            given.add(name)
    return Variables(values, frozenset(given))


def content_of(reference: Reference, namespace: str, found: Found) -> dict[str, bytes]:
    """The data of a Secret or ConfigMap; empty when it is optional and not there.

    :raises Missing: when it is not there.
    """
    value = found.get(reference)
    if value is None:
        if reference.optional:
            return {}
        raise Missing(reference, f"{reference.kind.lower()} {namespace}/{reference.name} not found")
    if reference.kind == "Secret":
        return {key: base64.b64decode(text) for key, text in (value.get("data") or {}).items()}
    result = {key: str(text).encode() for key, text in (value.get("data") or {}).items()}
    return result | {key: base64.b64decode(text) for key, text in (value.get("binaryData") or {}).items()}


def texts(content: Mapping[str, bytes]) -> dict[str, str]:
    """Data as the values of variables."""
    return {key: value.decode(errors="surrogateescape") for key, value in content.items()}


def field_value(pod: Object, path: str, address: str) -> str:
    """A field of the pod, as the downward API gives it.

    :raises LocalError: when the downward API has no such field.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    found = _ENTRY.fullmatch(path)
    if found:
        return str((metadata.get(found[1]) or {}).get(found[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": NODE,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.hostIP": HOST_ADDRESS,
        "status.hostIPs": HOST_ADDRESS,
        "status.podIP": address,
        "status.podIPs": address,
    }
    if path not in fields:
        raise LocalError(f"the downward API has no field {path}")
    return str(fields[path])


def resource_value(container: Object, reference: Object) -> str:
    """A container's limit or request; the machine's whole where it has none."""
    kind, _, name = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    thousandths = 1000 if name == "cpu" else 1
    if value is None:
        whole = {"cpu": (os.cpu_count() or 1) * 1000, "memory": memory()}
        amount = whole.get(name, 0)
    else:
        amount = _amount(str(value), thousandths)
    divisor = str(reference.get("divisor") or "1")
    return str(math.ceil(amount / max(_amount("1" if divisor == "0" else divisor, thousandths), 1)))


def memory() -> int:
    """This machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _amount(value: str, thousandths: int) -> int:
    if value.endswith("m"):
        return max(int(value[:-1]) * thousandths // 1000, 1)
    if thousandths != 1:
        return math.ceil(float(value) * thousandths)
    return parse_quantity(value)


def _key(source: Object, namespace: str, found: Found) -> str | None:
    for field_name, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        entry = source.get(field_name)
        if entry is None:
            continue
        reference = Reference(kind, entry["name"], bool(entry.get("optional")))
        content = texts(content_of(reference, namespace, found))
        if entry["key"] in content:
            return content[entry["key"]]
        if reference.optional:
            return None
        message = f"couldn't find key {entry['key']} in {kind} {namespace}/{entry['name']}"
        raise Missing(reference, message, found.get(reference))
    raise LocalError(f"this node does not know variables from {', '.join(source)}")
