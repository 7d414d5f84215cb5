"""Field types: bounded strings, quantities, times and lists, each with the schema the API server gets.

Everything is bounded. The API server estimates the cost of a CEL rule from ``maxLength``, ``maxItems`` and
``maxProperties``, and refuses a CRD whose rules might be too dear
(https://kubernetes.io/docs/reference/using-api/cel/#type-checking).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule (``x-kubernetes-validations``).

    :param rule: the expression; ``self`` is what the rule stands on, ``oldSelf`` makes it a transition rule.
    :param message: names the field and says what to do.
    :param field_path: the field to report, relative to where the rule stands, like ``.spec.id``.
    """

    rule: str
    message: str
    field_path: str | None = None

    def render(self) -> dict[str, str]:
        """The rule as the CRD has it."""
        rendered = {"rule": self.rule, "message": self.message}
        return rendered | ({"fieldPath": self.field_path} if self.field_path else {})


@dataclass(frozen=True, slots=True)
class _ListType:
    """How server-side apply merges a list, how long it may be, and the CEL rules on the whole list."""

    kind: str
    max_items: int
    keys: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema: dict[str, Any] = {**handler(source), "maxItems": self.max_items}
        schema["x-kubernetes-list-type"] = self.kind
        if self.keys:
            schema["x-kubernetes-list-map-keys"] = list(self.keys)
        if self.rules:
            schema["x-kubernetes-validations"] = [rule.render() for rule in self.rules]
        return schema


def list_map(*keys: str, max_items: int, rules: Sequence[Rule] = ()) -> _ListType:
    """A list whose entries server-side apply merges by ``keys``. Keys are unique in the list."""
    return _ListType("map", max_items, keys, tuple(rules))


def list_set(*, max_items: int) -> _ListType:
    """A list of unique scalars that server-side apply merges."""
    return _ListType("set", max_items)


def list_atomic(*, max_items: int) -> _ListType:
    """A list that has one owner and is replaced as a whole."""
    return _ListType("atomic", max_items)


DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?$"
_RESOURCE_QUANTITY = r"^[0-9]+(\.[0-9]+)?([mkMGTPE]|[KMGTPE]i)?$"
_DURATION = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"


def text(max_length: int) -> Any:
    """The bound of a free text, in characters."""
    return StringConstraints(max_length=max_length)


DnsLabel = Annotated[str, StringConstraints(max_length=63, pattern=DNS_LABEL)]
"""A name that is also fit for a label value and a host name."""

DnsName = Annotated[
    str,
    StringConstraints(
        max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
    ),
]
"""The name of any Kubernetes object (RFC 1123 subdomain)."""

DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
"""A key of a ConfigMap or Secret."""

PublicId = Annotated[str, StringConstraints(max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""A tenant's public id."""

VersionName = Annotated[str, StringConstraints(max_length=63, pattern=r"^[a-z0-9]+([.-][a-z0-9]+)*$")]
"""A blueprint version, such as "1.1" or "2026-11-21": lower case letters and digits, with dots or dashes
between them, since it becomes part of object names."""

ResourceName = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")
]
"""Something that is limited or counted: ``users``, ``api_calls``, ``storage``."""

Code = Annotated[str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$")]
"""The public code of a plan or policy."""

Duration = Annotated[str, StringConstraints(max_length=16, pattern=_DURATION)]
"""A number and a unit: ``500ms``, ``60s``, ``5m``, ``2h``."""

Day = Annotated[
    str,
    StringConstraints(max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    Field(json_schema_extra={"format": "date"}),
]
"""A calendar day, ``2025-10-01``."""

PositiveInt = Annotated[int, Field(ge=1, le=2_147_483_647)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2_147_483_647)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _int_or_string(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": pattern, **more})


Quantity = Annotated[int | str, _int_or_string(_QUANTITY, minimum=0)]
"""A size: bytes, or a Kubernetes quantity such as ``10Gi`` or ``500M``. See :func:`parse_quantity`."""

ResourceQuantity = Annotated[int | str, _int_or_string(_RESOURCE_QUANTITY, minimum=0)]
"""As in a container's resources: ``2``, ``500m`` (CPU), ``1Gi`` (memory)."""

Budget = Annotated[int | str, _int_or_string(r"^(100|[1-9]?[0-9])%$", minimum=0)]
"""A number of tenants, or a percentage of them such as ``10%``."""

FreeForm = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]
"""An object that is kept as it is and never interpreted."""

AnyValue = Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})]
"""Any JSON value."""


@dataclass(frozen=True, slots=True)
class StatusText:
    """A text of a status, cut to what the schema allows: no status is refused for a long message."""

    max_length: int

    def _cut(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > self.max_length:
            return value[: self.max_length - 1] + "…"
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._cut, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "maxLength": self.max_length}


ShortStatus = Annotated[str, StatusText(253)]
"""A name or word in a status."""


def _whole_seconds(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(microsecond=0)


Timestamp = Annotated[AwareDatetime, AfterValidator(_whole_seconds)]
"""A moment in UTC, in whole seconds, so that what is written compares equal to what is read back."""
