"""A container's volumes on disk.

``emptyDir`` and claims are folders that the containers of a pod share. What is made of Secrets, ConfigMaps and the
pod's own fields is written for each container and each of its starts, with paths and addresses translated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tenantry_local.errors import LocalError
from tenantry_local.node.environment import Found, Missing, Reference, content_of, field_value, resource_value
from tenantry_local.node.images import Image
from tenantry_local.node.translate import Translation, expand
from tenantry_local.node.users import Account
from tenantry_local.paths import remove_tree

Object = Mapping[str, Any]
MODE = 0o644
WRITTEN = ("secret", "configMap", "downwardAPI", "projected")
"""Volumes whose files the node writes."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a volume."""

    content: bytes
    mode: int


Files = dict[str, File]
"""By path in the volume."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a container's folders are."""

    pod: Path
    """Shared by the pod's containers: the folder of its ``emptyDir`` volumes."""
    container: Path
    sockets: Path


def mount_references(pod: Object, container: Object) -> set[Reference]:
    """The Secrets and ConfigMaps of the volumes that the container mounts."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or []}
    result: set[Reference] = set()
    for volume in pod["spec"].get("volumes") or []:
        if volume["name"] in mounted:
            for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
                if "secret" in source:
                    name = source["secret"].get("secretName") or source["secret"].get("name")
                    result.add(Reference("Secret", name, bool(source["secret"].get("optional"))))
                if "configMap" in source:
                    entry = source["configMap"]
                    result.add(Reference("ConfigMap", entry["name"], bool(entry.get("optional"))))
    return result


def token_sources(pod: Object, container: Object) -> list[Object]:
    """The tokens of a ServiceAccount that the container mounts."""
    mounted = {mount["name"] for mount in container.get("volumeMounts") or []}
    return [
        source["serviceAccountToken"]
        for volume in pod["spec"].get("volumes") or []
        if volume["name"] in mounted
        for source in (volume.get("projected") or {}).get("sources") or []
        if "serviceAccountToken" in source
    ]


def files_of(
    volume: Object, pod: Object, container: Object, address: str, found: Found, tokens: Mapping[str, str]
) -> Files:
    """The files of a volume.

    :param tokens: by audience: tokens of the pod's ServiceAccount.
    :raises Missing: when an object, or a key of it that the volume names, is not there.
    :raises LocalError: on a source that this node does not know.
    """
    namespace = pod["metadata"]["namespace"]
    if "secret" in volume:
        secret = volume["secret"]
        name = secret.get("secretName") or secret.get("name")
        reference = Reference("Secret", name, bool(secret.get("optional")))
        return _selected(secret, reference, namespace, found)
    if "configMap" in volume:
        config = volume["configMap"]
        reference = Reference("ConfigMap", config["name"], bool(config.get("optional")))
        return _selected(config, reference, namespace, found)
    if "downwardAPI" in volume:
        result: Files = {}
        for item in volume["downwardAPI"].get("items") or []:
            text = (
                field_value(pod, item["fieldRef"]["fieldPath"], address)
                if "fieldRef" in item
                else resource_value(_container(pod, item["resourceFieldRef"], container), item["resourceFieldRef"])
            )
            result[item["path"]] = File(text.encode(), int(item.get("mode") or _mode(volume["downwardAPI"])))
        return result
    if "serviceAccountToken" in volume:
        token = volume["serviceAccountToken"]
        return {token["path"]: File(tokens[token.get("audience") or ""].encode(), 0o600)}
    if "projected" in volume:
        result = {}
        for source in volume["projected"].get("sources") or []:
            default = {"defaultMode": _mode(volume["projected"])}
            adapted = {
                key: {**default, **value} if isinstance(value, Mapping) else value for key, value in source.items()
            }
            result |= files_of(adapted, pod, container, address, found, tokens)
        return result
    kinds = ", ".join(sorted(key for key in volume if key != "name"))
    raise LocalError(f"this node does not know volumes of the kind {kinds}")


async def place(
    pod: Object,
    container: Object,
    image: Image,
    places: Places,
    account: Account,
    variables: Mapping[str, str],
    claim: Callable[[str], Awaitable[Path]],
    *,
    keep: bool = False,
) -> tuple[Mapping[str, str], dict[str, str]]:
    """Where the container's folders are: by path in the container, and by name of a volume that is to be written.

    :param claim: gives the folder of a claim, and waits for it.
    :param keep: the container runs; what it wrote outside of volumes stays.
    :raises LocalError: on a volume that this node does not know.
    """
    root = places.container / "root"
    if not keep:
        remove_tree(root)
        remove_tree(places.container / "mounts")
    account.folder(root)
    folders = {path: str(root / path.lstrip("/")) for path in image.folders}
    folders |= dict.fromkeys(image.sockets, str(places.sockets))
    for path in image.folders:
        folder = root
        for part in PurePosixPath(path).parts[1:]:
            folder = account.folder(folder / part)
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
    written: dict[str, str] = {}
    for mount in container.get("volumeMounts") or []:
        volume = volumes[mount["name"]]
        if any(kind in volume for kind in WRITTEN):
            folder = places.container / "mounts" / mount["name"]
            written[mount["name"]] = str(folder)
        elif "emptyDir" in volume:
            folder = account.folder(account.folder(places.pod / mount["name"]) / "data")
        elif "persistentVolumeClaim" in volume:
            folder = await claim(volume["persistentVolumeClaim"]["claimName"])
        elif "hostPath" in volume:
            folder = Path(volume["hostPath"]["path"])
        else:
            kinds = ", ".join(sorted(key for key in volume if key != "name"))
            raise LocalError(f"volume {mount['name']}: this node does not know volumes of the kind {kinds}")
        inner = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
        if inner:
            folder = _inside(folder, inner) if mount["name"] in written else _sub(folder, inner, account)
        folders[str(PurePosixPath(mount["mountPath"]))] = str(folder)
        folders |= _shared_parent(PurePosixPath(mount["mountPath"]), folder, root, account)
    return folders, written


def _shared_parent(path: PurePosixPath, folder: Path, root: Path, account: Account) -> dict[str, str]:
    """Where the folder that a mount is in is, when it is there for mounts only, such as $SERVICE_BINDING_ROOT.

    :param folder: where the mount is.
    """
    if Path(path.parent).exists():
        return {}
    parent = root
    for part in path.parent.parts[1:]:
        parent = account.folder(parent / part)
    (parent / path.name).unlink(missing_ok=True)
    (parent / path.name).symlink_to(folder)
    return {str(path.parent): str(parent)}


def write(folder: Path, files: Files, translation: Translation, account: Account) -> None:
    """Writes a volume's files, readable for the account only."""
    folder.parent.mkdir(mode=0o711, exist_ok=True)
    folder.mkdir(mode=0o700)
    for name, file in files.items():
        target = _inside(folder, name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            content = translation.given(file.content.decode()).encode()
        except UnicodeDecodeError:
            content = file.content
        target.touch(mode=0o600)
        target.write_bytes(content)
        # The account owns it, and servers refuse keys that others may read.
        target.chmod(file.mode & 0o700 | 0o400)
    account.own(folder)


def _selected(source: Object, reference: Reference, namespace: str, found: Found) -> Files:
    data = content_of(reference, namespace, found)
    mode = _mode(source)
    items = source.get("items")
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    result: Files = {}
    for item in items:
        if item["key"] in data:
            result[item["path"]] = File(data[item["key"]], int(item.get("mode") or mode))
        elif not reference.optional:
            what = f"{reference.kind} {namespace}/{reference.name}"
            raise Missing(reference, f"references non-existent key {item['key']} of {what}", found.get(reference))
    return result


def _mode(source: Object) -> int:
    return int(source["defaultMode"]) if source.get("defaultMode") is not None else MODE


def _container(pod: Object, reference: Object, default: Object) -> Object:
    every = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
    return next((entry for entry in every if entry["name"] == reference.get("containerName")), default)


def _sub(folder: Path, inner: str, account: Account) -> Path:
    """A folder or file in a volume, made as a folder when it is not there."""
    found = _inside(folder, inner)
    part = folder
    for name in PurePosixPath(inner.lstrip("/")).parts:
        part = part / name
        # The volume is the account's, which may have put a link there: nothing is made where it leads.
        if not part.resolve().is_relative_to(folder.resolve()):
            raise LocalError(f"path {inner} leads out of its volume")
        if not part.exists():
            account.folder(part)
    return found


def _inside(folder: Path, inner: str) -> Path:
    if ".." in PurePosixPath(inner).parts:
        raise LocalError(f"path {inner} leads out of its volume")
    return folder / inner.lstrip("/")
