"""The database programs of the node that come from the system's packages: MariaDB and Redis.

``python -m tenantry_local.programs`` installs what is missing, when it is run as root.

PostgreSQL comes as a wheel (:mod:`tenantry_local.postgres`), FerretDB is built (:mod:`tenantry_local.build`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tenantry_local.build import cache_folder
from tenantry_local.errors import LocalError

_SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
"""Debian keeps servers where users do not look."""

PACKAGES = {
    "mariadbd": "mariadb-server-core",
    "redis-server": "redis-tools",
}
"""By program: the Debian package it comes from. None of them starts a server when it is installed."""


def find(program: str) -> Path:
    """The program's path, once :func:`install` has seen to it.

    :raises LocalError: when it is not there, with how to get it.
    """
    found = shutil.which(program, path=_SEARCHED)
    if found is not None:
        return Path(found)
    if program == "redis-server":
        return _redis_of_tools()
    raise LocalError(_missing([program]))


def install() -> None:
    """Sees to it that all programs are there; installs packages when run as root on Debian or Ubuntu.

    :raises LocalError: when a program is missing and cannot be installed, with how to get it.
    """
    missing = [program for program in PACKAGES if not _there(program)]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LocalError(_missing(missing))
    packages = sorted({PACKAGES[program] for program in missing})
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for arguments in (["apt-get", "update", "-q"], command):
        ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LocalError(f"{' '.join(command)} failed: {ended.stderr.strip()[-500:]}\n{_missing(missing)}")
    for program in missing:
        find(program)


def _there(program: str) -> bool:
    try:
        find(program)
    except LocalError:
        return False
    return True


def _missing(programs: list[str]) -> str:
    packages = sorted({PACKAGES[program] for program in programs})
    return (
        f"{' and '.join(programs)} cannot be found: on Debian or Ubuntu run `apt-get install "
        f"{' '.join(packages)}` as root; elsewhere install MariaDB 10.11 or newer and Redis 7 or newer, and have "
        "them on PATH"
    )


def _redis_of_tools() -> Path:
    """Redis's server out of Debian's ``redis-tools``.

    The package ``redis-server`` would start a server of its own; ``redis-check-rdb`` of ``redis-tools`` is the
    same program, and goes by the name it is called by.
    """
    program = shutil.which("redis-check-rdb", path=_SEARCHED)
    if program is None:
        raise LocalError(_missing(["redis-server"]))
    copy = cache_folder() / "redis-server"
    source = Path(program).resolve()
    if not copy.is_file() or copy.stat().st_size != source.stat().st_size:
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_name(f".{copy.name}.{os.getpid()}")
        shutil.copy2(source, temporary)
        temporary.replace(copy)
    return copy


def main() -> None:
    """The command."""
    try:
        install()
    except LocalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
