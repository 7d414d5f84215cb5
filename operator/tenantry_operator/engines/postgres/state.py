"""A snapshot of one server, and what it says of each tenant database. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from tenantry_operator.engines.postgres import expected, logins
from tenantry_operator.engines.postgres.catalog import DatabaseRow, SchemaRow, ServerCatalog, SharedCatalog
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.view import Finding, Mend, View
from tenantry_operator.tenants.naming import connect_group_of, group_of, read_only_group_of


@dataclass(frozen=True, slots=True)
class _Claim:
    """An object of a wanted name, and whose it is."""

    words: str
    ownership: Ownership


class PostgresState:
    """A snapshot of one server."""

    def __init__(
        self,
        taken_at: float,
        report: ServerReport,
        installation: Installation,
        catalog: ServerCatalog,
        shared: Mapping[str, SharedCatalog],
        sizes: Mapping[str, int],
    ) -> None:
        self.taken_at = taken_at
        self.report = report
        self.catalog = catalog
        self.shared = shared
        self._installation = installation
        self._sizes = sizes
        self._own = frozenset({*installation.roles, catalog.facts.admin})

    def database(self, desired: Desired) -> DatabaseState:
        """What the snapshot says of one tenant database."""
        return _Look(self, desired).state()

    def belongings(self, tenant: str) -> Sequence[Belonging]:
        """What carries the mark of a tenant."""
        return self._belongings.get(tenant, ())

    def tenants(self) -> Collection[str]:
        """All tenants whose marks are on the server."""
        return self._belongings.keys()

    @cached_property
    def _belongings(self) -> dict[str, list[Belonging]]:
        found: dict[str, list[Belonging]] = {}

        def add(comment: str | None, isolation: Isolation, database: str, schema: str | None) -> None:
            mark = Mark.decode(comment)
            if mark is not None and mark.tenant:
                belonging = Belonging(mark, isolation, database, schema)
                if belonging not in found.setdefault(mark.tenant, []):
                    found[mark.tenant].append(belonging)

        for database in self.catalog.databases.values():
            add(database.mark, Isolation.DATABASE, database.name, None)
        for name, shared in self.shared.items():
            for schema in shared.schemas.values():
                add(schema.mark, Isolation.SCHEMA, name, schema.name)
            rows = [schema.name for schema in shared.schemas.values() if self._is_shared(schema)]
            for login in shared.registrations:
                role = self.catalog.roles.get(login)
                if rows and role is not None and not self._has_schema(shared, role.mark):
                    add(role.mark, Isolation.ROW, name, rows[0])
        return found

    def _is_shared(self, schema: SchemaRow) -> bool:
        mark = Mark.decode(schema.mark)
        return mark is not None and mark.installation == self._installation.id and not mark.tenant

    @staticmethod
    def _has_schema(shared: SharedCatalog, comment: str | None) -> bool:
        mark = Mark.decode(comment)
        if mark is None:
            return False
        found = (Mark.decode(schema.mark) for schema in shared.schemas.values())
        return any(other is not None and mark.same_owner(other) for other in found)

    @property
    def own_roles(self) -> frozenset[str]:
        """Administrator, keeper and stewards."""
        return self._own

    @property
    def installation(self) -> Installation:
        """Whose snapshot it is."""
        return self._installation

    def size(self, database: str) -> int | None:
        """Bytes of a database, when they were measured."""
        return self._sizes.get(database)


class _Look:
    """One look at one tenant database."""

    def __init__(self, snapshot: PostgresState, desired: Desired) -> None:
        self.snapshot = snapshot
        self.catalog = snapshot.catalog
        self.desired = desired
        self.names = desired.names
        self.row = desired.isolation is Isolation.ROW
        self.own_database = desired.isolation in (Isolation.DATABASE, Isolation.INSTANCE)
        self.database: DatabaseRow | None = self.catalog.databases.get(self.names.database)
        self.shared = None if self.own_database else snapshot.shared.get(self.names.database)
        self.schema: SchemaRow | None = None
        if self.shared is not None and self.names.schema is not None:
            self.schema = self.shared.schemas.get(self.names.schema)

    def state(self) -> DatabaseState:
        claims = list(self._claims())
        conflict = next((claim for claim in claims if claim.ownership is not Ownership.OURS), None)
        if conflict is not None:
            return DatabaseState(conflict.ownership, conflict.words)
        view = self._view()
        mark = Mark.decode(self.database.mark if self.own_database and self.database else None)
        if self.schema is not None:
            mark = Mark.decode(self.schema.mark)
        writes = size = None
        if self.own_database and self.database is not None:
            size, writes = self.snapshot.size(self.database.name), self.database.writes
        elif self.schema is not None:
            size, writes = (None if self.row else self.schema.bytes), self.schema.writes
        return DatabaseState(
            ownership=Ownership.OURS if view.roles or (view.data and not self.row) else Ownership.FREE,
            exists=view.registered if self.row else view.data and view.complete,
            version=mark.version if mark is not None else None,
            digest=mark.digest if mark is not None else None,
            logins=tuple(view.logins.values()),
            bytes=size,
            connections=sum(login.connections for login in view.logins.values()),
            writes=writes,
            drift=tuple(finding.text for finding in view.findings),
            detail=view,
        )

    def _claims(self) -> Iterable[_Claim]:
        names, roles = self.names, self.catalog.roles
        if self.database is not None:
            words = f"database {names.database}"
            if not self.own_database:
                yield self._claim(words, self.database.mark, shared=True, owner=self.database.owner)
            else:
                yield self._claim(words, self.database.mark, shared=False, owner=self.database.owner)
        if self.schema is not None:
            words = f"schema {self.schema.name} of database {names.database}"
            yield self._claim(words, self.schema.mark, shared=self.row)
        group = group_of(names.owner)
        for role in (names.owner, group):
            if role in roles:
                yield self._claim(f"role {role}", roles[role].mark, shared=self.row)
        if not self.own_database:
            connect = connect_group_of(names.database)
            if connect in roles:
                yield self._claim(f"role {connect}", roles[connect].mark, shared=True)
        for login in names.logins:
            if login in roles:
                yield self._claim(f"role {login}", roles[login].mark, shared=False)

    def _claim(self, words: str, comment: str | None, *, shared: bool, owner: str | None = None) -> _Claim:
        mark, wanted = Mark.decode(comment), self.desired.mark
        if mark is None:
            # CREATE DATABASE cannot be in one transaction with its mark. Until it has one, the owner
            # shows whose it is: a role with our mark, which only we can give databases to.
            ours = owner is not None and comment is None and self._owned_by_us(owner, shared)
            return _Claim(words, Ownership.OURS if ours else Ownership.STRANGER)
        if mark.installation != wanted.installation:
            return _Claim(words, Ownership.STRANGER)
        if shared:
            ours = not mark.tenant and mark.blueprint == wanted.blueprint
        else:
            ours = mark.same_owner(wanted)
        return _Claim(words, Ownership.OURS if ours else Ownership.OTHER_TENANT)

    def _owned_by_us(self, owner: str, shared: bool) -> bool:
        role = self.catalog.roles.get(owner)
        mark = Mark.decode(role.mark) if role is not None else None
        if mark is None or mark.installation != self.desired.installation:
            return False
        if shared:
            return owner == self.snapshot.installation.keeper
        return owner == self.names.owner and mark.same_owner(self.desired.mark)

    def _view(self) -> View:
        names, roles = self.names, self.catalog.roles
        group = group_of(names.owner)
        present = {
            name: LoginState(name, roles[name].login, roles[name].sessions)
            for name in names.logins
            if name in roles
        }
        fixed = [names.owner, group]
        if self.row:
            fixed.append(read_only_group_of(names.owner))
        owner_mark = Mark.decode(roles[names.owner].mark) if names.owner in roles else None
        data = self.database is not None if self.own_database else self.schema is not None
        database_mark = Mark.decode(self.database.mark) if self.database is not None else None
        complete = not self.own_database or (database_mark is not None and database_mark.version is not None)
        registered = self.shared is not None and any(
            self.shared.registrations.get(login) == self.desired.tenant_id for login in names.logins
        )
        findings = tuple(self._findings(group, list(present))) if data and complete else ()
        own = {name for name in fixed if name in roles and not self.row}
        return View(
            where=f"database {names.database}" + (f", schema {names.schema}" if names.schema else ""),
            data=data,
            complete=complete,
            open=self.database is not None and self.database.open and database_mark is not None,
            lost=owner_mark is not None and owner_mark.version is not None and not data,
            prepared=self.own_database or (self.shared is not None and self.shared.prepared),
            registered=registered,
            read_only=group in roles and logins.read_only(roles[group].config),
            roles=frozenset(own | present.keys()),
            missing_roles=frozenset(name for name in fixed if name not in roles),
            logins=present,
            findings=findings,
        )

    def _findings(self, group: str, login_names: Sequence[str]) -> Iterable[Finding]:
        names, roles, desired = self.names, self.catalog.roles, self.desired
        connect = None if self.own_database else connect_group_of(names.database)
        temp_file_limit = self.catalog.facts.temp_file_limit
        for name in (names.owner, group, *login_names):
            if name in roles:
                yield from expected.compare_role(roles[name], login=name in login_names)
        for name in (names.owner, group):
            if name not in roles:
                yield Finding(f"role {name} is gone", Mend.ROLES)
        for name in login_names:
            yield from expected.compare_login(desired, roles[name], temp_file_limit=temp_file_limit)
        own = self.snapshot.own_roles
        if not self.row:
            wanted = expected.memberships(desired, group, connect, login_names)
            yield from expected.compare_members(self.catalog, own, (names.owner, group, *login_names), wanted)
        if self.database is not None:
            admin = self.catalog.facts.admin
            rights = {admin: frozenset("c")}
            if connect is not None:
                rights[connect] = expected.CONNECT
            else:
                rights = {admin: frozenset("cC"), group: expected.CONNECT}
            yield from expected.compare_database(self.database, rights)
            if self.own_database:
                yield from expected.compare_relations(self.database, names.owner, group)
        if self.schema is not None and not self.row:
            read_only = group in roles and logins.read_only(roles[group].config)
            rights_of = expected.RELATION_READ_ONLY if read_only else expected.RELATION
            yield from expected.compare_schema(self.schema, group, relation_rights=rights_of)
