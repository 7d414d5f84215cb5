"""The command ``diff``: reads a tenant and the versions of its blueprints, and shows what would change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_crds.common import Isolation
from tenantry_crds.tenant import TenantState
from tenantry_operator.blueprints.book import Book, blueprint_of
from tenantry_operator.cache import Store
from tenantry_operator.cli.changes import Change, Findings, render_object, render_sql, steps
from tenantry_operator.cli.cluster import BLUEPRINT_VERSIONS, BLUEPRINTS, TENANTS, Cluster
from tenantry_operator.cli.ending import Code, Trouble
from tenantry_operator.cli.options import Format
from tenantry_operator.cli.output import console, dump, is_terminal, say
from tenantry_operator.tenants.deviations import describe
from tenantry_operator.tenants.view import Entry, TenantView

Object = dict[str, Any]


async def show(cluster: Cluster, tenant: str, form: Format, *, database: str | None, version: str | None) -> int:
    """Shows what going to a version would do to a tenant's databases.

    :param database: only that one.
    :param version: where to; None: the current one of each blueprint.
    """
    hint = f"`tenantry tenants -n {cluster.namespace}` shows those there are"
    view = TenantView(await cluster.read(TENANTS, tenant, hint))
    entries = _entries(view, database, version)
    names = {entry.blueprint for entry in entries}
    listed = [
        obj for obj in await cluster.every(BLUEPRINT_VERSIONS, view.namespace) if obj["spec"]["blueprint"] in names
    ]
    versions = Store(blueprint=lambda obj: (blueprint_of(obj),))
    for obj in listed:
        versions.put(obj)
    book = Book(cluster, versions)
    found: list[tuple[Change, Findings]] = []
    for entry in entries:
        change = await _change(cluster, book, view, entry, version)
        own = [obj for obj in listed if obj["spec"]["blueprint"] == entry.blueprint]
        found.append((change, Findings(own)))
    if form is Format.TABLE:
        _print(found)
    else:
        rendered = [render_object(change, findings) for change, findings in found]
        say(dump({"tenant": view.name, "namespace": view.namespace, "databases": rendered}, form))
    return Code.FAILED if any(change.is_something for change, _ in found) else Code.DONE


def _print(found: Sequence[tuple[Change, Findings]]) -> None:
    text = "\n\n\n".join(render_sql(change, findings) for change, findings in found)
    if not is_terminal():
        say(text)
        return
    from rich.syntax import Syntax  # noqa: PLC0415 - rich is for terminals only

    console().print(Syntax(text, "postgres", theme="ansi_dark", background_color="default", word_wrap=True))


def _entries(view: TenantView, database: str | None, version: str | None) -> list[Entry]:
    """The databases that are meant."""
    wanted = [entry for entry in view.entries if not entry.removed]
    names = ", ".join(entry.name for entry in wanted)
    if not wanted:
        raise Trouble(f"Tenant {view.tenant} has no databases; add one to spec.databases")
    if database is not None:
        wanted = [entry for entry in wanted if entry.name == database]
        if not wanted:
            raise Trouble(f"Tenant {view.tenant} has no database {database}; it has {names}")
    if version is not None and len({entry.blueprint for entry in wanted}) > 1:
        raise Trouble(
            f"Tenant {view.tenant} has databases of several blueprints ({names}), each with versions of its own; "
            "say which with --database"
        )
    return wanted


async def _change(cluster: Cluster, book: Book, view: TenantView, entry: Entry, version: str | None) -> Change:
    record = view.known.get(entry.name, {})
    obj = await cluster.read(BLUEPRINTS, entry.blueprint, f"database {entry.name} is made from it, so apply it")
    spec = BlueprintSpec.model_validate(obj["spec"])
    goal = version or spec.version
    if goal is None:
        raise Trouble(f"Blueprint {view.namespace}/{entry.blueprint} names no current version; say --version")
    blueprint = f"{view.namespace}/{entry.blueprint}"
    chain = await book.chain(blueprint, goal)
    installed: str | None = record.get("version")
    notes = []
    before = await book.chain(blueprint, installed) if installed is not None else None
    found = steps(chain, before, f"Tenant {view.tenant}, database {entry.name}")
    if before is not None and record.get("digest") not in (None, before.digest):
        notes.append(
            f"a migration up to version {installed} is not as it was when it was applied; the operator refuses to "
            "go on (MigrationEdited) until it is put back"
        )
    notes += _notes(view, entry, spec, goal)
    return Change(view.name, entry.name, entry.blueprint, installed, goal, found, tuple(notes))


def _notes(view: TenantView, entry: Entry, spec: BlueprintSpec, goal: str) -> list[str]:
    notes = []
    record = view.known.get(entry.name, {})
    known = record.get("isolation")
    isolation = entry.isolation or known or spec.effective_isolation
    if isolation == Isolation.ROW:
        notes.append("isolation Row: the tables are shared, so that it is done once, for all tenants")
    elif entry.version is not None and entry.version != goal:
        notes.append(f"spec.databases names version {entry.version}: no rollout takes it along")
    if record.get("schemaDrift"):
        notes.append(f"{describe(record)}; see status.databases of the Tenant")
    if view.spec.state not in (TenantState.ACTIVE, TenantState.SUSPENDED):
        notes.append(f"the tenant is {view.spec.state}: it is done when it becomes Active")
    return notes
