"""How the objects of a tenant database are defined: what is compared to find drift of schemas. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Structure:
    """The definitions of all objects of a tenant database, free of the tenant's own names."""

    fingerprint: str
    """A hash of all of them: two databases with the same one have the same structure."""
    objects: Mapping[str, str] = field(default_factory=dict)
    """By object, in words: a hash of its definition. What else is in the text is the engine's own."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """What differs between two structures."""

    lines: tuple[str, ...]
    """In words, sorted: ``column orders.total: missing``."""
    digest: str
    """A hash of what differs, and how it is defined: it moves with any change of it, and with no other."""
