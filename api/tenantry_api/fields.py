"""Types of what requests hold."""

from __future__ import annotations

import re
from math import isfinite
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_DEEPEST = 32
_NODES = 10_000
_LARGEST = (1 << 63) - 1


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain halves of surrogate pairs") from None
    return value


def _plain(value: Any) -> None:
    """:raises ValueError: for a string or number that cannot be written as JSON, or kept."""
    if isinstance(value, str):
        _no_nul(value)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError("must not hold whole numbers beyond 64 bits")
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("must not hold numbers that are infinite or none")


def _bounded(value: Any) -> Any:
    """:raises ValueError: for what is nested too deep, too much, or cannot be written as JSON or kept."""
    level, count = [value], 0
    for _ in range(_DEEPEST):
        following: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                following += each.keys()
                following += each.values()
            elif isinstance(each, list):
                following += each
            else:
                _plain(each)
        count += len(following)
        if count > _NODES:
            raise ValueError(f"must not hold more than {_NODES} values")
        if not following:
            return value
        level = following
    raise ValueError(f"must not be nested more than {_DEEPEST} levels deep")


Text = Annotated[str, AfterValidator(_no_nul)]
"""A string without NUL or halves of surrogate pairs."""
FreeForm = Annotated[dict[str, Any], AfterValidator(_bounded)]
"""An object of any form, within reason."""


def is_uuid(value: str) -> bool:
    """Whether an id has the form of a UUID: tenants are found by theirs too, and named by it in tokens."""
    return _UUID.fullmatch(value) is not None


def is_http_url(value: str) -> bool:
    """Whether whoever follows a link takes it for the HTTP(S) URL that it looks like: parsers forgive much."""
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return fits and value.isprintable() and " " not in value and "\\" not in value


def _no_uuid(value: str) -> str:
    if is_uuid(value):
        raise ValueError("must not have the form of a UUID: tenants are also found by theirs")
    return value


TenantId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$"), AfterValidator(_no_uuid)]
"""The public id of a tenant that is to be made."""
