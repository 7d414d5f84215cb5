"""The commands of ``rollout``: looking at Rollouts, following one, and telling it to pause, go on or end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from datetime import UTC
from typing import Any, Protocol

from tenantry_crds.common import RESUME_ANNOTATION
from tenantry_operator.cli import units
from tenantry_operator.cli.cluster import ROLLOUTS, Cluster
from tenantry_operator.cli.ending import Code, Trouble
from tenantry_operator.cli.follow import Update, follow
from tenantry_operator.cli.lines import Documents, Lines, describe
from tenantry_operator.cli.options import Format
from tenantry_operator.cli.output import ask, bare, console, dump, is_terminal, listing, note, print_table, say
from tenantry_operator.cli.standing import Pace, is_current, verdict
from tenantry_operator.kube import NotFound
from tenantry_operator.rollouts.phase import FINAL, Phase, phase_of

Object = dict[str, Any]

_COLUMNS = ("NAME", "BLUEPRINT", "VERSION", "PHASE", "WAVE", "PROGRESS", "COMPLETED", "FAILED", "TOTAL", "AGE")


class Display(Protocol):
    """Something that shows a Rollout as it changes."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *details: Any) -> None: ...

    def show(self, update: Update) -> None:
        """Shows what is known now."""


async def list_all(cluster: Cluster, form: Format) -> int:
    """Lists Rollouts, the oldest first."""
    found = await cluster.every(ROLLOUTS, cluster.scope)
    found.sort(key=lambda obj: (obj["metadata"]["namespace"], obj["metadata"].get("creationTimestamp") or ""))
    if form is not Format.TABLE:
        say(dump(listing(found), form))
        return Code.DONE
    if not found:
        note(f"no Rollouts in {f'namespace {cluster.scope}' if cluster.scope else 'any namespace'}")
        return Code.DONE
    everywhere = cluster.scope is None
    headers = ("NAMESPACE", *_COLUMNS) if everywhere else _COLUMNS
    print_table(headers, [_row(obj, everywhere=everywhere) for obj in found])
    return Code.DONE


def _row(obj: Object, *, everywhere: bool) -> tuple[str, ...]:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    row = (
        meta["name"],
        spec["blueprint"],
        spec["version"],
        str(phase_of(obj)),
        status.get("wave") or "-",
        f"{status.get('progress') or 0} %",
        *(str(status.get(field) or 0) for field in ("completed", "failed", "total")),
        units.span(units.since(meta.get("creationTimestamp"), units.now())),
    )
    return (meta["namespace"], *row) if everywhere else row


async def status(
    cluster: Cluster, name: str, form: Format, *, watch: bool, stay: bool, limit: float | None
) -> int:
    """Shows a Rollout, once or until it ends.

    :param stay: to go on while it is paused.
    :param limit: seconds to watch at most.
    """
    obj = await _read(cluster, name)
    if watch:
        return await _watch(cluster, obj, form, stay=stay, limit=limit)
    if form is not Format.TABLE:
        say(dump(bare(obj), form))
    elif is_terminal():
        from tenantry_operator.cli.board import render  # noqa: PLC0415 - rich is for terminals only

        console().print(render(obj, Pace()))
    else:
        say(describe(obj, Pace()))
    return Code.FAILED if verdict(obj) is Code.FAILED else Code.DONE


async def _watch(cluster: Cluster, obj: Object, form: Format, *, stay: bool, limit: float | None) -> int:
    code: Code | None = None
    last: Object | None = obj
    with _display(form) as display:
        try:
            async with asyncio.timeout(limit), aclosing(follow(cluster, ROLLOUTS, obj)) as updates:
                async for update in updates:
                    last = update.obj
                    display.show(update)
                    code = verdict(update.obj, stay=stay)
                    if code is not None:
                        break
        except TimeoutError:
            code = Code.TIMEOUT
    if code is None:
        raise AssertionError("following ends with a verdict")
    if code is not Code.DONE:
        what = f"Rollout {cluster.namespace}/{obj['metadata']['name']}"
        note(f"error: {what} {_ending(last, code, limit)}")
    return code


def _display(form: Format) -> Display:
    if form is not Format.TABLE:
        return Documents(form)
    if not is_terminal():
        return Lines()
    from tenantry_operator.cli.board import Board  # noqa: PLC0415 - rich is for terminals only

    return Board()


def _ending(obj: Object | None, code: Code, limit: float | None) -> str:
    if obj is None:
        return "was deleted before its end"
    if code is Code.TIMEOUT:
        return f"is {phase_of(obj)} after {units.span(limit or 0)}; it goes on, watch it again to see how"
    return f"is {phase_of(obj)}: {(obj.get('status') or {}).get('message') or 'see its status'}"


async def pause(cluster: Cluster, name: str, form: Format) -> int:
    """Sets ``spec.paused``."""
    obj = await _read(cluster, name)
    if obj["spec"].get("paused"):
        _say_done(obj, "already paused", form)
        return Code.DONE
    if phase_of(obj) in FINAL and is_current(obj):
        # Any change of the spec makes it try again what failed: the contrary of what is wanted.
        raise Trouble(f"Rollout {cluster.namespace}/{name} is {phase_of(obj)}; there is nothing left to pause")
    _say_done(await _change(cluster, name, {"spec": {"paused": True}}), "paused", form)
    return Code.DONE


async def resume(cluster: Cluster, name: str, form: Format) -> int:
    """Clears ``spec.paused``, and has it try again what failed."""
    obj = await _read(cluster, name)
    if phase_of(obj) is Phase.CANCELLED:
        raise Trouble(
            f"Rollout {cluster.namespace}/{name} was cancelled and never comes back; apply a new Rollout"
        )
    stamp = units.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    patch = {"metadata": {"annotations": {RESUME_ANNOTATION: stamp}}, "spec": {"paused": False}}
    _say_done(await _change(cluster, name, patch), "resumed", form)
    return Code.DONE


async def cancel(cluster: Cluster, name: str, *, sure: bool) -> int:
    """Deletes a Rollout, after asking."""
    if not sure and not sys.stdin.isatty():
        raise Trouble(f"cancelling Rollout {name} asks first, and there is no terminal to ask on; say --yes")
    obj = await _read(cluster, name)
    if not sure:
        state = obj.get("status") or {}
        progress = (
            f"{phase_of(obj)}, {state.get('completed') or 0} of {state.get('total') or 0} tenants are through"
        )
        question = (
            f"Cancel Rollout {cluster.namespace}/{name} ({progress})? Tenants that were begun are brought to the "
            "end, the others stay at the version they have"
        )
        if not ask(question):
            note("nothing was done")
            return Code.FAILED
    await cluster.delete(ROLLOUTS, cluster.namespace, name, uid=obj["metadata"].get("uid"))
    say(f"rollout.tenantry.dev/{name} cancelled")
    return Code.DONE


async def _read(cluster: Cluster, name: str) -> Object:
    hint = f"`tenantry rollout list -n {cluster.namespace}` shows those there are"
    return await cluster.read(ROLLOUTS, name, hint)


async def _change(cluster: Cluster, name: str, patch: Object) -> Object:
    try:
        return await cluster.change(ROLLOUTS, name, patch)
    except NotFound:
        raise cluster.missing(ROLLOUTS, name) from None


def _say_done(obj: Object, done: str, form: Format) -> None:
    name = obj["metadata"]["name"]
    say(f"rollout.tenantry.dev/{name} {done}" if form is Format.TABLE else dump(bare(obj), form))
