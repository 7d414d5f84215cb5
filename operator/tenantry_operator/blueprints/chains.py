"""The chain of migrations that leads from an empty database to a version. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.errors import Stalled, Waiting


@dataclass(frozen=True, slots=True)
class Version:
    """A BlueprintVersion whose migrations have their texts."""

    name: str
    """``metadata.name``, for messages."""
    version: str
    previous: str | None
    migrations: tuple[Migration, ...]


def resolve(blueprint: str, version: str, versions: Mapping[str, Version]) -> Chain:
    """The chain to ``version``.

    :param blueprint: ``<namespace>/<name>``.
    :param versions: the blueprint's versions by their version.
    :raises Waiting: BlueprintVersionNotFound, when a version in the chain is not there.
    :raises Stalled: NoPath, when the chain runs in a circle.
    """
    path: list[Version] = []
    seen: set[str] = set()
    wanted: str | None = version
    needed_by = ""
    while wanted is not None:
        if wanted in seen:
            raise Stalled(
                "NoPath", f"blueprint {blueprint}: version {version} has no start: {wanted} follows itself"
            )
        seen.add(wanted)
        found = versions.get(wanted)
        if found is None:
            raise Waiting(
                "BlueprintVersionNotFound",
                f"blueprint {blueprint} has no version {wanted}{needed_by}: apply its BlueprintVersion",
            )
        path.append(found)
        needed_by = f", which {found.name} starts from"
        wanted = found.previous
    migrations = [migration for step in reversed(path) for migration in step.migrations]
    return Chain.of(blueprint, version, migrations, [step.version for step in reversed(path)])
