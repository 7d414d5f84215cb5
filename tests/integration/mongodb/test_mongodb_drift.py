"""What differs on FerretDB's PostgreSQL from what the operator leaves is seen, and mended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry_operator.engines.base import Credentials, LoginLimits
from tenantry_operator.engines.mongodb.engine import MongoEngine
from tenantry_operator.errors import Stalled
from tests.integration.engines.mongodb_harness import ADMIN, Harness

ITEMS = '[{"create": "items"}]'


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ('REVOKE CREATE ON SCHEMA "{database}" FROM "{owner}"', "rights U"),
        ('REVOKE ALL ON SCHEMA "{database}" FROM "{owner}"', "rights none"),
        ('GRANT ALL ON SCHEMA "{database}" TO PUBLIC', "PUBLIC"),
        ('GRANT USAGE ON SCHEMA "{database}" TO neighbour', "neighbour"),
        ('REVOKE USAGE ON SCHEMA "{database}" FROM ferretdb__connect', "ferretdb__connect"),
        ('REVOKE UPDATE ON "{database}"._ferretdb_database_metadata FROM "{owner}"', "the metadata"),
        ('GRANT ALL ON "{database}"._ferretdb_database_metadata TO neighbour', "neighbour"),
        ('ALTER ROLE "{login}" CONNECTION LIMIT 99', "CONNECTION LIMIT 99"),
        ('ALTER ROLE "{login}" SET statement_timeout = 0', "statement_timeout"),
        ('ALTER ROLE "{login}" RESET ALL', "role is not set"),
        ("ALTER ROLE \"{login}\" VALID UNTIL '2000-01-01'", "expires"),
        ('REVOKE "{owner}" FROM "{login}"', "no member of"),
        ('REVOKE ferretdb__connect FROM "{login}"', "no member of"),
        ('REVOKE ferretdb__connect FROM "{owner}"', "no member of"),
        ('GRANT neighbour TO "{login}"', "is a member of neighbour"),
        ('GRANT "{owner}" TO neighbour', "neighbour"),
        ('ALTER ROLE "{owner}" LOGIN', "can log in"),
        ('DROP OWNED BY "{owner}__readonly"; DROP ROLE "{owner}__readonly"', "is gone"),
    ],
)
async def test_drift_is_seen_and_mended(
    blueprint: Callable[..., Any], harness: Harness, statement: str, words: str
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make(limits=LoginLimits(connections=20, statement_timeout_ms=5000))
    names = desired.names
    text = statement.format(database=names.database, owner=names.owner, login=names.login_a)
    with harness.superuser() as connection:
        connection.execute("DROP ROLE IF EXISTS neighbour")
        connection.execute("CREATE ROLE neighbour")
        if "neighbour TO" in text or "TO neighbour" in text:
            connection.execute(f"GRANT neighbour TO {ADMIN} WITH ADMIN OPTION")
        if "CONNECTION" in text or "SCHEMA" in text or "metadata" in text or text.startswith(("DROP", "ALTER")):
            connection.execute(text.encode())
        else:
            connection.execute(f"SET ROLE {ADMIN}; {text}; RESET ROLE".encode())
    state = await shop.state(desired)
    assert any(words in line for line in state.drift), state.drift
    assert "mend" in await shop.bring(desired)
    assert await shop.is_settled(desired)
    client = await shop.client(desired)
    await client.put("a", "1")
    await client.database["another"].insert_one({"_id": 1})
    with harness.superuser() as connection:
        connection.execute("DROP OWNED BY neighbour; DROP ROLE neighbour")


async def test_a_login_that_was_disabled_is_enabled(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    with harness.superuser() as connection:
        connection.execute(f'ALTER ROLE "{desired.names.login_a}" NOLOGIN')
    assert await shop.bring(desired) == ["enable-login"]
    assert await (await shop.client(desired)).get("a") is None


async def test_what_only_a_superuser_could_mend_is_only_told(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    with harness.superuser() as connection:
        connection.execute(f'ALTER ROLE "{desired.names.login_a}" CREATEDB')
    state = await shop.state(desired)
    assert any("rights over the server" in line for line in state.drift)
    assert shop.engine.plan(desired, state, None) == ()


async def test_changed_limits_are_set(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    limited = replace(desired, limits=LoginLimits(connections=3, statement_timeout_ms=1000))
    assert await shop.bring(limited) == ["mend"]
    assert await shop.is_settled(limited)
    assert await shop.bring(desired) == ["mend"]
    assert await shop.is_settled(desired)


async def test_drift_while_writes_are_refused(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    full = replace(desired, read_only=True)
    await shop.bring(full)
    with harness.superuser() as connection:
        connection.execute(f'ALTER ROLE "{desired.names.login_a}" CONNECTION LIMIT 7')
    assert await shop.bring(full) == ["mend", "vacuum"]
    assert (await shop.state(full)).drift == ()
    second = Credentials(desired.names.login_b, "second")
    assert await shop.bring(full, second) == ["create-login", "vacuum"]
    assert (await shop.state(full)).drift == ()


async def test_the_server_as_a_whole(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    desired = await shop.make()
    snapshot = await shop.engine.observe()
    assert snapshot.report.version.startswith("FerretDB 1.")
    assert snapshot.report.max_connections == 200
    assert snapshot.report.bytes > 0
    assert snapshot.report.missing == ()
    assert snapshot.report.unhardened == ()
    belonging = snapshot.belongings(desired.tenant)
    mine = [one for one in belonging if one.database == desired.names.database]
    assert [(one.mark.version, one.mark.database) for one in mine] == [("1.0", "main")]
    assert desired.blueprint in snapshot.blueprints()
    assert desired.tenant in snapshot.tenants()
    with harness.superuser() as connection:
        connection.execute(f"REVOKE pg_signal_backend FROM {ADMIN}")
        connection.execute("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
    report = (await shop.engine.observe()).report
    assert any("GRANT pg_signal_backend" in line for line in report.missing)
    assert any("REVOKE ALL ON DATABASE" in line for line in report.unhardened)
    with harness.superuser() as connection:
        connection.execute(f"GRANT pg_signal_backend TO {ADMIN}")
        connection.execute("REVOKE ALL ON DATABASE postgres FROM PUBLIC")


async def test_doors_that_are_open_are_told(harness: Harness) -> None:
    assert await _doors(harness) == ()
    hba = harness.folder / "data" / "pg_hba.conf"
    text = hba.read_text()
    hba.write_text(text.replace("scram-sha-256", "trust"))
    try:
        with harness.superuser() as connection:
            connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.5)
        doors = await _doors(harness)
        assert any("any password is taken" in line for line in doors)
    finally:
        hba.write_text(text)
        with harness.superuser() as connection:
            connection.execute("SELECT pg_reload_conf()")
        # FerretDB goes on with what it has.
        harness.stop_ferretdb()
        harness.start_ferretdb()


async def _doors(harness: Harness) -> tuple[str, ...]:
    engine = harness.engine()
    try:
        return (await engine.observe()).report.unhardened
    finally:
        await engine.close()


async def test_an_administrator_that_is_refused(harness: Harness) -> None:
    access = harness.access()
    assert access.backend is not None
    wrong = replace(access, backend=replace(access.backend, password="wrong"))
    engine = MongoEngine(wrong, installation="test")
    try:
        with pytest.raises(Stalled, match="AdminLoginRefused") as caught:
            await engine.observe()
    finally:
        await engine.close()
    assert "wrong" not in caught.value.message


async def test_a_backend_without_ferretdbs_database(harness: Harness) -> None:
    access = harness.access()
    assert access.backend is not None
    wrong = replace(access, backend=replace(access.backend, database="nowhere"))
    engine = MongoEngine(wrong, installation="test")
    try:
        with pytest.raises(Stalled, match="BackendMissing"):
            await engine.observe()
    finally:
        await engine.close()


async def test_what_tenants_share_is_made_again(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    await shop.make("first")
    with harness.superuser() as connection:
        connection.execute("DROP SCHEMA tenantry CASCADE")
    desired = shop.desired("second-of-them")
    await shop.bring(desired, Credentials(desired.names.login_a, "x"))
    assert await shop.is_settled(desired)
