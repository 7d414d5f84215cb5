"""What the builders share: the server to be built, and what an engine says of its pod. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantry_crds.common import ComputeResources, DatabaseEngine
from tenantry_crds.pods import PodSettings
from tenantry_operator.instances.manifests.flavours import generation
from tenantry_operator.names import INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL

Object = dict[str, Any]

CONFIG = "/etc/tenantry"
"""Where the server's configuration is mounted."""
SEEDS = "/etc/tenantry-seeds"
"""Where init containers find what a new server starts with."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A server to be built, all defaults filled in."""

    namespace: str
    name: str
    uid: str
    """Of the DatabaseInstance."""
    engine: DatabaseEngine
    image: str
    storage: int | str
    storage_class: str | None = None
    resources: ComputeResources | None = None
    backend_image: str = ""
    """Of the PostgreSQL behind FerretDB."""
    asleep: bool = False
    """Whether it is scaled to zero."""
    pods: PodSettings = field(default_factory=PodSettings)
    """What the pod gets besides its containers."""
    clients: tuple[str, ...] = ()
    """Names of the namespaces whose pods may connect."""
    projects: bool = False
    """Whether pods of every project may connect."""

    @property
    def labels(self) -> dict[str, str]:
        """What selects the server's objects. It never changes: StatefulSets cannot change their selectors."""
        return labels_of(self.name)

    @property
    def generation(self) -> str:
        """What can read the server's data."""
        if self.backend_image:
            return generation(DatabaseEngine.POSTGRESQL, self.backend_image)
        return generation(self.engine, self.image)

    @property
    def secret(self) -> str:
        """The Secret of the administrator."""
        return admin_secret(self.name)

    @property
    def claim(self) -> str:
        """The PersistentVolumeClaim that the StatefulSet makes."""
        return claim_name(self.name)

    @property
    def config_map(self) -> str:
        """The ConfigMap with the server's configuration."""
        return config_map(self.name)


def labels_of(instance: str) -> dict[str, str]:
    """The labels of what is made for an instance."""
    return {MANAGED_BY_LABEL: MANAGED_BY, INSTANCE_LABEL: instance}


def admin_secret(instance: str) -> str:
    """The name of the Secret of the administrator of an instance that is not external."""
    return f"{instance}-admin"


def config_map(instance: str) -> str:
    """The ConfigMap with the configuration of an instance."""
    return f"{instance}-config"


def headless_service(instance: str) -> str:
    """The Service that gives the pod its name."""
    return f"{instance}-headless"


def claim_name(instance: str) -> str:
    """The name that the StatefulSet controller gives to the claim of the only pod."""
    return f"data-{instance}-0"


def pod_name(instance: str) -> str:
    """The only pod of an instance."""
    return f"{instance}-0"


@dataclass(frozen=True, slots=True)
class Design:
    """What an engine says of its pod. The common builder adds what is the same for all."""

    port: int
    """Where tenants connect."""
    user: int
    """The user id that the images run as; volumes belong to a group of the same number unless ``group`` tells."""
    containers: tuple[Object, ...]
    config: Mapping[str, str]
    """Files of the configuration, by name."""
    init_containers: tuple[Object, ...] = ()
    group: int | None = None
    scratch: tuple[str, ...] = ()
    """Names of emptyDir volumes."""
    seeds: tuple[str, ...] = ()
    """Keys of the Secret that init containers find as files below :data:`SEEDS`."""
    other_ports: Mapping[str, int] = field(default_factory=dict)
    """Further ports, that only the operator may connect to."""
    grace: int = 120
    """Seconds that the server gets to stop."""


def secret_env(name: str, secret: str, key: str) -> Object:
    """An environment variable with a value out of a Secret."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def mount(name: str, path: str, *, read_only: bool = False) -> Object:
    """A volume in a container."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def probes(
    startup: Object, readiness: Object | None = None, liveness: Object | None = None, *, lasting: int = 1
) -> Object:
    """The probes of a container.

    It has ten minutes to start, since recovery after a crash takes its time; afterwards it is out of service
    after 15 seconds without an answer, and restarted after a minute.

    :param lasting: seconds that the startup probe takes to say no.
    """
    return {
        "startupProbe": {
            **startup,
            "periodSeconds": 1,
            "timeoutSeconds": 5 + lasting,
            "failureThreshold": 600 // lasting,
        },
        "readinessProbe": {
            **(readiness or startup),
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            **(liveness or startup),
            "periodSeconds": 20,
            "timeoutSeconds": 10,
            "failureThreshold": 3,
        },
    }


def confined() -> Object:
    """The security context of every container: nothing but its own files, no rights to gain."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }
