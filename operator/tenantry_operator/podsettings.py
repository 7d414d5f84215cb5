"""What pods get besides their containers, as a pod's spec has it. Pure."""

from __future__ import annotations

import json
from typing import Any

from tenantry_crds.pods import PodSettings
from tenantry_operator.errors import Stalled

Object = dict[str, Any]

FIELDS = {
    "image_pull_secrets": "imagePullSecrets",
    "node_selector": "nodeSelector",
    "tolerations": "tolerations",
    "affinity": "affinity",
    "topology_spread_constraints": "topologySpreadConstraints",
    "priority_class_name": "priorityClassName",
}
"""The fields of :class:`PodSettings`, and their names in a pod's spec."""

LONGEST_AFFINITY = 16 * 1024
"""Bytes of JSON. It is kept once more with each Deployment, ReplicaSet, StatefulSet and pod."""


def over(own: PodSettings, default: PodSettings) -> PodSettings:
    """What is given of ``own``; the rest is the default's, field by field."""
    given = {name: getattr(own, name) for name in FIELDS if getattr(own, name) is not None}
    return default.model_copy(update=given)


def fields(settings: PodSettings) -> Object:
    """The fields of a pod's spec, as they were written; what says nothing is left out.

    :raises Stalled: AffinityTooLarge.
    """
    # A schema can bound everything but what is within an affinity.
    written = settings.model_dump(
        mode="json", by_alias=True, include=set(FIELDS), exclude_none=True, exclude_unset=True
    )
    found = {name: value for name, value in written.items() if value not in ("", [], {})}
    size = len(json.dumps(found.get("affinity")))
    if size > LONGEST_AFFINITY:
        raise Stalled(
            "AffinityTooLarge",
            f"affinity is {size} bytes long, and at most {LONGEST_AFFINITY} are taken: make it shorter",
        )
    return found
