"""What everybody on a server still reaches, and what the server or its administrator lacks."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry_operator.engines.redis.acl import User
from tenantry_operator.engines.redis.catalog import ServerCatalog
from tenantry_operator.engines.redis.connections import Session


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
    if catalog.info.get("aof_enabled") == "0":
        (answer,) = await session.pipeline([("CONFIG", "GET", "save")])
        if isinstance(answer, list) and not dict(zip(answer[::2], answer[1::2], strict=False)).get("save"):
            found.append("keeping data over a restart of the server: CONFIG SET appendonly yes")
    return tuple(found)
