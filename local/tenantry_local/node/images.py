"""Which local programs stand for an image: a container's own folder of small scripts is its image.

The scripts do what the official image's entrypoint does, as far as it matters, and make every server listen on
its pod's address only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenantry_local import build, programs
from tenantry_local.errors import LocalError
from tenantry_local.node import scripts
from tenantry_local.node.users import Account
from tenantry_local.postgres import programs_for

KNOWN = ("postgres", "mariadb", "mysql", "redis", "valkey", "ferretdb", "python")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


class UnknownImage(LocalError):
    """There is no local program for an image."""


@dataclass(frozen=True, slots=True)
class Image:
    """What of an image's name matters."""

    name: str
    family: str
    """One of :data:`KNOWN`."""
    tag: str

    @classmethod
    def of(cls, name: str) -> Image:
        """The image of that name: the last part of the repository decides, whatever its tag or digest.

        :raises UnknownImage: when it stands for no program of this node.
        """
        last = name.partition("@")[0].rpartition("/")[2]
        repository, _, tag = last.partition(":")
        for family in KNOWN:
            if repository.startswith(family):
                return cls(name, family, tag)
        known = ", ".join(f"{family}*" for family in KNOWN)
        raise UnknownImage(
            f"image {name} is unknown to this node, which runs local programs in place of images: it knows {known}"
        )

    @property
    def stop_signal(self) -> signal.Signals:
        """What asks its main process to stop, unless the pod says otherwise."""
        return signal.SIGINT if self.family == "postgres" else signal.SIGTERM

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the image that hold data where no volume is mounted."""
        return {
            "postgres": ("/var/lib/postgresql",),
            "mariadb": ("/var/lib/mysql",),
            "mysql": ("/var/lib/mysql",),
            "redis": ("/data",),
            "valkey": ("/data",),
            "ferretdb": ("/state",),
        }.get(self.family, ())

    @property
    def sockets(self) -> tuple[str, ...]:
        """Folders of the image that hold its sockets."""
        return {
            "postgres": ("/var/run/postgresql", "/run/postgresql"),
            "mariadb": ("/run/mysqld", "/var/run/mysqld"),
            "mysql": ("/run/mysqld", "/var/run/mysqld"),
        }.get(self.family, ())

    @property
    def working_folder(self) -> str:
        """Where its processes start, unless the pod says otherwise."""
        return self.folders[0] if self.family in {"redis", "valkey"} else "/"

    @property
    def environment(self) -> Mapping[str, str]:
        """What the image sets, before the pod's own variables."""
        if self.family == "postgres":
            major = self.tag.partition(".")[0].partition("-")[0]
            new = not major.isdigit() or int(major) >= 18
            return {"PGDATA": "/var/lib/postgresql/18/docker" if new else "/var/lib/postgresql/data"}
        if self.family == "ferretdb":
            return {
                "FERRETDB_LISTEN_ADDR": ":27017",
                "FERRETDB_DEBUG_ADDR": ":8088",
                "FERRETDB_STATE_DIR": "/state",
                "FERRETDB_TELEMETRY": "disable",
            }
        return {}

    def command(self, command: list[str] | None, arguments: list[str] | None) -> list[str]:
        """The words to run: the pod's command, else the image's entrypoint, with the pod's arguments."""
        if command:
            return [*command, *(arguments or [])]
        if self.family == "python":
            return arguments or ["python3"]
        return ["docker-entrypoint.sh", *(arguments or [])]


@dataclass(slots=True)
class Programs:
    """The local programs, found once and put where the account can run them."""

    account: Account
    fsync: str = "on"
    _found: dict[str, dict[str, Path]] = field(default_factory=dict)

    def of(self, family: str) -> Mapping[str, Path]:
        """By name: the programs that an image's scripts call.

        :raises LocalError: when the image's server is not on this machine, with how to get it.
        """
        if family not in self._found:
            self._found[family] = self._find(family)
        return self._found[family]

    def scripts(self, image: Image, address: str, sockets: Path) -> dict[str, str]:
        """By file name: the scripts of a container of this image.

        :raises LocalError: when a program is missing.
        """
        found = self.of(image.family)
        quoted = {name: shlex.quote(str(path)) for name, path in found.items()}
        folder = shlex.quote(str(sockets))
        if image.family == "postgres":
            return scripts.postgres(quoted, address, folder, fsync=self.fsync)
        if image.family in {"mariadb", "mysql"}:
            share, tables = _share(found["mariadbd"])
            return scripts.mariadb(
                quoted,
                shlex.quote(str(share)),
                address,
                folder,
                tables=tables,
                mysql=image.family == "mysql",
            )
        if image.family in {"redis", "valkey"}:
            return scripts.redis(quoted, address)
        if image.family == "ferretdb":
            return scripts.ferretdb(quoted)
        packages = self._packages(found["python"])
        return scripts.python(quoted["python"], shlex.quote(str(packages)) if packages else "")

    def _find(self, family: str) -> dict[str, Path]:
        if family == "postgres":
            folder = programs_for(self.account.name)
            return {path.name: path for path in folder.iterdir() if os.access(path, os.X_OK)}
        if family in {"mariadb", "mysql"}:
            found = {"mariadbd": programs.find("mariadbd")}
            for name in ("mariadb", "mariadb-admin", "mariadb-dump"):
                client = shutil.which(name)
                if client:  # a package of its own, that no server needs
                    found[name] = Path(client)
            return found
        if family in {"redis", "valkey"}:
            server = shutil.which("valkey-server") if family == "valkey" else None
            client = shutil.which("redis-cli") or shutil.which("valkey-cli")
            found = {"server": self.account.runnable(Path(server) if server else programs.find("redis-server"))}
            return found | ({"client": Path(client)} if client else {})
        if family == "ferretdb":
            return {"ferretdb": self.account.runnable(_ferretdb())}
        return {"python": _python(self.account)}

    def _packages(self, interpreter: Path) -> Path | None:
        """This interpreter's packages, for another one that can use them."""
        folder = Path(sysconfig.get_path("purelib"))
        other = interpreter != Path(sys.executable)
        return folder if other and self.account.reaches(folder) and _version(interpreter) == VERSION else None


def _python(account: Account) -> Path:
    """The interpreter that runs this, else one of the system's that the account can reach."""
    names = (f"python{VERSION}", "python3")
    for found in (sys.executable, *(shutil.which(name, path=SYSTEM_PATH) for name in names)):
        if found and account.reaches(Path(found)):
            return Path(found)
    raise LocalError(
        f"{account.name}, the user that containers run as, can reach neither {Path(sys.executable).resolve()} nor "
        "a python3 of the system: install one"
    )


def _version(interpreter: Path) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def _share(server: Path) -> tuple[Path, Sequence[str]]:
    """Where MariaDB keeps the definitions of its own tables, and in which files."""
    for name in ("mysql", "mariadb"):
        folder = server.resolve().parents[1] / "share" / name
        for tables in scripts.TABLES.values():
            if (folder / tables[0]).is_file():
                return folder, tables
    wanted = " or ".join(tables[0] for tables in scripts.TABLES.values())
    raise LocalError(f"{wanted} is not in the folder share of {server}: install the whole of MariaDB")


def _ferretdb() -> Path:
    ensure = getattr(build, "ensure_ferretdb", None)
    if ensure is None:
        raise LocalError("this checkout cannot build FerretDB: tenantry_local.build has no ensure_ferretdb")
    return Path(ensure())
