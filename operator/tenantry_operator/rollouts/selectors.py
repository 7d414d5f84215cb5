"""Label selectors. Pure.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

from collections.abc import Mapping

from tenantry_crds.common import LabelSelector


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether labels are selected; no selector, or an empty one, selects all."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for requirement in selector.match_expressions:
        value = labels.get(requirement.key)
        match requirement.operator:
            case "In":
                met = value is not None and value in requirement.values
            case "NotIn":
                met = value is None or value not in requirement.values
            case "Exists":
                met = value is not None
            case _:
                met = value is None
        if not met:
            return False
    return True
