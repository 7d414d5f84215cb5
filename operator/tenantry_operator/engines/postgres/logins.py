"""What a login is like: its attributes and what its sessions begin with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenantry_operator.engines.base import Desired

_MANAGED = ("search_path", "statement_timeout", "temp_file_limit", "role")
READ_ONLY_FLAG = "default_transaction_read_only"
"""Set on the group role, which cannot log in, it has no effect, but says outside of the database, too, that
writes are refused. What refuses them is that the group lacks the rights."""


def settings(desired: Desired, *, temp_file_limit: bool) -> dict[str, str]:
    """The settings of a login.

    :param temp_file_limit: whether the administrator may set it.
    """
    result: dict[str, str] = {}
    if desired.names.schema is not None:
        result["search_path"] = desired.names.schema
    if desired.limits.statement_timeout_ms is not None:
        result["statement_timeout"] = f"{desired.limits.statement_timeout_ms}ms"
    if desired.limits.temp_files_bytes is not None and temp_file_limit:
        result["temp_file_limit"] = f"{max(1, desired.limits.temp_files_bytes // 1024)}kB"
    if desired.ddl:
        # What the tenant makes belongs to the owner role, so that the next login can use it.
        result["role"] = desired.names.owner
    return result


def connection_limit(desired: Desired) -> int:
    """CONNECTION LIMIT; -1: none."""
    return -1 if desired.limits.connections is None else desired.limits.connections


def observed(config: Sequence[str] | None) -> dict[str, str]:
    """The managed settings among those of ``pg_db_role_setting``.

    PostgreSQL keeps the elements of a search path quoted where they need it.
    """
    result = {}
    for entry in config or ():
        name, _, value = entry.partition("=")
        if name in _MANAGED:
            result[name] = value[1:-1].replace('""', '"') if value.startswith('"') else value
    return result


def differences(wanted: Mapping[str, str], config: Sequence[str] | None) -> list[str]:
    """The settings that differ, in words."""
    found = observed(config)
    words = [
        f"{name} is {found.get(name, 'not set')}, not {value}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    return words + [f"{name} is set to {found[name]}" for name in found if name not in wanted]


def read_only(config: Sequence[str] | None) -> bool:
    """Whether a group role's settings say that writes are refused."""
    return f"{READ_ONLY_FLAG}=on" in (config or ())
