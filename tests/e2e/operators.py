"""Stand-ins for CloudNativePG and the MariaDB operator: what their documentation says that they do, no more.

The servers are real: pods of the one-machine cluster.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from abc import ABC, abstractmethod
from base64 import b64encode
from typing import Any

from tests.e2e.support import Api, Object

DAY = "2026-01-01T00:00:00Z"
log = logging.getLogger(__name__)


class StandIn(ABC):
    """Serves the custom resources of a namespace, in a thread, until it is stopped."""

    plural: str

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            try:
                text = self.api.kubectl("get", self.plural, "-n", self.namespace, "-o", "json")
                for resource in json.loads(text)["items"]:
                    self.serve(resource)
            except Exception:
                # pytest shows it with a test that fails. One is no harm: the next round is another try.
                log.exception("the stand-in for the operator of %s", self.plural)

    @abstractmethod
    def serve(self, resource: Object) -> None:
        """One round."""

    def named(self, resource: Object, kind: str, suffix: str = "", **content: Any) -> Object:
        """An object that goes with the resource."""
        meta = resource["metadata"]
        owner = {
            "apiVersion": resource["apiVersion"],
            "kind": resource["kind"],
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        api_version = {"StatefulSet": "apps/v1"}.get(kind, "v1")
        metadata = {"name": meta["name"] + suffix, "namespace": self.namespace, "ownerReferences": [owner]}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}

    def report(self, resource: Object, status: Object) -> None:
        """Writes the status, when it is another."""
        if (resource.get("status") or {}).items() >= status.items():
            return
        patch = json.dumps({"status": status})
        name = resource["metadata"]["name"]
        self.api.kubectl(
            "patch", self.plural, name, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", patch
        )


def condition(kind: str, true: bool, reason: str, message: str = "") -> Object:
    """A condition."""
    return {
        "type": kind,
        "status": str(true),
        "reason": reason,
        "message": message,
        "lastTransitionTime": DAY,
    }


def is_ready(pod: Object | None) -> bool:
    """Whether a pod is ready."""
    found = ((pod or {}).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found)


def claim(resource: Object, size: str) -> Object:
    """What a volume is to be."""
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }


class CloudNativePG(StandIn):
    """One server per Cluster, with a Secret of the superuser."""

    plural = "clusters.postgresql.cnpg.io"

    def serve(self, resource: Object) -> None:
        """A pod, unless the annotation says that it is to sleep."""
        name = resource["metadata"]["name"]
        if resource["spec"].get("enableSuperuserAccess") and not self.api.get(
            "secret", f"{name}-superuser", self.namespace
        ):
            password = secrets.token_urlsafe(24)
            data = {"username": "postgres", "password": password, "host": f"{name}-rw"}
            encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
            kind = "kubernetes.io/basic-auth"
            self.api.apply(self.named(resource, "Secret", "-superuser", data=encoded, type=kind), manager="cnpg")
        if (resource["metadata"].get("annotations") or {}).get("cnpg.io/hibernation") == "on":
            self.api.delete("pod", f"{name}-1", self.namespace)
            gone = self.api.get("pod", f"{name}-1", self.namespace) is None
            # The Cluster stays "healthy": only the second condition tells.
            hibernated = condition("cnpg.io/hibernation", gone, "Hibernated", "Cluster has been hibernated")
            known = [
                one for one in (resource.get("status") or {}).get("conditions") or [] if one["type"] == "Ready"
            ]
            self.report(resource, {"conditions": [*known, hibernated], "readyInstances": 0})
            return
        size = resource["spec"]["storage"]["size"]
        pod = self.api.get("pod", f"{name}-1", self.namespace)
        if pod is None:
            self.api.apply(
                self.named(resource, "PersistentVolumeClaim", "-1", spec=claim(resource, size)), manager="cnpg"
            )
            self.api.apply(self._pod(resource), manager="cnpg")
        if not is_ready(pod):
            message = "Creating primary instance"
            conditions = [condition("Ready", False, "ClusterIsNotReady", message)]
            self.report(resource, {"conditions": conditions, "readyInstances": 0, "phase": "Setting up primary"})
            return
        conditions = [condition("Ready", True, "ClusterIsReady", "Cluster is Ready")]
        status = {"conditions": conditions, "readyInstances": 1, "currentPrimary": f"{name}-1"}
        self.report(resource, {**status, "phase": "Cluster in healthy state"})

    def _pod(self, resource: Object) -> Object:
        name = resource["metadata"]["name"]
        password = {"secretKeyRef": {"name": f"{name}-superuser", "key": "password"}}
        container = {
            "name": "postgres",
            "image": "postgres:18",
            "env": [
                {"name": "POSTGRES_PASSWORD", "valueFrom": password},
                {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
            ],
            "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
            "volumeMounts": [{"name": "pgdata", "mountPath": "/var/lib/postgresql/data"}],
        }
        volume = {"name": "pgdata", "persistentVolumeClaim": {"claimName": f"{name}-1"}}
        return self.named(resource, "Pod", "-1", spec={"containers": [container], "volumes": [volume]})


class MariaDB(StandIn):
    """A StatefulSet per MariaDB, which is left alone while the MariaDB is suspended."""

    plural = "mariadbs.k8s.mariadb.com"

    def serve(self, resource: Object) -> None:
        """Nothing while it is suspended."""
        if resource["spec"].get("suspend") or "deletionTimestamp" in resource["metadata"]:
            return
        name = resource["metadata"]["name"]
        self.api.apply(self._stateful_set(resource), manager="mariadb-operator")
        ready = is_ready(self.api.get("pod", f"{name}-0", self.namespace))
        reason, message = ("StatefulSetReady", "Running") if ready else ("StatefulSetNotReady", "Not ready")
        self.report(resource, {"conditions": [condition("Ready", ready, reason, message)]})

    def _stateful_set(self, resource: Object) -> Object:
        name = resource["metadata"]["name"]
        labels = {"app.kubernetes.io/name": "mariadb", "app.kubernetes.io/instance": name}
        spec = resource["spec"]
        root = {key: spec["rootPasswordSecretKeyRef"][key] for key in ("name", "key")}
        container = {
            "name": "mariadb",
            "image": spec.get("image") or "mariadb:11.8",
            "env": [
                {"name": "MARIADB_ROOT_PASSWORD", "valueFrom": {"secretKeyRef": root}},
                {"name": "MARIADB_ROOT_HOST", "value": "%"},
            ],
            "readinessProbe": {"tcpSocket": {"port": 3306}, "periodSeconds": 1},
            "volumeMounts": [{"name": "storage", "mountPath": "/var/lib/mysql"}],
        }
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        size = spec["storage"]["size"]
        return self.named(
            resource,
            "StatefulSet",
            spec={
                "replicas": spec.get("replicas", 1),
                "serviceName": f"{name}-internal",
                "selector": {"matchLabels": labels},
                "template": template,
                "volumeClaimTemplates": [
                    {"metadata": {"name": "storage", "labels": labels}, "spec": claim(resource, size)}
                ],
            },
        )
