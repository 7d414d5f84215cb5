"""The chart, rendered by helm, for the tests of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tenantry_local.build import ensure_helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "tenantry"
NAMESPACE = "tenantry-system"

Manifest = dict[str, Any]


def helm(*arguments: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(ensure_helm()), *arguments, "--values", "-"]
    return subprocess.run(command, input=json.dumps(values or {}), capture_output=True, text=True, check=False)


def render(
    values: Manifest | None = None, *, release: str = "tenantry", namespace: str = NAMESPACE
) -> list[Manifest]:
    result = helm("template", release, str(CHART), "--namespace", namespace, values=values)
    assert result.returncode == 0, result.stderr
    return [value for value in yaml.load_all(result.stdout, yaml.CSafeLoader) if value]


def refusal(values: Manifest) -> str:
    result = helm("template", "tenantry", str(CHART), values=values)
    assert result.returncode != 0, "it was accepted"
    return result.stderr


def of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [value for value in objects if value["kind"] in kinds]


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [value for value in of_kind(objects, kind) if value["metadata"]["name"] == name]
    return found


def pod(objects: list[Manifest], component: str) -> Manifest:
    found: Manifest = named(objects, "Deployment", f"tenantry-{component}")["spec"]["template"]["spec"]
    return found


def environment(objects: list[Manifest]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in pod(objects, "operator")["containers"][0]["env"]}
