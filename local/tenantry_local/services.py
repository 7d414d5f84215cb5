"""The operator and the facade, run beside the cluster as the chart would run them in it.

Each lives on a token of its ServiceAccount from the TokenRequest API, so that the chart's RBAC is all
it may do, and gets the environment of its Deployment, so that the chart is what is tried.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tenantry_local import chart
from tenantry_local.chart import Chart, Container
from tenantry_local.controlplane import ControlPlane, http_probe
from tenantry_local.kubectl import Kubectl, kubeconfig
from tenantry_local.paths import Paths, write_private
from tenantry_local.processes import Processes, Program, digest_of
from tenantry_local.state import State

PORTS = ["operator-liveness", "operator-metrics", "api"]
TOKEN_LIFETIME = "8760h"  # noqa: S105 - a duration
"""A token is made at every start of a process; nobody rewrites it under a process that runs for a year."""


class Services:
    """The operator and the facade of one cluster."""

    def __init__(self, paths: Paths, state: State, processes: Processes, plane: ControlPlane) -> None:
        self._paths = paths
        self._state = state
        self._processes = processes
        self._plane = plane

    def start_operator(
        self, rendered: Chart, kubectl: Kubectl, env: Mapping[str, str] | None = None, *, wait: bool = True
    ) -> int:
        """Starts the operator; returns its process id.

        :param env: variables on top of the chart's.
        :param wait: until it answers.
        """
        liveness = self._state.port("operator-liveness")
        own = {
            "TENANTRY_BIND_ADDRESS": "127.0.0.1",
            # There is no cluster DNS, and a Service has no address here.
            "TENANTRY_POD_ADDRESSES": "true",
            "TENANTRY_LIVENESS_PORT": str(liveness),
            "TENANTRY_METRICS_PORT": str(self._state.port("operator-metrics")),
        }
        pid = self._start("operator", rendered.container("operator"), kubectl, own | dict(env or {}))
        if wait:
            self._processes.wait("operator", http_probe(liveness, "/healthz"), timeout=60)
        return pid

    def start_api(self, rendered: Chart, kubectl: Kubectl, env: Mapping[str, str]) -> int:
        """Starts the facade and waits until it answers; returns its process id.

        :param env: variables on top of the chart's.
        """
        port = self._state.port("api")
        own = {"TENANTRY_API_HOST": "127.0.0.1", "TENANTRY_API_PORT": str(port)}
        pid = self._start("api", rendered.container("api"), kubectl, own | dict(env))
        self._processes.wait("api", http_probe(port, "/readyz"), timeout=60)
        return pid

    def _start(
        self,
        name: str,
        container: Container,
        kubectl: Kubectl,
        env: Mapping[str, str],
    ) -> int:
        file = self._paths.service_kubeconfig(name)
        own = {"KUBECONFIG": str(file), "HOME": str(self._paths.home)}
        variables = chart.environment(container, kubectl) | own | dict(env)
        # The image's python is the one that runs this.
        words = (sys.executable if word == "python" else word for word in container.command)
        authority = self._plane.pki.authority.certificate
        server = digest_of(self._plane.url, authority.read_bytes())
        program = Program(name, tuple(words), env=variables, depends=server)
        if self._processes.is_current(program):
            return self._processes.start(program)  # keeps it
        account = container.service_account
        token = kubectl("create", "token", account, "-n", chart.NAMESPACE, f"--duration={TOKEN_LIFETIME}")
        text = kubeconfig(self._plane.url, authority, token=token.strip(), namespace=chart.NAMESPACE)
        write_private(file, text)
        return self._processes.start(program)
