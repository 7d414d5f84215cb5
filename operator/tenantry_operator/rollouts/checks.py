"""What must be true before a rollout begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenantry_crds.rollout import RolloutSpec
from tenantry_crds.rollout_policy import OnFailure
from tenantry_operator.blueprints.book import Book
from tenantry_operator.engines.postgres.path import missing_rollbacks
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.rollouts.members import followers, is_meant

Object = dict[str, Any]


async def check_rollbacks(book: Book, blueprint: str, spec: RolloutSpec, tenants: Iterable[Object]) -> None:
    """Sees to it that every way back is there that a rollout promises, or is about to take.

    :param blueprint: ``<namespace>/<name>``.
    :raises Stalled: RollbackMissing, with the migrations that lack it.
    :raises Waiting: when the version is not there.
    """
    goal = await book.chain(blueprint, spec.version)
    versions = {
        record["version"]
        for tenant in tenants
        if is_meant(spec, tenant)
        for _, record in followers(tenant, spec.blueprint)
        if record.get("version")
    }
    missing: dict[str, None] = {}
    for version in sorted(versions - {spec.version}):
        try:
            start = await book.chain(blueprint, version)
        except (Waiting, Stalled):
            continue  # a tenant that is on a version nobody knows fails by itself, and says why
        ways = [(start, goal)]
        if spec.on_failure is OnFailure.ROLL_BACK:
            ways.append((goal, start))
        for here, there in ways:
            missing |= {f"{m.name} of version {m.version}": None for m in missing_rollbacks(here, there)}
    if missing:
        why = (
            "onFailure: RollBack promises a way back"
            if spec.on_failure is OnFailure.ROLL_BACK
            else f"going to version {spec.version} means going back"
        )
        raise Stalled(
            "RollbackMissing",
            f"{why}, and these migrations have no rollback: {', '.join(missing)}; make a new version that has "
            "it, or choose onFailure: Pause",
        )
