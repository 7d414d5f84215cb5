"""One look at one tenant database in a snapshot: whose it is, what is there, what differs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tenantry_operator.engines.base import DatabaseState, Desired, Isolation, LoginState, Mark, Ownership
from tenantry_operator.engines.postgres import acl, expected, logins
from tenantry_operator.engines.postgres.catalog import DatabaseRow
from tenantry_operator.engines.postgres.inside import SchemaRow
from tenantry_operator.engines.postgres.rowsecurity import Sharing, differences
from tenantry_operator.engines.postgres.view import Distribution, Finding, Mend, View
from tenantry_operator.tenants.naming import connect_group_of, group_of, read_only_group_of

if TYPE_CHECKING:
    from tenantry_operator.engines.postgres.state import PostgresState


# A tenant's objects carry the same few texts.
_decode = lru_cache(maxsize=256)(Mark.decode)


@dataclass(frozen=True, slots=True)
class _Claim:
    """An object of a wanted name, and whose it is."""

    words: str
    ownership: Ownership


class Look:
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
        mark = _decode(self.database.mark if self.own_database and self.database else None)
        if self.schema is not None:
            mark = _decode(self.schema.mark)
        writes: int | None = None
        size: int | None = None
        if self.own_database and self.database is not None:
            size, writes = self.snapshot.size(self.database.name), self.database.writes
        elif self.schema is not None:
            size, writes = self.schema.bytes, self.schema.writes
            if view.distribution is not None and view.distribution.distributed:
                writes = None  # they are counted on the nodes
            if self.row and self.shared is not None:
                shares = self.shared.shares.get(self.schema.name)
                size = shares.get(self.desired.tenant_id, 0) if shares is not None else None
        return DatabaseState(
            ownership=Ownership.OURS if view.roles or (view.data and not self.row) else Ownership.FREE,
            exists=view.data and view.complete and (view.registered or not self.row),
            version=mark.version if mark is not None else None,
            digest=mark.digest if mark is not None else None,
            target=mark.target if mark is not None else None,
            logins=tuple(view.logins.values()),
            bytes=size,
            connections=sum(login.connections for login in view.logins.values()),
            node=view.distribution.node if view.distribution is not None else None,
            writes=writes,
            drift=tuple(finding.text for finding in view.findings),
            structure=self.snapshot.structure(self.names.database, self.names.schema),
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
        mark, wanted = _decode(comment), self.desired.mark
        if mark is None:
            # CREATE DATABASE cannot be in one transaction with its mark. Until it has one, the owner
            # shows whose it is: a role with our mark, which only we can give databases to.
            ours = owner is not None and comment is None and self._owned_by_us(owner, shared)
            return _Claim(words, Ownership.OURS if ours else Ownership.STRANGER)
        if mark.installation != wanted.installation:
            return _Claim(words, Ownership.STRANGER)
        own = mark.same_owner(wanted)
        ours = (not mark.tenant and mark.blueprint == wanted.blueprint) if shared else own
        return _Claim(words, Ownership.OURS if ours else Ownership.OTHER_TENANT)

    def _owned_by_us(self, owner: str, shared: bool) -> bool:
        role = self.catalog.roles.get(owner)
        mark = _decode(role.mark) if role is not None else None
        if mark is None or mark.installation != self.desired.installation:
            return False
        if shared:
            return owner == self.snapshot.installation.keeper
        return owner == self.names.owner and mark.same_owner(self.desired.mark)

    def _view(self) -> View:
        names, roles = self.names, self.catalog.roles
        group = group_of(names.owner)
        present = {name: self._login(name) for name in names.logins if name in roles}
        fixed = self._fixed_roles()
        owner_mark = _decode(roles[names.owner].mark) if names.owner in roles else None
        data = self.database is not None if self.own_database else self.schema is not None
        database_mark = _decode(self.database.mark) if self.database is not None else None
        complete = not self.own_database or (database_mark is not None and database_mark.built)
        registered = self.shared is not None and all(
            self.shared.registrations.get(login) == self.desired.tenant_id for login in names.logins
        )
        # In an order of their own: the catalogs answer in any order, and an order is no change.
        found = self._findings(group, list(present)) if data and complete else ()
        findings = tuple(sorted(set(found), key=lambda finding: finding.text))
        own = {name for name in fixed if name in roles and not self.row}
        return View(
            where=f"database {names.database}" + (f", schema {names.schema}" if names.schema else ""),
            data=data,
            complete=complete,
            open=self.database is not None and self.database.open and database_mark is not None,
            lost=owner_mark is not None and owner_mark.built and not data,
            prepared=self.own_database or (self.shared is not None and self.shared.prepared),
            registered=registered,
            read_only=self._read_only(group, present),
            roles=frozenset(own | present.keys()),
            missing_roles=frozenset(name for name in fixed if name not in roles),
            logins=present,
            findings=findings,
            distribution=self._distribution(),
        )

    def _distribution(self) -> Distribution | None:
        if not self.snapshot.installation.citus or self.desired.isolation is not Isolation.SCHEMA:
            return None
        citus = self.shared.citus if self.shared is not None else None
        if citus is None or not citus.installed:
            return Distribution()
        schema = self.names.schema or ""
        return Distribution(True, schema in citus.schemas, citus.schemas.get(schema))

    def _on_nodes(self) -> Iterable[Finding]:
        citus = self.shared.citus if self.shared is not None else None
        if citus is None:
            return
        if self.names.schema not in citus.schemas:
            yield Finding(f"schema {self.names.schema} is not distributed", Mend.DISTRIBUTE)
        for node, roles in citus.nodes.items():
            for name in (self.names.owner, *self.names.logins):
                if roles is not None and name not in roles:
                    yield Finding(f"node {node}: role {name} cannot log in", Mend.NODES)

    def _login(self, name: str) -> LoginState:
        row = self.catalog.roles[name]
        mark = _decode(row.mark)
        return LoginState(name, row.login, row.sessions, mark.fingerprint if mark is not None else None)

    def _read_only(self, group: str, login_names: Iterable[str]) -> bool:
        if self.row:
            read_only = read_only_group_of(self.names.owner)
            return any(
                row.role == read_only for login in login_names for row in self.catalog.memberships.get(login, ())
            )
        return group in self.catalog.roles and logins.read_only(self.catalog.roles[group].config)

    def _findings(self, group: str, login_names: Sequence[str]) -> Iterable[Finding]:
        names, roles = self.names, self.catalog.roles
        read_only = self._read_only(group, login_names)
        mend = Mend.GRANTS if self.row else Mend.ROLES
        for name in self._fixed_roles():
            if name not in roles:
                yield Finding(f"role {name} is gone", mend)
        for name in (*self._fixed_roles(), *login_names):
            if name in roles:
                yield from expected.compare_role(roles[name], login=name in login_names)
        for name in login_names:
            yield from expected.compare_login(
                self.desired, roles[name], temp_file_limit=self.catalog.facts.temp_file_limit
            )
        connect = None if self.own_database else connect_group_of(names.database)
        used = read_only_group_of(names.owner) if self.row and read_only else group
        wanted = expected.memberships(self.desired, used, connect, login_names)
        compared = login_names if self.row else (names.owner, group, *login_names)
        yield from expected.compare_members(self.catalog, self.snapshot.own_roles, compared, wanted)
        yield from self._database_findings(group, connect)
        if self.schema is None or self.shared is None:
            return
        if self.row:
            sharing = Sharing.of(
                names.owner,
                self.desired.row_column,
                self.catalog.facts.admin,
                self.desired.allow_unsafe_keys,
            )
            for words in differences(sharing, self.shared.relations.get(names.owner, ())):
                yield Finding(words, Mend.GRANTS)
        else:
            yield from self._registrations(self.shared.registrations)
            yield from expected.compare_schema(self.schema, group, read_only=read_only)
            yield from self._on_nodes()

    def _database_findings(self, group: str, connect: str | None) -> Iterable[Finding]:
        if self.database is None:
            return
        admin = self.catalog.facts.admin
        if connect is not None:
            rights = {admin: frozenset("c"), connect: expected.CONNECT}
        else:
            rights = {admin: frozenset("cC"), group: expected.CONNECT}
        yield from expected.compare_database(self.database, rights)
        public = self.shared.schemas.get("public") if self.shared is not None else None
        if public is not None and acl.PUBLIC in acl.rights(public.acl):
            yield Finding(f"schema public of database {self.names.database}: PUBLIC has rights", Mend.DATABASE)
        if self.own_database:
            yield from expected.compare_relations(self.database, self.names.owner, group)
            inside = self.snapshot.own.get(self.names.database)
            if inside is not None:
                yield from inside.findings
                yield from self._registrations(inside.registrations)

    def _registrations(self, registrations: Mapping[str, str]) -> Iterable[Finding]:
        for login in self.names.logins:
            if registrations.get(login) != self.desired.tenant_id:
                yield Finding(f"login {login} is not registered in tenantry.logins", Mend.GRANTS)

    def _fixed_roles(self) -> tuple[str, ...]:
        owner = self.names.owner
        return (owner, group_of(owner), *((read_only_group_of(owner),) if self.row else ()))
