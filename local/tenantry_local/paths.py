"""Where the one-machine cluster keeps its files.

A cluster is a folder: ``.local`` of the checkout, or what ``TENANTRY_LOCAL_DIR`` names. Clusters in
different folders share nothing and may run at once.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tenantry_local.errors import LocalError

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder of the repository this package is run from."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one cluster."""

    home: Path

    @classmethod
    def default(cls) -> Paths:
        """The cluster of ``TENANTRY_LOCAL_DIR``, else the checkout's own."""
        chosen = os.environ.get("TENANTRY_LOCAL_DIR")
        return cls(Path(chosen).absolute() if chosen else CHECKOUT / ".local")

    @property
    def pki(self) -> Path:
        """Certificates and keys; mode 0700."""
        return self.home / "pki"

    @property
    def logs(self) -> Path:
        """One log per process; mode 0700."""
        return self.home / "log"

    @property
    def pids(self) -> Path:
        """One record per process that was started; mode 0700."""
        return self.home / "pid"

    @property
    def etcd(self) -> Path:
        """etcd's data."""
        return self.home / "etcd"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data. A link, when PostgreSQL's user cannot reach this folder."""
        return self.home / "postgres"

    @property
    def node(self) -> Path:
        """The node's pods, volumes and logs. A link, when the pods' user cannot reach this folder."""
        return self.home / "node"

    @property
    def cache(self) -> Path:
        """What kubectl remembers of the API server."""
        return self.home / "kubectl-cache"

    @property
    def state(self) -> Path:
        """Ports and passwords that stay the same from one start to the next; mode 0600."""
        return self.home / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; mode 0600."""
        return self.home / "kubeconfig"

    @property
    def dev_env(self) -> Path:
        """Addresses and credentials for people and tests; mode 0600."""
        return self.home / "dev.env"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self.logs / f"{name}.log"

    def service_kubeconfig(self, name: str) -> Path:
        """The kubeconfig of a process that runs under a ServiceAccount; mode 0600."""
        return self.home / f"{name}.kubeconfig"

    def create(self) -> None:
        """Makes the folders. Only PostgreSQL's user needs to pass through, and only when we are root."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (self.pki, self.logs, self.pids, self.cache):
            folder.mkdir(mode=0o700, exist_ok=True)


def chart_folder() -> Path:
    """The Helm chart of the checkout.

    :raises LocalError: when this package is not run from a checkout.
    """
    folder = CHECKOUT / "charts" / "tenantry"
    if not (folder / "Chart.yaml").is_file():
        raise LocalError(
            f"{folder}/Chart.yaml is missing: the one-machine cluster runs from a checkout of Tenantry. "
            "Clone the repository and run `make up` there."
        )
    return folder


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read; readers see the old text or the new, nothing between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def remove_tree(path: Path) -> None:
    """Removes a folder, or a link and the folder it leads to; nothing happens when it is not there."""
    if path.is_symlink():
        target = path.resolve()
        path.unlink()
        path = target
    if path.exists():
        shutil.rmtree(path)
