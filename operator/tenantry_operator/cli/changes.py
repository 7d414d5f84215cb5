"""What bringing a tenant's database to a version would do to it: the migrations, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenantry_operator.blueprints.linting import acknowledged
from tenantry_operator.cli.ending import one_line
from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.engines.chain import Form
from tenantry_operator.engines.path import Applied, path

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What would be done to one database."""

    tenant: str
    database: str
    blueprint: str
    installed: str | None
    """The version it is at; None: it has no data."""
    goal: str
    steps: tuple[Migration, ...]
    notes: tuple[str, ...] = ()
    """What the reader should know besides."""

    @property
    def is_something(self) -> bool:
        """Whether anything is to be done, if only to the version's name."""
        return bool(self.steps) or self.installed != self.goal


def steps(goal: Chain, installed: Chain | None, where: str) -> tuple[Migration, ...]:
    """What the operator would run, as long as the ledger in the database is what its version says.

    :param installed: the chain to the version that the data is at; None: there is no data.
    :raises Stalled: RollbackMissing, when the way leads back over a migration without a rollback.
    """
    applied = installed.migrations if installed is not None else ()
    return path(goal, installed, [Applied(m.version, m.name, m.checksum) for m in applied], where)


class Findings:
    """What linting found, by version and migration, from the status of BlueprintVersions."""

    def __init__(self, versions: Sequence[Object]) -> None:
        self._found: dict[tuple[str, str], list[Object]] = {}
        self._accepted: dict[str, frozenset[str]] = {}
        for obj in versions:
            version = obj["spec"]["version"]
            self._accepted[version] = acknowledged(obj)
            for finding in (obj.get("status") or {}).get("findings") or []:
                self._found.setdefault((version, finding["migration"]), []).append(finding)

    def of(self, step: Migration) -> list[Object]:
        """What was found in a migration; rollbacks are not linted."""
        return [] if step.undo else self._found.get((step.version, step.name), [])

    def words(self, step: Migration) -> Iterator[str]:
        """The findings of a migration, each in a line."""
        for finding in self.of(step):
            line = f", line {finding['line']}" if finding.get("line") else ""
            accepted = " (acknowledged)" if finding["rule"] in self._accepted[step.version] else ""
            kind, message = finding.get("kind") or "Advice", finding.get("message") or ""
            yield one_line(f"{kind}{line}: {finding['rule']}{accepted}: {message}")


def render_sql(change: Change, findings: Findings) -> str:
    """A change as SQL with comments."""
    about = f"-- Tenant {change.tenant}, database {change.database}: "
    notes = [f"-- note: {note}" for note in change.notes]
    if not change.is_something:
        return "\n".join([f"{about}nothing to do, it is at version {change.goal}", *notes])
    way = f"blueprint {change.blueprint}, {change.installed or 'no data yet'} -> {change.goal}"
    if not change.steps:
        return "\n".join([f"{about}{way}: no migrations, only the version changes", *notes])
    count = len(change.steps)
    parts = ["\n".join([f"{about}{way}: {count} {'step' if count == 1 else 'steps'}", *notes])]
    for number, step in enumerate(change.steps, start=1):
        how = "" if step.transactional else ", outside of a transaction"
        head = f"-- {number}/{count} {step.what}{how}"
        parts.append("\n".join([head, *(f"-- {words}" for words in findings.words(step)), step.text.strip("\n")]))
    return "\n\n".join(parts)


def render_object(change: Change, findings: Findings) -> Mapping[str, Any]:
    """A change as data, for JSON and YAML."""
    return {
        "database": change.database,
        "blueprint": change.blueprint,
        "from": change.installed,
        "to": change.goal,
        "notes": list(change.notes),
        "steps": [
            {
                "version": step.version,
                "name": step.name,
                "action": "rollback" if step.undo else "apply",
                "transactional": step.transactional,
                "commands" if step.form is Form.COMMANDS else "sql": step.text,
                "findings": findings.of(step),
            }
            for step in change.steps
        ],
    }
