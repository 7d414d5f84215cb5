"""A snapshot of a server, and what it says of one tenant database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
from tenantry_operator.engines.mysql import privileges
from tenantry_operator.engines.mysql.catalog import ANYWHERE, Catalog
from tenantry_operator.engines.mysql.names import BOOKS, Kind, definer_of, own_accounts, reader_of
from tenantry_operator.engines.mysql.parts import Account, MarkRow
from tenantry_operator.engines.mysql.view import View

_UNKNOWN = "unknown"
"""In place of a fingerprint: the password is not the one that was set last. No fingerprint is like it."""


@dataclass(slots=True)
class MySqlState:
    """A snapshot of one server."""

    taken_at: float
    report: ServerReport
    installation: str
    catalog: Catalog
    structures: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints by database, as far as they are known."""

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database."""
        whose, conflict = ownership(self.catalog, desired)
        if conflict is not None:
            return DatabaseState(whose, conflict)
        view = look(self.catalog, desired)
        row = self.catalog.marks.get((Kind.DATABASE, desired.names.database))
        mark = row.mark if row is not None else None
        return DatabaseState(
            ownership=whose,
            exists=view.data and view.made,
            version=mark.version if mark is not None else None,
            digest=mark.digest if mark is not None else None,
            target=mark.target if mark is not None else None,
            logins=tuple(view.logins.values()),
            # A database without tables has no files.
            bytes=(
                self.catalog.sizes.get(desired.names.database, 0) if view.data and self.catalog.measured else None
            ),
            connections=sum(login.connections for login in view.logins.values()),
            drift=view.findings,
            structure=self.structures.get(desired.names.database),
            detail=view,
        )

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant."""
        return [
            Belonging(row.mark, Isolation.DATABASE, row.name, None)
            for row in self._databases()
            if row.mark.tenant == tenant
        ]

    def blueprints(self) -> Collection[str]:
        """The blueprints of all tenants."""
        return {row.mark.blueprint for row in self._databases() if row.mark.tenant}

    def tenants(self) -> Collection[str]:
        """All tenants whose marks are on the server."""
        rows = self.catalog.marks.values()
        return {row.mark.tenant for row in rows if row.mark.tenant and self._is_own(row.mark)}

    def _databases(self) -> Iterable[MarkRow]:
        return [row for row in self.catalog.marks.values() if row.kind is Kind.DATABASE and self._is_own(row.mark)]

    def _is_own(self, mark: Mark) -> bool:
        return mark.installation == self.installation


def ownership(catalog: Catalog, desired: Desired) -> tuple[Ownership, str | None]:
    """Whose the wanted names are, and which of them is somebody else's, in words."""
    conflict = next(_conflicts(catalog, desired), None)
    if conflict is not None:
        return conflict
    return (Ownership.OURS if _marked(catalog, desired) else Ownership.FREE), None


def _marked(catalog: Catalog, desired: Desired) -> bool:
    names = desired.names
    logins = ((Kind.LOGIN, name) in catalog.marks for name in own_accounts(names))
    return (Kind.DATABASE, names.database) in catalog.marks or any(logins)


def _conflicts(catalog: Catalog, desired: Desired) -> Iterator[tuple[Ownership, str]]:
    """What of the wanted names is somebody else's."""
    database = desired.names.database
    row = catalog.marks.get((Kind.DATABASE, database))
    there = database in catalog.databases
    yield from _conflict(desired, f"database {database}", row, there=there)
    if there and row is not None and not row.made and database in catalog.sizes:
        # What we were about to make is empty.
        yield Ownership.STRANGER, f"database {database}"
    for login in own_accounts(desired.names):
        row = catalog.marks.get((Kind.LOGIN, login))
        found = catalog.accounts.get(login, ())
        yield from _conflict(desired, f"account {login}", row, there=bool(found))
        for account in found:
            if account.host != ANYWHERE:
                yield Ownership.STRANGER, f"account {login}@{account.host}"
            elif row is not None and not row.made and account.is_global:
                yield Ownership.STRANGER, f"account {login}"


