"""What a custom resource definition says besides its fields."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tenantry_crds.common import GROUP, SpecModel, StatusModel
from tenantry_crds.fields import Rule


class Scope(StrEnum):
    """Where objects of a kind live."""

    NAMESPACED = "Namespaced"
    CLUSTER = "Cluster"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``.

    :param priority: 0 is always shown, 1 only with ``-o wide``.
    """

    name: str
    path: str
    type: str = "string"
    priority: int = 0


def condition_columns(*, reason_priority: int = 0) -> tuple[Column, ...]:
    """Ready and its reason, and with ``-o wide`` its message; then the age."""
    ready = '.status.conditions[?(@.type=="Ready")]'
    return (
        Column("Ready", f"{ready}.status"),
        Column("Reason", f"{ready}.reason", priority=reason_priority),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("Message", f"{ready}.message", priority=1),
    )


def label_name_rule(kind: str, max_length: int = 63) -> Rule:
    """Restricts ``metadata.name`` to a DNS label: it becomes part of labels and of database names."""
    return Rule(
        f"self.metadata.name.size() <= {max_length} && "
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        f"metadata.name: the name of a {kind} is at most {max_length} lower case letters, digits and dashes, "
        "and starts and ends with a letter or digit; choose such a name",
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """One custom resource definition.

    :param kind: as in manifests.
    :param plural: as in URLs of the API server.
    :param description: what objects of this kind declare.
    :param rules: CEL rules on the whole object; of its metadata they see the name only.
    :param selectable: fields that list and watch can select by (``--field-selector``).
    """

    kind: str
    plural: str
    short_names: tuple[str, ...]
    description: str
    spec: type[SpecModel]
    status: type[StatusModel]
    columns: tuple[Column, ...]
    scope: Scope = Scope.NAMESPACED
    rules: tuple[Rule, ...] = ()
    selectable: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        """The name in lower case, as kubectl takes it."""
        return self.kind.lower()

    @property
    def crd_name(self) -> str:
        """The name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    @property
    def namespaced(self) -> bool:
        """Whether objects of this kind live in a namespace."""
        return self.scope is Scope.NAMESPACED
