"""What everybody on a server still reaches, and what the server or its administrator lacks."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry_operator.engines.redis.acl import User
from tenantry_operator.engines.redis.catalog import ServerCatalog
from tenantry_operator.engines.redis.connections import Session

_ALL = (("~*",), ("*",), "+@all")
"""Keys, channels and commands of a user with all rights."""


def unhardened(users: Mapping[str, User], admin: str) -> tuple[str, ...]:
    """Statements that close users who need no password."""
    return tuple(
        f"ACL SETUSER {user.name} resetpass #<SHA-256 of the administrator's password>"
        if user.name == admin
        else f"ACL SETUSER {user.name} off"
        for user in sorted(users.values(), key=lambda user: user.name)
        if user.enabled and "nopass" in user.flags and user.mark is None
    )


async def missing(session: Session, catalog: ServerCatalog, *, saved: bool) -> tuple[str, ...]:
    """What cannot be relied on, with the statement that helps.

    :param saved: whether the server keeps ACL users over a restart.
    """
    found = list(catalog.facts.missing)
    if not saved:
        found.append(
            "keeping logins over a restart of the server (the operator makes them again): start it with an "
            "aclfile, and allow the administrator +acl|save"
        )
    policy = catalog.info.get("maxmemory_policy", "noeviction")
    if policy.startswith("allkeys"):
        found.append(
            f"keeping data: with {policy} the server drops any key when memory is short, the operator's "
            "marks, too: CONFIG SET maxmemory-policy noeviction"
        )
    default = catalog.users.get("default")
    aof = catalog.info.get("aof_enabled") == "1"
    if aof and (default is None or (default.keys, default.channels, default.commands) != _ALL):
        # https://github.com/redis/redis/issues/14541, https://github.com/valkey-io/valkey/issues/3983
        found.append(
            "keeping transactions over a restart of the server, which drops them from its append-only file when "
            "the user default, even one that is off, may not do what they do: "
            "ACL SETUSER default off resetpass ~* &* +@all"
        )
    if not aof:
        (answer,) = await session.pipeline([("CONFIG", "GET", "save")])
        if isinstance(answer, list) and not dict(zip(answer[::2], answer[1::2], strict=False)).get("save"):
            found.append("keeping data over a restart of the server: CONFIG SET appendonly yes")
    return tuple(found)
