"""What a database of a tenant should be, from blueprint, plan and tenant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tenantry_crds.blueprint import BlueprintSpec, UnsafeKeys
from tenantry_crds.common import DatabaseEngine
from tenantry_crds.plan import PlanSpec
from tenantry_operator.context import Context
from tenantry_operator.engines.base import DatabaseState, Desired, Isolation, Pace
from tenantry_operator.engines.kinds import KINDS, check_form
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.tenants import quotas
from tenantry_operator.tenants.view import Entry, TenantView

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Design:
    """What the blueprint says of a database."""

    engine: DatabaseEngine
    isolation: Isolation
    current: str
    """The version of those that follow it."""
    row_column: str
    allow_unsafe_keys: bool


def blueprint_spec(context: Context, view: TenantView, entry: Entry) -> tuple[BlueprintSpec, DatabaseEngine]:
    """The blueprint of an entry, and its engine.

    :raises Waiting: BlueprintNotFound.
    :raises Stalled: when it is none of a database.
    """
    obj = context.blueprints.get((view.namespace, entry.blueprint))
    if obj is None:
        raise Waiting(
            "BlueprintNotFound",
            f"database {entry.name}: there is no Blueprint {view.namespace}/{entry.blueprint}: apply it",
        )
    spec = BlueprintSpec.model_validate(obj["spec"])
    if spec.engine is None:
        raise Stalled(
            "NotADatabase",
            f"database {entry.name}: blueprint {entry.blueprint} is a service template; name it in spec.services, "
            "or name a blueprint with an engine here",
        )
    return spec, spec.engine


def design(context: Context, view: TenantView, entry: Entry) -> Design:
    """What an entry asks for.

    :raises Waiting, Stalled: when blueprint or version are missing or contradict themselves.
    """
    spec, engine = blueprint_spec(context, view, entry)
    known = view.known.get(entry.name, {}).get("isolation")
    isolation = entry.isolation or (Isolation(known) if known else None) or spec.effective_isolation
    kind = KINDS[engine]
    if isolation not in kind.isolations:
        raise Stalled(
            "IsolationNotSupported",
            f"database {entry.name}: {kind.engine} has no isolation {isolation}; use "
            f"{' or '.join(sorted(kind.isolations))}",
        )
    if spec.version is None:
        raise Stalled("NoVersion", f"blueprint {entry.blueprint} names no current version: set spec.version")
    if isolation is Isolation.ROW and entry.version not in (None, spec.version):
        raise Stalled(
            "PinNotSupported",
            f"database {entry.name}: under isolation Row all tenants share the tables of the blueprint's "
            f"current version {spec.version}; take out the pin to {entry.version}",
        )
    if isolation is Isolation.ROW and entry.ddl:
        raise Stalled(
            "DdlNotSupported",
            f"database {entry.name}: under isolation Row the tables are shared, so that no tenant may change "
            "them; take out ddl: Allowed or choose another isolation",
        )
    row = spec.effective_row
    return Design(
        engine=engine,
        isolation=isolation,
        current=spec.version,
        row_column=row.column,
        allow_unsafe_keys=row.unsafe_keys is UnsafeKeys.ALLOW,
    )


async def at_version(
    context: Context,
    view: TenantView,
    entry: Entry,
    current: str,
    wanted: Desired,
    state: DatabaseState,
    engine: DatabaseEngine,
) -> Desired:
    """The database with the chain to the version that it is to be at.

    :param current: the blueprint's current version.
    :raises Waiting, Stalled: when versions are missing or contradict themselves.
    """
    blueprint, book = wanted.blueprint, context.book
    row = wanted.isolation is Isolation.ROW
    choice = context.runs.choose(view, entry, current, state, row=row)
    if choice.version is None:
        return wanted
    chain = check_form(await book.chain(blueprint, choice.version), engine)
    if choice.only_forward and state.version not in chain.versions:
        chain = await book.chain(blueprint, state.version or choice.version)
    installed = None
    if state.version is not None and state.version != chain.version:
        try:
            installed = await book.chain(blueprint, state.version)
        except Waiting:
            installed = None  # whether it is needed, the ledger tells
    turn = context.runs.turn(view, entry)
    pace = Pace(turn.lock_timeout, turn.timeout) if turn is not None else None
    return replace(wanted, chain=chain, installed=installed, pace=pace)


def plan_of(context: Context, view: TenantView) -> PlanSpec | None:
    """The Plan of a tenant; None: it has none.

    :raises Waiting: PlanNotFound.
    :raises Stalled: when two Plans have the code.
    """
    if view.spec.plan is None:
        return None
    code = view.spec.plan.code
    keys = context.plans.find("code", code)
    if not keys:
        raise Waiting("PlanNotFound", f"there is no Plan with the code {code}: apply it")
    if len(keys) > 1:
        names = ", ".join(sorted(name for _, name in keys))
        raise Stalled("PlanAmbiguous", f"the Plans {names} all have the code {code}: change all but one")
    obj = context.plans.get(keys[0])
    return PlanSpec.model_validate(obj["spec"]) if obj is not None else None


def limits(context: Context, view: TenantView) -> quotas.Limits:
    """The limits of a tenant.

    :raises Waiting: PlanNotFound.
    :raises Stalled: when two Plans have the code, or a limit cannot be read.
    """
    try:
        return quotas.merge(plan_of(context, view), view.spec)
    except ValueError as error:
        raise Stalled("LimitInvalid", f"a limit of the plan or the tenant cannot be read: {error}") from error
