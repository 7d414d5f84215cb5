"""Template databases: new tenants with a database of their own get a copy of one, instead of every migration.

A template is made like a tenant's database, and closed then: nobody can connect to it, so that it can be
copied at any time. Its objects belong to a role of its own, whose rights every steward has; in a copy they
are given to the tenant. A template whose tables hold rows that a migration computed, a random key for one,
is not used: what is to be different for every tenant must not be copied.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import structlog
from psycopg import sql

from tenantry_operator.engines.base import Chain, Desired, Isolation, Mark, Presence, Stale
from tenantry_operator.engines.postgres.catalog import ServerCatalog
from tenantry_operator.engines.postgres.connections import Connection
from tenantry_operator.engines.postgres.installation import Installation
from tenantry_operator.engines.postgres.runner import Runner
from tenantry_operator.engines.postgres.statements import (
    APP_SEQUENCES,
    APP_TABLES,
    Script,
    render_as_admin,
    render_as_steward,
)
from tenantry_operator.errors import ReconcileError
from tenantry_operator.faults import reached
from tenantry_operator.tenants.naming import group_of, own_names, template_of

_log = structlog.get_logger(__name__)

ENTRY = "template"
"""In the mark of a template, which belongs to no tenant, the place of the database's name."""
WORTHWHILE = 2000
"""Characters of SQL below which running them is as fast as copying a database."""

_COMPUTED = re.compile(
    r"random|uuid|now\s*\(|clock_timestamp|timestamp\s*\(|current_|session_user|localtime|nextval|tenant_id\s*\(|"
    r"txid|pg_current|inet_|version\s*\(",
    re.IGNORECASE,
)
# A file of some size had rows at one time; who may read them does not matter.
_HAS_ROWS = """
SELECT coalesce(pg_catalog.bool_or(pg_catalog.pg_relation_size(c.oid) > 0), false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')
"""

Settle = Callable[[Desired], Awaitable[None]]


class Templates:
    """The templates of one server."""

    def __init__(self, runner: Runner, settle: Settle) -> None:
        """:param settle: brings a database to what is desired."""
        self._runner = runner
        self._settle = settle
        self._ready: dict[str, str] = {}
        """By the digest and blueprint they were made from."""
        self._unfit: set[str] = set()

    def learn(self, catalog: ServerCatalog) -> None:
        """Takes in which templates a snapshot of the whole server found."""
        found = {}
        for database in catalog.databases.values():
            mark = Mark.decode(database.mark)
            if self._is_ours(mark) and mark is not None and not database.open and mark.version is not None:
                found[_key(mark.blueprint, mark.digest or "")] = database.name
        self._ready = found

    def _is_ours(self, mark: Mark | None) -> bool:
        return mark is not None and (mark.installation, mark.tenant, mark.database) == (
            self._runner.installation.id,
            "",
            ENTRY,
        )

    def of(self, desired: Desired) -> str | None:
        """The template for a new database; None: there is none."""
        if desired.chain is None or not desired.tenant:
            return None
        return self._ready.get(_key(desired.blueprint, desired.chain.digest))

    def forget(self) -> None:
        """None can be relied on until the next snapshot."""
        self._ready = {}

    async def keep(self, catalog: ServerCatalog, wanted: Mapping[str, Chain]) -> None:
        """Makes the templates that are wanted and missing, and drops all others.

        :param wanted: by blueprint (``<namespace>/<name>``).
        """
        keys = {}
        for blueprint, chain in wanted.items():
            key = _key(blueprint, chain.digest)
            if sum(len(m.text) for m in chain.migrations) >= WORTHWHILE and key not in self._unfit:
                keys[key] = (blueprint, chain)
        for database in catalog.databases.values():
            mark = Mark.decode(database.mark)
            if mark is None or not self._is_ours(mark):
                continue
            key = _key(mark.blueprint, mark.digest or "")
            if key not in keys or key not in self._ready:
                await self._drop(database.name, mark.blueprint)
        for key, (blueprint, chain) in keys.items():
            if key not in self._ready:
                try:
                    await self._make(key, blueprint, chain)
                except (ReconcileError, Stale) as error:
                    # Tenants are made without it, and tell what is wrong with the blueprint.
                    _log.info("no template was made", blueprint=blueprint, error=str(error))

    def _desired(self, name: str, blueprint: str, chain: Chain | None) -> Desired:
        return Desired(
            installation=self._runner.installation.id,
            tenant="",
            tenant_id=ENTRY,
            entry=ENTRY,
            isolation=Isolation.DATABASE,
            names=own_names(name),
            blueprint=blueprint,
            presence=Presence.LIVE,
            chain=chain,
        )

    async def _drop(self, name: str, blueprint: str) -> None:
        self._ready = {key: known for key, known in self._ready.items() if known != name}
        await self._settle(replace(self._desired(name, blueprint, None), presence=Presence.ABSENT))

    async def _make(self, key: str, blueprint: str, chain: Chain) -> None:
        name = template_of(blueprint, chain.digest)
        desired = self._desired(name, blueprint, chain)
        await self._settle(desired)
        reached("template-built")
        computed = any(_COMPUTED.search(migration.text) for migration in chain.migrations)
        async with self._runner.connections.use(name, keep=False) as connection:
            if computed and await _has_rows(connection):
                self._unfit.add(key)
            else:
                await self._runner.send(connection, _render_seal(desired))
        if key in self._unfit:
            _log.info("a template would copy rows that were computed; none is used", blueprint=blueprint)
            await self._drop(name, blueprint)
            return
        async with self._runner.connections.use() as connection:
            await self._runner.send(connection, _render_close(self._runner.installation, desired))
        self._ready[key] = name
        _log.info("a template was made", blueprint=blueprint, version=chain.version, database=name)


