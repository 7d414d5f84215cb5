"""What a change of a Tenant writes, and whether it may. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from tenantry_api.ownership import leaves, owners
from tenantry_api.problems import Invalid, Owned
from tenantry_api.refusals import MANAGER
from tenantry_api.tenants import CHANGED_ANNOTATION
from tenantry_operator import conditions
from tenantry_operator.kube import merge_patch

Object = dict[str, Any]

_LARGEST_SPEC = 256 << 10


def patch_between(live: Object, wanted: Object) -> Object | None:
    """The merge patch that makes one version of a Tenant another; None: there is nothing to change.

    Status, and metadata other than labels and annotations, are not for callers.

    :raises Owned: when somebody else manages one of the fields.
    :raises Invalid: when it would be too large.
    """
    old: Object = {"spec": live["spec"], "metadata": _said(live)}
    new: Object = {"spec": _pruned(wanted["spec"]), "metadata": _said(wanted)}
    patch = merge_patch(old, new)
    if patch is not None:
        _check_owners(live, patch)
        check_size(wanted["spec"])
        if "spec" in patch:
            annotations = patch.setdefault("metadata", {}).setdefault("annotations", {})
            annotations[CHANGED_ANNOTATION] = conditions.timestamp()
    return patch


def check_size(spec: Object) -> None:
    """:raises Invalid: for a spec that would not fit with everything else that a Tenant holds."""
    if len(orjson.dumps(spec)) > _LARGEST_SPEC:
        raise Invalid(f"a tenant holds at most {_LARGEST_SPEC >> 10} KiB; make its settings smaller")


def _said(obj: Object) -> Object:
    meta = obj["metadata"]
    return {"labels": meta.get("labels") or {}, "annotations": meta.get("annotations") or {}}


def _pruned(spec: Object) -> Object:
    return {name: value for name, value in spec.items() if value is not None}


def _check_owners(live: Object, patch: Object) -> None:
    for path in leaves(patch.get("spec") or {}, ("spec",)):
        others = owners(live, path, MANAGER)
        if others:
            field = ".".join(path[1:])
            raise Owned(f"{field} is managed by {', '.join(others)}: change it there")
