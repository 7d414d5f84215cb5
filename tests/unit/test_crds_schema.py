"""What is generated from the models: structural schemas, CRDs, chart templates and reference pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from tenantry_crds import generate
from tenantry_crds.common import GROUP, ObjectStatus, SpecModel
from tenantry_crds.kind import Kind
from tenantry_crds.kinds import BY_KIND, KINDS
from tenantry_crds.reference import GENERATED
from tenantry_crds.schema import render_crd, render_object_schema, render_schema

Schema = dict[str, Any]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def schema_of(kind: Kind) -> Schema:
    (version,) = render_crd(kind)["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """All schemas of values within a schema, with where they are."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


def parts(kind: Kind) -> list[tuple[str, Schema]]:
    """All schemas within spec and status."""
    properties = schema_of(kind)["properties"]
    return [*nodes(properties["spec"], ".spec"), *nodes(properties["status"], ".status")]


def test_what_is_committed_is_what_the_models_say() -> None:
    assert generate.find_stale(generate.ROOT, generate.render_all()) == []


@each_kind
def test_every_value_has_a_type(kind: Kind) -> None:
    for path, schema in parts(kind):
        typed = "type" in schema
        assert (
            typed or "x-kubernetes-int-or-string" in schema or "x-kubernetes-preserve-unknown-fields" in schema
        ), path
        assert not {"$ref", "anyOf", "allOf", "title", "$defs"} & schema.keys(), path
        assert schema.get("additionalProperties") is not False, path


@each_kind
def test_everything_is_bounded(kind: Kind) -> None:
    """The API server estimates the cost of CEL rules from these bounds."""
    for path, schema in parts(kind):
        if schema.get("type") == "string":
            assert {"maxLength", "enum"} & schema.keys() or schema.get("format") == "date-time", path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path


@each_kind
def test_lists_say_how_they_are_merged(kind: Kind) -> None:
    for path, schema in parts(kind):
        if schema.get("type") != "array":
            continue
        assert schema["x-kubernetes-list-type"] in {"map", "set", "atomic"}, path
        if schema["x-kubernetes-list-type"] == "map":
            items = schema["items"]
            for key in schema["x-kubernetes-list-map-keys"]:
                assert key in items["required"] or "default" in items["properties"][key], path


@each_kind
def test_entries_of_lists_get_no_defaults_but_for_their_keys(kind: Kind) -> None:
    """Argo CD replaces lists as a whole: an entry that the API server adds to would differ for ever."""
    for path, schema in parts(kind):
        if "[]" not in path:
            continue
        parent, _, field = path.rpartition(".")
        assert "default" not in schema or (parent, field) == (".spec.databases[]", "name"), path


@each_kind
def test_every_field_is_explained(kind: Kind) -> None:
    for path, schema in parts(kind):
        for name, field in schema.get("properties", {}).items():
            assert field.get("description", "").endswith((".", '"', ")")), f"{path}.{name}"
            assert "``" not in field["description"]


@each_kind
def test_null_is_allowed_in_a_status_only(kind: Kind) -> None:
    nullable = [path for path, schema in parts(kind) if "nullable" in schema]

    assert all(path.startswith(".status") for path in nullable)
    assert ".status.conditions[].reason" in nullable


@each_kind
def test_rules_name_a_field_and_say_what_to_do(kind: Kind) -> None:
    for path, schema in nodes(schema_of(kind)):
        for rule in schema.get("x-kubernetes-validations", ()):
            field, colon, _ = rule["message"].partition(": ")
            assert colon, rule
            assert " " not in field or path.endswith("[]"), rule
            if "fieldPath" in rule:
                assert rule["fieldPath"].removeprefix(".").partition(".")[0] in schema["properties"], rule


@each_kind
def test_columns_and_selectable_fields_exist(kind: Kind) -> None:
    schema = schema_of(kind)
    for path in [*(column.path for column in kind.columns), *kind.selectable]:
        at = schema
        if path.startswith(".metadata."):
            continue
        for step in path.partition("[")[0].removeprefix(".").split("."):
            at = at["properties"][step]
        if path in kind.selectable:
            assert at["type"] in {"string", "integer", "boolean"}, path
    assert len(kind.selectable) <= 8


@each_kind
def test_every_kind_reports_conditions_and_what_it_observed(kind: Kind) -> None:
    status = schema_of(kind)["properties"]["status"]

    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["observedGeneration"]["default"] == -1
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert render_crd(kind)["spec"]["versions"][0]["subresources"] == {"status": {}}
    assert "required" not in status


@pytest.mark.parametrize(
    ("kind", "short", "scope"),
    [
        ("Tenant", "tn", "Namespaced"),
        ("Blueprint", "bp", "Namespaced"),
        ("BlueprintVersion", "bpv", "Namespaced"),
        ("DatabaseInstance", "dbi", "Namespaced"),
        ("Plan", "plan", "Cluster"),
    ],
)
def test_names(kind: str, short: str, scope: str) -> None:
    crd = render_crd(BY_KIND[kind])

    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{GROUP}"
    assert names["shortNames"] == [short]
    assert names["categories"] == ["tenantry"]
    assert names["listKind"] == f"{kind}List"
    assert crd["spec"]["scope"] == scope


def test_a_keyword_without_a_place_in_a_structural_schema_is_an_error() -> None:
    class Fraction(SpecModel):
        share: Annotated[int, Field(gt=0)]

    with pytest.raises(ValueError, match=r"Fraction\.share: exclusiveMinimum cannot be"):
        render_schema(Fraction)


def test_a_text_that_helm_would_interpret_is_an_error() -> None:
    class Templated(SpecModel):
        """Takes {{ this }}."""

    kind = Kind("Templated", "templateds", (), "A trap.", Templated, ObjectStatus, ())

    with pytest.raises(ValueError, match="Helm would interpret"):
        generate.render_template(kind)


@each_kind
def test_the_chart_installs_the_same_crd(kind: Kind) -> None:
    template = generate.render_template(kind)

    lines = template.splitlines()
    assert (lines[0], lines[-1]) == ("{{- if .Values.crds.install }}", "{{- end }}")
    rendered = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered == yaml.safe_load(generate.render_manifest(kind))


@each_kind
def test_the_reference_has_every_field_and_rule(kind: Kind) -> None:
    page = generate.render_all()[f"docs/reference/{kind.singular}.md"]

    for path, schema in nodes(render_object_schema(kind)):
        for name in schema.get("properties", {}) if path else ():
            field = f"{path}.{name}".removeprefix(".spec.").removeprefix(".status.")
            assert f"| `{field}` |" in page
        for rule in schema.get("x-kubernetes-validations", ()):
            assert rule["message"] in page


def test_check_fails_for_what_is_stale_and_writing_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main([]) == 2
    (tmp_path / "pyproject.toml").touch()
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0

    (tmp_path / "crds" / "plans.yaml").write_text("edited", encoding="utf-8")
    (tmp_path / "crds" / "gone.yaml").write_text(f"# {GENERATED}", encoding="utf-8")
    (tmp_path / "docs" / "reference" / "by-hand.md").touch()
    capsys.readouterr()

    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "crds/plans.yaml is stale" in said
    assert "crds/gone.yaml is stale" in said
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert (tmp_path / "docs" / "reference" / "by-hand.md").exists()
