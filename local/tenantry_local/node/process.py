"""The node as one of the cluster's processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tenantry_local.controlplane import ControlPlane
from tenantry_local.errors import LocalError
from tenantry_local.kubectl import Kubectl, kubeconfig
from tenantry_local.node import agent, manifests
from tenantry_local.node.__main__ import BACK_OFF
from tenantry_local.paths import Paths, write_private
from tenantry_local.postgres import private_folder, system_user
from tenantry_local.processes import Processes, Program, digest_of

NAME = "node"
KEPT = ("TENANTRY_CACHE", "TENANTRY_POSTGRES_USER", "TENANTRY_FSYNC")
"""Settings of the caller's that the node heeds, too."""


class Node:
    """The node of one cluster."""

    def __init__(self, paths: Paths, processes: Processes, plane: ControlPlane) -> None:
        self._paths = paths
        self._processes = processes
        self._plane = plane

    def start(self, kubectl: Kubectl, *, back_off: float = BACK_OFF) -> int:
        """Starts the node and waits until it has taken up its pods; returns its process id.

        :param back_off: seconds before the second restart of a container that ended.
        """
        if not sys.platform.startswith("linux"):
            raise LocalError("the node needs Linux, where every address of 127.0.0.0/8 can be listened on")
        kubectl.apply(manifests.objects(), manager="tenantry-local")
        folder = self._folder()
        file = self._paths.service_kubeconfig(NAME)
        pki = self._plane.pki
        text = kubeconfig(self._plane.url, pki.authority.certificate, client=pki.node)
        write_private(file, text)
        program = Program(
            NAME,
            (sys.executable, "-m", "tenantry_local.node", "--folder", str(folder), "--back-off", str(back_off)),
            env={"KUBECONFIG": str(file)} | {name: os.environ[name] for name in KEPT if name in os.environ},
            depends=digest_of(text),
        )
        if not self._processes.is_current(program):
            self._processes.stop(NAME)
            (folder / "ready").unlink(missing_ok=True)
        pid = self._processes.start(program)
        self._processes.wait(NAME, lambda: _is_ready(folder, pid), timeout=60)
        return pid

    def stop(self) -> bool:
        """Ends the node and its pods' processes, whose data stays; returns whether anything ran."""
        ran = self._processes.stop(NAME)
        return bool(agent.end_pods(self._paths.node)) or ran

    def _folder(self) -> Path:
        folder = private_folder(self._paths.node, system_user())
        if os.geteuid() == 0:
            # Containers pass through to their volumes, and write nothing of the node's own.
            os.chown(folder, 0, 0)
            folder.chmod(0o711)
        return folder


def logs_of(paths: Paths, name: str) -> list[Path]:
    """The logs of a pod's containers: ``[namespace/]pod[/container]``.

    :raises LocalError: when there are none, with the pods there are.
    """
    known = agent.pod_names(paths.node) if paths.node.exists() else []
    for pod in known:
        for prefix in (pod, pod.partition("/")[2]):
            if name == prefix or name.startswith(f"{prefix}/"):
                container = name[len(prefix) + 1 :] or "*"
                found = sorted((paths.node / "log").glob(f"{pod.replace('/', '_')}_{container}.log"))
                if found:
                    return found
    raise LocalError(
        f"there is no log of {name}: give a process of the cluster, or a pod as [namespace/]pod[/container]"
        + (f": {', '.join(known)}" if known else "")
    )


def _is_ready(folder: Path, pid: int) -> bool:
    try:
        return int((folder / "ready").read_text(encoding="ascii")) == pid
    except (OSError, ValueError):
        return False
