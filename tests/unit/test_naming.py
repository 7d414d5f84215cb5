"""Names of what is made on a server."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Isolation, Names
from tenantry_operator.tenants import naming

blueprints = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?", fullmatch=True)
tenant_ids = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
entries = blueprints
isolations = st.sampled_from([Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE, Isolation.INSTANCE])


def every_name(names: Names) -> list[str]:
    return [
        names.database,
        *([names.schema] if names.schema else []),
        names.owner,
        *names.logins,
        naming.group_of(names.owner),
        naming.read_only_group_of(names.owner),
        naming.connect_group_of(names.database),
    ]


@given(isolations, blueprints, tenant_ids, entries, st.booleans(), st.booleans())
def test_all_names_fit_into_63_bytes_and_are_not_the_servers(
    isolation: Isolation, blueprint: str, tenant: str, entry: str, several: bool, disambiguate: bool
) -> None:
    names = naming.names_for(
        isolation, blueprint, tenant, entry, namespace="shop", several=several, disambiguate=disambiguate
    )
    for name in every_name(names):
        assert 1 <= len(name.encode()) <= 63
        assert not name.startswith("pg_")
        assert name not in (
            "public",
            "none",
            "postgres",
            "template0",
            "template1",
            "information_schema",
            "tenantry",
        )


@given(blueprints, tenant_ids, entries, st.booleans(), st.booleans())
@example("b_" * 20 + "x", "a_" * 30 + "z", "main", False, False)
def test_rights_on_databases_of_mysql_are_given_by_patterns_of_at_most_64_characters(
    blueprint: str, tenant: str, entry: str, several: bool, disambiguate: bool
) -> None:
    names = naming.names_for(
        Isolation.DATABASE,
        blueprint,
        tenant,
        entry,
        namespace="shop",
        several=several,
        disambiguate=disambiguate,
        engine=DatabaseEngine.MYSQL,
    )
    scratch = naming.scratch_names(f"shop/{blueprint}", DatabaseEngine.MYSQL)
    for name in (names.database, scratch.database):
        assert len(name.replace("_", "\\_")) <= 64


@given(isolations, blueprints, tenant_ids, entries)
def test_names_are_stable(isolation: Isolation, blueprint: str, tenant: str, entry: str) -> None:
    assert naming.names_for(isolation, blueprint, tenant, entry) == naming.names_for(
        isolation, blueprint, tenant, entry, namespace="elsewhere"
    )


@given(isolations, blueprints, tenant_ids, entries)
def test_the_roles_of_a_tenant_are_different_roles(
    isolation: Isolation, blueprint: str, tenant: str, entry: str
) -> None:
    names = naming.names_for(isolation, blueprint, tenant, entry)
    roles = [names.owner, *names.logins, naming.group_of(names.owner), naming.read_only_group_of(names.owner)]
    if isolation in (Isolation.ROW, Isolation.SCHEMA):
        roles.append(naming.connect_group_of(names.database))
    assert len(set(roles)) == len(roles)


@given(st.lists(st.tuples(blueprints, tenant_ids), min_size=2, max_size=30, unique=True))
@example([("shop", "acme"), ("shop", "acme__a")])
@example([("shop", "acme"), ("shop", "acme__app")])
@example([("a" * 60, "b" * 60), ("a" * 60, "b" * 59)])
def test_tenants_never_share_a_role(pairs: list[tuple[str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for blueprint, tenant in pairs:
        names = naming.names_for(Isolation.DATABASE, blueprint, tenant, blueprint)
        for role in {names.owner, *names.logins, naming.group_of(names.owner)}:
            assert seen.setdefault(role, (blueprint, tenant)) == (blueprint, tenant)


@given(isolations, blueprints, tenant_ids)
def test_disambiguated_names_are_others(isolation: Isolation, blueprint: str, tenant: str) -> None:
    plain = naming.names_for(isolation, blueprint, tenant, "main", namespace="shop")
    longer = naming.names_for(isolation, blueprint, tenant, "main", namespace="shop", disambiguate=True)
    other = naming.names_for(isolation, blueprint, tenant, "main", namespace="market", disambiguate=True)
    assert plain.owner != longer.owner != other.owner
    assert set(plain.logins).isdisjoint(longer.logins)
    assert set(longer.logins).isdisjoint(other.logins)
    if isolation in (Isolation.ROW, Isolation.SCHEMA):
        assert plain.database != longer.database != other.database


def test_names_are_as_documented() -> None:
    assert naming.names_for(Isolation.DATABASE, "shop", "acme", "main") == Names(
        "shop__acme", None, "shop__acme", "shop__acme__a", "shop__acme__b"
    )
    assert naming.names_for(Isolation.SCHEMA, "shop/shop", "acme", "main") == Names(
        "shop", "acme", "shop__acme", "shop__acme__a", "shop__acme__b"
    )
    assert naming.names_for(Isolation.ROW, "shop", "acme", "main") == Names(
        "shop", "shop", "shop", "shop__acme__a", "shop__acme__b"
    )


def test_one_of_several_databases_of_a_blueprint_has_its_own_name_in_it() -> None:
    names = naming.names_for(Isolation.DATABASE, "shop", "acme", "archive", several=True)
    assert names.database == "shop__acme__archive"
    assert naming.names_for(Isolation.DATABASE, "shop", "acme", "shop", several=True).database == "shop__acme"
    assert naming.names_for(Isolation.SCHEMA, "shop", "acme", "archive", several=True).schema == "acme__archive"


def test_databases_of_one_tenant_stay_two_when_both_are_disambiguated() -> None:
    one, two = (
        naming.names_for(Isolation.DATABASE, "shop", "acme", entry, namespace="shop", disambiguate=True)
        for entry in ("main", "archive")
    )
    assert one.database != two.database


@pytest.mark.parametrize("tenant", ["public", "tenantry", "information_schema", "pg_catalog", "none"])
def test_reserved_schema_names_are_avoided(tenant: str) -> None:
    schema = naming.names_for(Isolation.SCHEMA, "shop", tenant, "main").schema
    assert schema is not None
    assert schema != tenant
    assert tenant in schema


def test_a_long_name_keeps_its_beginning() -> None:
    names = naming.names_for(Isolation.DATABASE, "shop", "x" * 63, "main")
    assert re.fullmatch(r"shop__x{48}_[0-9a-f]{8}", names.database)
    assert names.login_a.endswith("__a")
