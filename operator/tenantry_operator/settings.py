"""The operator's settings: environment variables with the prefix ``TENANTRY_``.

Durations are numbers with a unit (``500ms``, ``30s``, ``5m``, ``2h``). The chart sets all of them from
its values; every one has a default that suits a cluster.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tenantry_crds.common import ComputeResources, DatabaseEngine
from tenantry_crds.pods import PodSettings
from tenantry_crds.quantities import parse_duration


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]


class InstanceDefaults(BaseModel):
    """What a server that Tenantry runs is made of, where its DatabaseInstance does not say."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    image: str
    storage: int | str = "10Gi"
    storage_class_name: str = ""
    """Empty: the cluster's default."""
    resources: ComputeResources = ComputeResources()
    backend_image: str = ""
    """Of the PostgreSQL behind FerretDB."""


class PodDefaults(PodSettings):
    """What pods get besides their containers; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


def _instances() -> dict[DatabaseEngine, InstanceDefaults]:
    return {
        DatabaseEngine.POSTGRESQL: InstanceDefaults(image="postgres:18"),
        DatabaseEngine.MYSQL: InstanceDefaults(image="mariadb:11.4"),
        DatabaseEngine.MONGODB: InstanceDefaults(
            image="ghcr.io/ferretdb/ferretdb:1.24", backend_image="postgres:16"
        ),
        DatabaseEngine.REDIS: InstanceDefaults(image="valkey/valkey:8"),
    }


def _with_all(value: dict[DatabaseEngine, InstanceDefaults]) -> dict[DatabaseEngine, InstanceDefaults]:
    return {**_instances(), **value}


class Settings(BaseSettings):
    """What can be set. The docstring of each field is its documentation."""

    model_config = SettingsConfigDict(env_prefix="TENANTRY_", use_attribute_docstrings=True)

    namespace: str = "tenantry-system"
    """The operator's own namespace: shared DatabaseInstances, their Secrets and the Lease live here."""
    installation_id: str = ""
    """Told apart in ownership marks. Empty: the uid of the namespace ``kube-system``, which names the
    cluster. Set it to the old cluster's when a cluster is rebuilt and its databases are to be adopted."""
    watch_namespaces: Words = Field(default_factory=list)
    """Namespaces to serve, comma separated; empty: all."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe records that are written."""
    log_format: Literal["json", "console"] = "json"
    """``json`` for machines, ``console`` for people."""
    bind_address: str = "0.0.0.0"  # noqa: S104 - probes and scrapes come from outside of the pod
    """Where the two HTTP endpoints listen."""
    liveness_port: int = 8081
    """Port of ``/healthz``."""
    metrics_port: int = 8080
    """Port of ``/metrics``."""
    sweep_interval: Seconds = 30.0
    """How often every server is observed: drift, sizes, quotas."""
    usage_interval: Seconds = 300.0
    """How often usage queries run, for tenants whose data changed since."""
    retire_after: Seconds = 60.0
    """How long the old login works after the Secret of a rotation is written."""
    server_concurrency: int = Field(default=4, ge=1, le=256)
    """Connections and statements at a time per database server."""
    workers: int = Field(default=64, ge=1, le=4096)
    """Reconciles at a time. They mostly wait for servers, which are bounded each on its own."""
    stalled_after: Seconds = 300.0
    """How long something that may still come is waited for before the object also counts as stalled."""
    dedicated: dict[str, Any] = Field(default_factory=dict)
    """What servers of the isolation ``Instance`` are made from, as JSON: fields of a DatabaseInstance's spec, and
    by engine what goes in their place. A Plan's ``spec.dedicated`` goes in the place of these."""
    instances_enabled: bool = True
    """Whether DatabaseInstances may run in the cluster, as StatefulSets or by other operators. The operator needs
    rights for that."""
    pod_addresses: bool = False
    """Whether servers that run in the cluster are reached by their pods' addresses rather than by the names of
    their Services: for clusters without DNS."""
    instances: Annotated[dict[DatabaseEngine, InstanceDefaults], AfterValidator(_with_all)] = Field(
        default_factory=_instances
    )
    """By engine, what DatabaseInstances with ``spec.statefulSet`` get that leave it out, in JSON:
    ``{"PostgreSQL": {"image": "postgres:18", "storage": "10Gi"}}``."""
    instance_pods: PodDefaults = PodDefaults()
    """What pods of servers that run in the cluster get besides their containers, where their DatabaseInstance does
    not say, in JSON: ``{"imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"pool": "databases"}}``."""
    lease_name: str = "tenantry-operator"
    """The Lease that keeps a second operator from working at the same time."""
    lease_duration: Seconds = 15.0
    """How long a holder that stopped renewing keeps the Lease."""
