"""Tenants' schemas that Citus distributes, on a coordinator and two workers.

``TENANTRY_TEST_CITUS`` names the folder of ``initdb`` and ``postgres`` of a PostgreSQL that Citus is installed
in; without it, none of this is collected.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from tenantry_operator.engines.base import Chain, Credentials, Isolation, Migration, Presence
from tenantry_operator.engines.postgres import citusmigrate, citussteps
from tenantry_operator.engines.postgres.citus import Sizes
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.engines.postgres.plan import PostgresStep
from tenantry_operator.engines.scratch import scratch_copy
from tenantry_operator.errors import Stalled
from tests.integration.postgres import conftest
from tests.integration.postgres.conftest import INSTALLATION, PASSWORD, Blueprint, Server
from tests.integration.processes import account, free_port

BINARIES = os.environ.get("TENANTRY_TEST_CITUS", "")

ORDERS = (
    "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);\n"
    "CREATE TABLE items (id bigint PRIMARY KEY, of bigint REFERENCES orders);\n"
    "INSERT INTO orders (what) VALUES ('first')"
)


@dataclass(frozen=True)
class Cluster:
    """A coordinator and its workers."""

    coordinator: Server
    workers: tuple[Server, ...]

    @property
    def nodes(self) -> tuple[Server, ...]:
        return (self.coordinator, *self.workers)

    def install(self, database: str, workers: tuple[Server, ...] | None = None) -> None:
        """What CitusNotInstalled asks for."""
        for worker in workers or self.workers:
            with worker.superuser() as connection:
                connection.execute(f'CREATE DATABASE "{database}"')
        for node in (self.coordinator, *(workers or self.workers)):
            with node.superuser(database) as connection:
                connection.execute("CREATE EXTENSION citus")
        with self.coordinator.superuser(database) as connection:
            connection.execute("SELECT citus_set_coordinator_host('127.0.0.1', %s)", (self.coordinator.port,))
            for worker in workers or self.workers:
                connection.execute("SELECT citus_add_node('127.0.0.1', %s)", (worker.port,))
            function = "FUNCTION run_command_on_workers(text, boolean)"
            connection.execute(f"REVOKE EXECUTE ON {function} FROM PUBLIC")
            connection.execute(f"GRANT EXECUTE ON {function} TO {conftest.ADMIN}")

    def remove(self, database: str) -> None:
        """Drops what is called after a database, everywhere. Sessions of Citus's own are in its way."""
        for node in self.nodes:
            with node.superuser() as connection:
                pattern = f"^{database}(_|$)"
                names = connection.execute(
                    "SELECT datname FROM pg_database WHERE datname ~ %s", (pattern,)
                ).fetchall()
                for (name,) in names:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
                rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", (pattern,)).fetchall()
                for (role,) in rows:
                    connection.execute(f'DROP ROLE "{role}"')


@contextlib.contextmanager
def _node(folder: Path, trusted: bool) -> Iterator[Server]:
    """A server with Citus; a worker lets the coordinator in without a password, as Citus wants it."""
    who = account("postgres")
    folder.mkdir()
    if who:
        os.chown(folder, who["user"], who["group"])
    hosts = "trust" if trusted else "scram-sha-256"
    subprocess.run(
        [
            *(f"{BINARIES}/initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--no-sync"),
            *("--locale=C.UTF-8", "--auth-local=trust", f"--auth-host={hosts}"),
        ],
        check=True,
        capture_output=True,
        cwd="/",
        **who,
    )
    if not trusted:
        # Citus on the coordinator connects to itself, too, as the superuser.
        hba = folder / "data" / "pg_hba.conf"
        hba.write_text("host all postgres 127.0.0.1/32 trust\n" + hba.read_text())
    port = free_port()
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "shared_preload_libraries": "citus",
        "wal_level": "logical",
        "fsync": "off",
        "shared_buffers": "32MB",
        "citus.max_cached_conns_per_worker": 0,
        # Several servers wait on little hardware: whatever the statement, it is not the clock that fails it.
        "citus.node_connection_timeout": 30000,
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [f"{BINARIES}/postgres", "-D", folder / "data", *options],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            **who,
        )
    try:
        running = Server(folder, port)
        conftest._wait(running, process)
        conftest._harden(running)
        yield running
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="tenantry-citus-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with (
            _node(folder / "coordinator", False) as coordinator,
            _node(folder / "one", True) as one,
            _node(folder / "two", True) as two,
        ):
            yield Cluster(coordinator, (one, two))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
