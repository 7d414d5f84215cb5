"""The commands of ``tenantry rollout`` as they are typed."""

# ruff: noqa: PLC0415 - help and completion must not wait for what only a running command needs

from __future__ import annotations

from typing import Annotated

import typer

from tenantry_operator.cli.ending import CODES_HELP
from tenantry_operator.cli.options import (
    ContextOption,
    EverywhereOption,
    Format,
    FormatOption,
    KubeconfigOption,
    NamespaceOption,
    Where,
    duration,
)

rollout = typer.Typer(
    no_args_is_help=True,
    help="See how rollouts are doing, and pause, resume or cancel them.",
    epilog="Example: tenantry rollout status shop-1.1 --watch",
)

Name = Annotated[str, typer.Argument(help="The Rollout's name.", metavar="NAME", show_default=False)]


@rollout.command("list", epilog="Example: tenantry rollout list -A")
def list_(
    namespace: NamespaceOption = None,
    everywhere: EverywhereOption = False,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List rollouts, the oldest first."""
    from tenantry_operator.cli import cluster, rollouts

    where = Where(namespace, context, kubeconfig, everywhere)
    cluster.run(where, lambda api: rollouts.list_all(api, output))


@rollout.command(epilog=f"Example: tenantry rollout status shop-1.1 --watch --timeout 30m\n\n{CODES_HELP}")
def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay until it ends, or is paused.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="With --watch: stay also while it is paused.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            help="With --watch: how long to stay at most.",
            parser=duration,
            metavar="DURATION",
            show_default="none",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show how far a rollout is, and what failed.

    With --watch it draws bars on a terminal; anywhere else it prints a line for each change.

    With -o json and --watch it prints a document for each change, one per line.
    """
    from tenantry_operator.cli import cluster, rollouts

    if not watch and (follow or timeout is not None):
        raise typer.BadParameter("--follow and --timeout are for --watch")
    where = Where(namespace, context, kubeconfig)
    cluster.run(where, lambda api: rollouts.status(api, name, output, watch=watch, stay=follow, limit=timeout))


@rollout.command(epilog="Example: tenantry rollout pause shop-1.1")
def pause(
    name: Name,
    namespace: NamespaceOption = None,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Begin with no further tenant. Those that were begun are brought to the end."""
    from tenantry_operator.cli import cluster, rollouts

    cluster.run(Where(namespace, context, kubeconfig), lambda api: rollouts.pause(api, name, output))


@rollout.command(epilog="Example: tenantry rollout resume shop-1.1")
def resume(
    name: Name,
    namespace: NamespaceOption = None,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Go on after a pause, and try again the tenants that failed."""
    from tenantry_operator.cli import cluster, rollouts

    cluster.run(Where(namespace, context, kubeconfig), lambda api: rollouts.resume(api, name, output))


@rollout.command(epilog="Example: tenantry rollout cancel shop-1.1 --yes")
def cancel(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete a rollout, after asking.

    Tenants that were begun are brought to the end; the others stay at the version they have.

    Exit codes: 0 cancelled; 1 the answer was no; 2 trouble.
    """
    from tenantry_operator.cli import cluster, rollouts

    cluster.run(Where(namespace, context, kubeconfig), lambda api: rollouts.cancel(api, name, sure=yes))
