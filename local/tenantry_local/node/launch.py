"""From a container's specification to a process of this machine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenantry_local.errors import LocalError
from tenantry_local.node.context import Context
from tenantry_local.node.environment import Object, references, variables
from tenantry_local.node.images import SYSTEM_PATH, Image, UnknownImage
from tenantry_local.node.mounts import (
    Places,
    files_of,
    mount_references,
    place,
    token_sources,
    write,
)
from tenantry_local.node.mysqlinit import statements
from tenantry_local.node.runtime import Launch
from tenantry_local.node.scripts import SQL
from tenantry_local.node.translate import Translation, expand
from tenantry_local.node.users import Account
from tenantry_local.paths import remove_tree
from tenantry_local.processes import LOG_LIMIT

UNTOUCHED = re.compile(r".*PASSWORD.*|M(?:ARIADB|YSQL)_ROOT_HOST|KUBERNETES_SERVICE_HOST|.*_SQL")
"""Variables whose values mean nothing of this machine, or mean it as they are."""
OPTIONS = (
    "/etc/mysql/conf.d",
    "/etc/mysql/mariadb.conf.d",
    "/etc/mysql/mysql.conf.d",
    "/etc/mysql/my.cnf",
    "/etc/my.cnf",
)
"""Where MariaDB's and MySQL's images read options from."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A container, ready to be started, and to run further commands in."""

    launch: Launch
    translation: Translation
    values: Mapping[str, str]
    """Its variables as it would see them in production."""
    scripts: Path

    def words(self, command: list[str]) -> tuple[str, ...]:
        """A command in this machine's words; the first is a path, if there is such a program."""
        translated = [self.translation.literal(expand(word, self.values)) for word in command]
        first = translated[0]
        own = self.scripts / Path(command[0]).name
        if own.is_file() and (command[0].startswith("/") or "/" not in command[0]):
            first = str(own)
        elif "/" not in first:
            first = shutil.which(first, path=SYSTEM_PATH) or first
        return (first, *translated[1:])


async def prepare(
    context: Context, pod: Object, container: Object, address: str, places: Places, *, again: bool = False
) -> Prepared:
    """Writes what the container needs, and says how to start it.

    :param again: it runs already; nothing is written.
    :raises UnknownImage: when nothing here stands for its image.
    :raises Missing: when a Secret or ConfigMap, or a key of one, is not there.
    :raises LocalError: on something that this node cannot do.
    :raises ApiError: when the API server gives no answer.
    """
    image = Image.of(container["image"])
    try:
        # A program may have to be built first.
        scripts = await asyncio.to_thread(context.programs.scripts, image, address, places.sockets)
    except LocalError as error:
        raise UnknownImage(f"image {image.name} cannot be run here: {error}") from error
    metadata = pod["metadata"]
    found = await context.fetch(metadata["namespace"], references(container) | mount_references(pod, container))
    base = {
        "HOSTNAME": pod["spec"].get("hostname") or metadata["name"],
        "KUBERNETES_SERVICE_HOST": context.api[0],
        "KUBERNETES_SERVICE_PORT": str(context.api[1]),
        **image.environment,
    }
    seen = variables(pod, container, address, found, base)

    async def claim(name: str) -> Path:
        return await context.claims.folder_of(metadata["namespace"], name)

    folders, written = await place(pod, container, image, places, context.account, seen.values, claim, keep=again)
    translation = Translation(folders, address)
    bin_folder = places.container / "bin"
    if not again:
        tokens = {
            source.get("audience") or "": await context.token(pod, source)
            for source in token_sources(pod, container)
        }
        for volume in pod["spec"].get("volumes") or []:
            if volume["name"] in written:
                files = files_of(volume, pod, container, address, found, tokens)
                write(Path(written[volume["name"]]), files, translation, context.account)
        _write_scripts(bin_folder, scripts)
    environment = {
        name: value
        if UNTOUCHED.fullmatch(name)
        else translation.given(value)
        if name in seen.given
        else translation.literal(value)
        for name, value in seen.values.items()
    }
    environment = {**environment, "PATH": f"{bin_folder}:{SYSTEM_PATH}"}
    environment.setdefault("HOME", str(places.container / "root"))
    environment.setdefault("LANG", "C.UTF-8")
    command = image.command(container.get("command"), container.get("args"))
    if image.family in {"mariadb", "mysql"}:
        command = _mariadb(environment, command, image, translation, places)
    elif image.family == "postgres":
        environment.setdefault("PGHOST", str(places.sockets))
    elif image.family == "ferretdb":
        command = _ferretdb(environment, command, address)
    working = container.get("workingDir") or image.working_folder
    draft = Launch(
        argv=(),
        env=environment,
        cwd=Path(translation.path(working) or places.container / "root"),
        log=log_file(context.folder, metadata["namespace"], metadata["name"], container["name"]),
        uid=context.account.uid,
        gid=context.account.gid,
        signal=_signal(container, image),
    )
    if not again and draft.log.exists() and draft.log.stat().st_size > LOG_LIMIT:
        draft.log.replace(draft.log.with_suffix(".log.1"))
    prepared = Prepared(draft, translation, seen.values, bin_folder)
    return replace(prepared, launch=replace(draft, argv=prepared.words(command)))