async def shop(cluster: Cluster) -> AsyncIterator[Blueprint]:
    """A blueprint whose shared database is ready for tenants."""
    settings = ConnectionSettings(lock_timeout=5.0, pause=0.2, citus=True)
    engine = PostgresEngine(cluster.coordinator, installation=INSTALLATION, settings=settings)
    made = Blueprint(
        engine=engine,
        name="bp",
        chain=Chain.of("shop/bp", "0", []),
        isolation=Isolation.SCHEMA,
        server=cluster.coordinator,
    )
    made.edition("1.0", ORDERS)
    with pytest.raises(Stalled, match=r"CitusNotInstalled.*CREATE EXTENSION citus"):
        await made.make()
    cluster.install("bp")
    try:
        yield made
    finally:
        await engine.close()
        cluster.remove("bp")


def _of_node(server: Server, query: str) -> list[tuple[object, ...]]:
    with server.superuser("bp") as connection:
        return connection.execute(query.encode()).fetchall()


async def test_a_tenants_schema_is_on_a_node(shop: Blueprint, cluster: Cluster) -> None:
    acme, beta = await shop.make("acme"), await shop.make("beta")
    assert await shop.is_settled(acme)
    assert await shop.is_settled(beta)
    assert _of_node(cluster.coordinator, "SELECT schema_name::text FROM citus_schemas ORDER BY 1") == [
        ("acme",),
        ("beta",),
    ]
    assert (await shop.state(acme)).node in {f"127.0.0.1:{worker.port}" for worker in cluster.workers}
    with shop.login(acme) as session:
        session.execute("INSERT INTO acme.orders (what) VALUES ('x')")
        session.execute("INSERT INTO acme.items VALUES (1, 2)")
        assert session.execute("SELECT count(*) FROM acme.orders").fetchone() == (2,)
        for statement in (
            "SELECT * FROM beta.orders",
            "SELECT citus_schema_undistribute('acme')",
            "SELECT citus_schema_undistribute('beta')",
            "CREATE TABLE acme.mine (id int)",
            "SELECT run_command_on_workers('SELECT 1')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())
    # Nor on a node, where it is a login with the same rights.
    for worker in cluster.workers:
        with worker.login(acme.names.login_a, "bp") as session:
            for statement in (
                "SELECT * FROM beta.orders",
                "SET ROLE bp__acme",
                "SET ROLE bp__beta__app",
                "CREATE TABLE public.mine (id int)",
                "ALTER ROLE bp__beta__a PASSWORD 'x'",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.execute(statement.encode())


async def test_the_owner_and_logins_have_no_password_on_nodes(shop: Blueprint, cluster: Cluster) -> None:
    acme = await shop.make()
    query = "SELECT rolname::text, rolcanlogin, rolpassword FROM pg_authid WHERE rolname ~ '^bp__acme' ORDER BY 1"
    for worker in cluster.workers:
        assert _of_node(worker, query) == [
            (acme.names.owner, True, None),
            (acme.names.login_a, True, None),
            (f"{acme.names.owner}__app", False, None),
            (acme.names.login_b, True, None),
        ]
    assert _of_node(cluster.coordinator, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'bp__acme'") == [
        (False,)
    ]


async def test_migrations_reach_the_node(shop: Blueprint, cluster: Cluster) -> None:
    first = await shop.make()
    chain = shop.edition(
        "1.1",
        "ALTER TABLE orders ADD COLUMN paid boolean NOT NULL DEFAULT false",
        "CREATE TABLE notes (id bigint PRIMARY KEY, of bigint REFERENCES orders)",
        "CREATE INDEX ON orders (what)",
    )
    acme = replace(first, chain=chain)
    assert await shop.bring(acme) == ["migrate"]
    assert await shop.is_settled(acme)
    assert _of_node(
        cluster.coordinator, "SELECT table_name::text, citus_table_type FROM citus_tables ORDER BY 1"
    ) == [("acme.items", "schema"), ("acme.notes", "schema"), ("acme.orders", "schema")]
    with shop.login(acme) as session:
        session.execute("INSERT INTO acme.notes VALUES (1, 1)")
        assert session.execute("SELECT paid FROM acme.orders").fetchall() == [(False,)]


async def test_a_failed_migration_changes_nothing_on_any_node(shop: Blueprint, cluster: Cluster) -> None:
    first = await shop.make()
    chain = shop.edition("1.1", "ALTER TABLE orders ADD COLUMN paid boolean", "SELECT 1/0")
    with pytest.raises(Stalled, match="division by zero"):
        await shop.bring(replace(first, chain=chain))
    for node in cluster.nodes:
        assert _of_node(node, "SELECT attname FROM pg_attribute WHERE attname = 'paid' AND NOT attisdropped") == []
    assert await shop.is_settled(first)


@pytest.mark.parametrize("point", ["migrations-run-on-nodes", "migrations-committed-on-nodes"])
async def test_a_crash_around_the_commit_loses_and_doubles_nothing(
    shop: Blueprint, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    first = await shop.make()
    chain = shop.edition(
        "1.1", "CREATE TABLE notes (id bigint PRIMARY KEY)", "INSERT INTO orders (what) VALUES ('second')"
    )
    acme = replace(first, chain=chain, installed=first.chain)

    def crash(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(citusmigrate, "reached", crash)
        with pytest.raises(KeyboardInterrupt):
            await shop.bring(acme)
    state = await shop.state(acme)
    assert (state.version, state.target) == ("1.0", "1.1" if "committed" in point else None)
    if "committed" in point:
        with pytest.raises(Stalled, match="go to that version first"):
            await shop.bring(first)
    assert await shop.bring(acme) == ["migrate"]
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        rows = session.execute("SELECT what FROM acme.orders ORDER BY id").fetchall()
        assert rows == [("first",), ("second",)]
    assert _of_node(cluster.coordinator, "SELECT version, migration FROM tenantry.ledger ORDER BY position") == [
        ("1.0", "m0"),
        ("1.1", "m0"),
        ("1.1", "m1"),
    ]


async def test_a_migration_cannot_take_the_administrators_place(shop: Blueprint, cluster: Cluster) -> None:
    acme = await shop.make()
    for number, text in enumerate(
        (
            f"SET SESSION AUTHORIZATION {conftest.ADMIN}",
            f"SET ROLE {conftest.ADMIN}",
            "RESET ROLE; CREATE DATABASE mine",
            "RESET ROLE; CREATE ROLE mine",
            "COMMIT",
        )
    ):
        shop.chain = acme.chain or shop.chain
        chain = shop.edition(f"1.{number + 1}", text)
        with pytest.raises(Stalled, match="MigrationFailed"):
            await shop.bring(replace(acme, chain=chain))
    roles = "SELECT rolname FROM pg_roles WHERE rolname = 'mine' OR rolname ~ '^bp__acme__m'"
    assert _of_node(cluster.coordinator, roles) == []


async def test_an_index_can_be_made_concurrently(shop: Blueprint) -> None:
    first = await shop.make()
    text = "CREATE INDEX CONCURRENTLY by_what ON orders (what)"
    migrations = [*shop.chain.migrations, Migration("1.1", "index", text, transactional=False)]
    acme = replace(first, chain=Chain.of("shop/bp", "1.1", migrations))
    await shop.bring(acme)
    assert await shop.is_settled(acme)


async def test_drift_is_found_and_mended(shop: Blueprint, cluster: Cluster) -> None:
    # What has identity columns cannot be undistributed.
    shop.chain = Chain.of("shop/bp", "0", [])
    shop.edition("1.0", "CREATE TABLE orders (id bigint PRIMARY KEY)")
    acme = await shop.make()
    with cluster.coordinator.superuser("bp") as connection:
        connection.execute("SELECT citus_schema_undistribute('acme')")
    state = await shop.state(acme)
    assert "schema acme is not distributed" in state.drift
    assert await shop.bring(acme) == ["sync-nodes", "distribute"]
    assert await shop.is_settled(acme)
    with cluster.workers[0].superuser("bp") as connection:
        connection.execute("SET citus.enable_ddl_propagation = off")
        connection.execute("ALTER ROLE bp__acme__a NOLOGIN")
    state = await shop.state(acme)
    assert state.drift == (f"node 127.0.0.1:{cluster.workers[0].port}: role bp__acme__a cannot log in",)
    assert await shop.bring(acme) == ["sync-nodes"]
    assert await shop.is_settled(acme)


async def test_a_schema_that_was_there_before_is_distributed(shop: Blueprint, cluster: Cluster) -> None:
    local = PostgresEngine(cluster.coordinator, installation=INSTALLATION, settings=ConnectionSettings())
    engine, shop.engine = shop.engine, local
    with cluster.coordinator.superuser() as connection:
        connection.execute(f"ALTER ROLE {conftest.ADMIN} SET citus.enable_ddl_propagation = off")
    try:
        acme = await shop.make()
    finally:
        with cluster.coordinator.superuser() as connection:
            connection.execute(f"ALTER ROLE {conftest.ADMIN} RESET citus.enable_ddl_propagation")
        await local.close()
        shop.engine = engine
    assert await shop.bring(acme) == ["sync-nodes", "distribute"]
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        assert session.execute("SELECT what FROM acme.orders").fetchall() == [("first",)]


async def test_it_can_be_moved_and_is_left_where_it_is(shop: Blueprint, cluster: Cluster) -> None:
    acme = await shop.make()
    view = (await shop.state(acme)).detail
    before = view.distribution.node  # type: ignore[attr-defined]
    other = next(worker for worker in cluster.workers if not before.endswith(f":{worker.port}"))
    with cluster.coordinator.superuser("bp") as connection:
        connection.execute("SELECT citus_schema_move('acme', '127.0.0.1', %s, 'block_writes')", (other.port,))
    state = await shop.state(acme)
    assert state.detail.distribution.node == f"127.0.0.1:{other.port}"  # type: ignore[attr-defined]
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        assert session.execute("SELECT what FROM acme.orders").fetchall() == [("first",)]


async def test_rotation_and_suspension_need_no_node(shop: Blueprint) -> None:
    acme = await shop.make()
    rotated = replace(acme, login=acme.names.login_b, retired=(acme.names.login_a,))
    steps = await shop.bring(rotated, Credentials(acme.names.login_b, PASSWORD))
    assert steps == ["create-login", "retire-login"]
    with shop.login(rotated) as session:
        assert session.execute("SELECT what FROM acme.orders").fetchall() == [("first",)]
    assert await shop.bring(replace(rotated, presence=Presence.REFUSED)) == ["refuse-logins", "end-sessions"]
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"), shop.login(rotated):
        pass


async def test_writes_are_refused_and_allowed_again(shop: Blueprint) -> None:
    acme = await shop.make()
    full = replace(acme, read_only=True)
    assert "refuse-writes" in await shop.bring(full)
    chain = shop.edition("1.1", "CREATE TABLE notes (id bigint PRIMARY KEY)")
    await shop.bring(replace(full, chain=chain))
    with shop.login(acme) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute("INSERT INTO acme.notes VALUES (1)")
    acme = replace(acme, chain=chain)
    assert await shop.bring(acme) == ["sync-nodes", "allow-writes"]
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("INSERT INTO acme.notes VALUES (1)")


async def test_what_is_dropped_leaves_nothing_on_any_node(shop: Blueprint, cluster: Cluster) -> None:
    acme, beta = await shop.make("acme"), await shop.make("beta")
    gone = replace(acme, presence=Presence.ABSENT)
    assert (await shop.bring(gone))[-2:] == ["drop-on-nodes", "drop-schema"]
    assert await shop.is_settled(gone)
    for node in cluster.nodes:
        assert _of_node(node, "SELECT rolname FROM pg_roles WHERE rolname ~ '^bp__acme'") == []
        assert _of_node(node, "SELECT nspname FROM pg_namespace WHERE nspname = 'acme'") == []
    assert await shop.is_settled(beta)
    again = await shop.make("acme")
    assert await shop.is_settled(again)


@pytest.mark.parametrize("last", ["drop-on-nodes", "distribute", "sync-nodes"])
async def test_a_step_may_be_repeated(shop: Blueprint, last: str) -> None:
    acme = await shop.make()
    desired = replace(acme, presence=Presence.ABSENT) if last == "drop-on-nodes" else acme
    step = PostgresStep(last)
    for _ in range(2):
        await shop.engine.apply(desired, [step], None)
    await shop.bring(desired)
    assert await shop.is_settled(desired)


async def test_a_role_of_a_strangers_on_a_node_is_left_alone(shop: Blueprint, cluster: Cluster) -> None:
    with cluster.workers[1].superuser("bp") as connection:
        connection.execute("SET citus.enable_ddl_propagation = off")
        connection.execute("CREATE ROLE bp__acme NOLOGIN")
    with pytest.raises(Stalled, match=r"NameTaken.*node 127\.0\.0\.1"):
        await shop.make()
    assert _of_node(cluster.workers[1], "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'bp__acme'") == [
        (False,)
    ]


@pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.DATABASE])
async def test_the_others_stay_on_the_coordinator(shop: Blueprint, cluster: Cluster, isolation: Isolation) -> None:
    local = Blueprint(
        engine=shop.engine,
        name="bp",
        chain=Chain.of("shop/bp", "0", []),
        isolation=isolation,
        server=shop.server,
    )
    local.edition("1.0", "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text)")
    acme = await local.make("local")
    assert await local.is_settled(acme)
    assert _of_node(cluster.coordinator, "SELECT * FROM citus_tables") == []


async def test_usage_and_size_are_those_on_the_nodes(shop: Blueprint) -> None:
    acme = await shop.make()
    with shop.login(acme) as session:
        session.execute("INSERT INTO acme.orders (what) SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    counted = await shop.engine.usage(acme, {"orders": "SELECT 'all' AS label, count(*) AS count FROM orders"})
    assert [row.count for row in counted["orders"]] == [5001]
    shop.engine._node_sizes = Sizes()  # it measured a moment ago
    state = (await shop.engine.observe()).database(acme)
    assert state.bytes is not None
    assert state.bytes > 5_000_000
    # What is written there moves no counter here.
    assert state.writes is None


async def test_a_distributed_schema_has_the_structure_of_its_version(shop: Blueprint) -> None:
    first = await shop.make()
    chain = shop.edition("1.1", "ALTER TABLE orders ADD COLUMN paid boolean NOT NULL DEFAULT false")
    acme = replace(first, chain=chain, installed=first.chain)
    await shop.bring(acme)
    copy = scratch_copy(INSTALLATION, "shop/bp")
    expected = await shop.engine.rehearse(copy, [chain])
    found = await shop.engine.structure(acme)
    assert found is not None
    assert shop.engine.compare(expected[chain.digest], found).lines == ()


@pytest.mark.parametrize("point", ["schema-distributed", "distributed-schema-dropped"])
async def test_a_crash_in_between_is_taken_up(
    shop: Blueprint, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def crash(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    acme = shop.desired()
    credentials = Credentials(acme.names.login_a, PASSWORD)
    if "dropped" in point:
        await shop.make()
        acme, credentials = replace(acme, presence=Presence.ABSENT), None
    with monkeypatch.context() as patched:
        patched.setattr(citussteps, "reached", crash)
        with pytest.raises(KeyboardInterrupt):
            await shop.bring(acme, credentials)
    assert await shop.bring(acme)
    assert await shop.is_settled(acme)
    found = [_of_node(node, "SELECT rolname FROM pg_roles WHERE rolname ~ '^bp__acme'") for node in cluster.nodes]
    assert [len(roles) for roles in found] == ([0, 0, 0] if "dropped" in point else [3, 4, 4])


async def test_a_node_that_is_added_gets_the_roles(shop: Blueprint, cluster: Cluster) -> None:
    acme = await shop.make()
    view = (await shop.state(acme)).detail
    other = next(worker for worker in cluster.workers if not view.distribution.node.endswith(f":{worker.port}"))  # type: ignore[attr-defined]
    with cluster.coordinator.superuser("bp") as connection:
        connection.execute("SELECT citus_remove_node('127.0.0.1', %s)", (other.port,))
        assert await shop.is_settled(acme)
        connection.execute("SELECT citus_add_node('127.0.0.1', %s)", (other.port,))
    # Citus brings the roles as they are on the coordinator.
    assert (await shop.state(acme)).drift
    assert await shop.bring(acme) == ["sync-nodes"]
    assert await shop.is_settled(acme)
    with cluster.coordinator.superuser("bp") as connection:
        connection.execute("SELECT citus_schema_move('acme', '127.0.0.1', %s, 'block_writes')", (other.port,))
    with shop.login(acme) as session:
        session.execute("INSERT INTO acme.orders (what) VALUES ('second')")
        assert session.execute("SELECT count(*) FROM acme.orders").fetchone() == (2,)


async def test_what_migrations_of_a_distributed_schema_may_make(shop: Blueprint) -> None:
    first = await shop.make()
    good = shop.edition(
        "1.1",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE DOMAIN price AS numeric CHECK (value >= 0)",
        "CREATE TABLE bills (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, of price, mood mood,"
        " about bigint REFERENCES orders, UNIQUE (of))",
        "CREATE TABLE parts (at date NOT NULL, what text) PARTITION BY RANGE (at)",
        "CREATE TABLE parts_2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "CREATE VIEW dear AS SELECT * FROM bills WHERE of > 100",
        "CREATE MATERIALIZED VIEW totals AS SELECT mood, sum(of) AS total FROM bills GROUP BY mood",
        "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
        "COMMENT ON TABLE bills IS 'What is owed'",
        "CREATE TABLE copied AS SELECT * FROM orders",
        "ALTER TABLE bills RENAME COLUMN about TO regarding",
        "UPDATE orders SET what = 'changed'",
        "CREATE TABLE notes (id bigint PRIMARY KEY, what text)",
        "CREATE FUNCTION louder() RETURNS trigger LANGUAGE plpgsql AS\n"
        "'BEGIN NEW.what := upper(NEW.what); RETURN NEW; END';\n"
        "CREATE TRIGGER louder BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION louder()",
    )
    acme = replace(first, chain=good, installed=first.chain)
    assert await shop.bring(acme) == ["migrate"]
    assert await shop.is_settled(acme)
    with shop.login(acme) as session:
        session.execute("SET search_path = acme")
        session.execute("INSERT INTO bills (of, mood, regarding) VALUES (twice(60), 'good', 1)")
        session.execute("INSERT INTO parts VALUES ('2026-02-02', 'x')")
        session.execute("INSERT INTO notes VALUES (1, 'loud')")
        assert session.execute("SELECT what FROM notes").fetchall() == [("LOUD",)]
        assert session.execute("SELECT of FROM dear").fetchall() == [(120,)]
        assert session.execute("SELECT what FROM copied").fetchall() == [("first",)]
        with pytest.raises(psycopg.errors.CheckViolation):
            session.execute("INSERT INTO bills (of) VALUES (-1)")
    # What is there already when a schema is distributed: without rows, whatever it calls.
    empty = [
        replace(migration, text=migration.text.split(";\nINSERT")[0])
        for migration in good.migrations
        if not migration.text.startswith(("CREATE TABLE copied", "UPDATE"))
    ]
    shop.chain = Chain.of("shop/bp", "1.1", empty)
    beta = await shop.make("beta")
    assert await shop.is_settled(beta)
    with shop.login(beta) as session:
        session.execute("SET search_path = beta")
        session.execute("INSERT INTO orders (what) VALUES ('first')")
        session.execute("INSERT INTO bills (of, mood, regarding) VALUES (twice(60), 'good', 1)")
        session.execute("INSERT INTO parts VALUES ('2026-02-02', 'x')")
        session.execute("INSERT INTO notes VALUES (1, 'loud')")
        assert session.execute("SELECT of FROM dear").fetchall() == [(120,)]
        assert session.execute("SELECT what FROM notes").fetchall() == [("LOUD",)]
    bad = (
        "CREATE TABLE child () INHERITS (orders)",
        "CREATE TABLE other (id bigint REFERENCES tenantry.logins)",
    )
    for number, text in enumerate(bad):
        shop.chain = good
        chain = shop.edition(f"1.{number + 2}", text)
        with pytest.raises(Stalled, match=r"MigrationFailed.*line"):
            await shop.bring(replace(acme, chain=chain, installed=good))
    assert await shop.is_settled(acme)


async def test_rows_that_triggers_would_see_again_are_not_copied(shop: Blueprint, cluster: Cluster) -> None:
    shop.edition(
        "1.1",
        "CREATE FUNCTION louder() RETURNS trigger LANGUAGE plpgsql AS\n"
        "'BEGIN NEW.what := upper(NEW.what); RETURN NEW; END';\n"
        "CREATE TRIGGER louder BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION louder()",
    )
    with pytest.raises(Stalled, match=r"CitusFunctions.*trigger louder on table acme.orders"):
        await shop.make()
    assert _of_node(cluster.coordinator, "SELECT what FROM acme.orders") == [("first",)]


async def test_nothing_of_a_tenants_is_evaluated_while_rows_are_copied(shop: Blueprint) -> None:
    shop.edition(
        "1.1",
        "CREATE FUNCTION is_right(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';\n"
        "ALTER TABLE orders ADD CHECK (is_right(what))",
    )
    with pytest.raises(Stalled, match=r"CitusFunctions.*constraint orders_what_check"):
        await shop.make()
