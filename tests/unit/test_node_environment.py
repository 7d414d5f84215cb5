"""A container's variables and files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tenantry_local.errors import LocalError
from tenantry_local.node.environment import Missing, Reference, references, variables
from tenantry_local.node.mounts import _sub, files_of, mount_references
from tenantry_local.node.users import Account

ADDRESS = "127.16.0.5"
POD: dict[str, Any] = {
    "metadata": {"name": "pg-0", "namespace": "shop", "uid": "u-1", "labels": {"app": "pg", "a": "b"}},
    "spec": {"containers": [], "serviceAccountName": "reader"},
}
SECRET = {
    "metadata": {"resourceVersion": "7"},
    "data": {"password": base64.b64encode(b"word").decode(), "bin": base64.b64encode(b"\xff").decode()},
}
CONFIG = {"metadata": {"resourceVersion": "8"}, "data": {"a.conf": "text"}, "binaryData": {"b": "/w=="}}
FOUND = {Reference("Secret", "s"): SECRET, Reference("ConfigMap", "c"): CONFIG, Reference("Secret", "gone"): None}


def seen(container: dict[str, Any], base: dict[str, str] | None = None) -> dict[str, str]:
    return variables(POD, container, ADDRESS, FOUND, base or {}).values


def from_secret(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


def test_later_variables_win_and_see_earlier_ones() -> None:
    container = {
        "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}],
        "env": [
            {"name": "B", "value": "$(P_password)-$(BASE)-$(C)"},
            {"name": "C", "value": "late"},
            {"name": "P_password", "value": "other"},
        ],
    }
    values = seen(container, {"BASE": "base"})
    assert values["B"] == "word-base-$(C)"
    assert values["P_password"] == "other"
    assert values["a.conf"] == "text"
    assert references(container) == {Reference("Secret", "s"), Reference("ConfigMap", "c")}


def test_what_comes_from_secrets_is_known() -> None:
    container = {"env": [from_secret("s", "password"), {"name": "Y", "value": "literal"}]}
    assert variables(POD, container, ADDRESS, FOUND, {}).given == {"X"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "pg-0"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "pg"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "local"),
        ("spec.serviceAccountName", "reader"),
        ("status.podIP", ADDRESS),
    ],
)
def test_fields_of_the_pod(path: str, expected: str) -> None:
    assert seen({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]})["X"] == expected


def test_a_field_that_is_none_is_refused() -> None:
    with pytest.raises(LocalError, match=r"spec\.containers"):
        seen({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]})


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.memory", "1Mi", "512"),
        ("limits.memory", None, str(512 * 2**20)),
        ("requests.cpu", None, "1"),
        ("requests.cpu", "1m", "250"),
    ],
)
def test_limits_of_the_container(resource: str, divisor: str | None, expected: str) -> None:
    reference = {"resource": resource, **({"divisor": divisor} if divisor else {})}
    container = {
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "250m"}},
        "env": [{"name": "X", "valueFrom": {"resourceFieldRef": reference}}],
    }
    assert seen(container)["X"] == expected


def test_a_missing_secret_is_told_from_a_missing_key() -> None:
    with pytest.raises(Missing, match="secret shop/gone not found") as nothing:
        seen({"env": [from_secret("gone", "password")]})
    assert nothing.value.version is None
    with pytest.raises(Missing, match="couldn't find key other in Secret shop/s") as no_key:
        seen({"env": [from_secret("s", "other")]})
    assert no_key.value.version == "7"
    assert "word" not in str(no_key.value)


def test_what_is_optional_may_be_missing() -> None:
    container = {
        "envFrom": [{"secretRef": {"name": "gone", "optional": True}}],
        "env": [from_secret("gone", "password", optional=True), from_secret("s", "other", optional=True)],
    }
    assert seen(container) == {}


def files(volume: dict[str, Any]) -> dict[str, tuple[bytes, int]]:
    result = files_of(volume, POD, {"name": "main"}, ADDRESS, FOUND, {"": "a token"})
    return {path: (file.content, file.mode) for path, file in result.items()}


def test_files_of_secrets_and_config_maps() -> None:
    assert files({"secret": {"secretName": "s", "defaultMode": 0o400}}) == {
        "password": (b"word", 0o400),
        "bin": (b"\xff", 0o400),
    }
    items = [{"key": "a.conf", "path": "x/y.conf", "mode": 0o600}]
    assert files({"configMap": {"name": "c", "items": items}}) == {"x/y.conf": (b"text", 0o600)}
    assert files({"secret": {"secretName": "gone", "optional": True}}) == {}
    with pytest.raises(Missing, match="non-existent key none"):
        files({"configMap": {"name": "c", "items": [{"key": "none", "path": "x"}]}})


def test_files_of_a_projected_volume() -> None:
    sources = [
        {"secret": {"name": "s", "items": [{"key": "password", "path": "pw"}]}},
        {"configMap": {"name": "c"}},
        {"serviceAccountToken": {"path": "token"}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    found = files({"projected": {"defaultMode": 0o440, "sources": sources}})
    assert found["pw"] == (b"word", 0o440)
    assert found["a.conf"] == (b"text", 0o440)
    assert found["token"] == (b"a token", 0o600)
    assert found["labels"][0] == b'a="b"\napp="pg"'


def test_only_what_is_mounted_is_read() -> None:
    pod = {
        "spec": {
            "volumes": [{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "configMap": {"name": "c"}}]
        }
    }
    assert mount_references(pod, {"volumeMounts": [{"name": "b"}]}) == {Reference("ConfigMap", "c")}


def test_an_unknown_volume_is_refused() -> None:
    with pytest.raises(LocalError, match="nfs"):
        files({"name": "v", "nfs": {"server": "x"}})


def test_nothing_is_made_where_a_link_in_a_volume_leads(tmp_path: Path) -> None:
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    volume.mkdir()
    outside.mkdir()
    (volume / "link").symlink_to(outside)
    nobody = Account(None, None, None)
    for inner in ("link", "link/made", "../outside"):
        with pytest.raises(LocalError, match="leads out of its volume"):
            _sub(volume, inner, nobody)
    assert list(outside.iterdir()) == []
    assert _sub(volume, "a/b", nobody) == volume / "a" / "b"
    assert (volume / "a" / "b").is_dir()
