"""The command line as it is typed: the root, and the commands that stand for themselves."""

# ruff: noqa: PLC0415 - help and completion must not wait for what only a running command needs

from __future__ import annotations

from typing import Annotated

import typer

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
from tenantry_operator.cli.rollout_app import rollout

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the tenants of a SaaS product: their rollouts, versions and databases.",
    epilog="Example: tenantry rollout status shop-1.1 --watch",
    pretty_exceptions_enable=False,
)
app.add_typer(rollout, name="rollout")


@app.command(epilog="Example: tenantry tenants -n shop --blueprint shop --version 1.0 --phase failed")
def tenants(
    blueprint: Annotated[
        str | None, typer.Option(help="Only those with a database of it.", metavar="NAME")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Only those with a database at it.", metavar="VERSION")
    ] = None,
    phase: Annotated[str | None, typer.Option(help="Only those in it, such as Failed.", metavar="PHASE")] = None,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", help="Only those with these labels.", metavar="LABELS")
    ] = None,
    namespace: NamespaceOption = None,
    everywhere: EverywhereOption = False,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List tenants with their databases, versions and sizes."""
    from tenantry_operator.cli import cluster
    from tenantry_operator.cli import tenants as work

    where = Where(namespace, context, kubeconfig, everywhere)
    cluster.run(
        where,
        lambda api: work.show(api, output, blueprint=blueprint, version=version, phase=phase, selector=selector),
    )


@app.command(
    epilog="Example: tenantry diff acme --version 1.2\n\n"
    "Exit codes: 0 nothing to do; 1 there is something to do; 2 trouble."
)
def diff(
    tenant: Annotated[str, typer.Argument(help="The Tenant's name.", metavar="TENANT", show_default=False)],
    database: Annotated[
        str | None, typer.Option("--database", "-d", help="Only this database of it.", metavar="NAME")
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(help="Where to; by default the blueprint's current version.", metavar="VERSION"),
    ] = None,
    namespace: NamespaceOption = None,
    output: FormatOption = Format.TABLE,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show the SQL that brings a tenant to a version, or back to it.

    With the findings of linting. It goes by the tenant's status, and changes nothing.
    """
    from tenantry_operator.cli import cluster
    from tenantry_operator.cli import diff as work

    where = Where(namespace, context, kubeconfig)
    cluster.run(where, lambda api: work.show(api, tenant, output, database=database, version=version))


@app.command(epilog="Example: tenantry token --service-account ci --audience tenantry-api")
def token(
    account: Annotated[
        str, typer.Option("--service-account", help="The ServiceAccount, in the namespace.", metavar="NAME")
    ] = "default",
    valid_for: Annotated[
        float,
        typer.Option("--duration", help="How long it is valid, 10m or more.", parser=duration, metavar="DURATION"),
    ] = "1h",  # type: ignore[assignment]
    audience: Annotated[
        list[str] | None,
        typer.Option(help="Whom it is for, once or more; by default the API server.", metavar="AUDIENCE"),
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Print a short-lived token of a ServiceAccount."""
    from tenantry_operator.cli import cluster, tokens

    where = Where(namespace, context, kubeconfig)
    cluster.run(where, lambda api: tokens.show(api, account, seconds=valid_for, audiences=audience or ()))
