"""Migrations as lists of commands, and usage queries: what is allowed in them. Pure.

Commands are documents as MongoDB's database commands are, in (extended) JSON. There is no transaction over
them. When a command's answer was lost, it is run again: only commands that can be repeated are allowed.

Source: MongoDB manual, "Database Commands", "Update Operators".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import json_util
from bson.errors import BSONError

from tenantry_operator.engines.base import Migration
from tenantry_operator.errors import Stalled

Document = dict[str, Any]

ALLOWED = (
    "create",
    "createIndexes",
    "dropIndexes",
    "collMod",
    "drop",
    "insert",
    "update",
    "delete",
)
"""Each takes the name of a collection, and reaches no other."""
_REPEATABLE = frozenset(
    {
        "$set",
        "$unset",
        "$setOnInsert",
        "$rename",
        "$min",
        "$max",
        "$addToSet",
        "$pull",
        "$pullAll",
        "$currentDate",
    }
)
"""Update operators by which a document ends the same when they are applied twice."""
_STAGES = frozenset(
    {
        "$match",
        "$group",
        "$project",
        "$addFields",
        "$set",
        "$unset",
        "$unwind",
        "$sort",
        "$limit",
        "$skip",
        "$count",
        "$sortByCount",
        "$bucket",
        "$replaceRoot",
        "$replaceWith",
    }
)
"""Stages of usage queries: none reads another collection, writes, or runs code."""
_CODE = ("$where", "$function", "$accumulator")
_RESERVED = ("system.", "_ferretdb_", "tenantry")
"""What names of collections do not begin with: they are the server's, or the operator's."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a migration."""

    number: int
    """From 1."""
    name: str
    collection: str
    document: Document


def parse(migration: Migration) -> tuple[Command, ...]:
    """The commands of a migration.

    :raises Stalled: MigrationFailed, naming the command that is not allowed.
    """
    try:
        value = json_util.loads(migration.text)
    except (ValueError, TypeError, BSONError) as error:
        raise Stalled("MigrationFailed", f"{migration.what} is not JSON: {error}") from None
    if not isinstance(value, list):
        raise Stalled("MigrationFailed", f"{migration.what} is not a list of commands")
    return tuple(_command(migration, number, document) for number, document in enumerate(value, start=1))


def _command(migration: Migration, number: int, document: Any) -> Command:
    what = f"{migration.what}, command {number}"

    def refuse(why: str) -> Stalled:
        return Stalled("MigrationFailed", f"{what} {why}")

    if not isinstance(document, dict) or not document:
        raise refuse('is not a document such as {"create": "items"}')
    name, collection = next(iter(document.items()))
    if name not in ALLOWED:
        raise refuse(f"is {name}; allowed are {', '.join(ALLOWED)}")
    if not _is_collection(collection):
        raise refuse(f"{name} does not name a collection that a tenant may have")
    for key in document:
        if key.startswith("$") or key in {"lsid", "txnNumber", "autocommit", "writeConcern", "viewOn", "pipeline"}:
            raise refuse(f"{name} has {key}, which is not allowed")
    if contains(document, _CODE):
        raise refuse(f"{name} has code to run on the server, which is not allowed")
    _check_documents(name, document, refuse)
    return Command(number, name, collection, document)


def _check_documents(name: str, document: Document, refuse: Any) -> None:
    if name == "insert":
        documents = document.get("documents")
        if not isinstance(documents, list) or not all(isinstance(d, dict) and "_id" in d for d in documents):
            raise refuse("insert needs documents that each have an _id: without one it could not be repeated")
    if name == "update":
        updates = document.get("updates")
        if not isinstance(updates, list) or not all(isinstance(update, dict) for update in updates):
            raise refuse("update needs updates")
        for update in updates:
            _check_update(update.get("u"), refuse)


def _check_update(change: Any, refuse: Any) -> None:
    if not isinstance(change, dict):
        raise refuse("update has a pipeline, which could not be repeated: use update operators")
    for operator in change:
        if operator.startswith("$") and operator not in _REPEATABLE:
            raise refuse(f"update has {operator}, which could not be repeated")


def _is_collection(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name.encode()) <= 120
        and "$" not in name
        and "\0" not in name
        and not name.startswith(_RESERVED)
    )


def contains(value: Any, words: Sequence[str]) -> bool:
    """Whether one of the words is a key anywhere in a document."""
    if isinstance(value, Mapping):
        return any(key in words or contains(inner, words) for key, inner in value.items())
    return isinstance(value, list) and any(contains(inner, words) for inner in value)


def usage_command(query: str) -> Document:
    """The command of a usage query, which reads one collection and does nothing else.

    Either ``{"count": "users"}``, with ``query`` if it likes, or ``{"aggregate": "users", "pipeline": [...]}``.

    :raises ValueError: for anything else, with why.
    """
    try:
        document = json_util.loads(query)
    except (ValueError, TypeError, BSONError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict) or not document:
        raise ValueError('it is not a document such as {"count": "users"}')
    name, collection = next(iter(document.items()))
    allowed = {"count": {"count", "query"}, "aggregate": {"aggregate", "pipeline"}}.get(name)
    if allowed is None:
        raise ValueError(f"it is {name}; count and aggregate are allowed")
    if not _is_collection(collection):
        raise ValueError("it does not name a collection that a tenant may have")
    if not allowed.issuperset(document):
        raise ValueError(f"{name} takes {' and '.join(sorted(allowed))}, and nothing else")
    if contains(document, _CODE):
        raise ValueError("it has code to run on the server")
    if name == "aggregate":
        stages = document.get("pipeline")
        if not isinstance(stages, list) or not all(
            isinstance(stage, dict) and len(stage) == 1 for stage in stages
        ):
            raise ValueError("its pipeline is not a list of stages")
        for stage in stages:
            if not _STAGES.issuperset(stage):
                raise ValueError(f"stage {next(iter(stage))} is not one of {', '.join(sorted(_STAGES))}")
        document["cursor"] = {}
    return document


def canonical(value: Any) -> str:
    """A document as text that is the same for the same document, in whatever order its keys are.

    For comparison only: not for index keys, whose order matters.
    """
    return json.dumps(json.loads(json_util.dumps(value)), sort_keys=True, separators=(",", ":"))
