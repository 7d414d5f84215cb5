"""A Rollout on a terminal: bars that move, failures as they come, time gone and time left."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tenantry_operator.cli import units
from tenantry_operator.cli.ending import one_line
from tenantry_operator.cli.follow import Update
from tenantry_operator.cli.lines import numbers, where
from tenantry_operator.cli.output import console, style_of
from tenantry_operator.cli.standing import Pace, elapsed, finished
from tenantry_operator.rollouts.phase import BACK, phase_of

Object = dict[str, Any]

_FRAMES = 4
"""Frames a second: for the clock and the estimate; changes are drawn with the next one."""
_LISTED = 8
"""Failures that are shown; the others are counted."""
_BAR = 36
"""Columns that a bar takes."""


class Board:
    """The live display. It leaves its last frame on the screen, and the cursor as it was."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._update: Update | None = None
        self._last: Object | None = None
        self._live = Live(console=console(), get_renderable=self._render, refresh_per_second=_FRAMES)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, update: Update) -> None:
        """Draws what is known now."""
        self._update = update
        if update.obj is not None:
            self._last = update.obj
            self._pace.note(update.obj, units.now())

    def _render(self) -> RenderableType:
        if self._update is None or self._last is None:
            return Text("")
        parts: list[RenderableType] = [render(self._last, self._pace)]
        if self._update.silence:
            parts.append(Text(f"The API server does not answer; trying again: {self._update.silence}", "yellow"))
        if self._update.obj is None:
            parts.append(Text("It was deleted.", "red"))
        return Group(*parts)


def render(obj: Object, pace: Pace) -> RenderableType:
    """A Rollout as it is now."""
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    at = phase_of(obj)
    title = Text.assemble(
        (f"{meta['namespace']}/{meta['name']}", "bold"),
        f"  version {spec['version']} of blueprint {spec['blueprint']}  ",
        (where(obj), style_of(at)),
    )
    parts: list[RenderableType] = [title, _bars(obj), Text.assemble(numbers(obj), _time(obj, pace))]
    if status.get("message"):
        parts.append(Text(one_line(status["message"]), "dim"))
    failures = status.get("failures") or []
    if failures:
        parts.append(_failures(failures, max(len(failures), int(status.get("failed") or 0))))
    return Group(*parts)


def _bars(obj: Object) -> Table:
    """A bar for each wave, and one for the whole."""
    status = obj.get("status") or {}
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for wave in status.get("waves") or []:
        total, done, failed = (int(wave.get(field) or 0) for field in ("total", "completed", "failed"))
        soak = units.until(wave.get("soakUntil"), units.now())
        remark = Text(f"{failed} failed" if failed else "", "red")
        if soak:
            remark = Text.assemble(remark, f"{', ' if failed else ''}soaks for {units.span(soak)}")
        table.add_row(wave["name"], _bar(total, done + failed, bad=bool(failed)), f"{done}/{total}", remark)
    total, percent = int(status.get("total") or 0), int(status.get("progress") or 0)
    if phase_of(obj) in BACK:
        table.add_row(
            "rolled back", _bar(100, percent, bad=True), str(status.get("rolledBack") or 0), f"{percent} %"
        )
    else:
        bar = _bar(total, finished(obj), bad=bool(status.get("failed")))
        table.add_row(
            Text("all", "bold"), bar, f"{status.get('completed') or 0}/{total}", Text(f"{percent} %", "bold")
        )
    return table


def _bar(total: int, done: int, *, bad: bool) -> ProgressBar:
    style = "yellow" if bad else "cyan"
    finished_style = "yellow" if bad else "green"
    # A bar of nothing would be drawn as one that is full.
    return ProgressBar(
        max(1, total), done, width=_BAR, style="bright_black", complete_style=style, finished_style=finished_style
    )


def _time(obj: Object, pace: Pace) -> str:
    at = units.now()
    spent, left = elapsed(obj, at), pace.remaining(obj, at)
    if spent is None:
        return ""
    return f"; {units.span(spent)} so far" + ("" if left is None else f", about {units.span(left)} left")


def _failures(failures: list[Object], total: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold red")
    for header in ("FAILED TENANT", "DATABASE", "REASON", "MESSAGE"):
        table.add_column(header, no_wrap=header != "MESSAGE", overflow="fold")
    for failure in failures[:_LISTED]:
        cells = (failure.get(field) or "-" for field in ("tenant", "database", "reason", "message"))
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    if total > _LISTED:
        table.add_row(Text(f"and {total - _LISTED} more", "dim"))
    return table
