"""The server as a whole: what is reported, what is refused, and how it is reached."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Credentials, Presence
from tenantry_operator.engines.mysql.connections import Connection, Connections, ConnectionSettings
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tenantry_operator.engines.mysql.usage import Usage
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import Retryable, Stalled
from tests.integration.engines.harness import PASSWORD
from tests.integration.engines.mysql_harness import ADMIN, MYSQL, Harness, MariaDb, new_server

ITEMS = "CREATE TABLE items (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(50))"


@pytest.fixture
def alone() -> Iterator[MariaDb]:
    """A server that a test has to itself, with an administrator."""
    with tempfile.TemporaryDirectory(prefix="tenantry-my-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = new_server(Path(folder))
        server.install()
        server.start()
        server.harden()
        try:
            yield server
        finally:
            server.stop()


async def test_what_is_reported(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    before = (await shop.engine.observe()).report
    acme = await shop.make()
    with shop.login(acme):
        report = (await shop.engine.observe()).report
    assert report.version.startswith("MySQL " if shop.server.mysql else "MariaDB 1")
    assert report.max_connections == 100
    assert report.connections >= 2
    assert report.bytes - before.bytes >= 65536
    assert (report.missing, report.unhardened) == ((), ())


async def test_a_snapshot_takes_as_many_queries_for_many_as_for_one(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    run = Connection.run

    async def counting(self: Connection, statement: str, **options: Any) -> Any:
        nonlocal count
        count += 1
        return await run(self, statement, **options)

    monkeypatch.setattr(Connection, "run", counting)
    shop = blueprint(ITEMS)
    figures = []
    for tenants in (1, 6):
        for number in range(tenants):
            await shop.make(f"t{tenants}x{number}")
        await shop.engine.observe()
        count = 0
        await shop.engine.observe()
        figures.append(count)
    assert figures[0] == figures[1] <= 15


async def test_a_tenant_is_made_without_looking_up_what_is_known(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(ITEMS)
    await shop.make("first")
    acme, asked = shop.desired(), list[str]()
    run = Connection.run

    async def noting(self: Connection, statement: str, **options: Any) -> Any:
        asked.append(statement)
        return await run(self, statement, **options)

    monkeypatch.setattr(Connection, "run", noting)
    credentials = Credentials(acme.names.login_a, PASSWORD)
    steps = shop.engine.plan(acme, await shop.engine.observe_one(acme), credentials)
    await shop.engine.apply(acme, steps, credentials)
    assert await shop.is_settled(acme)
    made = asked[: len(asked) - next(n for n, one in enumerate(reversed(asked)) if "ACCOUNT UNLOCK" in one)]
    looks = [one for one in made if one.startswith(("SELECT", "SHOW", "SET STATEMENT"))]
    # One before each of three steps, one at first, one at how it is defined, one whether sessions are left.
    assert len(looks) <= 7
    assert len(made) <= 40


async def test_usage_is_not_counted_again_while_nothing_is_written(
    blueprint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    asked = 0
    count = Usage.count

    async def counting(self: Usage, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await count(self, *arguments)

    monkeypatch.setattr(Usage, "count", counting)

    async def used() -> int:
        # MySQL tells how much was written some time later.
        await asyncio.sleep(2 if shop.server.mysql else 0)
        await shop.engine.observe()
        rows = await shop.engine.usage(acme, {"items": "SELECT COUNT(*) AS count FROM items"})
        return int(rows["items"][0].count)

    deadline = time.monotonic() + 60
    quiet = 0
    while quiet < 3:
        # What was written before may be on its way to the disk for a while.
        assert time.monotonic() < deadline
        before = asked
        assert await used() == 0
        quiet = quiet + 1 if asked == before else 0
        await asyncio.sleep(0.05)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('a')")
        assert await used() == 1
        session.execute("UPDATE items SET name = 'b'")
        before = asked
        assert await used() == 1
        assert asked == before + 1
        session.execute("DELETE FROM items")
        assert await used() == 0
    more = await shop.engine.usage(acme, {"all": "SELECT 7 AS count"})
    assert more["all"][0].count == 7


async def test_rights_that_are_missing_are_said(alone: MariaDb) -> None:
    alone.query("CREATE USER 'poor'@'%' IDENTIFIED BY 'poor'")
    alone.query("GRANT ALL ON `%`.* TO 'poor'@'%' WITH GRANT OPTION")
    engine = MySqlEngine(alone.access(username="poor", password="poor"), installation="test")
    missing = (await engine.observe()).report.missing
    await engine.close()
    grants = [f"GRANT {right} ON *.* TO 'poor'@'%'" for right in alone.admin_rights]
    assert [line.partition(": ")[2] for line in missing] == grants
    for line in missing:
        alone.query(line.partition(": ")[2])
    engine = MySqlEngine(alone.access(username="poor", password="poor"), installation="test")
    assert (await engine.observe()).report.missing == ()
    await engine.close()


async def test_that_nobody_may_make_functions_is_said(alone: MariaDb, blueprint: Callable[..., Any]) -> None:
    alone.stop()
    alone.options = ("--log-bin=bin", "--log-bin-trust-function-creators=OFF")
    alone.start()
    engine = MySqlEngine(alone.access(), installation="test")
    shop = blueprint(f"{ITEMS}; CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW SET NEW.name = 'x'")
    shop.engine, shop.server = engine, alone
    with pytest.raises(Stalled, match="log_bin_trust_function_creators"):
        await shop.make()
    missing = (await engine.observe()).report.missing[0]
    assert missing.startswith("functions and triggers")
    alone.query(missing.partition(": ")[2])
    assert (await engine.observe()).report.missing == ()
    assert await shop.is_settled(await shop.make())
    await engine.close()


async def test_what_everybody_reaches_is_said_and_kept_off(alone: MariaDb, blueprint: Callable[..., Any]) -> None:
    alone.query("CREATE USER ''@'localhost'")
    alone.query("INSERT INTO mysql.db (Host, Db, User, Select_priv) VALUES ('%', 'bp%', '', 'Y')")
    alone.query("FLUSH PRIVILEGES")
    engine = MySqlEngine(alone.access(), installation="test")
    shop = blueprint(ITEMS)
    shop.engine = engine
    shop.server = alone
    with pytest.raises(Stalled, match="ServerNotHardened"):
        await shop.make()
    statements = (await engine.observe()).report.unhardened
    assert len(statements) == 2
    for line in statements:
        for statement in line.split(";"):
            if statement.strip():
                alone.query(statement)
    assert (await engine.observe()).report.unhardened == ()
    acme = await shop.make()
    assert await shop.is_settled(acme)
    await engine.close()


@pytest.mark.skipif(MYSQL, reason="MySQL has no role PUBLIC")
@pytest.mark.parametrize(
    ("right", "kept_off"), [("SELECT ON *.*", True), ("SELECT ON `bp%`.*", True), ("SELECT ON mysql.user", False)]
)
async def test_what_mariadb_gives_to_everybody_is_said_and_kept_off(
    right: str, kept_off: bool, harness: Harness, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(ITEMS)
    harness.server.query(f"GRANT {right} TO PUBLIC")
    try:
        statements = (await shop.engine.observe()).report.unhardened
        assert len(statements) == 1
        if kept_off:
            with pytest.raises(Stalled, match="ServerNotHardened"):
                await shop.make()
        for statement in statements[0].split(";"):
            if statement.strip():
                harness.server.query(statement)
        assert (await shop.engine.observe()).report.unhardened == ()
        assert await shop.is_settled(await shop.make())
    finally:
        harness.server.query("REVOKE ALL PRIVILEGES, GRANT OPTION FROM PUBLIC")
        harness.server.query("DELETE FROM mysql.db WHERE User = 'PUBLIC'")
        harness.server.query("FLUSH PRIVILEGES")


async def test_sessions_from_before_a_right_was_given_are_not_relied_on(
    alone: MariaDb, blueprint: Callable[..., Any]
) -> None:
    """A session keeps the rights that it began with: it would go on seeing no sessions of tenants."""
    alone.query("CREATE USER 'poor'@'%' IDENTIFIED BY 'poor'")
    alone.query("GRANT ALL ON `%`.* TO 'poor'@'%' WITH GRANT OPTION")
    rights = ", ".join(right for right in alone.admin_rights if right != "PROCESS")
    alone.query(f"GRANT {rights} ON *.* TO 'poor'@'%'")
    shop = blueprint(ITEMS)
    acme = await _on(shop, alone).make()
    engine = MySqlEngine(alone.access(username="poor", password="poor"), installation="test")
    try:
        refused = shop.desired(presence=Presence.REFUSED, login=None)
        state = await engine.observe_one(refused)
        # What is not seen is not taken for nothing.
        assert state.bytes is None
        assert (await engine.observe()).database(refused).bytes is None
        steps = engine.plan(refused, state, None)
        with pytest.raises(Stalled, match="PROCESS"):
            await engine.apply(refused, steps, None)
        await shop.bring(acme)
        alone.query("GRANT PROCESS ON *.* TO 'poor'@'%'")
        with shop.login(acme) as session:
            await engine.apply(refused, steps, None)
            with pytest.raises(pymysql.MySQLError):
                session.execute("SELECT 1")
        assert (await engine.observe_one(refused)).bytes
    finally:
        await engine.close()
        await shop.engine.close()


def _on(shop: Any, server: MariaDb) -> Any:
    shop.engine, shop.server = MySqlEngine(server.access(), installation="test"), server
    return shop


async def test_a_database_of_that_name_is_left_alone(alone: MariaDb, blueprint: Callable[..., Any]) -> None:
    alone.query("CREATE DATABASE tenantry")
    alone.query("CREATE TABLE tenantry.theirs (i INT)")
    engine = MySqlEngine(alone.access(), installation="test")
    shop = blueprint(ITEMS)
    shop.engine, shop.server = engine, alone
    with pytest.raises(Stalled, match="NameTaken"):
        await shop.make()
    assert alone.query("SHOW TABLES FROM tenantry") == [("theirs",)]
    await engine.close()


async def test_a_server_that_is_away_is_waited_for(alone: MariaDb, blueprint: Callable[..., Any]) -> None:
    engine = MySqlEngine(
        alone.access(), installation="test", settings=ConnectionSettings(pause=0.1, longest_pause=0.1)
    )
    shop = blueprint(ITEMS)
    shop.engine, shop.server = engine, alone
    acme = await shop.make()
    alone.stop()
    for _ in range(5):
        with pytest.raises(Retryable, match="ServerUnreachable"):
            await engine.observe()
    with pytest.raises(Retryable, match="ServerUnreachable"):
        await engine.observe_one(acme)
    alone.start()
    await asyncio.sleep(0.2)
    assert await shop.is_settled(acme)
    await engine.close()


async def test_an_administrator_that_is_refused_is_a_persons_matter(server: MariaDb) -> None:
    engine = MySqlEngine(server.access(password="wrong"), installation="test")
    with pytest.raises(Stalled, match="AdminLoginRefused") as caught:
        await engine.observe()
    assert "wrong" not in str(caught.value)
    await engine.close()


async def test_connections_are_bounded_and_reused(server: MariaDb) -> None:
    connections = Connections(server.access(), ConnectionSettings(concurrency=2))
    used, most = 0, 0

    async def one() -> int:
        nonlocal used, most
        async with connections.use() as connection:
            used += 1
            most = max(most, used)
            rows = await connection.run("SELECT CONNECTION_ID() FROM (SELECT SLEEP(0.05)) s")
            used -= 1
            return int(rows[0][0])

    numbers = await asyncio.gather(*(one() for _ in range(6)))
    assert (most, len(set(numbers))) == (2, 2)
    await connections.close()


async def test_several_statements_in_one_text_are_refused(server: MariaDb) -> None:
    connections = Connections(server.access(), ConnectionSettings())
    with pytest.raises(Exception, match="SQL syntax"):
        async with connections.use() as connection:
            await connection.run("SELECT 1; SELECT 2")
    await connections.close()


def _certificates() -> dict[str, str]:
    """An authority, and a certificate of its for 127.0.0.1."""
    now = datetime.now(UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca of a test")])
    found = {}
    for name, key in keys.items():
        subject = issuer if name == "ca" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        )
        certificate = builder.sign(keys["ca"], hashes.SHA256())
        found[f"{name}.crt"] = certificate.public_bytes(serialization.Encoding.PEM).decode()
        found[f"{name}.key"] = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    return found


async def test_it_is_encrypted_as_the_instance_says(alone: MariaDb) -> None:
    certificates = _certificates()
    options = []
    for name, option in (("ca.crt", "ca"), ("server.crt", "cert"), ("server.key", "key")):
        path = alone.folder / name
        path.write_text(certificates[name])
        path.chmod(0o644)
        options.append(f"--ssl-{option}={path}")
    alone.stop()
    alone.options = alone.unencrypted
    alone.start()
    with pytest.raises(Stalled, match="does not encrypt"):
        await _cipher(alone, "require")
    assert await _cipher(alone, "prefer") == ""
    alone.stop()
    alone.options = tuple(options)
    alone.start()
    own, others = certificates["ca.crt"], _certificates()["ca.crt"]
    assert await _cipher(alone, "disable") == ""
    for mode in ("prefer", "require"):
        assert await _cipher(alone, mode) != ""
    for mode in ("verify-ca", "verify-full"):
        assert await _cipher(alone, mode, own) != ""
        with pytest.raises((Stalled, Retryable), match="certificate"):
            await _cipher(alone, mode, others)
    with pytest.raises(Stalled, match="SecretInvalid"):
        await _cipher(alone, "verify-full", "not a certificate")


async def _cipher(server: MariaDb, mode: str, authority: str | None = None) -> str:
    certificates = (("ca.crt", authority),) if authority else ()
    connections = Connections(
        server.access(sslmode=mode, certificates=certificates), ConnectionSettings(connect_timeout=5)
    )
    try:
        async with connections.use() as connection:
            rows = await connection.run("SHOW STATUS LIKE 'Ssl_cipher'")
            return str(rows[0][1])
    finally:
        await connections.close()


async def test_drift_is_found_and_mended(blueprint: Callable[..., Any], harness: Harness) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    login, own = acme.names.login_a, acme.names.database.replace("_", "\\_")
    theirs = globex.names.database.replace("_", "\\_")
    breaks = {
        f"account {login} lacks INSERT": f"REVOKE INSERT ON `{own}`.* FROM '{login}'@'%'",
        f"account {login} has DROP": f"GRANT DROP ON `{own}`.* TO '{login}'@'%'",
        f"account {login} has rights on databases {theirs}": f"GRANT SELECT ON `{theirs}`.* TO '{login}'@'%'",
        f"account {login} has rights on the whole server": f"GRANT FILE ON *.* TO '{login}'@'%'",
        f"account {login} has rights on {globex.names.database}": (
            f"GRANT SELECT ON `{globex.names.database}`.items TO '{login}'@'%'"
        ),
        f"account {login}: MAX_USER_CONNECTIONS is 3, not 0": (
            f"ALTER USER '{login}'@'%' WITH MAX_USER_CONNECTIONS 3"
        ),
    }
    for words, statement in breaks.items():
        shop.server.query(statement)
        assert words in (await shop.state(acme)).drift
        assert await shop.bring(acme) == ["mend-accounts"]
        assert await shop.is_settled(acme), words
    word = await harness.break_something(acme)
    assert any(word in line for line in (await shop.state(acme)).drift)
    await shop.bring(acme)
    shop.server.query("CREATE ROLE strong")
    shop.server.query(f"GRANT strong TO '{login}'@'%'")
    assert f"account {login} has rights on role strong" in (await shop.state(acme)).drift
    shop.server.query("DROP ROLE strong")
    definer = f"{acme.names.database}__migrator"
    shop.server.query(f"DROP USER '{definer}'@'%'")
    assert (await shop.state(acme)).drift == (f"account {definer} is gone",)
    await shop.bring(acme)
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("INSERT INTO items (name) VALUES ('x')")


async def test_a_lost_login_is_made_again(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.server.query(f"DROP USER '{acme.names.login_a}'@'%'")
    state = await shop.state(acme)
    assert (state.exists, state.logins) == (True, ())
    assert await shop.bring(acme, Credentials(acme.names.login_a, PASSWORD)) == ["create-login"]
    with shop.login(acme) as session:
        session.execute("SELECT * FROM items")
    assert await shop.is_settled(acme)


async def test_what_was_about_to_be_made_and_is_somebody_elses_is_left_alone(
    blueprint: Callable[..., Any],
) -> None:
    shop = blueprint(ITEMS)
    acme = await shop.make()
    shop.server.query("UPDATE tenantry.marks SET made = 0 WHERE name = %s", acme.names.database)
    assert "database" in ((await shop.state(acme)).conflict or "")
    with pytest.raises(Stalled, match="NameTaken"):
        await shop.bring(replace(acme, chain=None))


async def test_usage_is_counted_within_the_tenants_data_only(blueprint: Callable[..., Any]) -> None:
    shop = blueprint("CREATE TABLE users (name VARCHAR(50), role VARCHAR(50), made DATETIME)")
    acme, globex = await shop.make("acme"), await shop.make("globex")
    with shop.login(acme) as session:
        session.execute(
            "INSERT INTO users VALUES ('a', 'ADMIN', '2026-01-01 10:00'), ('b', 'ADMIN', '2026-01-02 10:00'), "
            "('c', NULL, NULL)"
        )
    query = (
        "SELECT role AS label, count(*) AS count, max(made) AS latest FROM users GROUP BY role ORDER BY 1 DESC;"
    )
    rows = (await shop.engine.usage(acme, {"users": query}))["users"]
    assert [(row.label, row.count, row.latest) for row in rows] == [
        ("ADMIN", 2, "2026-01-02 10:00:00"),
        ("", 1, None),
    ]
    assert await shop.is_settled(acme)
    for text in (
        f"SELECT COUNT(*) AS count FROM `{globex.names.database}`.users",
        "SELECT COUNT(*) AS count FROM tenantry.marks",
        f"SELECT COUNT(*) AS count FROM {shop.server.accounts}",
        "DELETE FROM users",
        "SELECT 1 AS count) x; DELETE FROM users; SELECT * FROM (SELECT 1 AS count",
        "SELECT 1 AS count INTO OUTFILE '/tmp/tenantry-intruder'",
        "SELECT 'x' AS count",
        "SELECT 1",
        "SELECT SLEEP(11) AS count",
    ):
        with pytest.raises(Stalled, match="UsageQueryFailed"):
            await shop.engine.usage(acme, {"users": text})
    with shop.login(acme) as session:
        session.execute("SELECT COUNT(*) FROM users")
        assert session.fetchone() == (3,)
    # Another process, and a reader that was locked meanwhile.
    shop.server.query(f"ALTER USER '{acme.names.database}__reader'@'%' ACCOUNT LOCK")
    with pytest.raises(Retryable):
        await shop.engine.usage(acme, {"users": query})
    assert (await shop.engine.usage(acme, {"users": query}))["users"] == rows


async def test_structures_tell_what_was_changed(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(
        f"{ITEMS}; CREATE VIEW names AS SELECT name FROM items;"
        "CREATE TABLE entries (id INT, item INT, total DECIMAL(10, 2) CHECK (total >= 0),"
        " FOREIGN KEY (item) REFERENCES items (id));"
        "CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 1"
    )
    acme, globex = await shop.make("acme"), await shop.make("globex")
    wanted = await shop.engine.structure(acme)
    found = await shop.engine.structure(globex)
    assert wanted is not None
    assert found is not None
    assert (wanted.fingerprint, dict(wanted.objects)) == (found.fingerprint, dict(found.objects))
    with shop.server.root(globex.names.database) as root:
        for statement in (
            # To MariaDB the check is a part of the column, to MySQL it is not.
            f"ALTER TABLE entries MODIFY total DECIMAL(12, 2) {'' if shop.server.mysql else 'CHECK (total >= 0)'}",
            "ALTER TABLE entries DROP FOREIGN KEY entries_ibfk_1",
            "CREATE TABLE extra (i INT PRIMARY KEY)",
            "DROP VIEW names",
            "DROP FUNCTION one",
            "CREATE FUNCTION one() RETURNS INT DETERMINISTIC RETURN 2",
            "CREATE INDEX by_name ON items (name)",
            "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW SET NEW.name = 'x'",
        ):
            root.execute(statement)
    changed = await shop.engine.structure(globex)
    deviation = shop.engine.compare(wanted, changed)
    assert deviation.lines == (
        "column entries.total: changed",
        "foreign key entries.entries_ibfk_1: missing",
        "function one: changed",
        "index items.by_name: added",
        "table extra: added",
        "trigger t: added",
        "view names: missing",
    )
    assert shop.engine.compare(wanted, found).lines == ()


async def test_a_snapshot_tells_structures(blueprint: Callable[..., Any]) -> None:
    shop = blueprint(ITEMS)
    acme, globex = await shop.make("acme"), await shop.make("globex")
    for _ in range(5):
        snapshot = await shop.engine.observe()
    same = snapshot.database(acme).structure
    assert same is not None
    assert same == snapshot.database(globex).structure == (await shop.engine.structure(acme)).fingerprint
    # MySQL tells changes apart by the second.
    await asyncio.sleep(1.1 if shop.server.mysql else 0)
    with shop.server.root(globex.names.database) as root:
        root.execute("ALTER TABLE items ADD COLUMN extra INT")
    snapshot = await shop.engine.observe()
    assert snapshot.database(acme).structure == same
    assert snapshot.database(globex).structure not in (None, same)


async def test_a_rehearsal_leaves_nothing_and_says_what_fails(
    blueprint: Callable[..., Any], harness: Harness
) -> None:
    shop = blueprint(ITEMS)
    copy = scratch_copy("test", f"shop/{shop.name}", DatabaseEngine.MYSQL)
    first = shop.chain
    second = shop.edition("2.0", "ALTER TABLE items ADD COLUMN more INT")
    found = await shop.engine.rehearse(copy, [first, second])
    assert set(found) == {first.digest, second.digest}
    assert "column items.more" in found[second.digest].objects
    assert await harness.leftovers(copy) == []
    acme = await shop.make()
    assert (await shop.engine.structure(acme)).fingerprint == found[second.digest].fingerprint
    broken = shop.edition("3.0", "ALTER TABLE nothing ADD COLUMN more INT")
    with pytest.raises(Stalled, match="MigrationFailed"):
        await shop.engine.rehearse(copy, [first, broken])
    assert await harness.leftovers(copy) == []
    assert ADMIN not in str(found)


async def test_deleting_helps_when_over_the_quota(blueprint: Callable[..., Any]) -> None:
    shop = blueprint("CREATE TABLE blobs (id INT PRIMARY KEY AUTO_INCREMENT, value LONGBLOB)")
    acme = await shop.make()
    with shop.login(acme) as session:
        for _ in range(16):
            session.execute("INSERT INTO blobs (value) VALUES (REPEAT('x', 1048576))")
    full = (await shop.state(acme)).bytes or 0
    assert full > 16 * 1048576
    over = replace(acme, read_only=True)
    await shop.bring(over)
    with shop.login(acme) as session:
        session.execute("DELETE FROM blobs")
    for _ in range(50):
        await shop.bring(over)
        if ((await shop.state(acme)).bytes or 0) < full / 2:
            break
        await asyncio.sleep(0.2)
    assert ((await shop.state(acme)).bytes or 0) < full / 2
