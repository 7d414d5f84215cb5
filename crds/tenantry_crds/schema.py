"""Custom resource definitions from models: structural schemas as the API server wants them.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from tenantry_crds.common import CATEGORY, GROUP, VERSION, Model, StatusModel
from tenantry_crds.kind import Column, Kind

Schema = dict[str, Any]

_KEYWORDS = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "nullable",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "oneOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)
"""The keywords that generated schemas use, in their order. Another one would be refused, or ignored, by the
API server."""


class _NullableSchema(GenerateJsonSchema):
    """Says ``nullable: true`` where JSON Schema says ``anyOf: [..., {type: null}]``."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return {**self.generate_inner(schema["schema"]), "nullable": True}


def render_schema(model: type[Model]) -> Schema:
    """The structural schema of a model: references inlined, every keyword one that the API server takes.

    :raises ValueError: when the model uses something that has no place in a structural schema.
    """
    document = model.model_json_schema(by_alias=True, schema_generator=_NullableSchema)
    definitions = document.pop("$defs", {})
    return _structural(document, definitions, issubclass(model, StatusModel), model.__name__)


def _structural(node: Schema, definitions: dict[str, Schema], keep_null: bool, path: str) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    schema = {key: value for key, value in node.items() if key != "title"}
    if unknown := schema.keys() - set(_KEYWORDS):
        raise ValueError(f"{path}: {', '.join(sorted(unknown))} cannot be in a structural schema")
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split()).replace("``", "`")
    # In a spec null means "left out": the API server drops nulls that the schema does not allow, so that
    # CEL's has() is false for them.
    if not keep_null:
        schema.pop("nullable", None)
    if schema.get("default", ...) is None:
        del schema["default"]
    if schema.get("type") == "integer":
        schema["format"] = "int64"
    if "properties" in schema:
        schema["properties"] = {
            name: _structural(child, definitions, keep_null, f"{path}.{name}")
            for name, child in schema["properties"].items()
        }
    if isinstance(schema.get("additionalProperties"), dict):
        values = schema["additionalProperties"]
        schema["additionalProperties"] = _structural(values, definitions, keep_null, f"{path}[]")
    if "items" in schema:
        items = _structural(schema["items"], definitions, keep_null, f"{path}[]")
        schema["items"] = _drop_defaults(items, schema.get("x-kubernetes-list-map-keys", ()))
    return {key: schema[key] for key in _KEYWORDS if key in schema}


def _drop_defaults(items: Schema, keys: Sequence[str]) -> Schema:
    """Takes defaults out of the entries of a list, but for the keys that entries are merged by.

    The API server writes defaults into the object. Clients that merge without its schema, as Argo CD does by
    default, replace lists as a whole: to them an entry with a default filled in differs for ever.
    """
    schema = {key: value for key, value in items.items() if key != "default"}
    if "properties" in schema:
        schema["properties"] = {
            name: field if name in keys else _drop_defaults(field, ())
            for name, field in schema["properties"].items()
        }
    return schema


def _column(column: Column) -> Schema:
    rendered: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return rendered | ({"priority": column.priority} if column.priority else {})


def render_object_schema(kind: Kind) -> Schema:
    """The schema of whole objects of a kind."""
    status = render_schema(kind.status)
    # An object that no operator has seen yet counts as not up to date (kstatus).
    status["default"] = {"observedGeneration": -1}
    schema: Schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": render_schema(kind.spec),
            "status": status,
        },
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = [rule.render() for rule in kind.rules]
    return schema


def render_crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
    }
    if kind.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in kind.selectable]
    version["schema"] = {"openAPIV3Schema": render_object_schema(kind)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": list(kind.short_names),
                "categories": [CATEGORY],
            },
            "scope": kind.scope.value,
            "conversion": {"strategy": "None"},
            "versions": [version],
        },
    }
