"""The operator's settings: environment variables with the prefix ``TENANTRY_``.

Durations are numbers with a unit (``500ms``, ``30s``, ``5m``, ``2h``). The chart sets all of them from
its values; every one has a default that suits a cluster.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tenantry_crds.quantities import parse_duration


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_words)]


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
    lease_name: str = "tenantry-operator"
    """The Lease that keeps a second operator from working at the same time."""
    lease_duration: Seconds = 15.0
    """How long a holder that stopped renewing keeps the Lease."""
