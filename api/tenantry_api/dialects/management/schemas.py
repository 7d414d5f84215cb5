"""What requests to tenant management hold, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field

from tenantry_api.fields import TenantId, Text

Status = Literal["draft", "active", "suspended", "archived"]
StatusFilter = Literal["", "draft", "active", "suspended", "archived"]


def _day(value: str) -> str:
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError("must be a day such as 2025-10-01") from None


def _slug(value: str) -> str:
    """:raises ValueError: for a UUID: in a path it would be the tenant that has it."""
    try:
        UUID(value)
    except ValueError:
        return value
    raise ValueError("must not be a UUID")


def _unique(what: str, key: Callable[[Any], Hashable]) -> AfterValidator:
    """Refuses a list in which something is there twice."""

    def check(items: list[Any]) -> list[Any]:
        seen: set[Hashable] = set()
        for item in items:
            if key(item) in seen:
                raise ValueError(f"the same {what} is there twice")
            seen.add(key(item))
        return items

    return AfterValidator(check)


Day = Annotated[
    Text, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", examples=["2025-10-01"]), AfterValidator(_day)
]
"""A day of the calendar."""
Code = Annotated[Text, Field(min_length=1, max_length=63)]
Name = Annotated[Text, Field(min_length=1, max_length=255)]
Email = Annotated[Text, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")]


class Failure(BaseModel):
    """An error."""

    code: str
    message: str
    correlation_id: str


class NewTenant(BaseModel):
    """A tenant that is to be made."""

    slug: Annotated[TenantId, AfterValidator(_slug)]
    legal_name: Name


class TenantUpdate(BaseModel):
    """What a tenant is to be."""

    legal_name: Name


class Tenant(BaseModel):
    """A tenant."""

    tenant_id: str
    slug: str
    legal_name: str
    status: Status


class TenantPage(BaseModel):
    """Tenants that were found. ``next_cursor`` is there when there are more."""

    items: list[Tenant]
    next_cursor: str | None = None


class TenantMade(BaseModel):
    """A tenant that was made."""

    tenant_id: str
    slug: str


class TenantUpdated(BaseModel):
    """A tenant that was changed."""

    tenant_id: str
    updated_at: str


class Moved(BaseModel):
    """A tenant whose status was changed."""

    tenant_id: str
    status: Status


class Updated(BaseModel):
    """A part of a tenant that was changed."""

    updated_at: str


class Regions(BaseModel):
    """The regions its data may lie in."""

    items: Annotated[list[Code], Field(max_length=32), _unique("region_code", lambda item: item)]


class Policy(BaseModel):
    """A residency policy."""

    policy_id: Code
    effective_from: Day | None = None


class Residency(BaseModel):
    """The residency policy of a tenant; null: none."""

    policy: Policy | None


class PlanBinding(BaseModel):
    """The plan that a tenant is to be on."""

    plan_code: Code
    effective_from: Day | None = None


class Plan(BaseModel):
    """The plan that a tenant is on; null: none."""

    plan_code: str | None
    effective_from: str | None


class Contact(BaseModel):
    """A person to turn to."""

    role: Code
    name: Annotated[Text, Field(max_length=255)] | None = None
    email: Email | None = None


class Contacts(BaseModel):
    """Whom to turn to."""

    items: Annotated[list[Contact], Field(max_length=64)]


class ExternalId(BaseModel):
    """What another system calls a tenant."""

    system_key: Code
    id_value: Name


class ExternalIds(BaseModel):
    """What other systems call a tenant."""

    items: Annotated[
        list[ExternalId],
        Field(max_length=64),
        _unique("pair of system_key and id_value", lambda item: (item.system_key, item.id_value)),
    ]


class Tag(BaseModel):
    """A tag."""

    tag_key: Code
    tag_value: Annotated[Text, Field(max_length=255)] = ""


class Tags(BaseModel):
    """The tags of a tenant."""

    items: Annotated[list[Tag], Field(max_length=64), _unique("tag_key", lambda item: item.tag_key)]