def _key(blueprint: str, digest: str) -> str:
    return f"{blueprint}/{digest}"


async def _has_rows(connection: Connection) -> bool:
    row = await (await connection.execute(_HAS_ROWS)).fetchone()
    return row is not None and bool(row[0])


def _render_seal(desired: Desired) -> Script:
    """Inside of the template: whose its objects are, for who copies it. For the administrator."""
    return Script().format(
        "CREATE TABLE IF NOT EXISTS tenantry.template (owner name NOT NULL);\n"
        "DELETE FROM tenantry.template;\n"
        "INSERT INTO tenantry.template (owner) VALUES ({owner});\n"
        "DELETE FROM tenantry.logins",
        owner=sql.Literal(desired.names.owner),
    )


def _render_close(installation: Installation, desired: Desired) -> Script:
    """Nobody connects to the template any more, and every steward has the rights of its roles."""
    names = desired.names
    values = {
        "owner": sql.Identifier(names.owner),
        "group": sql.Identifier(group_of(names.owner)),
        "name": sql.Identifier(names.database),
        "keeper": sql.Identifier(installation.keeper),
    }
    script = render_as_steward(installation.steward(names.owner), names.owner)
    script.format(
        "REVOKE ALL ON DATABASE {name} FROM {group};\n"
        "GRANT {owner}, {group} TO {keeper} WITH INHERIT TRUE, SET TRUE;\n"
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false",
        **values,
    )
    # The administrator has the rights of the template's owner by way of the keeper from here on.
    script.add(render_as_admin(names.owner))
    return script.format("ALTER DATABASE {name} OWNER TO {keeper}", **values)


async def template_owner(connection: Connection) -> str | None:
    """Whose the objects of a copy still are; None in a database that is no copy, or was taken over."""
    cursor = await connection.execute("SELECT pg_catalog.to_regclass('tenantry.template') IS NOT NULL")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return None
    row = await (await connection.execute("SELECT owner::text FROM tenantry.template")).fetchone()
    return str(row[0]) if row is not None else None


async def own_schemas(connection: Connection, owner: str) -> list[str]:
    """The schemas of a copy that hold the blueprint's objects."""
    cursor = await connection.execute(
        "SELECT n.nspname::text FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner\n"
        "WHERE r.rolname = %s OR n.nspname = 'public' ORDER BY 1",
        (owner,),
    )
    return [name for (name,) in await cursor.fetchall()]


def render_take_over(desired: Desired, template: str, schemas: Sequence[str]) -> Script:
    """Gives the objects of a copy to the tenant. For a steward with the owner's rights."""
    names, group = desired.names, group_of(desired.names.owner)
    script = Script().format(
        "REASSIGN OWNED BY {source} TO {owner};\nDROP OWNED BY {source_group};\nDROP OWNED BY {source}",
        source=sql.Identifier(template),
        source_group=sql.Identifier(group_of(template)),
        owner=sql.Identifier(names.owner),
    )
    for schema in schemas:
        script.format(
            "GRANT USAGE ON SCHEMA {schema} TO {group};\n"
            "GRANT " + APP_TABLES + " ON ALL TABLES IN SCHEMA {schema} TO {group};\n"
            "GRANT " + APP_SEQUENCES + " ON ALL SEQUENCES IN SCHEMA {schema} TO {group};\n"
            "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {group}",
            schema=sql.Identifier(schema),
            group=sql.Identifier(group),
        )
    return script
