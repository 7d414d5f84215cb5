"""What every engine's plan looks at first. Pure."""

from __future__ import annotations

from typing import TypeVar

from tenantry_crds.common import RECREATE_ANNOTATION
from tenantry_operator.engines.base import DatabaseState, Desired, Ownership
from tenantry_operator.errors import Stalled

V = TypeVar("V")


def own_view(desired: Desired, state: DatabaseState, kind: type[V]) -> V:
    """What the engine itself saw of a tenant database.

    :param kind: the engine's own class of that.
    :raises Stalled: NameTaken, when what was seen is somebody else's.
    """
    if state.ownership in (Ownership.STRANGER, Ownership.OTHER_TENANT):
        raise Stalled("NameTaken", f"{state.conflict} was not made for {desired.tenant}; it is left alone")
    if not isinstance(state.detail, kind):
        raise TypeError("the state was not observed by this engine")
    return state.detail


def check_lost(desired: Desired, where: str, *, lost: bool) -> None:
    """:raises Stalled: DataLost, when data is gone and nobody said that it may be made anew."""
    if lost and not desired.recreate:
        raise Stalled(
            "DataLost",
            f"{where} is gone from its server, though it was there. Restore it, or set the annotation "
            f"{RECREATE_ANNOTATION} to a new value to start empty",
        )
