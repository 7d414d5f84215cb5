"""What servers of the isolation Instance are made from."""

from __future__ import annotations

from typing import Any

import pytest

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.errors import Stalled, Waiting
from tenantry_operator.tenants import dedicated
from tenantry_operator.tenants.placement import Candidate, check_dedication
from tenantry_operator.tenants.view import TenantView

POSTGRES, MYSQL = DatabaseEngine.POSTGRESQL, DatabaseEngine.MYSQL


def tenant(name: str = "acme", **spec: Any) -> TenantView:
    databases = [{"blueprint": "shop", "isolation": "Instance"}]
    return TenantView({"metadata": {"name": name, "namespace": "shop"}, "spec": {"databases": databases, **spec}})


def test_without_a_template_it_is_a_stateful_set() -> None:
    assert dedicated.spec_of({}, {}, POSTGRES) == {
        "statefulSet": {},
        "engine": "PostgreSQL",
        "role": "Dedicated",
    }


def test_a_plan_goes_over_the_template_and_an_engine_over_what_is_general() -> None:
    template = {
        "statefulSet": {"storage": "10Gi", "resources": {"requests": {"cpu": "1"}}},
        "MySQL": {"statefulSet": {"image": "mariadb:11.4"}},
    }
    plan = {"statefulSet": {"storage": "50Gi"}, "PostgreSQL": {"cloudNativePG": {"instances": 2}}}
    assert dedicated.spec_of(template, plan, MYSQL)["statefulSet"] == {
        "storage": "50Gi",
        "resources": {"requests": {"cpu": "1"}},
        "image": "mariadb:11.4",
    }
    made = dedicated.spec_of(template, plan, POSTGRES)
    assert made["cloudNativePG"] == {"instances": 2}
    assert "statefulSet" not in made


def test_a_template_does_not_give_all_tenants_one_server() -> None:
    external = {"external": {"host": "db.example", "adminSecret": {"name": "admin"}}}
    with pytest.raises(Stalled) as raised:
        dedicated.spec_of(external, {}, POSTGRES)
    assert raised.value.reason == "DedicatedTemplate"


def test_a_server_is_made_in_a_region_of_the_tenants_or_not_at_all() -> None:
    here = dedicated.spec_of({"region": "eu-central-1"}, {}, POSTGRES)
    dedicated.check_region(here, tenant(regions=["eu-central-1"]))
    dedicated.check_region(here, tenant())
    for spec in (here, dedicated.spec_of({}, {}, POSTGRES)):
        with pytest.raises(Stalled) as raised:
            dedicated.check_region(spec, tenant(regions=["us-east-1"]))
        assert raised.value.reason == "RegionMismatch"


def test_names_are_short_enough_for_labels_and_stay_apart() -> None:
    views = [tenant(f"{'a' * 60}{end}") for end in "xy"]
    names = [dedicated.key_of(view, view.entries[0])[1] for view in views]
    assert len(set(names)) == 2
    assert all(len(name) <= 52 and "_" not in name for name in names)
    assert dedicated.key_of(tenant(), tenant().entries[0]) == ("shop", "acme-shop")


def candidate(*, is_dedicated: bool) -> Candidate:
    return Candidate(
        key=("shop", "own"),
        engine="PostgreSQL",
        shared=not is_dedicated,
        dedicated=is_dedicated,
        region=None,
        ready=True,
        cordoned=False,
        capacity=None,
        tenants=0,
    )


def test_a_pin_names_a_server_that_is_nobody_elses() -> None:
    check_dedication(candidate(is_dedicated=True), alone=True, others=[])
    check_dedication(candidate(is_dedicated=False), alone=False, others=["shop/other"])
    with pytest.raises(Stalled):
        check_dedication(candidate(is_dedicated=False), alone=True, others=[])
    with pytest.raises(Waiting):
        check_dedication(candidate(is_dedicated=True), alone=False, others=["shop/other"])
