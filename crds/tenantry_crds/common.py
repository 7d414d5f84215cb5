"""What all kinds share: names of the API group, base models, conditions, references, enums."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tenantry_crds.fields import (
    DataKey,
    DnsName,
    Quantity,
    ResourceName,
    ResourceQuantity,
    Rule,
    StatusText,
    Timestamp,
    list_atomic,
    list_map,
    text,
)

GROUP = "tenantry.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "tenantry"

ROTATE_ANNOTATION = f"{GROUP}/rotate"
"""On a Tenant: each new value gives it new credentials."""
RECREATE_ANNOTATION = f"{GROUP}/recreate"
"""On a Tenant: each new value lets databases that were lost start empty."""
RESUME_ANNOTATION = f"{GROUP}/resume"
"""On a Rollout: each new value tries again what failed."""
ACKNOWLEDGE_ANNOTATION = f"{GROUP}/acknowledge"
"""On a BlueprintVersion: the lint rules that it may break, separated by commas. On a Tenant: each new value
accepts its schema as it is."""


class Model(BaseModel):
    """An object of the API: camelCase in manifests, snake_case in Python, immutable.

    Unknown fields are ignored here; the API server is what refuses them. ``rules`` are CEL rules on
    every object of this type.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            target = handler.resolve_ref_schema(schema)
            target["x-kubernetes-validations"] = [rule.render() for rule in cls.rules]
        return schema

    def to_object(self) -> dict[str, Any]:
        """The object as JSON values with the API's field names; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class SpecModel(Model):
    """Part of a ``spec``. An optional field given as ``null`` counts as left out: the API server drops it."""

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> Self:
        """The ``spec`` of a whole object.

        :raises pydantic.ValidationError: for what the API server would have refused.
        """
        return cls.model_validate(manifest.get("spec") or {})


class StatusModel(Model):
    """Part of a ``status``. Every field is optional, and may be ``null``."""


class ConditionModel(StatusModel):
    """One condition, as in ``metav1.Condition``."""

    type: Annotated[str, text(316)]
    """What the condition is about: ``Ready``, ``Reconciling``, ``Stalled`` and others of the kind."""
    status: Annotated[str, text(7), Field(pattern="^(True|False|Unknown)$")]
    """True, False or Unknown."""
    reason: Annotated[str, StatusText(1024)] | None = None
    """One CamelCase word for programs."""
    message: Annotated[str, StatusText(32768)] | None = None
    """What people should know, and what they can do."""
    last_transition_time: Timestamp | None = None
    """When ``status`` changed last."""
    observed_generation: int | None = None
    """The generation of the object that the condition was computed from."""


class ObjectStatus(StatusModel):
    """What the status of every kind holds (kstatus)."""

    observed_generation: int = -1
    """The generation that the status is about; -1 until it was reconciled once."""
    conditions: Annotated[tuple[ConditionModel, ...], list_map("type", max_items=32)] = Field(
        default_factory=tuple
    )
    """The state in detail: ``Ready``, ``Reconciling``, ``Stalled`` and others of the kind."""

    @classmethod
    def parse(cls, manifest: dict[str, Any]) -> Self:
        """The ``status`` of a whole object; without one, the status of a new object."""
        return cls.model_validate(manifest.get("status") or {})

    def condition(self, type_: str) -> ConditionModel | None:
        """The condition of a type; None when it is not reported."""
        return next((c for c in self.conditions if c.type == type_), None)


class DatabaseEngine(StrEnum):
    """A kind of database server."""

    POSTGRESQL = "PostgreSQL"
    MYSQL = "MySQL"
    MONGODB = "MongoDB"
    REDIS = "Redis"


class Isolation(StrEnum):
    """How a tenant's data is set apart from that of others."""

    ROW = "Row"
    SCHEMA = "Schema"
    DATABASE = "Database"
    INSTANCE = "Instance"


class DeletionPolicy(StrEnum):
    """What becomes of a tenant's data when it is to go."""

    RETAIN = "Retain"
    ARCHIVE = "Archive"
    DELETE = "Delete"


BUILT_IN_RESOURCES = ("storage", "connections")
"""Resources that the database server measures and enforces; every other resource is counted."""


class Limit(SpecModel):
    """The most a tenant may have of a resource."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "type(self.limit) == int || self.resource == 'storage'",
            "limit: only the resource storage takes a quantity such as 5Gi; write a whole number",
        ),
    )

    resource: ResourceName
    """What is limited: ``storage``, ``connections``, or anything that is counted, such as ``users``."""
    limit: Quantity
    """The most of it: a whole number; for ``storage`` bytes or a quantity such as ``5Gi``."""


class LocalSecretRef(SpecModel):
    """A Secret in the namespace of the object."""

    name: DnsName
    """The Secret's name."""


class ConfigMapKeyRef(SpecModel):
    """A key of a ConfigMap in the namespace of the object."""

    name: DnsName
    """The ConfigMap's name."""
    key: DataKey
    """The key whose value is meant."""


class SelectorRequirement(SpecModel):
    """One requirement of a label selector."""

    key: Annotated[str, text(317)]
    """The label's name."""
    operator: Annotated[str, text(12), Field(pattern="^(In|NotIn|Exists|DoesNotExist)$")]
    """``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``."""
    values: Annotated[tuple[Annotated[str, text(63)], ...], list_atomic(max_items=256)] = Field(
        default_factory=tuple
    )
    """For ``In`` and ``NotIn``: the values."""


class LabelSelector(SpecModel):
    """Selects Tenants by their labels; empty: all."""

    match_labels: Annotated[dict[str, Annotated[str, text(63)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Labels that must have exactly these values."""
    match_expressions: Annotated[tuple[SelectorRequirement, ...], list_atomic(max_items=64)] = Field(
        default_factory=tuple
    )
    """Requirements that must all hold."""


class ComputeResources(SpecModel):
    """CPU and memory of a container."""

    requests: Annotated[dict[str, ResourceQuantity], Field(max_length=16)] = Field(default_factory=dict)
    """What is set aside for it: ``{cpu: 500m, memory: 1Gi}``."""
    limits: Annotated[dict[str, ResourceQuantity], Field(max_length=16)] = Field(default_factory=dict)
    """The most it may use."""
