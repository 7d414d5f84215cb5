"""What a service of a tenant is made of: the part of a Blueprint that is a service template."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tenantry_crds.common import ComputeResources, SpecModel
from tenantry_crds.fields import DataKey, DnsName, Port, PositiveInt, Rule, list_atomic, list_map, text
from tenantry_crds.pods import PodSettings


class SecretKeyRef(SpecModel):
    """A key of a Secret in the namespace of the Blueprint and its tenants."""

    name: DnsName
    """The Secret's name."""
    key: DataKey
    """The key whose value is meant."""


class EnvSource(SpecModel):
    """Where the value of an environment variable comes from."""

    secret_key_ref: SecretKeyRef
    """A key of a Secret. All tenants of the blueprint get the same value; a tenant's own credentials are in
    ``/bindings``."""


class EnvVar(SpecModel):
    """An environment variable of a service."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "env: give value or valueFrom, not both",
        ),
        Rule(
            "!self.name.startsWith('TENANTRY_') && self.name != 'SERVICE_BINDING_ROOT'",
            "env: TENANTRY_... and SERVICE_BINDING_ROOT are set by the operator; take another name",
            ".name",
        ),
    )

    name: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """The variable's name."""
    value: Annotated[str, text(32768)] | None = None
    """The variable's value; left out: empty. ``$(NAME)`` stands for another variable, such as
    ``$(TENANTRY_TENANT_ID)``. Not for secrets."""
    value_from: EnvSource | None = None
    """In place of ``value``: where it comes from."""


class HttpGet(SpecModel):
    """Asks for a page: an answer from 200 to 399 is good."""

    path: Annotated[str, Field(max_length=2048, pattern=r"^/")] = "/"
    """The path."""
    port: Port | None = None
    """The port. Left out: the service's."""


class TcpSocket(SpecModel):
    """Opens a connection."""

    port: Port | None = None
    """The port. Left out: the service's."""


class ExecAction(SpecModel):
    """Runs a program in the container: exit code 0 is good."""

    command: Annotated[
        tuple[Annotated[str, text(4096)], ...], list_atomic(max_items=64), Field(min_length=1, max_length=64)
    ]
    """The program and its arguments. No shell is involved."""


class Probe(SpecModel):
    """How to find out how a service is. The numbers are Kubernetes' own, with its defaults."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) + (has(self.exec) ? 1 : 0) == 1",
            "probe: give exactly one of httpGet, tcpSocket and exec",
        ),
    )

    http_get: HttpGet | None = None
    """Asks for a page."""
    tcp_socket: TcpSocket | None = None
    """Opens a connection."""
    exec: ExecAction | None = None
    """Runs a program."""
    initial_delay_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds before the first time."""
    period_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds between two times."""
    timeout_seconds: Annotated[int, Field(ge=1, le=86400)] | None = None
    """Seconds that it may take."""
    failure_threshold: PositiveInt | None = None
    """After how many failures in a row it counts as failed."""


class Probes(SpecModel):
    """How the pods of a service are watched."""

    readiness: Probe | None = None
    """Whether a pod may get requests."""
    liveness: Probe | None = None
    """Whether a pod is to be restarted."""
    startup: Probe | None = None
    """Whether a pod has started; until then the other two wait."""


_HAS_PORT = (
    "!has(self.probes) || !has(self.probes.{0}) || "
    "!((has(self.probes.{0}.httpGet) && !has(self.probes.{0}.httpGet.port)) || "
    "(has(self.probes.{0}.tcpSocket) && !has(self.probes.{0}.tcpSocket.port)))"
)


class Program(SpecModel):
    """What a service runs."""

    image: Annotated[str, Field(min_length=1, max_length=1024)]
    """The container image."""
    command: Annotated[tuple[Annotated[str, text(4096)], ...], list_atomic(max_items=64)] = Field(
        default_factory=tuple
    )
    """The program to run. Empty: the image's own."""
    args: Annotated[tuple[Annotated[str, text(4096)], ...], list_atomic(max_items=64)] = Field(
        default_factory=tuple
    )
    """Arguments of the program."""
    port: Port | None = None
    """The port it listens on. With it, a Service of the Deployment's name leads to the pods, and the pods get
    it as ``PORT``."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """How many pods run it, for tenants that do not say."""
    env: Annotated[tuple[EnvVar, ...], list_map("name", max_items=64)] = Field(default_factory=tuple)
    """Its environment, beside what the operator sets."""
    run_as_user: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = None
    """The number of the user that it runs as. Left out: the image's."""
    run_as_non_root: bool = False
    """Whether an image that would run as root is refused, as the Pod Security Standard ``restricted`` asks for."""
    resources: ComputeResources | None = None
    """Its CPU and memory."""
    probes: Probes | None = None
    """How its pods are watched. Without a readiness probe a pod counts as ready once it runs."""


class ServiceTemplate(PodSettings, Program):
    """A service that each tenant gets: a Deployment, and a Service when it has a port."""

    rules: ClassVar[tuple[Rule, ...]] = tuple(
        Rule(
            f"has(self.port) || {_HAS_PORT.format(kind)}",
            f"probes.{kind}: the service has no port; give the probe a port, or set port",
            f".probes.{kind}",
        )
        for kind in ("readiness", "liveness", "startup")
    )
