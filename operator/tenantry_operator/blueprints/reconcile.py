"""The reconciles of Blueprints and BlueprintVersions: whether they can be used, and who uses them."""

from __future__ import annotations

from typing import Any

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_crds.common import DatabaseEngine
from tenantry_operator import conditions
from tenantry_operator.blueprints import linting
from tenantry_operator.blueprints.book import blueprint_of
from tenantry_operator.blueprints.chains import Version
from tenantry_operator.cache import Key, key_of
from tenantry_operator.context import BLUEPRINT_VERSIONS, BLUEPRINTS, Context
from tenantry_operator.engines.chain import Form
from tenantry_operator.engines.kinds import check_form
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.faults import reached, subject
from tenantry_operator.rollouts.automatic import describe_rollout, follow_version
from tenantry_operator.rollouts.members import followers
from tenantry_operator.tenants.view import records_of

Object = dict[str, Any]

_WAITING_AGAIN = 5.0


class BlueprintReconciler:
    """Reports on Blueprints and BlueprintVersions; the tenants do the work."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def blueprint(self, key: Key) -> float | None:
        """One reconcile of a Blueprint."""
        context = self._context
        obj = context.blueprints.get(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return None
        spec = BlueprintSpec.model_validate(obj["spec"])
        name = "/".join(key)
        subject.set(name)
        try:
            if spec.engine is None:
                await self._service(obj, spec)
                return None
            if spec.version is None:
                raise Stalled("NoVersion", "spec.version names no current version: set it")
            chain = check_form(await context.book.chain(name, spec.version), spec.engine)
            follows = await follow_version(context, obj, spec)
        except ReconcileError as error:
            waited = conditions.waited(obj, error)
            await context.write_failure(BLUEPRINTS, context.blueprints, obj, error, waited=waited)
            return _again(error)
        users, current = self._tenants(key, spec.version)
        versions = sorted(
            {
                version["spec"]["version"]
                for version in map(context.versions.get, context.versions.find("blueprint", name))
                if version is not None
            }
        )
        fields = {
            **follows,
            "tenants": users,
            "upToDate": current,
            "versions": versions,
        }
        found = describe_rollout(context, key[0], follows) or conditions.ready(
            "Ready", f"version {spec.version} has {len(chain.migrations)} migrations"
        )
        written = await context.write_conditions(BLUEPRINTS, context.blueprints, obj, found, fields)
        if written is not obj:
            reached("blueprint-written")
        if (obj.get("status") or {}).get("currentVersion") != follows["currentVersion"]:
            self._wake_others(key, follows["currentVersion"])
        return None

    async def _service(self, obj: Object, spec: BlueprintSpec) -> None:
        """A service template has no versions: it is ready as it is."""
        context, key = self._context, key_of(obj)
        users = [
            [
                record
                for record in (tenant.get("status") or {}).get("services") or []
                if record.get("blueprint") == key[1]
            ]
            for tenant in context.tenants.all("service", "/".join(key))
        ]
        image = spec.service.image if spec.service is not None else None
        current = sum(
            bool(records)
            and all(
                r.get("phase") == "Stopped" or (r.get("phase") == "Running" and r.get("image") == image)
                for r in records
            )
            for records in users
        )
        fields = {"tenants": len(users), "upToDate": current}
        ready = conditions.ready("Ready", "a service template")
        await context.write_conditions(BLUEPRINTS, context.blueprints, obj, ready, fields)

    def _wake_others(self, key: Key, settled: str | None) -> None:
        """Those who have another version than all others by now: they had no data, or were away."""
        for tenant in self._context.tenants.all("blueprint", "/".join(key)):
            if any(record.get("version") != settled for _, record in followers(tenant, key[1])):
                self._context.runs.wake(key_of(tenant))

    def _tenants(self, key: Key, version: str) -> tuple[int, int]:
        users = current = 0
        for tenant_key in self._context.tenants.find("blueprint", "/".join(key)):
            tenant = self._context.tenants.get(tenant_key)
            if tenant is None:
                continue
            users += 1
            pins = {
                database.get("name") or database["blueprint"]: database.get("version")
                for database in tenant["spec"].get("databases") or []
                if database["blueprint"] == key[1]
            }
            records = records_of(tenant)
            current += all(records.get(name, {}).get("version") == (pin or version) for name, pin in pins.items())
        return users, current

    async def version(self, key: Key) -> float | None:
        """One reconcile of a BlueprintVersion."""
        context = self._context
        obj = context.versions.get(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return None
        try:
            parsed = await context.book.parse(obj)
            chain = await context.book.chain(blueprint_of(obj), parsed.version)
            found = await self._lint(obj, parsed, chain.digest)
        except ReconcileError as error:
            waited = conditions.waited(obj, error)
            await context.write_failure(BLUEPRINT_VERSIONS, context.versions, obj, error, waited=waited)
            return _again(error)
        fields = {
            **found,
            "digest": chain.digest,
            "migrations": [{"name": m.name, "checksum": m.checksum} for m in parsed.migrations],
        }
        ready = conditions.ready("Ready", f"{len(chain.migrations)} migrations from an empty database")
        await context.write_conditions(BLUEPRINT_VERSIONS, context.versions, obj, ready, fields)
        return None

    async def _lint(self, obj: Object, parsed: Version, digest: str) -> Object:
        status = obj.get("status") or {}
        if status.get("digest") == digest and status.get("findingCount") is not None:
            # A restart lints nothing anew.
            return {}
        if any(migration.form is Form.COMMANDS for migration in parsed.migrations) or not self._is_sql(obj):
            return {"findings": [], "findingCount": 0}
        return linting.render(await self._context.linter.findings(parsed))

    def _is_sql(self, version: Object) -> bool:
        """Whether linting knows the blueprint's engine: the rules are PostgreSQL's."""
        namespace, _, name = blueprint_of(version).partition("/")
        blueprint = self._context.blueprints.get((namespace, name))
        engine = blueprint["spec"].get("engine") if blueprint is not None else None
        return engine in (None, DatabaseEngine.POSTGRESQL)


def _again(error: ReconcileError) -> float | None:
    if isinstance(error, Retryable):
        raise error
    return _WAITING_AGAIN if isinstance(error, Waiting) else None
