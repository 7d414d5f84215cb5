"""Values deep within objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]


def dig(obj: Mapping[str, Any], path: Path) -> Any:
    """What is at a path; None when nothing is."""
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def put(obj: Mapping[str, Any], path: Path, value: Any) -> Object:
    """An object with another value at a path; the object itself stays as it is."""
    name, *rest = path
    return {**obj, name: put(obj.get(name) or {}, tuple(rest), value) if rest else value}
