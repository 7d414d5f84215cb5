"""Every pod's own loopback address, the same for a pod's name whenever it comes again."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from pathlib import Path

from tenantry_local.errors import LocalError
from tenantry_local.paths import write_private


def network_of(folder: Path) -> ipaddress.IPv4Network:
    """The addresses of a cluster's pods: 4,094 of 127.16.0.0 and above, by the cluster's folder.

    Clusters in different folders may run at once, and their servers all want the same ports.
    """
    number = int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4]) % (239 * 16)
    return ipaddress.IPv4Network((f"127.{16 + number // 16}.{number % 16 * 16}.0", 20))


class Addresses:
    """Addresses by namespace and name, kept in a file."""

    def __init__(self, path: Path, network: ipaddress.IPv4Network) -> None:
        self._path = path
        self._network = network
        self._known: dict[str, str] = {}
        self._used: set[str] = set()
        """Keys in use now: the others' addresses may be given away when no new ones are left."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self._known = {str(k): str(v) for k, v in found.items() if ipaddress.ip_address(v) in network}
        except (OSError, ValueError, AttributeError):
            self._known = {}  # pods get other addresses, and Secrets that hold the old ones are written anew
        self._next = 1 + max((self._index(value) for value in self._known.values()), default=0)

    def take(self, namespace: str, name: str) -> str:
        """The address of a pod.

        :raises LocalError: when as many pods run as there are addresses.
        """
        key = f"{namespace}/{name}"
        if key not in self._known:
            self._known[key] = self._new()
            write_private(self._path, json.dumps(self._known, indent=2) + "\n")
        self._used.add(key)
        return self._known[key]

    def release(self, namespace: str, name: str) -> None:
        """The pod is gone. Its address stays its own for as long as others are free."""
        self._used.discard(f"{namespace}/{name}")

    def _new(self) -> str:
        if self._next < self._network.num_addresses - 1:
            self._next += 1
            return str(self._network[self._next - 1])
        for key in self._known:
            if key not in self._used:
                return self._known.pop(key)
        raise LocalError(f"all {self._network.num_addresses - 2} addresses of {self._network} are in use")

    def _index(self, value: str) -> int:
        return int(ipaddress.ip_address(value)) - int(self._network.network_address)
