"""``tenantry diff``: the SQL that brings a tenant to a version, in the order in which it would be run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION
from tests.unit.cli_standin import Cli, Object, Standin


def blueprint(api: Standin, version: str | None = "1.2", name: str = "shop", **spec: Any) -> None:
    body = {"engine": "PostgreSQL", "version": version, "isolation": "Schema", **spec}
    api.put("blueprints", {"metadata": {"name": name, "namespace": "shop"}, "spec": body})


def migration(name: str, **more: Any) -> Object:
    known = {
        "sql": f"ALTER TABLE t ADD {name} int",
        "rollback": f"ALTER TABLE t DROP {name}",
        "transactional": True,
    }
    return {"name": name, **known, **more}


def version(
    api: Standin,
    number: str,
    since: str | None,
    *migrations: Object,
    of: str = "shop",
    findings: list[Object] | None = None,
    **meta: Any,
) -> None:
    spec = {"blueprint": of, "version": number, "migrations": list(migrations)}
    if since is not None:
        spec["from"] = since
    obj = {"metadata": {"name": f"{of}-{number}", "namespace": "shop", **meta}, "spec": spec}
    api.put("blueprintversions", {**obj, "status": {"findings": findings or []}})


def tenant(api: Standin, at: str | None = "1.0", databases: list[Object] | None = None, **status: Any) -> None:
    wanted = databases or [{"blueprint": "shop"}]
    made = [
        {"name": each.get("name") or each["blueprint"], "blueprint": each["blueprint"], "version": at, **status}
        for each in wanted
        if at is not None
    ]
    spec = {"displayName": "Acme", "databases": wanted}
    meta = {"name": "acme", "namespace": "shop"}
    api.put("tenants", {"metadata": meta, "spec": spec, "status": {"databases": made}})


@pytest.fixture
def shop(api: Standin) -> Standin:
    """The blueprint ``shop`` at 1.2: 1.0 -> 1.1 -> 1.2, and 1.1-hotfix from 1.0."""
    blueprint(api)
    version(api, "1.0", None, migration("first"))
    version(api, "1.1", "1.0", migration("second"), migration("third", transactional=False))
    version(api, "1.2", "1.1", migration("fourth"))
    version(api, "1.1-hotfix", "1.0", migration("patch"))
    return api


def test_several_versions_are_shown_in_their_order(shop: Standin, cli: Cli) -> None:
    tenant(shop)
    result = cli("diff", "acme")
    assert result.out == (
        "-- Tenant acme, database shop: blueprint shop, 1.0 -> 1.2: 3 steps\n\n"
        "-- 1/3 migration second of version 1.1\n"
        "ALTER TABLE t ADD second int\n\n"
        "-- 2/3 migration third of version 1.1, outside of a transaction\n"
        "ALTER TABLE t ADD third int\n\n"
        "-- 3/3 migration fourth of version 1.2\n"
        "ALTER TABLE t ADD fourth int\n"
    )
    assert (result.code, result.err) == (1, "")


def test_diff_only_reads(shop: Standin, cli: Cli) -> None:
    tenant(shop)
    cli("diff", "acme")
    assert {asked.method for asked in shop.asked} == {"GET"}


def test_a_version_that_is_named_is_the_goal(shop: Standin, cli: Cli) -> None:
    tenant(shop)
    out = cli("diff", "acme", "--version", "1.1").out
    assert "1.0 -> 1.1: 2 steps" in out
    assert "fourth" not in out


def test_a_tenant_without_data_gets_everything(shop: Standin, cli: Cli) -> None:
    tenant(shop, None)
    result = cli("diff", "acme", "--version", "1.0")
    assert "no data yet -> 1.0: 1 step\n" in result.out
    assert (result.code, "ADD first int" in result.out) == (1, True)


def test_an_older_version_is_reached_by_rollbacks_the_last_one_first(shop: Standin, cli: Cli) -> None:
    tenant(shop, "1.2")
    out = cli("diff", "acme", "--version", "1.0").out
    statements = [line for line in out.splitlines() if line.startswith("ALTER")]
    assert statements == [f"ALTER TABLE t DROP {name}" for name in ("fourth", "third", "second")]


def test_another_branch_is_reached_over_where_they_part(shop: Standin, cli: Cli) -> None:
    tenant(shop, "1.1-hotfix")
    out = cli("diff", "acme", "--version", "1.1").out
    statements = [line.removeprefix("ALTER TABLE t ") for line in out.splitlines() if line.startswith("ALTER")]
    assert statements == ["DROP patch", "ADD second int", "ADD third int"]


def test_a_rollback_that_is_missing_is_named(api: Standin, cli: Cli) -> None:
    blueprint(api, "1.0")
    version(api, "1.0", None, migration("first"))
    version(api, "1.1", "1.0", migration("second", rollback=None))
    tenant(api, "1.1")
    result = cli("diff", "acme")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "Tenant shop/acme, database shop: migration second of version 1.1 has no rollback" in result.err


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_nothing_to_do_is_code_zero(shop: Standin, cli: Cli, form: str) -> None:
    tenant(shop, "1.2")
    result = cli("diff", "acme", "-o", form)
    assert result.code == 0
    if form == "table":
        assert result.out == "-- Tenant acme, database shop: nothing to do, it is at version 1.2\n"
    else:
        assert yaml.safe_load(result.out)["databases"][0]["steps"] == []


def test_a_version_without_migrations_is_still_something(shop: Standin, cli: Cli) -> None:
    version(shop, "1.3", "1.2")
    tenant(shop, "1.2")
    result = cli("diff", "acme", "--version", "1.3")
    assert result.out.endswith("1.2 -> 1.3: no migrations, only the version changes\n")
    assert result.code == 1


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_as_data_each_step_tells_what_it_is(shop: Standin, cli: Cli, form: str, read: Any) -> None:
    tenant(shop, "1.1-hotfix")
    result = cli("diff", "acme", "--version", "1.1", "-o", form)
    value = read(result.out)
    assert (value["tenant"], value["namespace"], result.code) == ("acme", "shop", 1)
    (database,) = value["databases"]
    assert {key: database[key] for key in ("database", "blueprint", "from", "to", "notes")} == {
        "database": "shop",
        "blueprint": "shop",
        "from": "1.1-hotfix",
        "to": "1.1",
        "notes": [],
    }
    assert [(step["name"], step["action"], step["transactional"]) for step in database["steps"]] == [
        ("patch", "rollback", True),
        ("second", "apply", True),
        ("third", "apply", False),
    ]
    assert database["steps"][0]["sql"] == "ALTER TABLE t DROP patch"


def test_sql_in_a_configmap_is_shown(shop: Standin, cli: Cli) -> None:
    reference = {"name": "big", "sql": None, "configMapRef": {"name": "shop-sql", "key": "big.sql"}}
    version(shop, "1.3", "1.2", reference)
    text = {"metadata": {"name": "shop-sql", "namespace": "shop"}, "data": {"big.sql": "SELECT 1;\n\n"}}
    shop.put("configmaps", text)
    tenant(shop, "1.2")
    result = cli("diff", "acme", "--version", "1.3")
    assert result.out.endswith("-- 1/1 migration big of version 1.3\nSELECT 1;\n")


@pytest.mark.parametrize("data", [None, {"other.sql": "SELECT 1"}])
def test_a_configmap_that_lacks_the_sql_is_named(shop: Standin, cli: Cli, data: Object | None) -> None:
    version(shop, "1.3", "1.2", {"name": "big", "configMapRef": {"name": "shop-sql", "key": "big.sql"}})
    if data is not None:
        shop.put("configmaps", {"metadata": {"name": "shop-sql", "namespace": "shop"}, "data": data})
    tenant(shop, "1.2")
    result = cli("diff", "acme", "--version", "1.3")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "BlueprintVersion shop-1.3" in result.err
    assert "ConfigMap shop/shop-sql" in result.err


def test_findings_stand_above_their_migration(api: Standin, cli: Cli) -> None:
    blueprint(api, "1.1")
    version(api, "1.0", None, migration("first"))
    found = [
        {"migration": "second", "rule": "drop-column", "kind": "Destroys", "line": 2, "message": "data\nis gone"},
        {"migration": "second", "rule": "lock", "message": "it blocks"},
    ]
    meta = {"annotations": {ACKNOWLEDGE_ANNOTATION: "drop-column"}}
    version(api, "1.1", "1.0", migration("second"), findings=found, **meta)
    tenant(api)
    assert (
        "-- 1/1 migration second of version 1.1\n"
        "-- Destroys, line 2: drop-column (acknowledged): data is gone\n"
        "-- Advice: lock: it blocks\n"
        "ALTER TABLE t ADD second int\n"
    ) in cli("diff", "acme").out
    steps = json.loads(cli("diff", "acme", "-o", "json").out)["databases"][0]["steps"]
    assert steps[0]["findings"] == found


def test_a_pinned_database_is_noted(shop: Standin, cli: Cli) -> None:
    tenant(shop, databases=[{"blueprint": "shop", "version": "1.0"}])
    out = cli("diff", "acme").out
    assert "\n-- note: spec.databases names version 1.0: no rollout takes it along\n" in out
    assert "-- note" not in cli("diff", "acme", "--version", "1.0").out


def test_shared_tables_are_noted(shop: Standin, cli: Cli) -> None:
    tenant(shop, isolation="Row")
    assert "\n-- note: isolation Row: the tables are shared" in cli("diff", "acme").out


def test_a_migration_that_was_edited_is_noted(shop: Standin, cli: Cli) -> None:
    tenant(shop, digest="of something else")
    assert "(MigrationEdited) until it is put back" in cli("diff", "acme").out


def test_the_version_that_a_tenant_is_at_must_be_known(api: Standin, cli: Cli) -> None:
    blueprint(api, "1.1")
    version(api, "1.1", "1.0", migration("second"))
    version(api, "1.0", None, migration("first"))
    tenant(api, "0.9")
    result = cli("diff", "acme")
    assert (result.code, result.out) == (2, "")
    assert result.err == "error: blueprint shop/shop has no version 0.9: apply its BlueprintVersion\n"


def test_each_database_is_shown_or_the_one_that_is_named(shop: Standin, cli: Cli) -> None:
    tenant(shop, databases=[{"blueprint": "shop"}, {"name": "archive", "blueprint": "shop"}])
    assert [line for line in cli("diff", "acme").out.splitlines() if "Tenant" in line] == [
        "-- Tenant acme, database shop: blueprint shop, 1.0 -> 1.2: 3 steps",
        "-- Tenant acme, database archive: blueprint shop, 1.0 -> 1.2: 3 steps",
    ]
    assert cli("diff", "acme", "-d", "archive").out.count("Tenant acme") == 1


def test_versions_of_other_blueprints_do_not_matter(shop: Standin, cli: Cli) -> None:
    version(shop, "1.2", "9.9", migration("wrong"), of="crm")
    tenant(shop, "1.1")
    assert "wrong" not in cli("diff", "acme").out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--version", "9.9"], "blueprint shop/shop has no version 9.9: apply its BlueprintVersion"),
        (["--database", "crm"], "Tenant shop/acme has no database crm; it has shop"),
    ],
)
def test_what_is_unknown_is_named(shop: Standin, cli: Cli, options: list[str], words: str) -> None:
    tenant(shop)
    result = cli("diff", "acme", *options)
    assert (result.code, result.out, result.err) == (2, "", f"error: {words}\n")


def test_a_tenant_that_is_not_there_is_named(shop: Standin, cli: Cli) -> None:
    result = cli("diff", "nobody", "-n", "zoo")
    expected = "error: there is no Tenant zoo/nobody; `tenantry tenants -n zoo` shows those there are\n"
    assert (result.code, result.err) == (2, expected)


def test_a_blueprint_that_is_not_there_is_named(api: Standin, cli: Cli) -> None:
    tenant(api)
    result = cli("diff", "acme")
    expected = "error: there is no Blueprint shop/shop; database shop is made from it, so apply it\n"
    assert (result.code, result.err) == (2, expected)


def test_a_gap_in_the_way_is_named(shop: Standin, cli: Cli) -> None:
    version(shop, "2.0", "1.9", migration("big"))
    tenant(shop)
    result = cli("diff", "acme", "--version", "2.0")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "has no version 1.9, which shop-2.0 starts from" in result.err


def test_a_way_in_a_circle_is_no_way(shop: Standin, cli: Cli) -> None:
    version(shop, "3.0", "3.1")
    version(shop, "3.1", "3.0")
    tenant(shop)
    result = cli("diff", "acme", "--version", "3.0")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "version 3.0 has no start" in result.err


def test_a_version_of_several_blueprints_needs_the_database(shop: Standin, cli: Cli) -> None:
    blueprint(shop, name="crm")
    tenant(shop, databases=[{"blueprint": "shop"}, {"blueprint": "crm"}])
    result = cli("diff", "acme", "--version", "1.1")
    assert result.code == 2
    assert "(shop, crm)" in result.err
    assert "--database" in result.err
