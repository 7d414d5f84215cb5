"""What a MongoDB server says of itself: a fixed number of commands, whatever the number of tenants. Pure.

Source: MongoDB manual, "usersInfo", "listDatabases", "top", "$currentOp".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenantry_operator.engines.base import Desired, LoginState, Mark, Ownership, ServerReport
from tenantry_operator.engines.mongodb.view import Found, View
from tenantry_operator.tenants.naming import migrator_of

OWN = "tenantry"
"""The database that the operator keeps its marks in; no tenant has a right to it."""
MARKS = "databases"
REMOVER = "tenantryRemover"
"""A role in every tenant's database: to remove documents, and nothing else."""
NOWHERE = [{"clientSource": ["255.255.255.255/32"]}]
"""Where a refused login may come from: nobody has that address."""

Document = Mapping[str, Any]


def roles_of(database: str, *, read_only: bool) -> list[dict[str, str]]:
    """The roles of a login that works."""
    names = ["read", REMOVER] if read_only else ["readWrite"]
    return [{"role": name, "db": database} for name in names]


def custom_data(mark: Mark, *, refused: bool) -> dict[str, Any]:
    """What is kept with a login, where the tenant cannot change it."""
    return {"tenantry": mark.encode(), "refused": refused}


@dataclass(frozen=True, slots=True)
class MongodCatalog:
    """A snapshot of a server."""

    report: ServerReport
    installation: str
    server: str
    databases: frozenset[str]
    """Those that hold a collection."""
    kept: Mapping[str, Document]
    """The operator's documents, by database: ``mark``, and ``held`` once there was a collection."""
    users: Mapping[str, Mapping[str, Document]]
    """By database and name."""
    sessions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Connections by database and login."""
    active: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Those of them that do something."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    writes: Mapping[str, int] = field(default_factory=dict)

    def find(self, desired: Desired) -> Found:
        """What it says of one tenant database."""
        name = desired.names.database
        kept = self.kept.get(name)
        users = self.users.get(name, {})
        where = f"database {name} on {self.server}"
        mark = Mark.decode(kept.get("mark")) if kept is not None else None
        if kept is None and name in self.databases:
            return Found(Ownership.STRANGER, where)
        claims = [(where, mark)] if kept is not None else []
        for login, user in users.items():
            claims.append((f"user {login} of {where}", mark_of(user)))
        for words, found in claims:
            ownership = _ownership(desired.mark, found)
            if ownership is not Ownership.OURS:
                return Found(ownership, words)
        logins = {}
        for login in desired.names.logins:
            if login in users:
                logins[login] = self._login(name, login, users[login])
        data = kept is not None and bool(kept.get("made"))
        lost = data and kept is not None and bool(kept.get("held")) and name not in self.databases
        read_only = _is_read_only(name, [users[login] for login in logins])
        findings = list(self._findings(desired, users, logins, read_only=read_only)) if data and not lost else []
        view = View(
            where=where,
            data=data and not lost,
            there=data or name in self.databases,
            begun=kept is not None or bool(logins),
            lost=lost,
            read_only=read_only,
            logins=logins,
            findings=tuple(findings),
        )
        return Found(
            ownership=Ownership.OURS if view.begun else Ownership.FREE,
            view=view,
            mark=mark,
            bytes=self.sizes.get(name),
            writes=self.writes.get(name),
        )

    def _login(self, database: str, login: str, user: Document) -> LoginState:
        mark = mark_of(user)
        enabled = not (user.get("customData") or {}).get("refused")
        # A refused login's connections stay open, and may do nothing.
        counted = self.sessions if enabled else self.active
        return LoginState(login, enabled, counted.get((database, login), 0), mark.fingerprint if mark else None)

    def _findings(
        self, desired: Desired, users: Mapping[str, Document], logins: Mapping[str, LoginState], *, read_only: bool
    ) -> Iterator[str]:
        name = desired.names.database
        for login, state in logins.items():
            wanted = roles_of(name, read_only=read_only) if state.enabled else []
            found = _pairs(users[login].get("roles") or [])
            if found != _pairs(wanted):
                words = ", ".join(f"{role} of {database}" for role, database in sorted(found)) or "none"
                yield f"login {login}: has the roles {words}"
        migrator = migrator_of(desired.names.owner)
        if migrator in users:
            yield f"login {migrator}: was left"

    def marks(self) -> list[tuple[str, Mark]]:
        """Databases and the marks on them and on their logins."""
        found = []
        for name, kept in self.kept.items():
            mark = Mark.decode(kept.get("mark"))
            if mark is not None and mark.installation == self.installation:
                found.append((name, mark))
        for name, users in self.users.items():
            for user in users.values():
                mark = mark_of(user)
                if mark is not None and mark.installation == self.installation:
                    found.append((name, mark))
        return found


def mark_of(user: Document) -> Mark | None:
    """The mark of a login."""
    text = (user.get("customData") or {}).get("tenantry")
    return Mark.decode(text if isinstance(text, str) else None)


def _pairs(roles: Sequence[Document]) -> set[tuple[str, str]]:
    return {(str(role["role"]), str(role["db"])) for role in roles}


def _is_read_only(database: str, users: Sequence[Document]) -> bool:
    enabled = [user for user in users if not (user.get("customData") or {}).get("refused")]
    wanted = _pairs(roles_of(database, read_only=True))
    return bool(enabled) and all(_pairs(user.get("roles") or []) == wanted for user in enabled)


def _ownership(own: Mark, mark: Mark | None) -> Ownership:
    if mark is None or mark.installation != own.installation:
        return Ownership.STRANGER
    return Ownership.OURS if mark.same_owner(own) else Ownership.OTHER_TENANT


def writes_of(answer: Document) -> dict[str, int]:
    """From the answer to ``top``: how often each database was written to since the server started."""
    found: dict[str, int] = {}
    for namespace, counts in (answer.get("totals") or {}).items():
        database, dot, _ = namespace.partition(".")
        if dot and isinstance(counts, Mapping):
            moved = sum(int((counts.get(kind) or {}).get("count", 0)) for kind in ("insert", "update", "remove"))
            found[database] = found.get(database, 0) + moved
    return found


def sessions_of(operations: Sequence[Document]) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], int]]:
    """From ``$currentOp``: connections by database and login, and those that do something."""
    sessions: dict[tuple[str, str], int] = {}
    active: dict[tuple[str, str], int] = {}
    for operation in operations:
        for user in operation.get("effectiveUsers") or ():
            key = (str(user.get("db")), str(user.get("user")))
            sessions[key] = sessions.get(key, 0) + 1
            if operation.get("active"):
                active[key] = active.get(key, 0) + 1
    return sessions, active
