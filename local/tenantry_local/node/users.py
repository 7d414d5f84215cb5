"""The system user that containers run as: never root."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from tenantry_local.postgres import reachable, reaches, system_user


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged system user, or, with no name, the caller."""

    name: str | None
    uid: int | None
    gid: int | None

    @classmethod
    def find(cls) -> Account:
        """The account that PostgreSQL runs as, too.

        :raises LocalError: when the caller is root, and there is none and none can be made.
        """
        name = system_user()
        if name is None:
            return cls(None, None, None)
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, entry.pw_gid)

    def own(self, path: Path) -> None:
        """Gives a file or folder, and everything in it, to the account."""
        if self.uid is None or self.gid is None:
            return
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            for child in path.iterdir():
                self.own(child)

    def folder(self, path: Path) -> Path:
        """Makes a folder that only the account may enter; keeps one that is there."""
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self.own(path)
        return path

    def reaches(self, path: Path) -> bool:
        """Whether the account may pass through every folder down to this path, and its target."""
        return self.name is None or (reaches(self.name, path) and reaches(self.name, path.resolve()))

    def runnable(self, program: Path) -> Path:
        """The program where the account can run it: itself, or a copy."""
        if self.reaches(program):
            return program
        source = program.resolve()
        status = source.stat()
        mark = hashlib.sha256(f"{source} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
        folder = reachable() / f"programs-{mark}"
        copy = folder / program.name
        if not copy.exists():
            folder.mkdir(mode=0o755, exist_ok=True)
            fresh = folder / f".{program.name}.{os.getpid()}"
            shutil.copy2(source, fresh)
            fresh.chmod(0o755)
            with contextlib.suppress(OSError):
                fresh.replace(copy)
        return copy