def _conflict(
    desired: Desired, words: str, row: MarkRow | None, *, there: bool
) -> Iterable[tuple[Ownership, str]]:
    if row is None:
        if there:
            yield Ownership.STRANGER, words
    elif row.mark.installation != desired.installation:
        yield Ownership.STRANGER, words
    elif not row.mark.same_owner(desired.mark):
        yield Ownership.OTHER_TENANT, words


def look(catalog: Catalog, desired: Desired) -> View:
    """One tenant database in a snapshot; nothing of it is anybody else's."""
    names = desired.names
    database = catalog.marks.get((Kind.DATABASE, names.database))
    data = names.database in catalog.databases
    read_only = database is not None and database.read_only
    accounts = {name: found[0] for name in own_accounts(names) if (found := catalog.accounts.get(name))}
    logins = {}
    for name in names.logins:
        row = catalog.marks.get((Kind.LOGIN, name))
        if name in accounts and row is not None and not row.kept:
            logins[name] = _login(catalog, accounts[name], row)
    findings: list[str] = []
    if data and database is not None and database.made:
        findings += _findings(catalog, desired, accounts, read_only=read_only)
    return View(
        where=f"database {names.database}",
        data=data,
        made=database is not None and database.made,
        lost=database is not None and database.mark.built and not data,
        read_only=read_only,
        logins=logins,
        unlocked=any(not account.locked for name, account in accounts.items() if name in names.logins),
        sessions=sum(catalog.sessions.get(name, 0) for name in names.logins),
        marked=_marked(catalog, desired),
        findings=tuple(sorted(findings)),
    )


def _login(catalog: Catalog, account: Account, row: MarkRow) -> LoginState:
    known = row.made and row.secret == account.secret
    return LoginState(
        name=account.name,
        enabled=not account.locked,
        connections=catalog.sessions.get(account.name, 0),
        fingerprint=row.mark.fingerprint if known else _UNKNOWN,
    )


def _findings(
    catalog: Catalog, desired: Desired, accounts: Mapping[str, Account], *, read_only: bool
) -> Iterable[str]:
    names = desired.names
    definer, reader = definer_of(names), reader_of(names)
    if definer not in accounts:
        yield f"account {definer} is gone"
    for name, account in accounts.items():
        is_login = name in names.logins
        if is_login:
            yield from _limits(catalog, desired, account)
            wanted = privileges.of_login(desired, read_only=read_only)
        else:
            wanted = privileges.READ if name == reader else privileges.DEFINER
        if account.is_global:
            yield f"account {name} has rights on the whole server"
        own = catalog.flavour.pattern(names.database)[1:-1]
        found: frozenset[str] = frozenset()
        for grant in catalog.grants.get(name, ()):
            if (grant.host, grant.pattern) == (ANYWHERE, own):
                found = grant.privileges
            else:
                yield f"account {name} has rights on databases {grant.pattern}"
        if wanted - found:
            yield f"account {name} lacks {privileges.words(wanted - found)}"
        if found - wanted:
            yield f"account {name} has {privileges.words(found - wanted)}"
        expected = {names.database, BOOKS} if name == definer else {names.database}
        for other in sorted(catalog.others.get(name, frozenset()) - expected):
            yield f"account {name} has rights on {other}"


def _limits(catalog: Catalog, desired: Desired, account: Account) -> Iterable[str]:
    limits = desired.limits
    if account.connections != (limits.connections or 0):
        wanted = limits.connections or 0
        yield f"account {account.name}: MAX_USER_CONNECTIONS is {account.connections}, not {wanted}"
    timeout = (limits.statement_timeout_ms or 0) / 1000
    if catalog.flavour.mariadb and abs(account.statement_timeout - timeout) > 1e-6:
        yield f"account {account.name}: MAX_STATEMENT_TIME is {account.statement_timeout:g}, not {timeout:g}"
