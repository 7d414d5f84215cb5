"""What requests to institutions hold, and what is answered."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, HttpUrl, TypeAdapter, ValidationError

from tenantry_api.fields import FreeForm, Text, is_http_url, is_uuid

Kind = Literal["MAIN", "UNIVERSITY", "FACULTY", "DEPARTMENT", "INSTITUTION"]
LegalStatus = Literal["PUBLIC", "PRIVATE_IPES"]
Status = Literal["ACTIVE", "INACTIVE", "SUSPENDED"]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
_URL = TypeAdapter(HttpUrl)
_NO_URL = "Input should be a valid HTTP or HTTPS URL"


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("Value is not a valid email address")
    return value


def _url(value: str) -> str:
    try:
        _URL.validate_python(value)
    except ValidationError:
        raise ValueError(_NO_URL) from None
    if not is_http_url(value):
        raise ValueError(_NO_URL)
    return value


def _id(value: str) -> str:
    if value.startswith("-"):
        raise ValueError("Value should start with a letter or digit")
    # A token names its tenant by the id or the UUID: no id may be taken for another tenant's UUID.
    if is_uuid(value):
        raise ValueError("Value should not have the form of a UUID")
    return value


Name = Annotated[Text, Field(min_length=3, max_length=255)]
Slug = Annotated[Text, Field(max_length=63, pattern=r"^[a-z0-9-]+$"), AfterValidator(_id)]
Description = Annotated[Text, Field(max_length=1000)]
Url = Annotated[Text, Field(max_length=2048), AfterValidator(_url)]
Email = Annotated[Text, Field(max_length=254), AfterValidator(_email)]
Phone = Annotated[Text, Field(min_length=5, max_length=20)]
RegistrationNumber = Annotated[Text, Field(max_length=50)]
MaxUsers = Annotated[int, Field(strict=True, ge=10, le=10_000)]
MaxDiplomas = Annotated[int, Field(strict=True, ge=10, le=100_000)]
StorageQuota = Annotated[int, Field(strict=True, ge=100, le=100_000)]


class FieldFailure(BaseModel):
    """A field that is wrong."""

    field: str
    message: str


class Failure(BaseModel):
    """An error; ``errors`` is there when what was sent is not valid."""

    detail: str
    errors: list[FieldFailure] | None = None


class Login(BaseModel):
    """Who wants a token."""

    email: Annotated[Text, Field(max_length=320)]
    password: Annotated[Text, Field(max_length=1024)]


class User(BaseModel):
    """An account."""

    id: str
    email: str
    fullName: str  # noqa: N815 - as the contract has it
    role: str
    tenantId: str | None  # noqa: N815 - as the contract has it


class Token(BaseModel):
    """A token, and whose it is."""

    access_token: str
    token_type: Literal["bearer"]
    user: User


class NewTenant(BaseModel):
    """A tenant that is to be made."""

    name: Name
    slug: Slug
    type: Kind
    description: Description | None = None
    logo_url: Url | None = None
    contact_email: Email
    contact_phone: Phone | None = None
    legal_status: LegalStatus
    registration_number: RegistrationNumber | None = None
    parent_id: UUID | None = None
    max_users: MaxUsers
    max_diplomas: MaxDiplomas
    storage_quota_mb: StorageQuota
    security_config: FreeForm | None = None


class TenantChange(BaseModel):
    """What is to be different. Null takes away what a tenant may lack; in other fields it says nothing."""

    name: Name | None = None
    slug: Annotated[Text, Field(max_length=63)] | None = None
    type: Kind | None = None
    description: Description | None = None
    logo_url: Url | None = None
    contact_email: Email | None = None
    contact_phone: Phone | None = None
    legal_status: LegalStatus | None = None
    registration_number: RegistrationNumber | None = None
    parent_id: UUID | None = None
    max_users: MaxUsers | None = None
    max_diplomas: MaxDiplomas | None = None
    storage_quota_mb: StorageQuota | None = None
    security_config: FreeForm | None = None
    status: Status | None = None


class TenantItem(BaseModel):
    """A tenant in a list."""

    id: str
    name: str
    slug: str
    type: str | None
    description: str | None
    logo_url: str | None
    contact_email: str | None
    contact_phone: str | None
    legal_status: str | None
    registration_number: str | None
    parent_id: str | None
    max_users: int | None
    max_diplomas: int | None
    storage_quota_mb: int | None
    status: Status
    is_active: bool
    created_at: str
    updated_at: str


class TenantDetail(TenantItem):
    """A tenant."""

    security_config: dict[str, Any]


class Stats(BaseModel):
    """What a tenant uses."""

    tenant_id: str
    total_users: int
    max_users: int | None
    users_percentage: float | None
    total_diplomas: int
    max_diplomas: int | None
    diplomas_percentage: float | None
    storage_used_mb: int
    storage_quota_mb: int | None
    storage_percentage: float | None
    user_count_by_role: dict[str, int]
    diploma_count_by_status: dict[str, int]
    last_diploma_created: str | None
    last_user_added: str | None
