"""Who manages which fields of an object, by its ``managedFields``. Pure.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]


def leaves(patch: Mapping[str, Any], at: Path = ()) -> Iterator[Path]:
    """The paths that a merge patch sets or removes; lists count as a whole."""
    for key, value in patch.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*at, key))
        else:
            yield (*at, key)


def owners(obj: Object, path: Sequence[str], ours: str) -> list[str]:
    """The other managers that own something at a path, sorted.

    :param path: such as ``("spec", "profile", "domain")``.
    :param ours: the manager that is not counted.
    """
    found = set()
    for entry in obj["metadata"].get("managedFields") or []:
        if entry.get("manager") == ours or entry.get("subresource"):
            continue
        if _owns(entry.get("fieldsV1") or {}, path):
            found.add(entry.get("manager") or "unknown")
    return sorted(found)


def _owns(fields: Mapping[str, Any], path: Sequence[str]) -> bool:
    for depth, key in enumerate(path):
        inner = fields.get(f"f:{key}")
        if inner is None:
            # What is atomic has no fields of its own: who owns it owns all of it.
            return depth > 1 and not fields
        fields = inner
    return True
