"""Tenants in the words of institutions, and who may do what with them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from tenantry_api.auth.accounts import Account
from tenantry_api.auth.principal import Principal
from tenantry_api.cache import Cache
from tenantry_api.dialects.institutions import translate
from tenantry_api.dialects.institutions.access import Access
from tenantry_api.dialects.institutions.schemas import Login, NewTenant, TenantChange
from tenantry_api.dialects.institutions.service import Service
from tenantry_api.facade import Facade
from tenantry_api.identity import uuid_of
from tenantry_api.problems import Forbidden, Invalid, Missing, Unauthenticated
from tenantry_api.settings import Settings
from tenantry_api.store import Tenants
from tenantry_api.tenants import Tenant

Object = dict[str, Any]

MIB = 1 << 20
CREATED = "2026-01-15T10:30:00Z"
NEW: Object = {
    "name": "Université de Buea",
    "slug": "ub",
    "type": "UNIVERSITY",
    "description": "In Buea",
    "logo_url": "https://ub.example/logo.png",
    "contact_email": "info@ub.example",
    "contact_phone": "+237 987 654 321",
    "legal_status": "PUBLIC",
    "registration_number": "REG-2",
    "max_users": 150,
    "max_diplomas": 15000,
    "storage_quota_mb": 3000,
    "security_config": {"tsa_enabled": True},
}


def tenant(name: str = "ub", status: Object | None = None, **spec: Any) -> Tenant:
    metadata = {"namespace": "default", "name": name, "uid": f"uid-{name}", "creationTimestamp": CREATED}
    return Tenant({"metadata": metadata, "spec": {"id": name, **spec}, "status": status or {}})


def usage(resource: str, used: int, *parts: Object) -> Object:
    return {"resource": resource, "used": used, "breakdown": list(parts)}


def changed(now: Tenant, limits: dict[str, int] | None = None, **change: Any) -> Object:
    spec = dict(now.spec)
    translate.apply_change(spec, now, TenantChange.model_validate(change), limits or {})
    return spec


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("Draft", "INACTIVE"),
        ("Active", "ACTIVE"),
        ("Suspended", "SUSPENDED"),
        ("Archived", "INACTIVE"),
        ("Deleted", "INACTIVE"),
        ("Unheard", "INACTIVE"),
    ],
)
def test_every_state_has_a_word(state: str, status: str) -> None:
    found = translate.item(tenant(state=state), {})
    assert (found["status"], found["is_active"]) == (status, status == "ACTIVE")


@pytest.mark.parametrize("phase", ["Provisioning", "Ready", "Moving", "Restoring", "Failed"])
def test_what_happens_to_an_active_tenant_leaves_it_active(phase: str) -> None:
    stalled = [{"type": "Stalled", "status": "True"}]
    assert translate.status_of(tenant(status={"phase": phase, "conditions": stalled})) == "ACTIVE"


def test_a_tenant_that_says_nothing_is_shown() -> None:
    bare = Tenant({"metadata": {"namespace": "default", "name": "bare", "creationTimestamp": CREATED}, "spec": {}})
    assert translate.detail(bare, {}) == {
        "id": uuid_of("default", "bare"),
        "name": "bare",
        "slug": "bare",
        "type": None,
        "description": None,
        "logo_url": None,
        "contact_email": None,
        "contact_phone": None,
        "legal_status": None,
        "registration_number": None,
        "parent_id": None,
        "max_users": None,
        "max_diplomas": None,
        "storage_quota_mb": None,
        "status": "ACTIVE",
        "is_active": True,
        "created_at": CREATED,
        "updated_at": CREATED,
        "security_config": {},
    }
    found = translate.stats(bare, {})
    assert (found["total_users"], found["users_percentage"], found["last_user_added"]) == (0, None, None)
    assert (found["storage_used_mb"], found["user_count_by_role"]) == (0, {})


def test_a_new_tenant_is_read_as_it_was_sent() -> None:
    parent = tenant("minesup")
    new = NewTenant.model_validate({**NEW, "parent_id": parent.uuid})
    spec = translate.spec_of(new, parent, ["app", "files"])
    assert spec["databases"] == [{"blueprint": "app"}, {"blueprint": "files"}]
    assert (spec["state"], spec["parent"]) == ("Active", "minesup")
    assert spec["limits"][2] == {"resource": "storage", "limit": "3000Mi"}
    limits = {"users": 150, "diplomas": 15000, "storage": 3000 * MIB}
    found = translate.detail(tenant("ub", **spec), limits)
    assert {field: found[field] for field in NEW} == NEW
    assert found["parent_id"] == parent.uuid


def test_what_a_new_tenant_lacks_is_left_out() -> None:
    required = ("name", "slug", "type", "contact_email", "legal_status", *translate.COUNTED)
    spec = translate.spec_of(NewTenant.model_validate({field: NEW[field] for field in required}), None, [])
    assert set(spec["profile"]) == {"type", "contactEmail", "legalStatus"}
    assert "parent" not in spec
    assert "securityConfig" not in spec


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "ab"),
        ("name", "x" * 256),
        ("name", "nul\x00"),
        ("name", "half \ud800"),
        ("name", None),
        ("slug", "Not A Slug"),
        ("slug", "a_b"),
        ("slug", ""),
        ("slug", "-a"),
        ("slug", "ub\n"),
        ("slug", "x" * 64),
        ("slug", "'; DROP TABLE tenants; --"),
        ("slug", "123e4567-e89b-12d3-a456-426614174000"),
        ("type", "SCHOOL"),
        ("description", "x" * 1001),
        ("logo_url", "ftp://ub.example/logo.png"),
        ("logo_url", "javascript:alert(1)"),
        ("logo_url", "logo.png"),
        ("logo_url", "https://"),
        ("logo_url", "https://ub.example/a b"),
        ("logo_url", "https://ub.example/\n"),
        ("contact_email", "info"),
        ("contact_email", "info@ub"),
        ("contact_email", "in fo@ub.example"),
        ("contact_email", "info@ub.example\n"),
        ("contact_email", "info@-ub.example"),
        ("contact_phone", "1234"),
        ("contact_phone", "1" * 21),
        ("legal_status", "PRIVATE"),
        ("registration_number", "x" * 51),
        ("parent_id", "t-minesup"),
        ("max_users", 9),
        ("max_users", 10_001),
        ("max_users", "150"),
        ("max_users", 150.5),
        ("max_users", True),
        ("max_diplomas", 9),
        ("max_diplomas", 100_001),
        ("storage_quota_mb", 99),
        ("storage_quota_mb", 10**30),
        ("security_config", [1]),
        ("security_config", {"a": "\x00"}),
        ("security_config", {"a": 10**30}),
        ("security_config", {"a": float("nan")}),
    ],
)
def test_a_field_that_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        NewTenant.model_validate({**NEW, field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "xyz"),
        ("slug", "9" * 63),
        ("slug", "a-"),
        ("logo_url", "HTTP://ub.example:8080/a?b=%20#c"),
        ("contact_email", "o'neil+x@mail.ub.example"),
        ("contact_phone", "12345"),
        ("parent_id", "123E4567-E89B-12D3-A456-426614174001"),
        ("max_diplomas", 100_000),
        ("storage_quota_mb", 100),
        ("description", ""),
    ],
)
def test_what_is_at_the_edge_is_taken(field: str, value: Any) -> None:
    given = getattr(NewTenant.model_validate({**NEW, field: value}), field)
    assert str(given).lower() == str(value).lower()


def test_only_what_is_sent_changes() -> None:
    now = tenant(displayName="Old", profile={"type": "FACULTY", "domain": "ub.example"}, settings={"a": 1})
    spec = changed(now, name="New one", contact_email="new@ub.example")
    profile = {"type": "FACULTY", "domain": "ub.example", "contactEmail": "new@ub.example"}
    assert spec == {**now.spec, "displayName": "New one", "profile": profile}


def test_who_sends_back_what_he_read_changes_nothing() -> None:
    now = tenant(profile={"type": "MAIN", "legalStatus": "PUBLIC"}, state="Archived", securityConfig={"a": True})
    limits = {"users": 100, "storage": 10 << 30}
    answer = translate.detail(now, limits) | {"name": "ub1"}
    now.spec["displayName"] = "ub1"
    assert changed(now, limits, **answer) == now.spec


def test_null_takes_away_what_may_be_lacking() -> None:
    now = tenant(profile={"description": "x", "logoUrl": "y", "contactEmail": "z", "legalStatus": "PUBLIC"})
    spec = changed(now, description=None, logo_url=None, contact_email=None, legal_status=None, max_users=None)
    assert spec["profile"] == {"contactEmail": "z", "legalStatus": "PUBLIC"}
    assert "limits" not in spec


def test_a_limit_takes_the_place_of_its_own_kind_only() -> None:
    now = tenant(limits=[{"resource": "users", "limit": 50}, {"resource": "api_calls", "limit": 5}])
    spec = changed(now, {"users": 50, "api_calls": 5}, max_users=250, storage_quota_mb=6000)
    assert spec["limits"] == [
        {"resource": "api_calls", "limit": 5},
        {"resource": "users", "limit": 250},
        {"resource": "storage", "limit": "6000Mi"},
    ]
    assert now.spec["limits"][0] == {"resource": "users", "limit": 50}


def test_security_settings_are_merged() -> None:
    now = tenant(securityConfig={"a": True, "b": True, "c": {"d": 1}})
    assert changed(now, security_config={"a": False, "b": None})["securityConfig"] == {"a": False, "c": {"d": 1}}


def test_security_settings_do_not_grow_without_end() -> None:
    now = tenant(securityConfig={"a": "x" * 60_000})
    with pytest.raises(Invalid) as caught:
        changed(now, security_config={"b": "x" * 60_000})
    assert caught.value.errors[0].field == "security_config"


def test_the_slug_stays() -> None:
    assert changed(tenant(), slug="ub") == {"id": "ub"}
    with pytest.raises(Invalid) as caught:
        changed(tenant(), slug="other")
    assert caught.value.errors[0].field == "slug"


@pytest.mark.parametrize(
    ("before", "status", "after"),
    [
        ("Active", "SUSPENDED", "Suspended"),
        ("Active", "INACTIVE", "Deleted"),
        ("Suspended", "ACTIVE", "Active"),
        ("Suspended", "INACTIVE", "Deleted"),
        ("Deleted", "ACTIVE", "Active"),
        ("Deleted", "SUSPENDED", "Suspended"),
        ("Deleted", "INACTIVE", "Deleted"),
        ("Draft", "INACTIVE", "Draft"),
        ("Draft", "ACTIVE", "Active"),
        ("Archived", "ACTIVE", "Active"),
    ],
)
def test_a_status_makes_a_state(before: str, status: str, after: str) -> None:
    assert changed(tenant(state=before), status=status)["state"] == after


def test_a_tenant_whose_data_is_gone_stays_gone() -> None:
    past = tenant(
        state="Deleted",
        deletionPolicy="Delete",
        retentionDays=1,
        status={"deletedAt": "2026-01-15T10:30:00Z"},
    )
    assert translate.is_data_kept(past, datetime(2026, 1, 16, 10, 29, tzinfo=UTC))
    assert not translate.is_data_kept(past, datetime(2026, 1, 16, 10, 30, tzinfo=UTC))
    past.spec["deletionPolicy"] = "Retain"
    assert translate.is_data_kept(past, datetime(2030, 1, 1, tzinfo=UTC))
    past.spec["deletionPolicy"] = "Delete"
    past.status["deletedAt"] = "2020-01-01T00:00:00Z"
    with pytest.raises(Invalid, match="cannot be brought back"):
        changed(past, status="ACTIVE")


def test_statistics_are_counted_by_label() -> None:
    roles = [
        {"label": "USER", "count": 40, "latest": "2026-01-14T16:30:00.25+01:00"},
        {"label": "SYSTEM_OWNER", "count": 5, "latest": "2026-01-14 15:29:00"},
    ]
    diplomas = [{"label": "DRAFT", "count": 1230, "latest": "not a time"}, {"label": "", "count": 0}]
    status = {
        "usage": [
            usage("users", 45, *roles),
            usage("diplomas", 1230, *diplomas),
            {"resource": "storage", "used": 249 * MIB + 1},
        ]
    }
    limits = {"users": 200, "diplomas": 20000, "storage": 5000 * MIB}
    assert translate.stats(tenant(status=status), limits) == {
        "tenant_id": uuid_of("default", "ub"),
        "total_users": 45,
        "max_users": 200,
        "users_percentage": 22.5,
        "total_diplomas": 1230,
        "max_diplomas": 20000,
        "diplomas_percentage": 6.15,
        "storage_used_mb": 250,
        "storage_quota_mb": 5000,
        "storage_percentage": 5.0,
        "user_count_by_role": {"USER": 40, "SYSTEM_OWNER": 5},
        "diploma_count_by_status": {"DRAFT": 1230},
        "last_diploma_created": None,
        "last_user_added": "2026-01-14T15:30:00Z",
    }


@pytest.mark.parametrize(
    ("used", "most", "share"),
    [(1, 3, 33.33), (2, 3, 66.67), (0, 10, 0.0), (20, 10, 200.0), (0, 0, 0.0), (1, 0, 100.0), (1, None, None)],
)
def test_a_percentage_has_two_digits(used: int, most: int | None, share: float | None) -> None:
    assert translate.percentage(used, most) == share


def test_a_session_says_whose_it_is() -> None:
    account = Account("who@ub.example", "USER", "ub", "Who")
    assert translate.session(account, "t") == {
        "access_token": "t",
        "token_type": "bearer",
        "user": {
            "id": account.id,
            "email": "who@ub.example",
            "fullName": "Who",
            "role": "USER",
            "tenantId": "ub",
        },
    }
    assert translate.session(Account("a@b.example", "SUPER_ADMIN"), "t")["user"]["tenantId"] is None


def test_without_a_key_nobody_logs_in() -> None:
    settings = Settings(admin_email="a@b.example", admin_password=SecretStr("right"))
    service = Service(Facade(settings, None))  # type: ignore[arg-type]
    with pytest.raises(Unauthenticated, match="no key"):
        asyncio.run(service.login(Login(email="a@b.example", password="right"), "here"))


# Who may do what: ministry > university > faculty, and another university.


@pytest.fixture
def tenants() -> Tenants:
    known = Cache(None, ["default"])  # type: ignore[arg-type]
    for each in (
        tenant("ministry"),
        tenant("university", parent="ministry"),
        tenant("faculty", parent="university"),
        tenant("other"),
    ):
        known.tenants.put(each.obj)
    return Tenants(Settings(), None, known)  # type: ignore[arg-type]


def access(tenants: Tenants, role: str, own: str = "", *, admin: bool = False) -> Access:
    return Access.of(Principal("who", frozenset({role}), own, is_admin=admin), tenants)


def names(found: list[Tenant]) -> set[str]:
    return {each.id for each in found}


def test_each_role_reads_what_it_should(tenants: Tenants) -> None:
    everything = {"ministry", "university", "faculty", "other"}
    assert names(access(tenants, "SUPER_ADMIN", admin=True).readable()) == everything
    assert names(access(tenants, "INSTITUTION_ADMIN", "university").readable()) == {"university", "faculty"}
    assert names(access(tenants, "USER", "university").readable()) == {"university"}
    by_uuid = access(tenants, "USER", uuid_of("default", "university").upper())
    assert names(by_uuid.readable()) == {"university"}
    for nobody in (access(tenants, "INSTITUTION_ADMIN"), access(tenants, "USER", "unknown")):
        with pytest.raises(Forbidden):
            nobody.readable()


def test_an_id_that_looks_like_another_tenants_uuid_is_an_id(tenants: Tenants) -> None:
    posing = uuid_of("default", "ministry")
    tenants.cache.tenants.put(tenant(posing).obj)
    assert names(access(tenants, "INSTITUTION_ADMIN", posing).readable()) == {posing}


def test_who_may_not_know_does_not_learn_what_there_is(tenants: Tenants) -> None:
    user = access(tenants, "USER", "university")
    messages = set()
    for uuid in (uuid_of("default", "other"), uuid_of("default", "nothing")):
        with pytest.raises(Forbidden) as caught:
            user.find(uuid)
        messages.add(caught.value.message)
    assert len(messages) == 1
    with pytest.raises(Missing):
        access(tenants, "SUPER_ADMIN", admin=True).find(uuid_of("default", "nothing"))


def test_a_tenant_that_is_being_deleted_is_not_there(tenants: Tenants) -> None:
    going = tenant("going")
    going.meta["deletionTimestamp"] = CREATED
    tenants.cache.tenants.put(going.obj)
    admin = access(tenants, "SUPER_ADMIN", admin=True)
    assert "going" not in names(admin.readable())
    with pytest.raises(Missing):
        admin.find(going.uuid)
    with pytest.raises(Forbidden):
        access(tenants, "USER", "going").find(going.uuid)


@pytest.mark.parametrize(
    ("name", "state", "wanted", "may"),
    [
        ("faculty", "Active", "Suspended", True),
        ("faculty", "Suspended", "Active", True),
        ("faculty", "Active", "Deleted", False),
        ("faculty", "Deleted", "Active", False),
        ("faculty", "Draft", "Active", False),
        ("university", "Suspended", "Active", False),
    ],
)
def test_a_manager_suspends_below_and_no_more(
    tenants: Tenants, name: str, state: str, wanted: str, *, may: bool
) -> None:
    manager, asked = access(tenants, "INSTITUTION_ADMIN", "university"), tenant(name, state=state)
    access(tenants, "SUPER_ADMIN", admin=True).check_status(asked, wanted)
    if may:
        manager.check_status(asked, wanted)
    else:
        with pytest.raises(Forbidden):
            manager.check_status(asked, wanted)


def test_a_manager_moves_within_what_he_manages(tenants: Tenants) -> None:
    manager = access(tenants, "INSTITUTION_ADMIN", "university")
    manager.check_move(tenant("faculty", parent="university"))
    for elsewhere in (tenant("other"), tenant("ministry"), None):
        with pytest.raises(Forbidden):
            manager.check_move(elsewhere)


def test_only_managers_update(tenants: Tenants) -> None:
    access(tenants, "INSTITUTION_ADMIN", "university").check_update()
    for role in ("USER", "USER_MANAGER", "OFFICIAL_SIGNATORY"):
        with pytest.raises(Forbidden):
            access(tenants, role, "university").check_update()
