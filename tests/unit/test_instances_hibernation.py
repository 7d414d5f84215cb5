"""When a dedicated server sleeps, and what is told of one that is not up."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.instances import pods, volumes
from tenantry_operator.instances.external import External
from tenantry_operator.instances.hibernation import at_rest, due, has_left, is_asleep, may_sleep
from tenantry_operator.instances.manifests.design import Plan
from tenantry_operator.instances.provider import Instance
from tenantry_operator.kube import NotFound

Object = dict[str, Any]

HOME = ("shop", "main")


def server(role: str = "Dedicated", **spec: Any) -> Object:
    ways = {"statefulSet": {}} if not {"external", "mariaDB", "cloudNativePG"} & set(spec) else {}
    meta = {"name": "main", "namespace": "shop", "uid": "u"}
    return {"metadata": meta, "spec": {"engine": "PostgreSQL", "role": role, **ways, **spec}}


def tenant(state: str | None, phase: str | None, *, home: str = "main", **meta: Any) -> Object:
    record = {"name": "db", "instance": home, "instanceNamespace": "shop", "phase": phase}
    return {
        "metadata": {"name": "acme", "namespace": "shop", **meta},
        "spec": {"state": state} if state else {},
        "status": {"databases": [record]},
    }


@pytest.mark.parametrize(
    ("obj", "rests"),
    [
        (tenant("Suspended", "Suspended"), True),
        (tenant("Archived", "Suspended"), True),
        (tenant("Deleted", "Deleted"), True),
        (tenant("Draft", "Draft"), True),
        (tenant(None, "Ready"), False),
        (tenant("Active", "Suspended"), False),
        # It is to rest, and does not yet.
        (tenant("Suspended", "Ready"), False),
        (tenant("Suspended", "Pending"), False),
        (tenant("Suspended", "Failed"), False),
        # It is to go, and may have to be dropped.
        (tenant("Suspended", "Suspended", deletionTimestamp="now"), False),
        # What is elsewhere does not matter.
        (tenant("Suspended", "Pending", home="other"), True),
    ],
)
def test_a_tenant_rests_when_it_is_to_and_does(obj: Object, rests: bool) -> None:
    assert at_rest(obj, HOME) is rests


def placed(databases: list[Object], records: list[Object]) -> Object:
    """An active tenant whose database was put on the server once."""
    annotation = {"tenantry.dev/placement": '{"db": "shop/main"}'}
    return {
        "metadata": {"name": "acme", "namespace": "shop", "annotations": annotation},
        "spec": {"databases": databases},
        "status": {"databases": records},
    }


@pytest.mark.parametrize(
    ("databases", "records", "left"),
    [
        ([], [], True),
        ([{"name": "other", "blueprint": "db"}], [], True),
        ([{"name": "db", "blueprint": "x"}], [], False),
        ([{"blueprint": "db"}], [], False),
        # It was taken out, and is being dropped, or its logins refused.
        ([], [{"name": "db", "blueprint": "db", "phase": "Ready"}], False),
    ],
)
def test_what_was_taken_out_and_is_retained_needs_no_server(
    databases: list[Object], records: list[Object], left: bool
) -> None:
    obj = placed(databases, records)
    assert has_left(obj, HOME) is left
    assert at_rest(obj, HOME) is left


def test_servers_sleep_when_all_their_tenants_rest() -> None:
    resting, active = tenant("Suspended", "Suspended"), tenant("Active", "Ready")

    def nothing(_: Object) -> bool:
        return False

    assert due(server(), HOME, [resting, resting], nothing)
    assert not due(server(), HOME, [resting, active], nothing)
    assert not due(server(), HOME, [], nothing), "one without tenants stays up for those to come"
    assert not due(server(), HOME, [resting], lambda _: True), "a rollout is about to migrate it"
    assert not due(server("Shared"), HOME, [resting], nothing)


def test_not_every_server_can_sleep() -> None:
    assert may_sleep(server(cloudNativePG={}))
    assert may_sleep(server(mariaDB={}))
    assert not may_sleep(server(mariaDB={"replicas": 3}))
    assert not may_sleep(server(external={"host": "x"}))
    leaving = server()
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert not may_sleep(leaving)


def test_only_what_says_so_is_asleep() -> None:
    def obj(status: str, reason: str) -> Object:
        return {"status": {"conditions": [{"type": "Ready", "status": status, "reason": reason}]}}

    assert is_asleep(obj("True", "Hibernated"))
    assert not is_asleep(obj("True", "Ready"))
    assert not is_asleep(obj("False", "InstanceStarting"))
    assert not is_asleep({})
    assert not is_asleep(None)


# What is told of a pod


SET: Object = {"metadata": {"name": "main"}}
BOUND: Object = {"metadata": {"name": "data-main-0"}, "status": {"phase": "Bound"}}


def pod(*, init: Object | None = None, state: Object | None = None, **status: Any) -> Object:
    conditions = [{"type": "PodScheduled", "status": "True"}]
    found: Object = {"conditions": conditions, **status}
    for field, value in (("initContainerStatuses", init), ("containerStatuses", state)):
        if value is not None:
            found[field] = [{"name": "server", "state": value}]
    return {"metadata": {"name": "main-0"}, "status": found}


@pytest.mark.parametrize(
    ("found", "claim", "words"),
    [
        (None, None, "pod main-0 is not there yet"),
        (pod(), None, "PersistentVolumeClaim data-main-0 is not there yet"),
        (pod(), {**BOUND, "status": {"phase": "Pending"}}, "PersistentVolumeClaim data-main-0 is Pending"),
        (pod(), BOUND, "pod main-0 is starting"),
        (pod(conditions=[]), BOUND, "has no node yet"),
        (pod(state={"waiting": {"reason": "ContainerCreating"}}), BOUND, "is starting"),
        (
            pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}),
            BOUND,
            "container server: ImagePullBackOff: no such tag",
        ),
        (pod(init={"terminated": {"exitCode": 1, "reason": "Error"}}), BOUND, "container server ended: Error"),
        (pod(init={"terminated": {"exitCode": 0, "reason": "Completed"}}), BOUND, "is starting"),
        (pod(phase="Failed", reason="Evicted", message="low on disk"), BOUND, "Evicted: low on disk"),
    ],
)
def test_what_kubernetes_says_is_passed_on(found: Object | None, claim: Object | None, words: str) -> None:
    assert words in pods.trouble(found, claim, SET)


def test_a_pod_that_goes_is_not_ready() -> None:
    ready = pod(conditions=[{"type": "Ready", "status": "True"}])
    assert pods.is_ready(ready)
    ready["metadata"]["deletionTimestamp"] = "now"
    assert not pods.is_ready(ready)
    assert not pods.is_ready(None)


# Volumes


def claim(size: str = "10Gi", uid: str = "v1", **spec: Any) -> Object:
    return {
        "metadata": {"name": "data-main-0", "uid": uid, "annotations": {"tenantry.dev/data": "postgres-18"}},
        "spec": {"resources": {"requests": {"storage": size}}, **spec},
    }


def plan(**more: Any) -> Plan:
    values = {"image": "postgres:18", "storage": "10Gi", **more}
    return Plan(namespace="shop", name="main", uid="u", engine=DatabaseEngine.POSTGRESQL, **values)


def test_a_volume_never_shrinks_nor_changes_its_kind() -> None:
    instance = Instance(server())
    volumes.check(instance, plan(), claim())
    volumes.check(instance, plan(storage="20Gi"), claim())
    volumes.check(instance, plan(storage="10240Mi"), claim())
    for wanted, reason in (
        (plan(storage="9Gi"), "StorageShrink"),
        (plan(storage_class="fast"), "StorageClassChange"),
        (plan(image="postgres:17"), "MajorVersionChange"),
    ):
        with pytest.raises(Stalled) as caught:
            volumes.check(instance, wanted, claim(storageClassName="slow"))
        assert caught.value.reason == reason


def test_another_volume_is_told_until_somebody_accepts_it() -> None:
    def notes(status: Object, annotations: Object) -> tuple[bool | None, str]:
        obj = {**server(), "status": status}
        obj["metadata"] = {**obj["metadata"], "annotations": annotations}
        found = volumes.notes(Instance(obj), claim(uid="v2"))
        kept = dict(found.fields).get("volume", status.get("volume"))
        return found.conditions[0].status, kept["uid"]

    assert notes({}, {}) == (True, "v2")
    assert notes({"volume": {"uid": "v2"}}, {}) == (True, "v2")
    assert notes({"volume": {"uid": "v1"}}, {}) == (False, "v1")
    assert notes({"volume": {"uid": "v1"}}, {"tenantry.dev/acknowledge": "v2"}) == (True, "v2")


# External servers


class Secrets:
    """Secrets as the API server has them."""

    def __init__(self, **secrets: dict[str, str]) -> None:
        self._secrets = secrets

    async def get(self, _: Any, namespace: str, name: str) -> Object:
        if name not in self._secrets:
            raise NotFound(404, "NotFound", name)
        data = {key: b64encode(value.encode()).decode() for key, value in self._secrets[name].items()}
        return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": "7"}, "data": data}


async def access(external: Object, **secrets: dict[str, str]) -> Access:
    obj = server(external=external) | {}
    obj["spec"]["engine"] = "MongoDB"
    return await External(Secrets(**secrets)).access(Instance(obj))  # type: ignore[arg-type]


async def test_ferretdb_comes_with_the_postgresql_behind_it() -> None:
    external = {"host": "ferret", "adminSecret": {"name": "front"}}
    front = {"username": "u", "password": "p"}
    back = {"username": "a", "password": "b", "ca.crt": "PEM"}
    plain = await access(external, front=front)
    assert plain.backend is None
    behind = {"host": "postgres", "adminSecret": {"name": "back"}}
    found = await access({**external, "ferretdb": behind}, front=front, back=back)
    assert (found.host, found.port, found.username) == ("ferret", 27017, "u")
    assert found.backend is not None
    assert (found.backend.host, found.backend.port, found.backend.database) == ("postgres", 5432, "ferretdb")
    assert (found.backend.username, found.backend.sslmode) == ("a", "verify-full")
    with pytest.raises(Waiting, match="Secret shop/back"):
        await access({**external, "ferretdb": behind}, front=front)
