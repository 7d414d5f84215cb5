"""Printing: tables, JSON and YAML, with colours on a terminal and without any escape code elsewhere."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
import yaml

from tenantry_operator.cli.ending import one_line
from tenantry_operator.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

Object = dict[str, Any]

_STYLES = {
    "Completed": "green",
    "Ready": "green",
    "True": "green",
    "Running": "cyan",
    "Soaking": "cyan",
    "Provisioning": "cyan",
    "Paused": "yellow",
    "RollingBack": "yellow",
    "RolledBack": "red",
    "Failed": "red",
    "False": "red",
    "Cancelled": "red",
}


def is_terminal() -> bool:
    """Whether somebody is looking, on something that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> Console:
    """Where to draw. Only what :func:`is_terminal` says counts: ``FORCE_COLOR`` makes a log no terminal."""
    from rich.console import Console  # noqa: PLC0415 - only for a terminal

    return Console(force_terminal=is_terminal(), highlight=False, emoji=False)


def say(text: str) -> None:
    """Prints on standard output."""
    typer.echo(text)


def note(text: str) -> None:
    """Prints one line on standard error, which leaves standard output to the result."""
    typer.echo(one_line(text), err=True)


def ask(question: str) -> bool:
    """Asks on the terminal, on standard error.

    :raises typer.Abort: for Ctrl-C, or the end of the input.
    """
    # asyncio's own handler would wait for the prompt, which waits for somebody to press Enter.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


def style_of(word: str) -> str:
    """The colour of a phase or condition; "" for what has none."""
    return _STYLES.get(word, "")


def dump(value: Object, form: Format, *, stream: bool = False) -> str:
    """An object as JSON or YAML.

    :param stream: it is one of several: JSON takes one line each, YAML documents are separated.
    """
    if form is Format.YAML:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False)
        return ("---\n" if stream else "") + text.rstrip("\n")
    if stream:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)


def bare(obj: Object) -> Object:
    """The object without ``managedFields``, which are for programs and fill the screen."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": meta}


def listing(objects: Sequence[Object]) -> Object:
    """Objects in one, as ``kubectl get -o json`` has it."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "metadata": {"resourceVersion": ""},
        "items": [bare(obj) for obj in objects],
    }


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table: folded to the width of a terminal, or one line per row."""
    if not is_terminal():
        say(render_table(headers, rows))
        return
    from rich.table import Table  # noqa: PLC0415 - only for a terminal
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        # The last column has the long texts: it is the one that is folded.
        table.add_column(header, no_wrap=number < len(headers) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    console().print(table)


def render_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text, one line per row, no column cut."""
    lines = [list(headers), *([one_line(cell) or "-" for cell in row] for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(headers))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
