"""The models as the operator and the facade use them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tenantry_crds.blueprint import BlueprintSpec
from tenantry_crds.blueprint_version import BlueprintVersionSpec
from tenantry_crds.common import ConditionModel, DatabaseEngine, DeletionPolicy, Isolation
from tenantry_crds.database_instance import DatabaseInstanceSpec, TlsMode
from tenantry_crds.kinds import BY_KIND, KINDS
from tenantry_crds.plan import PlanSpec
from tenantry_crds.tenant import Ddl, TenantDatabase, TenantSpec, TenantState
from tenantry_crds.tenant_status import TenantDatabaseStatus, TenantStatus

CASES = Path(__file__).parents[1] / "integration" / "crds"
COMPLETE: dict[str, dict[str, Any]] = yaml.safe_load((CASES / "complete.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", COMPLETE)
def test_a_manifest_survives_parsing_and_writing(kind: str) -> None:
    parsed = BY_KIND[kind].spec.model_validate(COMPLETE[kind])

    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == COMPLETE[kind]
    assert BY_KIND[kind].spec.model_validate(parsed.to_object()) == parsed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_new_object_has_an_empty_status(kind: Any) -> None:
    for manifest in ({}, {"status": None}, {"status": {}}, {"status": {"observedGeneration": -1}}):
        status = kind.status.parse(manifest)

        assert status.observed_generation == -1
        assert status.condition("Ready") is None


def test_a_tenant_with_nothing_but_defaults() -> None:
    tenant = TenantSpec.parse({"spec": {}})

    assert tenant.id is None
    assert tenant.state is TenantState.ACTIVE
    assert tenant.deletion_policy is DeletionPolicy.RETAIN
    assert tenant.retention_days == 30
    assert tenant.limits == tenant.databases == ()


def test_a_database_is_called_as_its_blueprint_unless_named() -> None:
    assert TenantDatabase(blueprint="shop").effective_name == "shop"
    assert TenantDatabase(blueprint="shop", name="main").effective_name == "main"
    assert TenantDatabase(blueprint="shop").ddl is Ddl.FORBIDDEN


def test_blueprints_fill_in_what_is_left_out() -> None:
    blueprint = BlueprintSpec(engine=DatabaseEngine.POSTGRESQL, version="1")

    assert blueprint.effective_isolation is Isolation.DATABASE
    assert blueprint.effective_row.column == "tenant_id"
    assert blueprint.effective_rollout.max_parallel == 16
    assert PlanSpec().effective_database.connections is None


def test_names_with_a_spelling_of_their_own() -> None:
    version = BlueprintVersionSpec.model_validate({"blueprint": "shop", "version": "2", "from": "1"})
    assert version.from_version == "1"
    assert version.to_object()["from"] == "1"

    cluster = DatabaseInstanceSpec.model_validate({"engine": "PostgreSQL", "cloudNativePG": {"instances": 3}})
    assert cluster.cloud_native_pg is not None
    assert cluster.cloud_native_pg.instances == 3

    status = TenantDatabaseStatus(name="main", schema_name="acme")
    assert status.to_object() == {"name": "main", "schema": "acme"}


def test_modes_of_tls() -> None:
    external = {"host": "db", "adminSecret": {"name": "admin"}, "tls": {"mode": "VerifyCA"}}
    instance = DatabaseInstanceSpec.model_validate({"engine": "PostgreSQL", "external": external})

    assert instance.external is not None
    assert instance.external.tls is not None
    assert instance.external.tls.mode is TlsMode.VERIFY_CA


def test_fields_of_a_newer_version_are_passed_over() -> None:
    tenant = TenantSpec.model_validate({"mood": "good", "databases": [{"blueprint": "shop", "colour": "red"}]})

    assert tenant.to_object()["databases"] == [{"name": "", "blueprint": "shop", "ddl": "Forbidden"}]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"state": "Paused"}, ("state",)),
        ({"id": "Acme"}, ("id",)),
        ({"databases": [{}]}, ("databases", 0, "blueprint")),
        ({"retentionDays": -1}, ("retentionDays",)),
    ],
)
def test_what_is_wrong_is_named(spec: dict[str, Any], where: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError) as error:
        TenantSpec.model_validate(spec)

    assert error.value.errors()[0]["loc"] == where


def test_models_are_values() -> None:
    tenant = TenantSpec.model_validate({"databases": [{"blueprint": "shop"}]})

    assert hash(tenant.databases[0]) == hash(TenantDatabase(blueprint="shop"))
    with pytest.raises(ValidationError):
        tenant.state = TenantState.DELETED  # type: ignore[misc]


def test_moments_compare_equal_after_they_were_stored() -> None:
    moment = datetime(2026, 11, 21, 12, 30, 15, 999999, tzinfo=timezone(timedelta(hours=2)))

    status = TenantStatus(deleted_at=moment)

    assert status.deleted_at == datetime(2026, 11, 21, 10, 30, 15, tzinfo=UTC)
    assert status.to_object()["deletedAt"] == "2026-11-21T10:30:15Z"
    assert TenantStatus.model_validate(status.to_object()) == status


def test_a_long_message_is_cut_rather_than_refused() -> None:
    condition = ConditionModel(type="Ready", status="False", message="x" * 40_000)

    assert condition.message is not None
    assert len(condition.message) == 32_768
    assert condition.message.endswith("x…")


def test_entries_of_a_status_are_found() -> None:
    status = TenantStatus.model_validate(
        {"databases": [{"name": "main"}], "conditions": [{"type": "Ready", "status": "True"}]}
    )

    assert status.database("main") is status.databases[0]
    assert status.database("other") is None
    ready = status.condition("Ready")
    assert ready is not None
    assert ready.status == "True"
