"""What a cluster remembers from one start to the next: its ports and its passwords."""

from __future__ import annotations

import json
import random
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from tenantry_local.errors import LocalError
from tenantry_local.paths import write_private

PORTS = range(20000, 32000)
"""Below the range that systems hand out to outgoing connections, so that a remembered port stays free."""


class State:
    """Ports and passwords, kept in a file that only the owner reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        if path.exists():
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                self._ports = {str(name): int(port) for name, port in value["ports"].items()}
                self._secrets = {str(name): str(text) for name, text in value["secrets"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise LocalError(
                    f"{path} is damaged ({error}). `make clean` removes the cluster with its data."
                ) from error

    def port(self, name: str) -> int:
        """The remembered port of a server.

        :raises LocalError: when there is none yet: the cluster was never started.
        """
        try:
            return self._ports[name]
        except KeyError:
            raise LocalError(f"no {name} was started in {self._path.parent} yet; run `make up`") from None

    def secret(self, name: str) -> str:
        """A remembered random text of 43 characters, made when it is asked for the first time."""
        if name not in self._secrets:
            self._secrets[name] = secrets.token_urlsafe(32)
            self.save()
        return self._secrets[name]

    def assign_ports(self, names: list[str], *, running: Callable[[str], bool]) -> None:
        """Makes sure every server has a port it can bind; keeps the port of a server that runs.

        A remembered port that another program took meanwhile is replaced.
        """
        taken = {port for name, port in self._ports.items() if name not in names or running(name)}
        for name in names:
            if name in self._ports and running(name):
                continue
            port = self._ports.get(name, 0)
            if port in taken or not _is_free(port):
                port = _free_port(taken)
            self._ports[name] = port
            taken.add(port)
        self.save()

    def save(self) -> None:
        """Writes the file."""
        text = json.dumps({"ports": self._ports, "secrets": self._secrets}, indent=2, sort_keys=True)
        write_private(self._path, text + "\n")


def _free_port(taken: set[int]) -> int:
    for port in random.sample(PORTS, 1000):
        if port not in taken and _is_free(port):
            return port
    raise LocalError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    if port == 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose old connections linger in TIME_WAIT can be bound.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
