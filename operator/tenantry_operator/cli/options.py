"""Options that several commands have, as typer reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from tenantry_crds.quantities import parse_duration


class Format(StrEnum):
    """How objects are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and where in it. None: as the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    everywhere: bool = False
    """All namespaces."""


def duration(text: str) -> float:
    """A duration of the command line, in seconds.

    :raises typer.BadParameter: when it is none.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace", "-n", help="The namespace; by default that of the kubeconfig's context.", metavar="NAME"
    ),
]
EverywhereOption = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Look into all namespaces.")]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="The context of the kubeconfig to use.", metavar="NAME")
]
KubeconfigOption = Annotated[
    str | None,
    typer.Option("--kubeconfig", help="The kubeconfig; by default KUBECONFIG, or ~/.kube/config.", metavar="FILE"),
]
FormatOption = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
