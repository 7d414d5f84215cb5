"""How a tenant's database is defined: collections, their options and validators, and indexes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bson import json_util

from tenantry_operator.engines.mongodb.accounts import Database
from tenantry_operator.engines.mongodb.commands import canonical
from tenantry_operator.engines.structure import Deviation, Structure

_OWN = ("system.", "tenantry")
"""What names of collections begin with that are no tenant's."""


async def read_structure(database: Database) -> Structure:
    """The structure of a database, with two commands a collection at most.

    :raises PyMongoError: when it cannot be read.
    """
    objects: dict[str, str] = {}
    async for found in await database.list_collections():
        name = str(found["name"])
        if name.startswith(_OWN):
            continue
        kind = str(found.get("type", "collection"))
        objects[f"{kind} {name}"] = _digest(canonical(found.get("options") or {}))
        if kind != "collection":
            continue
        async for index in await database[name].list_indexes():
            objects[f"index {name}.{index['name']}"] = _digest(_index(index))
    return Structure(_digest(json.dumps(sorted(objects.items()))), objects)


def _index(index: Mapping[str, Any]) -> str:
    """An index's definition; its keys in their order, which matters."""
    keys = [[field, direction] for field, direction in index["key"].items()]
    rest = {key: value for key, value in index.items() if key not in ("v", "ns", "key", "name")}
    return f"{json_util.dumps(keys)} {canonical(rest)}"


def compare(expected: Structure, found: Structure) -> Deviation:
    """What differs. Pure."""
    names = sorted(
        name
        for name in expected.objects.keys() | found.objects.keys()
        if expected.objects.get(name) != found.objects.get(name)
    )
    lines = tuple(f"{name}: {_words(name, expected, found)}" for name in names)
    return Deviation(
        lines, _digest(json.dumps([(name, found.objects.get(name)) for name in names])) if names else ""
    )


def _words(name: str, expected: Structure, found: Structure) -> str:
    if name not in found.objects:
        return "missing"
    return "differs" if name in expected.objects else "not expected"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
