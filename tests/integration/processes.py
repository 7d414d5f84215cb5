"""What it takes to start servers that refuse to run as root, on ports of this machine."""

from __future__ import annotations

import os
import pwd
import socket
from typing import Any


def account(name: str) -> dict[str, Any]:
    """Options of ``subprocess`` for a program that refuses to run as root.

    :param name: whom it runs as, when the tests run as root; ``nobody`` where there is no such user.
    """
    if os.geteuid() != 0:
        return {}
    for known in (name, "nobody"):
        try:
            entry = pwd.getpwnam(known)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError(f"running as root, and there is no user {name} or nobody to run the server as")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
