"""The command ``tenants``: which tenants there are, and how each of them is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tenantry_operator.cli import units
from tenantry_operator.cli.cluster import TENANTS, Cluster
from tenantry_operator.cli.ending import Code, Trouble
from tenantry_operator.cli.options import Format
from tenantry_operator.cli.output import dump, listing, note, print_table, say
from tenantry_operator.conditions import find
from tenantry_operator.tenants.view import records_of

Object = dict[str, Any]

PHASES = (
    "Draft",
    "Provisioning",
    "Ready",
    "Suspended",
    "Archived",
    "Deleted",
    "Moving",
    "Restoring",
    "Failed",
)
_COLUMNS = ("NAME", "ID", "PHASE", "READY", "DATABASES", "INSTANCE", "SIZE", "MESSAGE")


@dataclass(frozen=True, slots=True)
class Database:
    """A database of a tenant: as it was made, or as it is asked for."""

    name: str
    blueprint: str
    version: str | None = None
    instance: str | None = None
    size: int | None = None

    def __str__(self) -> str:
        what = f"{self.blueprint}@{self.version or '-'}"
        return what if self.name == self.blueprint else f"{self.name}={what}"


def databases(tenant: Object) -> Iterator[Database]:
    """The databases of a Tenant: those of its spec, then those that are going."""
    known = records_of(tenant)
    wanted = {each.get("name") or each["blueprint"]: each for each in tenant["spec"].get("databases") or []}
    for name in {**wanted, **known}:
        made = known.get(name, {})
        yield Database(
            name=name,
            blueprint=wanted.get(name, made).get("blueprint") or "-",
            version=made.get("version"),
            instance=made.get("instance"),
            size=made.get("bytes"),
        )


def phase_named(text: str) -> str:
    """The phase that somebody means, whatever its letters' case.

    :raises Trouble: when there is none of that name.
    """
    found = next((phase for phase in PHASES if phase.casefold() == text.casefold()), None)
    if found is None:
        raise Trouble(f"--phase {text}: there is no such phase; it is one of {', '.join(PHASES)}")
    return found


def is_meant(tenant: Object, blueprint: str | None, version: str | None) -> bool:
    """Whether a Tenant has a database of a blueprint, at a version; None: of any, at any."""
    if blueprint is None and version is None:
        return True
    return any(
        blueprint in (None, each.blueprint) and version in (None, each.version) for each in databases(tenant)
    )


async def show(
    cluster: Cluster,
    form: Format,
    *,
    blueprint: str | None,
    version: str | None,
    phase: str | None,
    selector: str | None,
) -> int:
    """Lists Tenants."""
    fields = f"status.phase={phase_named(phase)}" if phase else ""
    listed = await cluster.every(TENANTS, cluster.scope, labels=selector or "", fields=fields)
    found = [tenant for tenant in listed if is_meant(tenant, blueprint, version)]
    if form is not Format.TABLE:
        say(dump(listing(found), form))
        return Code.DONE
    if not found:
        place = f"namespace {cluster.scope}" if cluster.scope else "any namespace"
        note(f"no Tenants in {place}" + (" that match" if blueprint or version or phase or selector else ""))
        return Code.DONE
    everywhere = cluster.scope is None
    headers = ("NAMESPACE", *_COLUMNS) if everywhere else _COLUMNS
    print_table(headers, [_row(tenant, everywhere=everywhere) for tenant in found])
    say(f"\n{counts(found)}")
    return Code.DONE


def _row(tenant: Object, *, everywhere: bool) -> tuple[str, ...]:
    meta, status = tenant["metadata"], tenant.get("status") or {}
    made = list(databases(tenant))
    ready = find(tenant, "Ready") or {}
    row = (
        meta["name"],
        status.get("id") or tenant["spec"].get("id") or meta["name"],
        status.get("phase") or "-",
        ready.get("status") or "Unknown",
        ", ".join(map(str, made)) or "-",
        ", ".join(dict.fromkeys(each.instance for each in made if each.instance)) or "-",
        units.size(_size(made)),
        ready.get("message") or _word(ready.get("reason"), status.get("phase")) or "-",
    )
    return (meta["namespace"], *row) if everywhere else row


def _word(reason: str | None, phase: str | None) -> str:
    """The reason, where it says more than the phase does."""
    return reason if reason and reason != phase else ""


def _size(made: Sequence[Database]) -> int | None:
    sizes = [each.size for each in made if each.size is not None]
    return sum(sizes) if sizes else None


def counts(tenants: Sequence[Object]) -> str:
    """How many there are: ``3 tenants: 2 Ready, 1 Failed; 4 databases, 31 MiB``."""
    phases = Counter((tenant.get("status") or {}).get("phase") or "without a phase" for tenant in tenants)
    made = [each for tenant in tenants for each in databases(tenant)]
    size = _size(made)
    return (
        f"{_many(len(tenants), 'tenant')}: "
        + ", ".join(f"{number} {phase}" for phase, number in phases.most_common())
        + f"; {_many(len(made), 'database')}"
        + ("" if size is None else f", {units.size(size)}")
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
