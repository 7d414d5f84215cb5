"""How the operator leaves roles and grants, and what of it differs from what was observed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tenantry_operator.engines.base import Desired, Isolation
from tenantry_operator.engines.postgres import acl, logins
from tenantry_operator.engines.postgres.catalog import DatabaseRow, RoleRow, ServerCatalog
from tenantry_operator.engines.postgres.inside import SchemaRow
from tenantry_operator.engines.postgres.view import Finding, Mend

RELATION = frozenset("arwdD")
RELATION_READ_ONLY = frozenset("rdD")
SEQUENCE = frozenset("rwU")
ROUTINE = frozenset("X")
CONNECT = frozenset("cT")
_KINDS = {"r": "tables", "S": "sequences", "f": "functions"}


def compare_login(desired: Desired, role: RoleRow, *, temp_file_limit: bool) -> Iterable[Finding]:
    """Attributes and settings of a login. Whether it may log in is no drift, but what is planned."""
    limit = logins.connection_limit(desired)
    if role.connections != limit:
        yield Finding(f"login {role.name}: CONNECTION LIMIT {role.connections}, not {limit}", Mend.ROLES)
    if not role.inherit:
        yield Finding(f"login {role.name}: NOINHERIT", Mend.ROLES)
    if role.expires:
        yield Finding(f"login {role.name}: VALID UNTIL is set", Mend.ROLES)
    wanted = logins.settings(desired, temp_file_limit=temp_file_limit)
    for words in logins.differences(wanted, role.config):
        yield Finding(f"login {role.name}: {words}", Mend.ROLES)


def compare_role(role: RoleRow, *, login: bool) -> Iterable[Finding]:
    """Attributes that no role of a tenant has."""
    if role.privileged:
        yield Finding(
            f"role {role.name}: has SUPERUSER, CREATEDB, CREATEROLE, REPLICATION or BYPASSRLS; take it away",
            Mend.NOBODY,
        )
    if role.login and not login:
        yield Finding(f"role {role.name}: may log in", Mend.ROLES)


def compare_members(
    catalog: ServerCatalog, own: frozenset[str], roles: Iterable[str], wanted: Mapping[tuple[str, str], bool]
) -> Iterable[Finding]:
    """Memberships of and in the tenant's roles.

    :param own: the installation's own roles, the administrator included: who can take a grant back.
    :param wanted: (group, member) to whether SET ROLE is allowed; they inherit always.
    """
    seen = set()
    for role in roles:
        for row in (*catalog.members.get(role, ()), *catalog.memberships.get(role, ())):
            key = (row.role, row.member)
            if key in wanted and row.inherit and row.set == wanted[key] and not row.admin:
                seen.add(key)
            elif key in wanted and row.grantor in own:
                continue  # reported below as not being as it should
            elif row.grantor in own:
                yield Finding(f"role {row.member} is a member of {row.role}", Mend.ROLES)
            else:
                yield Finding(
                    f"role {row.member} is a member of {row.role}, granted by {row.grantor}: "
                    "only that role or a superuser can revoke it",
                    Mend.NOBODY,
                )
    for group, member in wanted:
        if (group, member) not in seen and {group, member} <= catalog.roles.keys():
            yield Finding(f"role {member} is not a member of {group}", Mend.ROLES)


def compare_database(database: DatabaseRow, wanted: Mapping[str, frozenset[str]]) -> Iterable[Finding]:
    """The access list of a database; its owner's own rights are not looked at."""
    found = acl.rights(database.acl)
    found.pop(database.owner, None)
    if database.acl is None:
        found[acl.PUBLIC] = frozenset("Tc")
    yield from _compare_acl(f"database {database.name}", found, wanted, Mend.DATABASE)


def compare_relations(database: DatabaseRow, owner: str, group: str) -> Iterable[Finding]:
    """How many of the owner's relations the group was granted anything on, seen from outside."""
    relations = database.relations or {}
    owned, granted = relations.get(f"o/{owner}", 0), relations.get(f"a/{group}", 0)
    if granted < owned:
        words = f"database {database.name}: {group} has no rights on {owned - granted} of {owned} relations"
        yield Finding(words, Mend.GRANTS)


def compare_schema(schema: SchemaRow, group: str, *, read_only: bool) -> Iterable[Finding]:
    """The access lists of a schema, what is in it, and what will be made in it."""
    owner = schema.owner
    rights = {"r": "rdD" if read_only else "arwdD", "S": "rwU", "f": "X"}
    lists: list[tuple[str, Sequence[str] | None, str, bool]] = [(f"schema {schema.name}", schema.acl, "U", False)]
    for (kind, entries), count in schema.objects.items():
        where = f"{count} {_KINDS[kind]} of schema {schema.name}"
        lists.append((where, entries, rights[kind], kind == "f" and not entries))
    for kind, letters in rights.items():
        where = f"default privileges of {owner} on {_KINDS[kind]}"
        lists.append((where, schema.defaults.get(kind), letters, False))
    own = acl.quote(owner) + "="
    for where, items, letters, public in lists:
        # As nearly always: the owner's entry, and the group's as it should be.
        usual = items is not None and len(items) == 2 and items[0].startswith(own)
        if usual and items is not None and items[1] == acl.render(group, letters, owner):
            continue
        found = acl.rights(items)
        found.pop(owner, None)
        if public:
            found[acl.PUBLIC] = ROUTINE
        yield from _compare_acl(where, found, {group: frozenset(letters)}, Mend.GRANTS)


def _compare_acl(
    where: str, found: Mapping[str, frozenset[str]], wanted: Mapping[str, frozenset[str]], mend: Mend
) -> Iterable[Finding]:
    for grantee, rights in wanted.items():
        lacking = rights - found.get(grantee, frozenset())
        if lacking:
            yield Finding(f"{where}: {grantee} lacks {_words(lacking)}", mend)
    for grantee, rights in found.items():
        extra = rights - wanted.get(grantee, frozenset())
        if extra:
            yield Finding(f"{where}: {grantee or 'PUBLIC'} has {_words(extra)}", mend)


_RIGHTS = {
    "a": "INSERT",
    "r": "SELECT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
}


def _words(rights: Iterable[str]) -> str:
    return ", ".join(
        sorted(
            _RIGHTS.get(right[0], right[0]) + (" WITH GRANT OPTION" if right.endswith("*") else "")
            for right in rights
        )
    )


def memberships(
    desired: Desired, group: str, connect: str | None, login_names: Sequence[str]
) -> dict[tuple[str, str], bool]:
    """(group, member) of all memberships of a tenant's roles, to whether SET ROLE is allowed."""
    wanted = {(group, login): False for login in login_names}
    if connect is not None and desired.isolation is not Isolation.ROW:
        wanted[connect, group] = False
        wanted[connect, desired.names.owner] = False
    if desired.ddl:
        wanted.update({(desired.names.owner, login): True for login in login_names})
    return wanted
