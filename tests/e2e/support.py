"""What the end-to-end tests share: manifests, waiting, logging in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

Object = dict[str, Any]
API = "tenantry.dev/v1alpha1"


def manifest(kind: str, name: str, spec: Mapping[str, Any], *, namespace: str | None = None) -> Object:
    """An object of one of Tenantry's kinds."""
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def namespace(name: str) -> Object:
    """A project."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"tenantry.dev/project": name}},
    }


def blueprint(where: str, name: str, migrations: Sequence[Mapping[str, Any]], **spec: Any) -> list[Object]:
    """A Blueprint with one version, 1.0."""
    version = {"blueprint": name, "version": "1.0", "migrations": list(migrations)}
    return [
        manifest("Blueprint", name, {"engine": "PostgreSQL", "version": "1.0", **spec}, namespace=where),
        manifest("BlueprintVersion", f"{name}-1.0", version, namespace=where),
    ]


def tenant(where: str, name: str, of: str, isolation: str = "Schema", **spec: Any) -> Object:
    """A Tenant with one database."""
    database = {"blueprint": of, "isolation": isolation}
    return manifest("Tenant", name, {"databases": [database], **spec}, namespace=where)


NOTES = [
    {
        "name": "notes",
        "sql": "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);"
        "CREATE VIEW note_count AS SELECT count(*) AS n FROM notes;",
    }
]
"""A schema that works under every isolation."""


class Api:
    """kubectl, in the words of the tests.

    :param cluster: anything with ``kubectl`` and ``tenant_uri``.
    """

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl

    def apply(self, *objects: Object, manager: str = "tests") -> None:
        """Applies objects server-side."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=document
        )

    def get(self, kind: str, name: str, where: str | None = None) -> Object | None:
        """An object; None when there is none."""
        arguments = ["get", kind, name, "-o", "json", "--ignore-not-found"] + (["-n", where] if where else [])
        text = self.kubectl(*arguments)
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def patch(self, kind: str, name: str, where: str | None, patch: Mapping[str, Any]) -> None:
        """A JSON merge patch."""
        arguments = ["patch", kind, name, "--type=merge", "-p", json.dumps(patch)]
        self.kubectl(*arguments, *(["-n", where] if where else []))

    def set_state(self, where: str, name: str, state: str, **spec: Any) -> None:
        """Asks for a state of a Tenant."""
        self.patch("tenant", name, where, {"spec": {"state": state, **spec}})

    def annotate(self, where: str, name: str, **values: str) -> None:
        """Sets annotations of a Tenant; the names are without their prefix."""
        annotations = {f"tenantry.dev/{key}": value for key, value in values.items()}
        self.patch("tenant", name, where, {"metadata": {"annotations": annotations}})

    def delete(self, kind: str, name: str, where: str | None = None) -> None:
        """Deletes an object, without waiting for it to be gone."""
        self.kubectl("delete", kind, name, "--wait=false", "--ignore-not-found", *(["-n", where] if where else []))

    def wait(
        self, kind: str, name: str, where: str | None, done: Callable[[Object | None], Any], timeout: float = 120
    ) -> Object:
        """Waits until an object is as wanted, and returns it; an empty one when it is gone."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.get(kind, name, where)
            if done(found):
                return found or {}
            if time.monotonic() > deadline:
                status = json.dumps((found or {}).get("status"), indent=1)
                raise AssertionError(f"after {timeout} s {kind} {name} is not as wanted: {status}")
            time.sleep(0.2)

    def ready(self, where: str, name: str, reason: str = "Ready", timeout: float = 120) -> Object:
        """Waits until a Tenant is Ready with a reason, for its present generation."""
        return self.wait("tenant", name, where, lambda t: t is not None and is_ready(t, reason), timeout)

    def trouble(self, kind: str, where: str | None, name: str, reason: str, timeout: float = 120) -> Object:
        """Waits until an object is not Ready for a reason; returns its Ready condition."""

        def in_trouble(obj: Object | None) -> bool:
            ready = condition(obj, "Ready") if obj else None
            return ready is not None and ready["status"] == "False" and ready["reason"] == reason

        found = self.wait(kind, name, where, in_trouble, timeout)
        ready = condition(found, "Ready")
        assert ready is not None
        return ready

    def gone(self, kind: str, name: str, where: str | None = None, timeout: float = 120) -> None:
        """Waits until an object is gone."""
        self.wait(kind, name, where, lambda found: found is None, timeout)

    def secret(self, where: str, name: str, entry: str) -> dict[str, str]:
        """The Secret of a tenant's database; empty when there is none."""
        if self.get("secret", f"{name}-{entry}-db", where) is None:
            return {}
        found: dict[str, str] = self.kubectl.secret(where, f"{name}-{entry}-db")
        return found

    def query(self, where: str, name: str, entry: str, statement: str) -> list[tuple[Any, ...]]:
        """Runs a statement as the tenant's login; [] when it gives no rows."""
        uri = self.cluster.tenant_uri(where, f"{name}-{entry}-db")
        return run(uri, statement)


def pods_of(api: Api, where: str, selector: str) -> list[Object]:
    """The pods that a selector finds and that are to stay."""
    found = json.loads(api.kubectl("get", "pods", "-n", where, "-l", selector, "-o", "json"))
    return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]


def come_up(api: Api, where: str, selector: str) -> None:
    """Where no node runs pods: says what a kubelet would say of those that run."""
    for pod in pods_of(api, where, selector):
        conditions = (pod.get("status") or {}).get("conditions") or []
        if pod["spec"].get("nodeName") or any((c["type"], c["status"]) == ("Ready", "True") for c in conditions):
            continue
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        patch = ["--subresource=status", "--type=merge", "-p", json.dumps({"status": status})]
        api.kubectl("patch", "pod", pod["metadata"]["name"], "-n", where, *patch)


def run(uri: str, statement: str, *, autocommit: bool = False) -> list[tuple[Any, ...]]:
    """Runs a statement; [] when it gives no rows."""
    with psycopg.connect(uri, connect_timeout=10, autocommit=autocommit) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def refused(uri: str) -> bool:
    """Whether a login is refused."""
    try:
        psycopg.connect(uri, connect_timeout=10).close()
    except psycopg.OperationalError:
        return True
    return False


def condition(obj: Object, kind: str) -> Object | None:
    """A condition by type."""
    found = (obj.get("status") or {}).get("conditions") or []
    return next((c for c in found if c["type"] == kind), None)


def is_ready(obj: Object, reason: str = "Ready") -> bool:
    """Whether an object is Ready for its present generation, with a reason."""
    status = obj.get("status") or {}
    ready = condition(obj, "Ready")
    return (
        status.get("observedGeneration") == obj["metadata"]["generation"]
        and ready is not None
        and (ready["status"], ready["reason"]) == ("True", reason)
    )
