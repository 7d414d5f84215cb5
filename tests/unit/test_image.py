"""The Dockerfile, as far as it can be checked without Docker: it fits the lock, the context and the chart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.unit.chart import ROOT, Manifest, pod, render

DOCKERFILE = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def objects() -> list[Manifest]:
    return render({"api": {"enabled": True}})


def instruction(stage: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", STAGES[stage], re.MULTILINE)


@pytest.mark.parametrize("target", ["operator", "api"])
def test_image_starts_what_the_chart_starts(objects: list[Manifest], target: str) -> None:
    (container,) = pod(objects, target)["containers"]
    assert [json.loads(value) for value in instruction(target, "ENTRYPOINT")] == [container["command"]]
    exposed = {int(port) for port in " ".join(instruction(target, "EXPOSE")).split()}
    assert exposed == {port["containerPort"] for port in container["ports"]}


def test_user_is_a_number_so_that_kubernetes_sees_it_is_not_root() -> None:
    assert instruction("base", "USER") == ["65532:65532"]
    assert not instruction("operator", "USER") + instruction("api", "USER")


def test_context_holds_what_is_copied_and_little_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    admitted = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for stage in STAGES
        for words in map(str.split, instruction(stage, "COPY"))
        if not words[0].startswith("--from")
        for source in words[:-1]
    }
    assert admitted == copied
    assert all((ROOT / Path(source)).exists() for source in copied)


def test_every_package_of_the_images_is_pinned_by_hash() -> None:
    lock = re.sub(r"\\\n", " ", (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8"))
    packages = [line for line in lock.splitlines() if line and not line.startswith("#")]
    assert packages
    assert not [line for line in packages if "==" not in line or "--hash=sha256:" not in line]
    assert "--require-hashes" in STAGES["packages"]
    assert "://" not in lock
