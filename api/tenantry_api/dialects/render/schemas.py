"""What requests to render hold, and what is answered."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from tenantry_api.fields import Text, is_http_url, is_uuid

_PUBLIC_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
LONGEST_NAME = 255
LONGEST_URL = 2048


def _name(value: str | None) -> str:
    name = (value or "").strip()
    if not name:
        raise ValueError("Customer name is required")
    if len(name) < 2:
        raise ValueError("Customer name must be at least 2 characters long")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"Customer name must be at most {LONGEST_NAME} characters long")
    return name


def _new_name(value: str | None) -> str | None:
    return None if value is None else _name(value)


def _slug(value: str | None) -> str | None:
    if value and not _PUBLIC_ID.fullmatch(value):
        raise ValueError("slug must be a letter or digit and up to 62 of a-z, 0-9, - and _, in lower case")
    if value and is_uuid(value):
        raise ValueError("slug must not have the form of a UUID: tenants are also found by theirs")
    return value


def _url(value: str | None) -> str | None:
    """:raises ValueError: for what is neither empty nor an HTTP(S) URL."""
    if not value:
        return value
    if len(value) > LONGEST_URL:
        raise ValueError(f"custom_plugin_repo must be at most {LONGEST_URL} characters long")
    if not is_http_url(value):
        raise ValueError("custom_plugin_repo must be an HTTP or HTTPS URL, or empty")
    return value


_NAME_SCHEMA: dict[str, Any] = {"type": "string", "minLength": 2, "maxLength": LONGEST_NAME}
_URL_SCHEMA: dict[str, Any] = {"type": "string", "maxLength": LONGEST_URL}
_SLUG_SCHEMA: dict[str, Any] = {"type": "string", "maxLength": 63, "pattern": "^([a-z0-9][a-z0-9_-]*)?$"}

Name = Annotated[Text | None, AfterValidator(_name), WithJsonSchema(_NAME_SCHEMA)]
"""The name of a tenant that is to be made. None stands for one that is missing: it is refused in the contract's
words."""
NewName = Annotated[Text | None, AfterValidator(_new_name), WithJsonSchema(_NAME_SCHEMA)]
Slug = Annotated[Text | None, AfterValidator(_slug), WithJsonSchema(_SLUG_SCHEMA)]
PluginRepo = Annotated[Text | None, AfterValidator(_url), WithJsonSchema(_URL_SCHEMA)]


class Failure(BaseModel):
    """An error."""

    error: str
    detail: str | None = None
    field: str | None = None


class Health(BaseModel):
    """How the service is."""

    status: Literal["healthy"]
    message: str


class NewTenant(BaseModel):
    """A tenant that is to be made; without a slug it gets one made of its name."""

    model_config = ConfigDict(json_schema_extra={"required": ["name"]})

    name: Name = Field(default=None, validate_default=True)
    slug: Slug = None

    @property
    def display_name(self) -> str:
        """The name, which validation has seen to."""
        return self.name or ""


class TenantChange(BaseModel):
    """What is to be different; what is left out or null stays."""

    name: NewName = None
    custom_plugin_repo: PluginRepo = None


class TenantState(BaseModel):
    """How the provisioning of a tenant is."""

    id: int
    name: str
    slug: str
    status: Literal["PROVISIONING", "ACTIVE", "SUSPENDED", "ERROR"]
    render_service_ids: dict[str, str]
    created_at: str


class TenantRead(TenantState):
    """A tenant."""

    custom_plugin_repo: str
    updated_at: str


class TenantPage(BaseModel):
    """A page of tenants."""

    count: int
    next: str | None
    previous: str | None
    results: list[TenantRead]


class DeletionStarted(BaseModel):
    """A tenant that is being deleted."""

    message: str
    tenant_id: int
