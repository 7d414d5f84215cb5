"""``make kind`` as far as it can be checked without Docker: what it would apply, and what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tenantry_local.errors import LocalError
from tenantry_local.kind import ADMIN_SQL, FOLDER, NODE_PORT, Kind, _pool
from tenantry_local.paths import Paths


def manifests(name: str) -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_the_port_of_the_server_reaches_this_machine_and_nobody_else() -> None:
    (cluster,) = manifests("cluster.yaml")
    (mapping,) = cluster["nodes"][0]["extraPortMappings"]
    assert (mapping["containerPort"], mapping["listenAddress"]) == (NODE_PORT, "127.0.0.1")
    assert mapping["hostPort"] == NODE_PORT
    service = next(value for value in manifests("postgres.yaml") if value["kind"] == "Service")
    assert service["spec"]["ports"][0]["nodePort"] == NODE_PORT


def test_the_instance_is_the_server_that_is_started() -> None:
    secret, instance = _pool("password")
    service = next(value for value in manifests("postgres.yaml") if value["kind"] == "Service")
    external = instance["spec"]["external"]
    metadata = service["metadata"]
    assert external["host"] == f"{metadata['name']}.{metadata['namespace']}.svc"
    assert external["adminSecret"]["name"] == secret["metadata"]["name"]
    assert ADMIN_SQL.is_file()


@pytest.mark.parametrize("missing", ["docker", "kind"])
def test_a_missing_program_is_named_with_how_to_get_it(monkeypatch, tmp_path: Path, missing: str) -> None:
    for name in {"docker", "kind"} - {missing}:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match=rf"`{missing}` is not on PATH. \S"):
        Kind(Paths(tmp_path / "cluster")).up()
    assert not (tmp_path / "cluster").exists()
