"""The one-machine cluster as a whole."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tenantry_local import controlplane, devenv, facade, pool, programs, services
from tenantry_local.build import ensure_controlplane, ensure_helm
from tenantry_local.chart import Chart
from tenantry_local.controlplane import ControlPlane
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl
from tenantry_local.node.__main__ import BACK_OFF
from tenantry_local.node.process import Node
from tenantry_local.paths import Paths, remove_tree
from tenantry_local.postgres import Postgres
from tenantry_local.processes import Processes
from tenantry_local.services import Services
from tenantry_local.state import State

PROCESSES = ("etcd", "kube-apiserver", "kube-controller-manager", "postgres", "node", "operator", "api")
"""In the order they are started; they are stopped the other way round."""

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """Says nothing."""


class Cluster:
    """A cluster: etcd, kube-apiserver, kube-controller-manager, PostgreSQL, node, operator and facade.

    :param folder: where it keeps its files; None: ``TENANTRY_LOCAL_DIR``, else ``.local``. Clusters in
        different folders are independent of each other and may run at once.
    :param say: told a line for everything that was done.
    """

    def __init__(self, folder: Path | str | None = None, *, say: Say = _silent) -> None:
        self.paths = Paths(Path(folder).absolute()) if folder else Paths.default()
        self._say = say
        self.processes = Processes(self.paths)
        self._state: State | None = None
        self._chart: Chart | None = None

    def up(self, *, operator: bool = True, api: bool = True) -> None:
        """Starts what does not run. A second call, or one after a crash, starts only what is missing.

        :raises LocalError: when something does not start; what did start keeps running.
        :raises BuildError: when a Go program cannot be built.
        """
        started = time.monotonic()
        plane_binary, helm = ensure_controlplane(), ensure_helm()
        with self._locked():
            self.state.assign_ports([*controlplane.PORTS, "postgres", *services.PORTS], running=self._holds_port)
            self.plane.prepare()
            with ThreadPoolExecutor(max_workers=4) as threads:
                database = threads.submit(self._timed, "postgres", self.postgres.start)
                found = threads.submit(self._find_programs)
                rendering = threads.submit(Chart.render, helm)
                self._timed("etcd", lambda: self.plane.start_etcd(plane_binary))
                self._timed("kube-apiserver", lambda: self.plane.start_apiserver(plane_binary))
                manager = threads.submit(
                    self._timed,
                    "kube-controller-manager",
                    lambda: self.plane.start_controller_manager(plane_binary),
                )
                self._chart = rendered = rendering.result()
                self._timed("chart", lambda: rendered.apply(self.kubectl), done="applied")
                found.result()
                self._timed("node", lambda: self.node.start(self.kubectl))
                database.result()
                manager.result()
            self._timed("pool-a", lambda: pool.apply(self.postgres, self.kubectl), done="registered")
            if operator:
                self._timed("operator", self._start_operator)
            if api:
                self._timed("api", self._start_api)
            devenv.write(self.paths, self.state, self.postgres)
        self._say(f"up after {time.monotonic() - started:.1f} s")

    def down(self) -> None:
        """Stops what runs, by process id. Data stays, for the next start."""
        if not self.paths.pids.exists():
            return
        with self._locked():
            for name in reversed(PROCESSES):
                if self.node.stop() if name == "node" else self.processes.stop(name):
                    self._say(f"{name:<24} stopped")

    def clean(self) -> None:
        """Stops what runs and removes the cluster with its data. Built programs stay."""
        self.down()
        paths = self.paths
        for path in (paths.postgres, paths.node, paths.etcd, paths.pki, paths.logs, paths.cache):
            remove_tree(path)
        for name in ("operator", "api", "node", "kube-controller-manager"):
            self.paths.service_kubeconfig(name).unlink(missing_ok=True)
        for path in (self.paths.dev_env, self.paths.kubeconfig, self.paths.state):
            path.unlink(missing_ok=True)
        remove_tree(self.paths.pids)
        self._state = self._chart = None

    def start_operator(self, env: Mapping[str, str] | None = None, *, wait: bool = True) -> int:
        """Starts the operator, with variables on top of the chart's; returns its process id.

        One that runs with another environment is stopped first.

        :param wait: until it answers its health check; without, it may have ended again already.
        """
        with self._locked():
            return self._start_operator(env, wait=wait)

    def start_api(self, env: Mapping[str, str] | None = None) -> int:
        """Starts the facade, with variables on top of the chart's; returns its process id."""
        with self._locked():
            return self._start_api(env)

    def start_node(self, *, back_off: float = BACK_OFF) -> int:
        """Starts the node, anew when it runs with another setting; returns its process id.

        :param back_off: seconds before the second restart of a container.
        """
        with self._locked():
            return self.node.start(self.kubectl, back_off=back_off)

    def start_postgres(self) -> int:
        """Starts PostgreSQL, on the port it had unless that was taken; returns its process id."""
        with self._locked():
            self.state.assign_ports(["postgres"], running=self._holds_port)
            return self.postgres.start()

    def stop(self, name: str) -> bool:
        """Stops one process gently; returns whether it was running."""
        return self.processes.stop(name)

    def kill(self, name: str) -> bool:
        """Kills one process with SIGKILL; returns whether it was running."""
        return self.processes.kill(name)

    def kill_operator(self) -> bool:
        """Kills the operator with SIGKILL; returns whether it was running."""
        return self.kill("operator")

    def operator_pid(self) -> int | None:
        """The operator's process id; None when it does not run."""
        return self.processes.pid("operator")

    def status(self) -> dict[str, int | None]:
        """The process id of every process of the cluster; None where it does not run."""
        return {name: self.processes.pid(name) for name in PROCESSES}

    @property
    def state(self) -> State:
        """The cluster's ports and passwords."""
        if self._state is None:
            self.paths.create()
            self._state = State(self.paths.state)
        return self._state

    @property
    def plane(self) -> ControlPlane:
        """The control plane."""
        return ControlPlane(self.paths, self.state, self.processes)

    @property
    def postgres(self) -> Postgres:
        """The shared PostgreSQL server."""
        return Postgres(self.paths, self.state, self.processes)

    @property
    def node(self) -> Node:
        """The node, which runs pods."""
        return Node(self.paths, self.processes, self.plane)

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as administrator: ``cluster.kubectl("get", "tenants", "-A")``."""
        return Kubectl(self.paths.kubeconfig, self.paths.cache)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.paths.kubeconfig

    @property
    def operator_log(self) -> Path:
        """The operator's log."""
        return self.paths.log("operator")

    @property
    def metrics_url(self) -> str:
        """The operator's metrics."""
        return f"http://127.0.0.1:{self.state.port('operator-metrics')}/metrics"

    @property
    def api_url(self) -> str:
        """The facade."""
        return f"http://127.0.0.1:{self.state.port('api')}"

    def tenant_uri(self, namespace: str, secret: str) -> str:
        """The URL with which a tenant's program logs in, from its Secret.

        :raises LocalError: when there is no such Secret.
        """
        return self.kubectl.secret(namespace, secret)["uri"]

    def admin_dsn(self, database: str = "postgres") -> str:
        """The URL of PostgreSQL's superuser: for people and tests, never the operator's."""
        return self.postgres.superuser_dsn(database)

    def _start_operator(self, env: Mapping[str, str] | None = None, *, wait: bool = True) -> int:
        return self._services().start_operator(self._rendered(), self.kubectl, env, wait=wait)

    def _start_api(self, env: Mapping[str, str] | None = None) -> int:
        facade.apply(self.state, self.kubectl)
        return self._services().start_api(self._rendered(), self.kubectl, env or {})

    def _services(self) -> Services:
        return Services(self.paths, self.state, self.processes, self.plane)

    def _rendered(self) -> Chart:
        if self._chart is None:
            self._chart = Chart.render(ensure_helm())
        return self._chart

    def _find_programs(self) -> None:
        """Without MariaDB or Redis the cluster works, but for pods of theirs. In CI it must have them."""
        try:
            programs.install()
        except LocalError as error:
            if os.environ.get("CI"):
                raise
            self._say(f"{'node':<24} cannot run every image: {error}")

    def _holds_port(self, name: str) -> bool:
        owner = {"etcd-peer": "etcd", "operator-liveness": "operator", "operator-metrics": "operator"}
        return self.processes.pid(owner.get(name, name)) is not None

    def _timed(self, name: str, step: Callable[[], object], done: str = "ready") -> None:
        started = time.monotonic()
        ran = name in PROCESSES and self.processes.pid(name)
        step()
        again = "runs already" if ran and ran == self.processes.pid(name) else f"{done} after "
        seconds = "" if again == "runs already" else f"{time.monotonic() - started:.1f} s"
        self._say(f"{name:<24} {again}{seconds}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time works on a cluster; the system drops the lock when a process ends."""
        self.paths.create()
        descriptor = os.open(self.paths.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say("waiting for another command on this cluster")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
