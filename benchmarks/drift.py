"""What is changed by hand on the server, and how long until the operator has mended it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from benchmarks.environment import Result, bench_cluster, say
from benchmarks.population import SWEEP
from benchmarks.workload import SPACE, Kube, blueprint, tenants, wide_migrations
from tenantry_local.cluster import Cluster

TARGET = 60.0
"""Seconds."""
POLL = "600 s, the poll interval of provider-sql"
_GIVE_UP = 180.0
_SHARED, _OWN = "shared", "own"


@dataclass(frozen=True, slots=True)
class Where:
    """A tenant's database on the server."""

    database: str
    schema: str
    login: str
    dsn: str
    """The superuser's, to that database."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Something done by hand, and the query that says whether it is undone."""

    what: str
    isolation: str
    do: Callable[[Where], sql.Composed]
    mended: Callable[[Where], sql.Composed]


def _group_of_table(where: Where) -> sql.Composed:
    return sql.SQL("SELECT has_table_privilege({login}, {table}, 'SELECT')").format(
        login=sql.Literal(where.login), table=sql.Literal(f"{where.schema}.item1")
    )


def _revoke(where: Where) -> sql.Composed:
    """Takes a table from whoever the login has it from, its group or itself."""
    return sql.SQL(
        "DO $$ DECLARE r record; BEGIN"
        " FOR r IN SELECT DISTINCT a.grantee::regrole AS who FROM pg_class c, aclexplode(c.relacl) a"
        " WHERE c.oid = {table}::regclass AND a.grantee <> c.relowner AND a.grantee <> 0 LOOP"
        " EXECUTE format('REVOKE ALL ON {name} FROM %s', r.who);"
        " END LOOP; END $$"
    ).format(
        table=sql.Literal(f"{where.schema}.item1"),
        name=sql.SQL(".").join([sql.Identifier(where.schema), sql.Identifier("item1")]),
    )


def _role(statement: str) -> Callable[[Where], sql.Composed]:
    return lambda where: sql.SQL(statement).format(login=sql.Identifier(where.login))


def _login_query(condition: str) -> Callable[[Where], sql.Composed]:
    return lambda where: sql.SQL(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = {login} AND " + condition + ")"
    ).format(login=sql.Literal(where.login))


def _public(where: Where) -> sql.Composed:
    return sql.SQL("GRANT CONNECT ON DATABASE {name} TO PUBLIC").format(name=sql.Identifier(where.database))


def _not_public(where: Where) -> sql.Composed:
    return sql.SQL(
        "SELECT NOT EXISTS (SELECT FROM pg_database d, aclexplode(d.datacl) a"
        " WHERE d.datname = {name} AND a.grantee = 0 AND a.privilege_type = 'CONNECT')"
    ).format(name=sql.Literal(where.database))


DAMAGES = (
    Damage("rights on a table revoked, Schema", "Schema", _revoke, _group_of_table),
    Damage("rights on a table revoked, Database", "Database", _revoke, _group_of_table),
    Damage(
        "login altered",
        "Schema",
        _role("ALTER ROLE {login} NOLOGIN CONNECTION LIMIT 3"),
        _login_query("rolcanlogin AND rolconnlimit = -1"),
    ),
    Damage("login dropped", "Schema", _role("DROP ROLE {login}"), _login_query("rolcanlogin")),
    Damage("CONNECT granted to PUBLIC, Database", "Database", _public, _not_public),
)


async def run(rounds: int) -> Result:
    """Does every damage ``rounds`` times, each to a tenant of its own, at random moments."""
    result = Result("drift", "Drift until mended")
    with bench_cluster("drift") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            await kube.prepare(
                blueprint(_SHARED, wide_migrations(5), "Schema"), blueprint(_OWN, wide_migrations(5), "Database")
            )
            names = [f"d{number}" for number in range(len(DAMAGES))]
            for damage, name in zip(DAMAGES, names, strict=True):
                of = _SHARED if damage.isolation == "Schema" else _OWN
                reached = await kube.provision(tenants([name], of, damage.isolation), f"for: {damage.what}")
                if not reached.complete:
                    result.notes.append(f"{damage.what}: the tenant did not become Ready")
            say(f"{rounds} rounds of damage, each up to {SWEEP:.0f} s and a little")
            await asyncio.sleep(SWEEP + 5)  # the operator has looked at all that it made once more
            series = await asyncio.gather(
                *(_measure(cluster, damage, name, rounds) for damage, name in zip(DAMAGES, names, strict=True))
            )
    for damage, times in zip(DAMAGES, series, strict=True):
        _report(result, damage, times)
    found = [t for times in series for t in times if t is not None]
    result.data["sweep_interval"] = SWEEP
    result.data["longest"] = round(max(found, default=0.0), 1)
    return result


async def _measure(cluster: Cluster, damage: Damage, name: str, rounds: int) -> list[float | None]:
    times: list[float | None] = []
    for number in range(rounds):
        await asyncio.sleep(random.uniform(0, SWEEP))
        try:
            where = await asyncio.to_thread(_where, cluster, damage, name)
            seconds = await asyncio.to_thread(_mended_after, damage, where)
        except (psycopg.Error, LookupError) as error:
            say(f"{damage.what}: {error}")
            seconds = None
        say(
            f"{damage.what}, {number + 1} of {rounds}: "
            + (f"{seconds:.1f} s" if seconds is not None else "not mended")
        )
        times.append(seconds)
        if seconds is None:
            break
    return times


def _where(cluster: Cluster, damage: Damage, name: str) -> Where:
    entry = _SHARED if damage.isolation == "Schema" else _OWN
    secret = cluster.kubectl.secret(SPACE, f"{name}-{entry}-db")
    database = secret["database"]
    return Where(database, secret["schema"] or "public", secret["username"], cluster.admin_dsn(database))


def _mended_after(damage: Damage, where: Where) -> float | None:
    with psycopg.connect(where.dsn, autocommit=True) as connection:
        if not _is_mended(connection, damage, where):
            raise LookupError("the tenant is not whole before anything was done to it")
        connection.execute(damage.do(where))
        started = time.monotonic()
        if _is_mended(connection, damage, where):
            raise LookupError("the damage did nothing")
        while time.monotonic() - started < _GIVE_UP:
            time.sleep(0.1)
            if _is_mended(connection, damage, where):
                return time.monotonic() - started
    return None


def _is_mended(connection: psycopg.Connection, damage: Damage, where: Where) -> bool:
    try:
        row = connection.execute(damage.mended(where)).fetchone()
    except psycopg.errors.UndefinedObject:  # the role is gone
        return False
    return bool(row and row[0])


def _report(result: Result, damage: Damage, times: list[float | None]) -> None:
    found = [value for value in times if value is not None]
    result.data[damage.what] = [None if value is None else round(value, 1) for value in times]
    failed = "" if len(found) == len(times) else "; not mended, or not measured: see above"
    longest = max(found, default=0.0)
    result.add(
        damage.what,
        f"{longest:.1f} s at most, {sum(found) / len(found):.1f} s on average of {len(found)}{failed}"
        if found
        else "not mended",
        POLL,
        f"{longest / 600:.3f}" if found else "",
        f"{TARGET:.0f} s",
    )
