"""A snapshot of one server, and what it says of each tenant database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property

from tenantry_operator.engines.base import (
    Belonging,
    DatabaseState,
    Desired,
    Isolation,
    LoginState,
    Mark,
    Ownership,
    ServerReport,
)
from tenantry_operator.engines.redis.acl import User, differences
from tenantry_operator.engines.redis.catalog import ServerCatalog
from tenantry_operator.engines.redis.keyspace import KeySpace
from tenantry_operator.engines.redis.view import LoginView, View


class RedisState:
    """A snapshot of one server."""

    def __init__(
        self, taken_at: float, report: ServerReport, installation: str, catalog: ServerCatalog, keys: KeySpace
    ) -> None:
        """:param keys: what was measured."""
        self.taken_at = taken_at
        self.report = report
        self.catalog = catalog
        self._installation = installation
        self._sizes = keys.bytes

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database."""
        size = None if self._sizes is None else self._sizes.get(desired.names.database, 0)
        return look(self.catalog, desired, size)

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant."""
        return self._belongings.get(tenant, ())

    def blueprints(self) -> Collection[str]:
        """The blueprints of all tenants."""
        marks = map(Mark.decode, self.catalog.marks.values())
        return {
            mark.blueprint
            for mark in marks
            if mark is not None and mark.tenant and mark.installation == self._installation
        }

    def tenants(self) -> Collection[str]:
        """All tenants whose marks are on the server."""
        return self._belongings.keys()

    @cached_property
    def _belongings(self) -> dict[str, list[Belonging]]:
        found: dict[str, list[Belonging]] = {}
        seen = set()
        for database, text in self.catalog.marks.items():
            mark = Mark.decode(text)
            if mark is not None and mark.tenant:
                seen.add((mark.tenant, mark.database))
                found.setdefault(mark.tenant, []).append(Belonging(mark, Isolation.DATABASE, database, None))
        # Logins whose data is gone.
        for user in self.catalog.users.values():
            if user.mark is None or not user.mark.tenant or (user.mark.tenant, user.mark.database) in seen:
                continue
            seen.add((user.mark.tenant, user.mark.database))
            mark = replace(user.mark, fingerprint=None)
            found.setdefault(mark.tenant, []).append(Belonging(mark, Isolation.DATABASE, user.database, None))
        return found


def look(catalog: ServerCatalog, desired: Desired, size: int | None) -> DatabaseState:
    """One look at one tenant database."""
    names, wanted = desired.names, desired.mark
    text = catalog.marks.get(names.database)
    mark = Mark.decode(text)
    users = [catalog.users[name] for name in names.logins if name in catalog.users]
    claims = [(f"database {names.database}", mark)] if text is not None else []
    claims += [(f"login {user.name}", user.mark) for user in users]
    for words, found in claims:
        ownership = _whose(found, wanted)
        if ownership is not Ownership.OURS:
            return DatabaseState(ownership, words)
    rights = catalog.facts.rights(alone=desired.isolation is Isolation.INSTANCE)
    logins = {
        user.name: LoginView(
            name=user.name,
            enabled=user.enabled,
            connections=catalog.sessions.get(user.name, 0),
            read_only=user.commands == rights.read_only,
            fingerprint=user.fingerprint,
            findings=tuple(differences(user, names.database, rights)),
        )
        for user in users
    }
    built = mark is not None and mark.built
    view = View(f"database {names.database}", mark is not None, built, logins)
    return DatabaseState(
        ownership=Ownership.OURS if claims else Ownership.FREE,
        exists=built,
        version=mark.version if mark is not None else None,
        digest=mark.digest if mark is not None else None,
        target=mark.target if mark is not None else None,
        logins=tuple(
            LoginState(login.name, login.enabled, login.connections, login.fingerprint)
            for login in logins.values()
        ),
        bytes=size if mark is not None else None,
        connections=sum(login.connections for login in logins.values()),
        drift=tuple(finding for login in logins.values() for finding in login.findings),
        detail=view,
    )


def _whose(mark: Mark | None, wanted: Mark) -> Ownership:
    if mark is None or mark.installation != wanted.installation:
        return Ownership.STRANGER
    return Ownership.OURS if mark.same_owner(wanted) else Ownership.OTHER_TENANT


def is_ours(user: User, wanted: Mark) -> bool:
    """Whether a login carries a tenant's mark."""
    return _whose(user.mark, wanted) is Ownership.OURS