async def execute(prepared: Prepared, command: list[str], seconds: float, account: Account) -> tuple[int, str]:
    """Runs a command as the container would; its exit code and the end of its output.

    :raises TimeoutError: when it takes longer than so many seconds; it is killed.
    """
    if not command:
        return 127, "no command"
    user: dict[str, Any] = {}
    if account.uid is not None:
        user = {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        process = await asyncio.create_subprocess_exec(
            *prepared.words(command),
            env=dict(prepared.launch.env),
            cwd=prepared.launch.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            **user,
        )
    except (OSError, ValueError) as error:
        return 127, str(error)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return int(process.returncode or 0), output.decode(errors="replace").strip()[-500:]


def log_file(folder: Path, namespace: str, pod: str, container: str) -> Path:
    """The log of a container."""
    return folder / "log" / f"{namespace}_{pod}_{container}.log"


def _signal(container: Object, image: Image) -> signal.Signals:
    chosen = str((container.get("lifecycle") or {}).get("stopSignal"))
    return signal.Signals[chosen] if chosen in signal.Signals.__members__ else image.stop_signal


def _write_scripts(folder: Path, scripts: Mapping[str, str]) -> None:
    remove_tree(folder)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    for name, text in scripts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


def _mariadb(
    environment: dict[str, str], command: list[str], image: Image, translation: Translation, places: Places
) -> list[str]:
    """Sets what the entrypoint needs; options that only MySQL knows are made ones that may be unknown."""
    data = next((word.partition("=")[2] for word in command if word.startswith("--datadir=")), "/var/lib/mysql")
    environment["TENANTRY_NODE_DATA"] = translation.paths(data)
    said = statements(environment, lambda path: Path(translation.paths(path)).read_text(encoding="utf-8"))
    if said is not None:
        environment[SQL] = said
    included = [(path, Path(translation.folders[path])) for path in OPTIONS if path in translation.folders]
    if included:
        lines = [f"!include{'' if path.endswith('.cnf') else 'dir'} {where}" for path, where in included]
        defaults = places.container / "defaults.cnf"
        defaults.write_text("\n".join(lines) + "\n", encoding="utf-8")
        defaults.chmod(0o644)
        environment["TENANTRY_NODE_DEFAULTS"] = str(defaults)
    if image.family == "mysql":
        plain = ("--defaults", "--no-defaults", "--loose-", "--help", "--version", "--datadir", "--verbose")
        return [
            f"--loose-{word[2:]}" if word.startswith("--") and not word.startswith(plain) else word
            for word in command
        ]
    return command


def _ferretdb(environment: dict[str, str], command: list[str], address: str) -> list[str]:
    """Makes it listen on the pod's address only, wherever it is told a port alone."""
    for name in ("FERRETDB_LISTEN_ADDR", "FERRETDB_DEBUG_ADDR", "FERRETDB_LISTEN_TLS"):
        if environment.get(name, "").startswith(":"):
            environment[name] = address + environment[name]
    return [re.sub(r"^(--(?:listen-addr|debug-addr|listen-tls)=):", rf"\g<1>{address}:", word) for word in command]
