"""Tenants in the words of tenant management."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tenantry_api.dialects.management import schemas, translate
from tenantry_api.problems import Invalid, Problem
from tenantry_api.tenants import Tenant

EU = ["eu-central-1", "eu-west-1"]


def tenant(name: str = "acme", status: Any = None, **spec: Any) -> Tenant:
    meta = {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return Tenant({"metadata": meta, "spec": spec, "status": status or {}})


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("Draft", "draft"),
        ("Active", "active"),
        ("Suspended", "suspended"),
        ("Archived", "archived"),
        ("Deleted", "archived"),
    ],
)
def test_the_status_is_the_state_whatever_the_progress(state: str, word: str) -> None:
    for phase in ("Provisioning", "Ready", "Moving", "Restoring", "Failed"):
        assert translate.status_of(tenant(state=state, status={"phase": phase})) == word


def test_without_a_state_a_tenant_is_active() -> None:
    assert translate.status_of(tenant()) == "active"


FROM = {
    "activate": {"Draft", "Archived", "Deleted"},
    "suspend": {"Active"},
    "resume": {"Suspended"},
    "archive": {"Active", "Suspended"},
}


@pytest.mark.parametrize("transition", list(FROM))
@pytest.mark.parametrize("state", ["Draft", "Active", "Suspended", "Archived", "Deleted"])
def test_a_transition_makes_sense_from_some_states_only(transition: str, state: str) -> None:
    if state in FROM[transition]:
        states = {"activate": "Active", "resume": "Active", "suspend": "Suspended", "archive": "Archived"}
        assert translate.state_after(transition, tenant(state=state)) == states[transition]
        return
    with pytest.raises(Problem) as refused:
        translate.state_after(transition, tenant(state=state))
    assert (refused.value.status, refused.value.code) == (409, "invalid_transition")


def test_a_tenant_has_the_legal_name_or_else_the_one_for_people_or_else_its_id() -> None:
    named = tenant(id="a_b", displayName="Acme", profile={"legalName": "Acme Inc"})
    assert translate.tenant(named) == {
        "tenant_id": named.uuid,
        "slug": "a_b",
        "legal_name": "Acme Inc",
        "status": "active",
    }
    assert translate.tenant(tenant(displayName="Acme"))["legal_name"] == "Acme"
    assert translate.tenant(tenant())["legal_name"] == "acme"


def test_parts_that_are_not_set_are_null_or_empty() -> None:
    bare = tenant()
    assert translate.residency(bare) == {"policy": None}
    assert translate.plan(bare) == {"plan_code": None, "effective_from": None}
    for view in (translate.regions, translate.contacts, translate.external_ids, translate.tags):
        assert view(bare) == {"items": []}


def test_parts_are_told_in_the_contracts_words() -> None:
    full = tenant(
        regions=EU,
        residency={"policyId": "eu-only"},
        plan={"code": "pro", "effectiveFrom": "2025-10-01"},
        contacts=[{"role": "owner", "email": "o@example.com"}],
        externalIds=[{"systemKey": "billing", "idValue": "B-1"}],
        tags=[{"tagKey": "vip"}, {"tagKey": "sector", "tagValue": "steel"}],
    )
    assert translate.regions(full) == {"items": EU}
    assert translate.residency(full) == {"policy": {"policy_id": "eu-only", "effective_from": None}}
    assert translate.plan(full) == {"plan_code": "pro", "effective_from": "2025-10-01"}
    assert translate.contacts(full) == {"items": [{"role": "owner", "name": None, "email": "o@example.com"}]}
    assert translate.external_ids(full) == {"items": [{"system_key": "billing", "id_value": "B-1"}]}
    assert translate.tags(full)["items"] == [
        {"tag_key": "vip", "tag_value": ""},
        {"tag_key": "sector", "tag_value": "steel"},
    ]


def test_a_policy_limits_the_regions_and_stands_in_for_them() -> None:
    assert translate.regions_within([], ["us-east-1"], None) == ["us-east-1"]
    assert translate.regions_within(EU, ["eu-west-1"], "eu-only") == ["eu-west-1"]
    assert translate.regions_within(EU, [], "eu-only") == EU
    with pytest.raises(Invalid, match=r"us-east-1 .*eu-only"):
        translate.regions_within(EU, ["eu-west-1", "us-east-1"], "eu-only")


def test_a_new_policy_replaces_the_regions_of_the_one_before_but_not_chosen_ones() -> None:
    india = ["ap-south-1"]
    assert translate.regions_under(EU, "eu-only", None, []) == EU
    assert translate.regions_under(india, "in-only", EU, EU[::-1]) == india
    assert translate.regions_under(EU, "eu-only", None, ["eu-west-1"]) == ["eu-west-1"]
    with pytest.raises(Invalid, match=r"eu-west-1 .*in-only"):
        translate.regions_under(india, "in-only", EU, ["eu-west-1"])


def test_a_search_finds_parts_of_slug_legal_name_and_id_in_any_case() -> None:
    one = tenant(id="acme_1", profile={"legalName": "Straße Ltd"})
    for q in ("ACME_", "strasse", "ltd", one.uuid[4:20].upper(), ""):
        assert translate.matches(one, q=q)
    assert not translate.matches(one, q="acme_2")


def test_a_search_by_status_region_and_tag_wants_all_of_them() -> None:
    one = tenant(state="Draft", regions=EU, tags=[{"tagKey": "a:b", "tagValue": "c"}, {"tagKey": "vip"}])
    assert translate.matches(one, q="acme", status="draft", region="eu-west-1", tag="a:b")
    assert translate.matches(one, tag="a:b:c")
    assert translate.matches(one, tag="vip:")
    for wrong in ({"status": "active"}, {"region": "us-east-1"}, {"tag": "a"}, {"tag": "a:b:d"}, {"tag": "vip:x"}):
        assert not translate.matches(one, **wrong)


@given(st.text(), st.text())
def test_a_cursor_holds_a_position(created_at: str, name: str) -> None:
    cursor = translate.cursor_of((created_at, name))
    assert translate.position_in(cursor) == (created_at, name)
    assert "=" not in cursor


@given(st.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="cursor"):
        translate.position_in(f"*{text}")


@pytest.mark.parametrize("cursor", ["e30", "W10", "WzEsMl0", "MQ", "bnVsbA", "WyJhIl0", "é", "a", "////"])
def test_a_cursor_of_another_form_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        translate.position_in(cursor)


@pytest.mark.parametrize(
    "day", ["2025-02-30", "0000-01-01", "2025-1-1", "2025-10-01T00:00:00Z", "1", "", 20251001]
)
def test_what_is_no_day_is_refused(day: Any) -> None:
    with pytest.raises(ValidationError):
        schemas.PlanBinding.model_validate({"plan_code": "pro", "effective_from": day})


def test_a_slug_is_no_uuid() -> None:
    with pytest.raises(ValidationError, match="UUID"):
        schemas.NewTenant(slug=tenant().uuid, legal_name="x")


@pytest.mark.parametrize(
    ("model", "item"),
    [
        (schemas.Regions, "eu-west-1"),
        (schemas.ExternalIds, {"system_key": "a", "id_value": "b"}),
        (schemas.Tags, {"tag_key": "a", "tag_value": "b"}),
    ],
)
def test_what_is_there_twice_is_refused(model: Any, item: Any) -> None:
    model.model_validate({"items": [item]})
    with pytest.raises(ValidationError, match="twice"):
        model.model_validate({"items": [item, item]})
