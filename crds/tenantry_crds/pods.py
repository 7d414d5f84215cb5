"""What pods get besides their containers: registries, and where they run. Flat, under Kubernetes' own names.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tenantry_crds.common import LocalSecretRef, SelectorRequirement, SpecModel
from tenantry_crds.fields import FreeForm, PositiveInt, list_atomic, list_map, text


class Toleration(SpecModel):
    """A taint of nodes that the pods put up with."""

    key: Annotated[str, text(316)] | None = None
    """The taint's key. Left out, with ``operator: Exists``: every taint."""
    operator: Literal["Equal", "Exists", "Lt", "Gt"] | None = None
    """How ``value`` is compared; ``Exists``: not at all. Left out: ``Equal``. Not every cluster knows ``Lt`` and
    ``Gt``."""
    value: Annotated[str, text(63)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """What the taint does. Left out: whatever it does."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """With ``NoExecute``: seconds that the pods stay on such a node. Left out: for ever."""


class PodSelector(SpecModel):
    """Selects pods by their labels."""

    match_labels: Annotated[dict[str, Annotated[str, text(63)]], Field(max_length=64)] | None = None
    """Labels that must have exactly these values."""
    match_expressions: (
        Annotated[tuple[SelectorRequirement, ...], list_atomic(max_items=64), Field(max_length=64)] | None
    ) = None
    """Requirements that must all hold."""


class TopologySpreadConstraint(SpecModel):
    """How pods are spread over zones, nodes and the like."""

    max_skew: PositiveInt
    """By how many pods two of them may differ."""
    topology_key: Annotated[str, Field(min_length=1, max_length=316)]
    """The label of nodes that tells them apart, such as ``topology.kubernetes.io/zone``."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What becomes of a pod that fits nowhere."""
    label_selector: PodSelector | None = None
    """The pods that count. Left out: none does."""
    match_label_keys: Annotated[tuple[Annotated[str, text(316)], ...], list_atomic(max_items=16)] | None = None
    """Labels whose values, as the pod has them, the pods that count must have as well."""
    min_domains: PositiveInt | None = None
    """With ``DoNotSchedule``: how many zones, nodes and the like there have to be at least."""
    node_affinity_policy: Literal["Honor", "Ignore"] | None = None
    """``Honor``: nodes that ``nodeSelector`` or ``affinity`` rule out do not count. Left out: ``Honor``."""
    node_taints_policy: Literal["Honor", "Ignore"] | None = None
    """``Honor``: nodes with taints that the pods do not put up with do not count. Left out: ``Ignore``."""


class Affinity(SpecModel):
    """Nodes that pods want, and pods that they want to be near to, or far from."""

    node_affinity: FreeForm | None = None
    """Which nodes, as in a pod."""
    pod_affinity: FreeForm | None = None
    """Near to which pods, as in a pod."""
    pod_anti_affinity: FreeForm | None = None
    """Far from which pods, as in a pod."""


class PodSettings(SpecModel):
    """What pods get besides their containers. What is left out has the default; what is given takes its place as
    a whole, and an empty list or object means none."""

    image_pull_secrets: Annotated[tuple[LocalSecretRef, ...], list_map("name", max_items=16)] | None = None
    """Secrets of the registries that the images come from, in the pods' namespace."""
    node_selector: Annotated[dict[str, Annotated[str, text(63)]], Field(max_length=64)] | None = None
    """Labels of the nodes that the pods may run on."""
    tolerations: Annotated[tuple[Toleration, ...], list_atomic(max_items=64)] | None = None
    """Taints of nodes that the pods put up with."""
    affinity: Affinity | None = None
    """Nodes that the pods want, and pods that they want to be near to, or far from: at most 16 KiB. What is in it
    is only looked at when pods are to be made."""
    topology_spread_constraints: (
        Annotated[tuple[TopologySpreadConstraint, ...], list_atomic(max_items=16)] | None
    ) = None
    """How the pods are spread over zones, nodes and the like."""
    priority_class_name: (
        Annotated[
            str,
            Field(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$"),
        ]
        | None
    ) = None
    """Their PriorityClass."""
