"""``make kind``: the chart with its images on a kind cluster, for people with Docker.

The cluster gets a shared PostgreSQL and the examples; ``.local/kind.env`` says how to reach it, and points
the end-to-end tests at it.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tenantry_local.build import ensure_helm
from tenantry_local.chart import MANAGER, NAMESPACE, RELEASE
from tenantry_local.demo import EXAMPLES
from tenantry_local.demo import NAMESPACE as PROJECT
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl
from tenantry_local.paths import CHECKOUT, Paths, chart_folder, write_private
from tenantry_local.pool import NAME as POOL
from tenantry_local.state import State
from tenantry_local.tenants import wait_for_tenants

CLUSTER = "tenantry"
FOLDER = CHECKOUT / "local" / "kind"
ADMIN_SQL = CHECKOUT / "examples" / "instances" / "create-admin.sql"
ADMIN = "tenantry"
NODE_PORT = 30432
ADVICE = {
    "docker": "Install a Docker engine, or run `make demo`, which needs none.",
    "kind": "Install kind (https://kind.sigs.k8s.io), for example: go install sigs.k8s.io/kind@latest",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind cluster of this checkout."""

    paths: Paths

    @property
    def kubeconfig(self) -> Path:
        """Its administrator's kubeconfig; mode 0600."""
        return self.paths.home / "kind.kubeconfig"

    @property
    def environment(self) -> Path:
        """Its addresses and credentials, for shells and the end-to-end tests; mode 0600."""
        return self.paths.home / "kind.env"

    def up(self) -> None:
        """Makes the cluster unless it is there, and brings images, chart, server and examples up to date.

        :raises LocalError: when something is missing or fails.
        """
        for name, advice in ADVICE.items():
            if shutil.which(name) is None:
                raise LocalError(f"`{name}` is not on PATH. {advice}")
        self.paths.create()
        state = State(self.paths.state)
        superuser, admin = state.secret("kind-superuser"), state.secret("kind-admin")
        if CLUSTER not in _read("kind", "get", "clusters").split():
            _do("kind", "create", "cluster", "--name", CLUSTER, "--config", str(FOLDER / "cluster.yaml"))
        write_private(self.kubeconfig, _read("kind", "get", "kubeconfig", "--name", CLUSTER))
        kubectl = Kubectl(self.kubeconfig)
        self._load_images()
        self._start_postgres(kubectl, superuser, admin)
        command = [str(ensure_helm()), "upgrade", "--install", RELEASE, str(chart_folder())]
        command += ["--kubeconfig", str(self.kubeconfig), "--namespace", NAMESPACE, "--create-namespace"]
        _do(*command, "--set", "api.enabled=true", "--wait", "--timeout", "5m")
        # The images keep their tag, so pods of an earlier build have to be told.
        kubectl("rollout", "restart", "deployment", "-n", NAMESPACE)
        kubectl.run("rollout", "status", "deployment", "-n", NAMESPACE, "--timeout=180s", timeout=400)
        kubectl.apply(_pool(admin), manager=MANAGER)
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(EXAMPLES))
        for tenant in wait_for_tenants(kubectl, PROJECT, lambda tenant: tenant.ready, timeout=300):
            print(f"{tenant.name:<12} {tenant.phase:<10} {tenant.isolation:<10} {tenant.database}")
        values = {
            "KUBECONFIG": str(self.kubeconfig),
            "TENANTRY_E2E": "kubeconfig",
            "TENANTRY_E2E_DATABASE": f"127.0.0.1:{NODE_PORT}",
            "DATABASE_ADMIN_URL": f"postgresql://postgres:{superuser}@127.0.0.1:{NODE_PORT}/postgres",
        }
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        write_private(self.environment, text)
        print(f"\nIn a shell:  set -a; . {self.environment}; set +a; kubectl get tenants -A")
        print("The end-to-end tests, there:  .venv/bin/python -m pytest tests/e2e")

    def down(self) -> None:
        """Removes the cluster with all that is in it."""
        if shutil.which("kind"):
            _do("kind", "delete", "cluster", "--name", CLUSTER)
        for file in (self.kubeconfig, self.environment):
            file.unlink(missing_ok=True)

    def _load_images(self) -> None:
        version = yaml.safe_load((chart_folder() / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
        for target in ("operator", "api"):
            image = f"tenantry/{target}:{version}"
            _do("docker", "build", "--target", target, "--tag", image, str(CHECKOUT))
            _do("kind", "load", "docker-image", image, "--name", CLUSTER)

    def _start_postgres(self, kubectl: Kubectl, superuser: str, admin: str) -> None:
        secret = {"name": "postgres-superuser", "namespace": "databases"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "databases"}}
        kubectl.apply([namespace], manager=MANAGER)
        kubectl.apply([_secret(secret, {"password": superuser})], manager=MANAGER)
        kubectl("apply", "--server-side", "-f", str(FOLDER / "postgres.yaml"))
        rollout = ("rollout", "status", "statefulset/postgres", "-n", "databases", "--timeout=300s")
        kubectl.run(*rollout, timeout=400)
        psql = ("exec", "-i", "-n", "databases", "postgres-0", "--", "psql", "-X", "-U", "postgres")
        exists = f"SELECT 1 FROM pg_roles WHERE rolname = '{ADMIN}'"  # noqa: S608 - a constant
        if not kubectl(*psql, "-Atc", exists).strip():
            script = f"\\set password {admin}\n" + ADMIN_SQL.read_text(encoding="utf-8")
            kubectl(*psql, "-v", f"admin={ADMIN}", stdin=script)


def _pool(password: str) -> list[dict[str, Any]]:
    secret = f"{POOL}-admin"
    external = {"host": "postgres.databases.svc", "port": 5432, "adminSecret": {"name": secret}}
    instance = {
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": "DatabaseInstance",
        "metadata": {"name": POOL, "namespace": NAMESPACE},
        "spec": {"engine": "PostgreSQL", "role": "Shared", "capacity": {"tenants": 500}, "external": external},
    }
    metadata = {"name": secret, "namespace": NAMESPACE}
    return [_secret(metadata, {"username": ADMIN, "password": password}), instance]


def _secret(metadata: dict[str, str], data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def _do(*command: str) -> None:
    """Runs a command that shows its own progress.

    :raises LocalError: when it fails.
    """
    print(f"+ {' '.join(command)}", flush=True)
    if subprocess.run(command, check=False).returncode:
        raise LocalError(f"`{' '.join(command[:3])}` failed; its output is above")


def _read(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise LocalError(f"`{' '.join(command[:3])}` failed: {result.stderr.strip()}")
    return result.stdout
