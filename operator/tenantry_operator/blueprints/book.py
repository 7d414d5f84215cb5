"""All known blueprint versions, with the texts of their migrations, and the chains made of them."""

from __future__ import annotations

import json
from typing import Any

from tenantry_crds.blueprint_version import BlueprintVersionSpec
from tenantry_operator.blueprints import chains
from tenantry_operator.cache import Key, Store
from tenantry_operator.engines.base import Chain, Migration
from tenantry_operator.engines.chain import Form
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.kube import CONFIGMAPS, KubeClient, NotFound

Object = dict[str, Any]


def blueprint_of(obj: Object) -> str:
    """``<namespace>/<blueprint>`` of a BlueprintVersion or Rollout."""
    return f"{obj['metadata']['namespace']}/{obj['spec']['blueprint']}"


class Book:
    """Chains of migrations, kept until a version of theirs changes.

    ConfigMaps are read when they are first needed, and again by :meth:`refresh`: they carry no label by
    which they could be watched without watching all of them.
    """

    def __init__(self, kube: KubeClient, versions: Store) -> None:
        self._kube = kube
        self._versions = versions
        self._parsed: dict[Key, tuple[str, chains.Version]] = {}
        self._texts: dict[tuple[str, str], dict[str, str]] = {}
        self._chains: dict[tuple[str, str], Chain] = {}

    def forget(self, blueprint: str) -> None:
        """A version of the blueprint came, changed or went."""
        self._chains = {known: chain for known, chain in self._chains.items() if known[0] != blueprint}

    async def chain(self, blueprint: str, version: str) -> Chain:
        """The chain to a version.

        :param blueprint: ``<namespace>/<name>``.
        :raises Waiting: when a version, a ConfigMap or a key in it is not there.
        :raises Stalled: when versions contradict each other.
        """
        known = self._chains.get((blueprint, version))
        if known is None:
            known = chains.resolve(blueprint, version, await self._versions_of(blueprint))
            self._chains[blueprint, version] = known
        return known

    async def _versions_of(self, blueprint: str) -> dict[str, chains.Version]:
        found: dict[str, chains.Version] = {}
        for key in self._versions.find("blueprint", blueprint):
            obj = self._versions.get(key)
            if obj is None:
                continue
            parsed = await self.parse(obj)
            other = found.get(parsed.version)
            if other is not None:
                raise Stalled(
                    "VersionTaken",
                    f"BlueprintVersions {other.name} and {parsed.name} are both version {parsed.version} of "
                    f"blueprint {blueprint}: delete the wrong one",
                )
            found[parsed.version] = parsed
        return found

    async def parse(self, obj: Object) -> chains.Version:
        """A BlueprintVersion with its texts.

        :raises Waiting: when a ConfigMap or a key in it is not there.
        """
        meta = obj["metadata"]
        key = (meta["namespace"], meta["name"])
        known = self._parsed.get(key)
        if known is not None and known[0] == meta["uid"]:
            return known[1]
        spec = BlueprintVersionSpec.model_validate(obj["spec"])
        migrations = []
        for step in spec.migrations:
            form: Form | None = None
            if step.sql is not None:
                text, form = step.sql, Form.SQL
            elif step.config_map_ref is not None:
                reference = step.config_map_ref
                text = await self._text(key[0], reference.name, reference.key, f"BlueprintVersion {key[1]}")
            else:
                text, form = json.dumps(step.commands, ensure_ascii=False, separators=(",", ":")), Form.COMMANDS
            migrations.append(
                Migration(spec.version, step.name, text, step.transactional, step.rollback, form=form)
            )
        parsed = chains.Version(key[1], spec.version, spec.from_version, tuple(migrations))
        self._parsed[key] = (meta["uid"], parsed)
        return parsed

    async def _text(self, namespace: str, name: str, key: str, asked_by: str) -> str:
        texts = self._texts.get((namespace, name))
        if texts is None or key not in texts:
            texts = await self._read(namespace, name, asked_by)
            self._texts[namespace, name] = texts
        if key not in texts:
            raise Waiting(
                "ConfigMapKeyNotFound", f"{asked_by}: ConfigMap {namespace}/{name} has no key {key}: add it"
            )
        return texts[key]

    async def _read(self, namespace: str, name: str, asked_by: str) -> dict[str, str]:
        try:
            obj = await self._kube.get(CONFIGMAPS, namespace, name)
        except NotFound:
            raise Waiting(
                "ConfigMapNotFound", f"{asked_by}: there is no ConfigMap {namespace}/{name}: create it"
            ) from None
        return dict(obj.get("data") or {})

    async def refresh(self, obj: Object) -> bool:
        """Reads the ConfigMaps of a BlueprintVersion again. True when a text changed."""
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        changed = False
        for map_name in {
            step["configMapRef"]["name"]
            for step in obj["spec"].get("migrations") or []
            if step.get("configMapRef")
        }:
            before = self._texts.get((namespace, map_name))
            after = await self._read(namespace, map_name, f"BlueprintVersion {name}")
            if before is not None and before != after:
                changed = True
            self._texts[namespace, map_name] = after
        if changed:
            self._parsed.pop((namespace, name), None)
            self.forget(blueprint_of(obj))
        return changed
