"""The names of what is made for a tenant on a server. Pure.

A name is at most 63 bytes, PostgreSQL's limit (NAMEDATALEN - 1, "Identifiers and Key Words") and MongoDB's;
MySQL's is 64, and 32 for logins; there each underscore of a database's name counts twice, as rights are given by
patterns. A longer one is cut and a hash of the whole appended, so that two long names
stay two. Names that the server or the operator keeps for itself get a hash, too: a tenant called "public" or
"acme__a" takes no place of anybody else's.
"""

from __future__ import annotations

import hashlib

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Isolation, Names
from tenantry_operator.engines.kinds import KINDS

MAX_BYTES = 63
"""PostgreSQL cuts identifiers that are longer, in silence."""

_HASH_LENGTH = 8
_LOGIN_SUFFIXES = ("__a", "__b")
GROUP_SUFFIX = "__app"
READ_ONLY_SUFFIX = "__readonly"
CONNECT_SUFFIX = "__connect"
MIGRATOR_SUFFIX = "__migrator"
SCRATCH_SUFFIX = "__scratch"
TEMPLATE_SUFFIX = "__template"
_OWN_SUFFIXES = (
    *_LOGIN_SUFFIXES,
    GROUP_SUFFIX,
    READ_ONLY_SUFFIX,
    CONNECT_SUFFIX,
    MIGRATOR_SUFFIX,
    SCRATCH_SUFFIX,
    TEMPLATE_SUFFIX,
)
_OPERATORS = "tenantry"
"""What the operator keeps on a server for itself."""


def short_hash(*parts: str) -> str:
    """Eight hexadecimal digits over the parts; differs for ("a", "bc") and ("ab", "c")."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH_LENGTH]


def fit(name: str, suffix: str = "", limit: int = MAX_BYTES) -> str:
    """``name`` + ``suffix`` within ``limit`` bytes; only the name is cut, never the suffix."""
    room = limit - len(suffix.encode())
    encoded = name.encode()
    if len(encoded) <= room:
        return name + suffix
    kept = encoded[: room - _HASH_LENGTH - 1].decode(errors="ignore")
    return f"{kept}_{short_hash(name)}{suffix}"


def fit_database(name: str, suffix: str = "", engine: DatabaseEngine = DatabaseEngine.POSTGRESQL) -> str:
    """``name`` + ``suffix`` as the name of a database that an engine takes, in the rights on it, too."""
    limit, longest = MAX_BYTES, KINDS[engine].pattern_bytes
    found = fit(name, suffix, limit)
    while longest is not None and len(found.encode()) + found.count("_") > longest:
        limit -= 1
        found = fit(name, suffix, limit)
    return found


def group_of(owner: str) -> str:
    """The NOLOGIN role that carries the rights of an owner's applications; logins are its members."""
    return fit(owner, GROUP_SUFFIX)


def read_only_group_of(owner: str) -> str:
    """Under Row isolation: the role of logins that are over their storage quota."""
    return fit(owner, READ_ONLY_SUFFIX)


def migrator_of(owner: str) -> str:
    """The login that runs what cannot be in a transaction, as ``owner``; it is there for that time only."""
    return fit(owner, MIGRATOR_SUFFIX)


def connect_group_of(database: str) -> str:
    """The NOLOGIN role that may connect to a shared database."""
    return fit(database, CONNECT_SUFFIX)


def scratch_names(blueprint: str, engine: DatabaseEngine = DatabaseEngine.POSTGRESQL) -> Names:
    """The names of a blueprint's scratch copy.

    :param blueprint: ``<namespace>/<name>``.
    """
    name = f"{blueprint.rpartition('/')[2]}_{short_hash(blueprint)}"
    return own_names(fit_database(name, SCRATCH_SUFFIX, engine), engine)


def template_of(blueprint: str, digest: str) -> str:
    """The name of the template database of a blueprint's version.

    :param blueprint: ``<namespace>/<name>``.
    :param digest: of its chain.
    """
    return fit(f"{blueprint.rpartition('/')[2]}_{short_hash(blueprint, digest)}", TEMPLATE_SUFFIX)


def own_names(database: str, engine: DatabaseEngine = DatabaseEngine.POSTGRESQL) -> Names:
    """The names of a whole database, and of its roles."""
    login_a, login_b = (fit(database, suffix, KINDS[engine].login_bytes) for suffix in _LOGIN_SUFFIXES)
    return Names(database, None, database, login_a, login_b)


def names_for(
    isolation: Isolation,
    blueprint: str,
    tenant_id: str,
    entry: str,
    *,
    namespace: str = "",
    several: bool = False,
    disambiguate: bool = False,
    engine: DatabaseEngine = DatabaseEngine.POSTGRESQL,
) -> Names:
    """The names of one tenant database.

    :param blueprint: the Blueprint's name, with or without ``<namespace>/`` before it.
    :param entry: the name in ``spec.databases``.
    :param namespace: of the Tenant; the hash of ``disambiguate`` is made of it.
    :param several: the tenant has several databases of this blueprint: those that are not called like
        the blueprint get their name appended.
    :param disambiguate: the plain names belong to another tenant, or to another blueprint's tenants:
        append a hash of namespace and name.
    """
    blueprint = blueprint.rpartition("/")[2]
    other = entry if entry != blueprint else ""
    extra = (other,) if several and other else ()
    # The entry is part of the hash: two databases of one tenant stay two even when both are disambiguated.
    seed = (namespace, blueprint, tenant_id, other) if disambiguate else ()
    own = own_names(_usable("__".join((blueprint, tenant_id, *extra)), engine, seed), engine)
    if isolation in (Isolation.DATABASE, Isolation.INSTANCE):
        return own
    shared = _usable(blueprint, engine, (namespace, blueprint) if disambiguate else ())
    if isolation is Isolation.SCHEMA:
        schema = _usable("__".join((tenant_id, *extra)), engine, seed)
        return Names(shared, schema, own.owner, own.login_a, own.login_b)
    return Names(shared, shared, shared, own.login_a, own.login_b)


def _usable(name: str, engine: DatabaseEngine, seed: tuple[str, ...] = ()) -> str:
    """``name``, with a hash when it is somebody else's, reserved, or of the operator's own form.

    Roles, schemas and databases whose names begin with ``pg_`` belong to PostgreSQL.

    :param seed: what the hash is made of, when the plain name is somebody else's.
    """
    if seed:
        name = f"{name}_{short_hash(*seed)}"
    if name == _OPERATORS or name in KINDS[engine].reserved or name.endswith(_OWN_SUFFIXES):
        name = f"{name}_{short_hash(name)}"
    if name.startswith("pg_"):
        name = f"t_{name}"
    return fit_database(name, engine=engine)
