"""A tenant by the contract of institutions: reading, changing, deleting it, and its statistics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.contract.test_institutions import NOBODY, Make, as_administrator, detail, invalid, made_by, unique
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e


@pytest.fixture
def admin(stack: Stack) -> Iterator[httpx.Client]:
    with as_administrator(stack) as client:
        yield client


@pytest.fixture
def make(admin: httpx.Client) -> Make:
    return made_by(admin)


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/stats")])
def test_a_tenant_that_is_not_there_is_not_found(admin: httpx.Client, method: str, tail: str) -> None:
    answer = admin.request(method, f"/tenants/{NOBODY}{tail}", json={})
    assert detail(answer, 404) == "Tenant not found"
    said = invalid(admin.request(method, f"/tenants/not-a-uuid{tail}", json={}))
    assert set(said) == {"tenant_id"}


def test_only_what_is_sent_changes(admin: httpx.Client, make: Make) -> None:
    made = make()
    before = admin.get(f"/tenants/{made['id']}").json()
    sent = {
        "name": "Université de Buea - Revised",
        "description": "Updated",
        "max_users": 250,
        "max_diplomas": 25000,
        "storage_quota_mb": 6000,
        "contact_email": "admin@ub.example",
        "status": "ACTIVE",
        "security_config": {"tsa_enabled": False},
    }
    time.sleep(1.1)  # times are in whole seconds
    answer = admin.put(f"/tenants/{made['id']}", json=sent)
    assert answer.status_code == 200, answer.text
    security = {"tsa_enabled": False, "zero_trust_mode": True}
    updated = answer.json()["updated_at"]
    assert answer.json() == {**before, **sent, "security_config": security, "updated_at": updated}
    assert updated > before["updated_at"]
    assert admin.get(f"/tenants/{made['id']}").json() == answer.json()


def test_all_of_a_tenant_can_be_sent_back(admin: httpx.Client, make: Make) -> None:
    made = make(parent_id=make()["id"], logo_url=None)
    before = admin.get(f"/tenants/{made['id']}").json()
    answer = admin.put(f"/tenants/{made['id']}", json=before)
    assert answer.status_code == 200, answer.text
    assert answer.json() == before
    assert admin.put(f"/tenants/{made['id']}", json={}).json() == before


def test_null_takes_away_what_may_be_lacking(admin: httpx.Client, make: Make) -> None:
    made = make(parent_id=make()["id"])
    cleared = dict.fromkeys(("description", "logo_url", "contact_phone", "registration_number", "parent_id"))
    found = admin.put(f"/tenants/{made['id']}", json={**cleared, "contact_email": None}).json()
    assert {field: found[field] for field in cleared} == cleared
    assert found["contact_email"] == made["contact_email"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "ab"),
        ("slug", "another"),
        ("type", "SCHOOL"),
        ("logo_url", "ftp://x.example"),
        ("contact_email", "nobody"),
        ("max_users", 10_001),
        ("status", "DELETED"),
        ("parent_id", 7),
        ("security_config", [1]),
    ],
)
def test_a_change_that_is_wrong_is_refused(admin: httpx.Client, make: Make, field: str, value: Any) -> None:
    made = make()
    assert set(invalid(admin.put(f"/tenants/{made['id']}", json={"name": "Fine name", field: value}))) == {field}
    assert admin.get(f"/tenants/{made['id']}").json()["name"] == made["name"]


def test_a_tenant_moves_below_another_but_never_below_itself(admin: httpx.Client, make: Make) -> None:
    top = make()
    middle = make(parent_id=top["id"])
    bottom = make()
    moved = admin.put(f"/tenants/{bottom['id']}", json={"parent_id": middle["id"].upper()})
    assert moved.json()["parent_id"] == middle["id"]
    for below in (top, middle, bottom):
        answer = admin.put(f"/tenants/{top['id']}", json={"parent_id": below["id"]})
        assert set(invalid(answer)) == {"parent_id"}
    answer = admin.put(f"/tenants/{top['id']}", json={"parent_id": NOBODY})
    assert detail(answer, 404) == "Parent tenant not found"


def test_deleting_is_soft_and_can_be_undone(stack: Stack, admin: httpx.Client, make: Make) -> None:
    made = make()
    child = make(parent_id=made["id"])
    stack.api.ready("default", made["slug"])
    stack.api.query("default", made["slug"], "app", "INSERT INTO users (email) VALUES ('kept@ub.example')")
    answer = admin.delete(f"/tenants/{made['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    found = admin.get(f"/tenants/{made['id']}").json()
    assert (found["status"], found["is_active"]) == ("INACTIVE", False)
    assert admin.get(f"/tenants/{child['id']}").json()["status"] == "ACTIVE"
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    stack.api.wait("tenant", made["slug"], "default", lambda obj: obj and obj["status"]["phase"] == "Deleted")
    back = admin.put(f"/tenants/{made['id']}", json={"status": "ACTIVE"})
    assert (back.json()["status"], back.json()["is_active"]) == ("ACTIVE", True)
    stack.api.ready("default", made["slug"])
    rows = stack.api.query("default", made["slug"], "app", "SELECT email FROM users")
    assert rows == [("kept@ub.example",)]


def test_inactive_by_a_change_is_the_same_as_deleting(stack: Stack, admin: httpx.Client, make: Make) -> None:
    made = make()
    assert admin.put(f"/tenants/{made['id']}", json={"status": "INACTIVE"}).json()["status"] == "INACTIVE"
    found = stack.api.get("tenant", made["slug"], "default")
    assert found is not None
    assert found["spec"]["state"] == "Deleted"


def test_data_that_is_gone_does_not_come_back_by_a_detour(stack: Stack, admin: httpx.Client, make: Make) -> None:
    made = make()
    stack.api.ready("default", made["slug"])
    policy = {"spec": {"deletionPolicy": "Delete", "retentionDays": 0}}
    stack.api.patch("tenant", made["slug"], "default", policy)
    assert admin.delete(f"/tenants/{made['id']}").status_code == 204
    stack.api.wait(
        "tenant",
        made["slug"],
        "default",
        lambda obj: obj and obj["status"]["phase"] == "Deleted" and not obj["status"].get("databases"),
    )
    for status in ("ACTIVE", "SUSPENDED"):
        answer = admin.put(f"/tenants/{made['id']}", json={"status": status})
        assert set(invalid(answer)) == {"status"}
    assert admin.get(f"/tenants/{made['id']}").json()["status"] == "INACTIVE"


# Statistics


def test_statistics_of_a_new_tenant_are_empty(admin: httpx.Client, make: Make) -> None:
    made = make(max_users=100, max_diplomas=1000, storage_quota_mb=100)
    found = admin.get(f"/tenants/{made['id']}/stats")
    assert found.status_code == 200
    body = found.json()
    storage = body.pop("storage_used_mb"), body.pop("storage_percentage")
    assert storage in ((0, 0.0), (1, 1.0))
    assert body == {
        "tenant_id": made["id"],
        "total_users": 0,
        "max_users": 100,
        "users_percentage": 0.0,
        "total_diplomas": 0,
        "max_diplomas": 1000,
        "diplomas_percentage": 0.0,
        "storage_quota_mb": 100,
        "user_count_by_role": {},
        "diploma_count_by_status": {},
        "last_diploma_created": None,
        "last_user_added": None,
    }


def test_statistics_are_counted_in_the_tenants_database(stack: Stack, admin: httpx.Client, make: Make) -> None:
    made = make(max_users=30, max_diplomas=1000, storage_quota_mb=100)
    stack.api.ready("default", made["slug"])
    stack.api.query(
        "default",
        made["slug"],
        "app",
        """
        INSERT INTO users (email, role, created_at) VALUES
          ('a@ub.example', 'INSTITUTION_ADMIN', '2024-01-14T15:30:00Z'), ('b@ub.example', 'USER', '2024-01-13Z');
        INSERT INTO diplomas (title, status, created_at)
          SELECT 'D', CASE WHEN n <= 50 THEN 'DRAFT' ELSE 'SIGNED' END,
            '2024-01-15T09:44:59Z'::timestamptz + n * '1 ms'::interval
          FROM generate_series(1, 123) n
        """,
    )
    deadline = time.monotonic() + 60
    while (found := admin.get(f"/tenants/{made['id']}/stats").json())["total_diplomas"] != 123:
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert (found["total_users"], found["users_percentage"]) == (2, 6.67)
    assert found["diplomas_percentage"] == 12.3
    assert found["user_count_by_role"] == {"INSTITUTION_ADMIN": 1, "USER": 1}
    assert found["diploma_count_by_status"] == {"DRAFT": 50, "SIGNED": 73}
    assert found["last_user_added"] == "2024-01-14T15:30:00Z"
    assert found["last_diploma_created"] == "2024-01-15T09:44:59Z"
    assert found["storage_used_mb"] >= 1
    assert found["storage_percentage"] == float(found["storage_used_mb"])


# Tenants that were made elsewhere


def test_a_tenant_of_kubectls_is_there_and_its_fields_are_its_owners(stack: Stack, admin: httpx.Client) -> None:
    slug = unique()
    stack.api.apply(manifest("Tenant", slug, {"displayName": "By hand"}, namespace="default"), manager="argocd")
    stack.api.ready("default", slug)
    everything = admin.get("/tenants", params={"limit": 1000}).json()
    found = next(each for each in everything if each["slug"] == slug)
    assert {found[field] for field in ("type", "contact_email", "max_users", "legal_status")} == {None}
    said = detail(admin.put(f"/tenants/{found['id']}", json={"name": "Mine"}), 409)
    assert "argocd" in said
    answer = admin.put(f"/tenants/{found['id']}", json={"type": "MAIN", "max_users": 20, "name": "By hand"})
    assert (answer.json()["type"], answer.json()["max_users"]) == ("MAIN", 20)
