"""What everybody on a server still reaches, and what the administrator lacks, with what helps. Pure."""

from __future__ import annotations

import re

from tenantry_operator.engines.mysql.catalog import Catalog, Facts
from tenantry_operator.engines.mysql.parts import EVERYBODY
from tenantry_operator.engines.mysql.sql import account, literal

PUBLIC = "PUBLIC"
"""MariaDB's role that everybody has, from 10.11 on."""
_SHOW_ROUTINE = (8, 0, 20)
"""Since then MySQL has this right."""


def unhardened(catalog: Catalog) -> tuple[str, ...]:
    """Statements that take away what any account may do, accounts without a name, and roles that all have.

    An installation of MySQL or MariaDB may come with both: databases called ``test`` or ``test_...`` are open
    to everybody then.
    """
    statements = [
        f"DROP USER ''@{literal(anonymous.host)};" for anonymous in catalog.accounts.get("", ()) if anonymous.host
    ]
    for user in EVERYBODY:
        for grant in catalog.grants.get(user, ()):
            where = f"User = {literal(user)} AND Host = {literal(grant.host)} AND Db = {literal(grant.pattern)}"
            statements.append(f"DELETE FROM mysql.db WHERE {where}; FLUSH PRIVILEGES;")
    if catalog.flavour.mandatory_roles:
        statements.append("SET PERSIST mandatory_roles = '';")
    if _on_all(catalog) or catalog.others.get(PUBLIC):
        statements.append(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {PUBLIC};")
    return tuple(statements)


def _on_all(catalog: Catalog) -> bool:
    """Whether everybody has rights on the whole server."""
    return any(account.is_global for account in catalog.accounts.get(PUBLIC, ()))


def open_to_everybody(catalog: Catalog, database: str) -> str | None:
    """The pattern by which everybody may use a database of that name; None: nobody may."""
    literally = catalog.flavour.partial_revokes
    if _on_all(catalog):
        return "%"
    for user in EVERYBODY:
        for grant in catalog.grants.get(user, ()):
            alike = grant.pattern == database if literally else _matches(grant.pattern, database)
            if alike:
                return grant.pattern
    return None


def _matches(pattern: str, database: str) -> bool:
    expression = ""
    escaped = False
    for character in pattern:
        if escaped:
            expression += re.escape(character)
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            expression += {"%": ".*", "_": "."}.get(character, re.escape(character))
    return re.fullmatch(expression, database, re.IGNORECASE | re.DOTALL) is not None


def missing(facts: Facts, admin: str) -> tuple[str, ...]:
    """What the administrator may not do, what that is for, and the statement that allows it."""
    rights = facts.rights
    flavour = facts.flavour
    connection_admin = "CONNECTION ADMIN" if flavour.mariadb else "CONNECTION_ADMIN"
    wanted = [
        ({"CREATE USER"}, "making logins", "CREATE USER"),
        ({"PROCESS"}, "sizes, and the sessions of tenants", "PROCESS"),
        ({"CONNECTION ADMIN", "SUPER"}, "ending the sessions of suspended tenants", connection_admin),
    ]
    if not flavour.mariadb and flavour.version >= _SHOW_ROUTINE:
        wanted.append(({"SHOW ROUTINE", "SELECT"}, "seeing how routines were changed", "SHOW_ROUTINE"))
    lacking = [
        f"{what}: GRANT {right} ON *.* TO {account(admin)}"
        for any_of, what, right in wanted
        if rights.isdisjoint({*any_of, "ALL PRIVILEGES"})
    ]
    if not flavour.trusts_definers:
        lacking.append(
            "functions and triggers, in blueprints and by tenants: SET GLOBAL log_bin_trust_function_creators = ON"
        )
    return tuple(lacking)
