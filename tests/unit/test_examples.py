"""The examples are valid, hold what the documentation says of them, and links between pages resolve."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry_crds.common import API_VERSION
from tenantry_crds.kinds import BY_KIND

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHOP = EXAMPLES / "shop"
MANIFESTS = sorted(EXAMPLES.rglob("*.yaml"))
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *EXAMPLES.rglob("*.md"),
        *ROOT.glob("benchmarks/*.md"),
    ]
)


def objects(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def shop(kind: str) -> list[dict[str, Any]]:
    return [
        document for path in sorted(SHOP.glob("*.yaml")) for document in objects(path) if document["kind"] == kind
    ]


def migrations() -> dict[str, list[dict[str, Any]]]:
    return {version["spec"]["version"]: version["spec"]["migrations"] for version in shop("BlueprintVersion")}


def shop_sql() -> str:
    """All SQL of the shop, without comments."""
    sql = "\n".join(step["sql"] for steps in migrations().values() for step in steps)
    return re.sub(r"^\s*--.*$", "", sql, flags=re.MULTILINE)


def tables(sql: str) -> dict[str, str]:
    return dict(re.findall(r"^CREATE TABLE (\w+) \((.*?)^\);", sql, flags=re.MULTILINE | re.DOTALL))


def assert_valid(document: dict[str, Any]) -> None:
    """What the models do not know, they leave out: then the two differ."""
    spec = BY_KIND[document["kind"]].spec.model_validate(document["spec"])
    assert spec.model_dump(mode="json", by_alias=True, exclude_unset=True) == document["spec"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_every_object_is_valid_and_has_no_unknown_field(path: Path) -> None:
    assert objects(path)
    for document in objects(path):
        if document["apiVersion"] == API_VERSION:
            assert_valid(document)


@pytest.mark.parametrize("folder", [SHOP, EXAMPLES / "quickstart"], ids=name_of)
def test_kubectl_applies_the_namespace_before_what_is_in_it(folder: Path) -> None:
    """kubectl takes the files of a folder in the order of their names, and asks no one to wait."""
    files = sorted(folder.glob("*.yaml"))
    created = {d["metadata"]["name"] for d in objects(files[0]) if d["kind"] == "Namespace"}
    needed = {d["metadata"].get("namespace") for path in files for d in objects(path)}
    assert needed - created <= {None, "tenantry-system"}


@pytest.mark.parametrize("folder", [SHOP, EXAMPLES / "quickstart"], ids=name_of)
def test_a_folder_holds_nothing_that_kubectl_apply_would_refuse(folder: Path) -> None:
    assert {path.suffix for path in folder.iterdir() if path.is_file()} <= {".yaml", ".md"}
    for path in folder.glob("*.yaml"):
        for document in objects(path):
            assert document["apiVersion"] in (API_VERSION, "v1")


def test_projects_are_labelled() -> None:
    for path in MANIFESTS:
        for document in objects(path):
            if document["kind"] == "Namespace":
                assert document["metadata"]["labels"]["tenantry.dev/project"] == document["metadata"]["name"]


def test_the_shop_has_at_least_twenty_tables_from_its_first_version_on() -> None:
    first = "\n".join(step["sql"] for step in migrations()["1.0"])
    assert len(tables(first)) >= 20
    for feature in ("VIEW", "TYPE", "TRIGGER", "FUNCTION", "INDEX"):
        assert f"CREATE {feature}" in first
    assert tables("\n".join(step["sql"] for step in migrations()["1.1"]))


def test_every_migration_of_the_shop_can_be_taken_back() -> None:
    for steps in migrations().values():
        assert len(steps) > 1
        assert all(step.get("rollback") for step in steps)


def test_every_table_of_the_shop_fills_in_its_tenant() -> None:
    column = re.compile(r"^\s*tenant_id\s+text NOT NULL DEFAULT tenantry\.tenant_id\(\),", re.MULTILINE)
    assert [table for table, body in tables(shop_sql()).items() if not column.search(body)] == []


def test_every_key_of_the_shop_includes_the_tenant() -> None:
    for table, body in tables(shop_sql()).items():
        for line in body.splitlines():
            if re.search(r"GENERATED ALWAYS AS IDENTITY PRIMARY KEY", line):
                continue
            keys = re.findall(r"(?:PRIMARY KEY|UNIQUE(?: NULLS NOT DISTINCT)?|REFERENCES \w+) (\(?\w+)", line)
            assert all(key == "(tenant_id" for key in keys), (table, line)
    for index in re.findall(r"CREATE UNIQUE INDEX \w+ ON \w+ \((\w+)", shop_sql()):
        assert index == "tenant_id"


def test_the_shop_has_nothing_that_goes_past_row_security() -> None:
    assert not re.search(r"SECURITY DEFINER|MATERIALIZED|\bpublic\.|search_path|COMMIT|ROLLBACK", shop_sql())


def test_versions_of_the_shop_form_a_chain_to_the_current_one() -> None:
    (blueprint,) = shop("Blueprint")
    previous = {v["spec"]["version"]: v["spec"].get("from") for v in shop("BlueprintVersion")}
    version = blueprint["spec"]["version"]
    while previous[version] is not None:
        version = previous[version]
    assert version == "1.0"


def test_three_tenants_share_the_blueprint_on_three_isolations_and_one_has_a_plan() -> None:
    tenants = shop("Tenant")
    databases = [database for tenant in tenants for database in tenant["spec"]["databases"]]
    assert {database["blueprint"] for database in databases} == {"shop"}
    assert sorted(database["isolation"] for database in databases) == ["Database", "Row", "Schema"]
    plans = {plan["spec"]["code"] for plan in shop("Plan")}
    (wanted,) = {tenant["spec"]["plan"]["code"] for tenant in tenants if "plan" in tenant["spec"]}
    assert wanted in plans


def test_the_sample_data_names_no_tenant_and_runs_in_any_client() -> None:
    sample = (SHOP / "sql" / "sample.sql").read_text(encoding="utf-8")
    statements = re.sub(r"^\s*--.*$", "", sample, flags=re.MULTILINE)
    assert "tenant" not in statements
    assert not re.search(r"^\s*\\", statements, re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name_of(page)}: {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_manifests_in_pages_are_valid(page: Path) -> None:
    """Whole objects only: a page may also show a part of one."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict) and document.get("apiVersion") == API_VERSION:
                assert_valid(document)
