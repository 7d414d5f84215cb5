"""The volume of a server: what size and kind it may have, and whether it is the one with the data."""

from __future__ import annotations

from typing import Any

from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION
from tenantry_crds.quantities import parse_quantity
from tenantry_operator import telemetry
from tenantry_operator.conditions import Condition
from tenantry_operator.errors import Stalled
from tenantry_operator.instances.manifests.design import Plan
from tenantry_operator.instances.manifests.render import GENERATION
from tenantry_operator.instances.provider import Instance, Notes
from tenantry_operator.kube import CLAIMS, ApiError, KubeClient

Object = dict[str, Any]

_REFUSED = frozenset({403, 422})


def size_of(claim: Object) -> str:
    """The size that was asked for."""
    size: str = claim["spec"]["resources"]["requests"]["storage"]
    return size


def check(instance: Instance, plan: Plan, claim: Object) -> None:
    """Whether the volume that is there can be the planned one's.

    :raises Stalled: StorageShrink, StorageClassChange, MajorVersionChange.
    """
    name = claim["metadata"]["name"]
    if parse_quantity(plan.storage) < parse_quantity(size_of(claim)):
        raise Stalled(
            "StorageShrink",
            f"{instance.what}: spec.statefulSet.storage is {plan.storage}, and PersistentVolumeClaim {name} has "
            f"{size_of(claim)}: a volume never shrinks; ask for at least {size_of(claim)}",
        )
    known = claim["spec"].get("storageClassName")
    if plan.storage_class and known and known != plan.storage_class:
        raise Stalled(
            "StorageClassChange",
            f"{instance.what}: PersistentVolumeClaim {name} is of the storage class {known}, which never changes; "
            f"put {known} back, or create another instance and move the data there",
        )
    made_for = (claim["metadata"].get("annotations") or {}).get(GENERATION)
    wanted = plan.generation
    if made_for is not None and made_for != wanted:
        raise Stalled(
            "MajorVersionChange",
            f"{instance.what}: PersistentVolumeClaim {name} has data of {made_for}, which {wanted} does not read; "
            f"give an image of {made_for} in spec.statefulSet.image, or delete the claim if its data may go",
        )


async def grow(kube: KubeClient, instance: Instance, plan: Plan, claim: Object) -> None:
    """Asks for the planned size, when it is more than what was asked for.

    :raises Stalled: VolumeNotExpandable.
    """
    if parse_quantity(plan.storage) <= parse_quantity(size_of(claim)):
        return
    name = claim["metadata"]["name"]
    telemetry.api_writes.labels("patch", CLAIMS.plural).inc()
    patch = {"spec": {"resources": {"requests": {"storage": str(plan.storage)}}}}
    try:
        await kube.patch(CLAIMS, instance.namespace, name, patch)
    except ApiError as error:
        if error.status not in _REFUSED:
            raise
        raise Stalled(
            "VolumeNotExpandable",
            f"{instance.what}: PersistentVolumeClaim {name} does not grow from {size_of(claim)} to {plan.storage}"
            f": {error.message}. Put {size_of(claim)} back, or use a storage class that allows it",
        ) from None


def notes(instance: Instance, claim: Object | None) -> Notes:
    """Whether the volume is the one that the server was made with."""
    if claim is None:
        return Notes()
    uid, name = claim["metadata"]["uid"], claim["metadata"]["name"]
    known = (instance.status.get("volume") or {}).get("uid")
    accepted = (instance.obj["metadata"].get("annotations") or {}).get(ACKNOWLEDGE_ANNOTATION)
    if known in (None, uid) or accepted == uid:
        kept = Condition("VolumeKept", True, "VolumeKept")
        return Notes((kept,), (("volume", {"name": name, "uid": uid}),))
    message = (
        f"PersistentVolumeClaim {name} is not the one that the server was made with: what was on that is gone. "
        f"Restore the tenants that are Stalled with DataLost, or let them start empty; then set the annotation "
        f"{ACKNOWLEDGE_ANNOTATION} of this object to {uid}"
    )
    return Notes((Condition("VolumeKept", False, "VolumeReplaced", message),))
