"""The roles that one installation of Tenantry keeps on a server, shared by all tenants.

The administrator does not create the tenants' roles itself: whoever creates a role becomes its
administrator by a membership, and PostgreSQL walks all memberships of a role again after each change of
any membership. With thousands of tenants under one administrator that walk is what provisioning spends
its time on (measured: four times as long with 800 tenants as with none). So a fixed number of *stewards*
create and administer the roles, each tenant's by the steward that a hash of its name picks.

The administrator takes a steward's place with SET ROLE, for the length of a transaction; whether it may is
such a walk, too. Where it counts, when tenants are made and migrated in a shared database, it calls a
function of the steward's instead, which only it may call, and which executes what it is given.

The *keeper* owns the shared databases; stewards inherit from it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from psycopg import sql

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.postgres.statements import Script, render_create_role
from tenantry_operator.tenants.naming import short_hash

STEWARDS = 128
"""Must not change: it decides which steward administers the roles of a tenant that exists."""


@dataclass(frozen=True, slots=True)
class Installation:
    """The names of an installation's own roles."""

    id: str
    citus: bool = False
    """Whether its tenants' schemas are distributed by Citus."""

    @property
    def mark(self) -> Mark:
        """The mark of what belongs to no single tenant."""
        return Mark(self.id, "", "", "")

    @property
    def keeper(self) -> str:
        """The NOLOGIN role that owns shared databases."""
        return f"tenantry_{short_hash(self.id)}"

    def steward(self, owner: str) -> str:
        """The role that administers the roles called after ``owner``."""
        return f"{self.keeper}_{zlib.crc32(owner.encode()) % STEWARDS}"

    @property
    def stewards(self) -> tuple[str, ...]:
        """All stewards."""
        return tuple(f"{self.keeper}_{number}" for number in range(STEWARDS))

    @property
    def roles(self) -> tuple[str, ...]:
        """Keeper and stewards."""
        return (self.keeper, *self.stewards)


def render_roles(installation: Installation, missing: frozenset[str]) -> Script:
    """Creates those of the installation's roles that are missing."""
    script = Script()
    if installation.keeper in missing:
        script.add(render_create_role(installation.keeper, installation.mark))
    keeper = sql.Identifier(installation.keeper)
    for name in installation.stewards:
        if name in missing:
            script.add(render_create_role(name, installation.mark, "CREATEROLE"))
        # Repeated for those that exist: a keeper that had to be made anew lost its members.
        if name in missing or installation.keeper in missing:
            script.format(
                "GRANT {keeper} TO {steward} WITH INHERIT TRUE, SET FALSE;\n"
                "GRANT {steward} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE",
                keeper=keeper,
                steward=sql.Identifier(name),
            )
    # Given last: what the administrator inherits has to be worked out anew after every membership.
    script.format("GRANT {keeper} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", keeper=keeper)
    return script


def render_delegates(installation: Installation) -> Script:
    """The stewards' functions in a database, called like them. For the administrator, in the schema tenantry."""
    keeper = sql.Identifier(installation.keeper)
    # A new owner needs CREATE on the schema.
    script = Script().format("GRANT CREATE ON SCHEMA tenantry TO {keeper}", keeper=keeper)
    for steward in installation.stewards:
        script.format(
            "CREATE FUNCTION {function}(script text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS {body};\n"
            "REVOKE ALL ON FUNCTION {function}(text) FROM PUBLIC;\n"
            "GRANT EXECUTE ON FUNCTION {function}(text) TO {keeper};\n"
            "ALTER FUNCTION {function}(text) OWNER TO {steward}",
            function=sql.Identifier("tenantry", steward),
            steward=sql.Identifier(steward),
            keeper=keeper,
            body=sql.Literal("BEGIN EXECUTE script; END"),
        )
    return script.format("REVOKE CREATE ON SCHEMA tenantry FROM {keeper}", keeper=keeper)


def render_delegated(installation: Installation, owner: str, script: Script) -> sql.Composed:
    """Has a script executed by the steward of ``owner``'s roles. For the administrator, in a shared database."""
    return sql.SQL("SELECT {function}({script})").format(
        function=sql.Identifier("tenantry", installation.steward(owner)),
        script=sql.Literal(script.body().decode()),
    )
