"""The kinds of database servers, and how they differ in what the rest of the operator sees. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry_crds.common import DatabaseEngine, Isolation
from tenantry_operator.engines.chain import Chain, Form
from tenantry_operator.errors import Stalled

_OWN = frozenset({Isolation.DATABASE, Isolation.INSTANCE})


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One kind of server."""

    engine: DatabaseEngine
    binding: str
    """The ``type`` of a tenant's Secret, in the words of the Service Binding specification."""
    scheme: str
    """Of connection URIs."""
    port: int
    """Where its servers usually listen."""
    isolations: frozenset[Isolation] = _OWN
    commands: bool = False
    """Whether migrations are lists of commands, rather than SQL."""
    login_bytes: int = 63
    """The longest name of a login."""
    pattern_bytes: int | None = None
    """The longest name of a database, its underscores counted twice as in the patterns that rights are given by;
    None: there are no patterns."""
    reserved: frozenset[str] = field(default_factory=frozenset)
    """Names of databases that belong to the server."""


KINDS: Mapping[DatabaseEngine, EngineKind] = {
    kind.engine: kind
    for kind in (
        EngineKind(
            DatabaseEngine.POSTGRESQL,
            "postgresql",
            "postgresql",
            5432,
            isolations=frozenset(Isolation),
            reserved=frozenset({"postgres", "template0", "template1", "public", "none", "information_schema"}),
        ),
        EngineKind(
            DatabaseEngine.MYSQL,
            "mysql",
            "mysql",
            3306,
            # MySQL's; MariaDB allows more.
            login_bytes=32,
            pattern_bytes=64,
            reserved=frozenset({"mysql", "sys", "information_schema", "performance_schema"}),
        ),
        EngineKind(
            DatabaseEngine.MONGODB,
            "mongodb",
            "mongodb",
            27017,
            commands=True,
            # FerretDB keeps databases as schemas of PostgreSQL.
            reserved=frozenset({"admin", "config", "local", "public", "information_schema"}),
        ),
        EngineKind(DatabaseEngine.REDIS, "redis", "redis", 6379, commands=True, reserved=frozenset({"default"})),
    )
}


def check_form(chain: Chain, engine: DatabaseEngine) -> Chain:
    """The chain, when its migrations are written in the form that the engine takes.

    :raises Stalled: MigrationForm, for one that is not.
    """
    form = Form.COMMANDS if KINDS[engine].commands else Form.SQL
    for migration in chain.migrations:
        if migration.form not in (None, form):
            raise Stalled(
                "MigrationForm",
                f"{migration.what} gives {migration.form}, and {engine} takes {form}: make a version that does",
            )
    return chain
