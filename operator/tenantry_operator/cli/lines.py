"""A Rollout in plain lines: for logs, pipes and terminals that cannot move their cursor."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tenantry_operator.cli import units
from tenantry_operator.cli.ending import one_line
from tenantry_operator.cli.follow import Update
from tenantry_operator.cli.options import Format
from tenantry_operator.cli.output import bare, dump, note, render_table, say
from tenantry_operator.cli.standing import Pace, elapsed
from tenantry_operator.conditions import timestamp
from tenantry_operator.rollouts.phase import Phase, phase_of

Object = dict[str, Any]


def numbers(obj: Object) -> str:
    """How many tenants are where: ``3/10 completed, 1 failed, 4 running``."""
    status = obj.get("status") or {}
    parts = [f"{status.get('completed') or 0}/{status.get('total') or 0} completed"]
    counts = (("failed", "failed"), ("running", "running"), ("skipped", "skipped"), ("rolledBack", "rolled back"))
    parts += [f"{status[name]} {words}" for name, words in counts if status.get(name)]
    return ", ".join(parts)


def where(obj: Object) -> str:
    """Phase and wave: ``Running, wave canary``."""
    status = obj.get("status") or {}
    at = phase_of(obj)
    text = f"{at}, wave {status['wave']}" if status.get("wave") else str(at)
    ends = [wave["soakUntil"] for wave in status.get("waves") or [] if wave.get("soakUntil")]
    return f"{text}, until {max(ends)}" if at is Phase.SOAKING and ends else text


def failures(obj: Object) -> Iterator[str]:
    """The failures that the status lists, each in a line."""
    for failure in (obj.get("status") or {}).get("failures") or []:
        whose = "/".join(part for part in (failure["tenant"], failure.get("database")) if part)
        yield one_line(f"{whose} failed: {failure.get('reason') or 'Failed'}: {failure.get('message') or ''}")


def describe(obj: Object, pace: Pace) -> str:
    """A Rollout at length."""
    meta, spec, status, at = obj["metadata"], obj["spec"], obj.get("status") or {}, units.now()
    spent, left = elapsed(obj, at), pace.remaining(obj, at)
    time = (
        "" if spent is None else units.span(spent) + ("" if left is None else f", about {units.span(left)} left")
    )
    facts = {
        "Rollout": f"{meta['namespace']}/{meta['name']}",
        "Target": f"version {spec['version']} of blueprint {spec['blueprint']}",
        "Phase": where(obj),
        "Progress": f"{status.get('progress') or 0} %: {numbers(obj)}",
        "Elapsed": time,
        "Message": one_line(status.get("message") or ""),
    }
    parts = ["\n".join(f"{name + ':':<10}{text}" for name, text in facts.items() if text)]
    waves = [
        (
            wave["name"],
            *(str(wave.get(field) or 0) for field in ("total", "completed", "failed")),
            wave.get("soakUntil") or "",
        )
        for wave in status.get("waves") or []
    ]
    if waves:
        parts.append(render_table(("WAVE", "TOTAL", "COMPLETED", "FAILED", "SOAKS UNTIL"), waves))
    failed = [
        tuple(failure.get(field) or "" for field in ("tenant", "database", "reason", "message"))
        for failure in status.get("failures") or []
    ]
    if failed:
        parts.append(render_table(("FAILED TENANT", "DATABASE", "REASON", "MESSAGE"), failed))
    return "\n\n".join(parts)


class _Plain:
    """A display that has nothing to put back at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Lines(_Plain):
    """One line for each change, with the time in UTC."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._last = ""
        self._silent = False

    def show(self, update: Update) -> None:
        """Prints what has changed since the last time."""
        if update.silence and not self._silent:
            note(f"the API server does not answer ({update.silence}); trying again")
        self._silent = bool(update.silence)
        if update.obj is None or update.silence:
            return
        obj = update.obj
        for failure in failures(obj):
            if failure not in self._said:
                self._said.add(failure)
                say(f"{_stamp()} {failure}")
        line = f"{where(obj)}: {numbers(obj)}"
        if phase_of(obj) in (Phase.PENDING, Phase.PAUSED, Phase.CANCELLED):
            line += f": {one_line((obj.get('status') or {}).get('message') or 'not begun yet')}"
        if line != self._last:
            self._last = line
            say(f"{_stamp()} {line}")


class Documents(_Plain):
    """The object itself for each change, as JSON lines or YAML documents."""

    def __init__(self, form: Format) -> None:
        self._form = form

    def show(self, update: Update) -> None:
        """Prints the object."""
        if update.obj is not None and not update.silence:
            say(dump(bare(update.obj), self._form, stream=True))


def _stamp() -> str:
    return timestamp(units.now())
