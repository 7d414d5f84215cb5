"""The dry run of a version: what its migrations do to a scratch copy of the blueprint, before any tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from tenantry_crds.rollout import RolloutSpec
from tenantry_crds.rollout_policy import OnFailure
from tenantry_operator import conditions
from tenantry_operator.cache import Key
from tenantry_operator.context import BLUEPRINT_VERSIONS, Context
from tenantry_operator.engines.base import Chain, Structure
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.instances.hibernation import is_asleep
from tenantry_operator.rollouts.members import followers, is_meant
from tenantry_operator.tenants.view import placements_of

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


async def rehearse(context: Context, blueprint: str, spec: RolloutSpec, tenants: Iterable[Object]) -> None:
    """Applies a version to a scratch copy of the blueprint and drops it, unless that was done before.

    The copy begins at the version that most tenants have, and goes back there when the rollout promises
    that. It is made on the server of one of them.

    :param blueprint: ``<namespace>/<name>``.
    :raises Stalled: DryRunFailed, with the migration and line.
    :raises Retryable: when the server cannot be reached.
    """
    found = [obj for obj in context.versions.all("blueprint", blueprint) if obj["spec"]["version"] == spec.version]
    if not found:
        raise Waiting("BlueprintVersionNotFound", f"blueprint {blueprint} has no version {spec.version}: apply it")
    obj, chain = found[0], await context.book.chain(blueprint, spec.version)
    known = (obj.get("status") or {}).get("dryRun") or {}
    start, home = _start(spec, tenants, lambda key: is_asleep(context.instances.get(key)))
    if home is None or (known.get("result"), known.get("digest")) == ("Passed", chain.digest):
        return
    chains = await _chains(context, blueprint, spec, start, chain)
    context.keep_awake(home)
    server = await context.servers.get(home)
    problem: ReconcileError | None = None
    found_out: Mapping[str, Structure] = {}
    try:
        found_out = await server.engine.rehearse(
            scratch_copy(context.installation, blueprint, server.access.engine), chains
        )
    except Stalled as error:
        problem = error
    outcome = {
        "result": "Passed" if problem is None else "Failed",
        "message": "" if problem is None else problem.message[:2048],
        "instance": home[1],
        "digest": chain.digest,
        "finishedAt": conditions.timestamp(),
    }
    if {**known, "finishedAt": ""} != {**outcome, "finishedAt": ""}:
        status = {**(obj.get("status") or {}), "dryRun": outcome}
        await context.write_status(BLUEPRINT_VERSIONS, context.versions, obj, status)
    await context.expectations.take(server, blueprint, {c.version: c.digest for c in chains}, found_out)
    if problem is not None:
        raise Stalled("DryRunFailed", f"on a scratch copy, before any tenant was touched: {problem.message}")


def _start(
    spec: RolloutSpec, tenants: Iterable[Object], sleeps: Callable[[Key], bool]
) -> tuple[str | None, Key | None]:
    """The version that most of the tenants have, and the server of one of them: one that is awake, if there is."""
    counts: dict[str, int] = {}
    home: Key | None = None
    for tenant in tenants:
        if not is_meant(spec, tenant):
            continue
        for name, record in followers(tenant, spec.blueprint):
            version = record.get("version")
            if version:
                counts[version] = counts.get(version, 0) + 1
                if home is None or sleeps(home):
                    home = placements_of(tenant).get(name) or home
    most = max(counts, key=lambda version: (counts[version], version)) if counts else None
    return most, home


async def _chains(
    context: Context, blueprint: str, spec: RolloutSpec, start: str | None, goal: Chain
) -> list[Chain]:
    if start is None or start == spec.version:
        return [goal]
    try:
        before = await context.book.chain(blueprint, start)
    except (Waiting, Stalled) as error:
        _log.info("the dry run begins with an empty database", blueprint=blueprint, why=str(error))
        return [goal]
    back = [before] if spec.on_failure is OnFailure.ROLL_BACK else []
    return [before, goal, *back]
