"""What must be true before a rollout begins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenantry_crds.blueprint import BlueprintSpec, LintPolicy
from tenantry_crds.rollout import RolloutSpec
from tenantry_crds.rollout_policy import OnFailure
from tenantry_operator.blueprints.book import Book
from tenantry_operator.context import Context
from tenantry_operator.engines.path import missing_rollbacks
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
    versions = _versions(spec, tenants)
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


async def check_lint(context: Context, blueprint: str, spec: RolloutSpec, tenants: Iterable[Object]) -> None:
    """Under the policy ``Refuse``, sees to it that nothing is rolled out that linting finds fault with.

    :param blueprint: ``<namespace>/<name>``.
    :raises Stalled: LintRefused, for the first of the versions on the way that is refused.
    """
    namespace, _, name = blueprint.partition("/")
    obj = context.blueprints.get((namespace, name))
    if obj is None or BlueprintSpec.model_validate(obj["spec"]).effective_rollout.lint is LintPolicy.WARN:
        return
    way = (await context.book.chain(blueprint, spec.version)).versions
    starts = _versions(spec, tenants)
    # Whoever is the furthest behind goes the longest way.
    done = min((way.index(version) + 1 for version in starts if version in way), default=0)
    for version in context.versions.all("blueprint", blueprint):
        if version["spec"]["version"] in way[done:]:
            await context.linter.check(version, await context.book.parse(version))


def _versions(spec: RolloutSpec, tenants: Iterable[Object]) -> set[str]:
    """The versions that those have who are meant."""
    return {
        record["version"]
        for tenant in tenants
        if is_meant(spec, tenant)
        for _, record in followers(tenant, spec.blueprint)
        if record.get("version")
    }
