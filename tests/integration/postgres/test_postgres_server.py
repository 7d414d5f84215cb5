"""The server as a whole: what it is, what it lacks, and what happens while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tenantry_operator.engines.base import Credentials, Isolation
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.errors import Retryable, Stalled

IMPATIENT = ConnectionSettings(connect_timeout=1, failures=2, pause=0.3, longest_pause=0.3)


@contextlib.asynccontextmanager
async def engine_on(access: Any, installation: str = "test") -> AsyncIterator[PostgresEngine]:
    made = PostgresEngine(access, installation=installation, settings=IMPATIENT)
    try:
        yield made
    finally:
        await made.close()


async def test_a_hardened_server_reports_nothing(engine: PostgresEngine, server: Any) -> None:
    report = (await engine.observe()).report
    with server.superuser() as connection:
        version = connection.execute("SHOW server_version").fetchone()
    assert version == (report.version,)
    assert report.unhardened == ()
    assert report.missing == ()
    assert report.bytes > 1_000_000
    assert 0 < report.connections < report.max_connections


async def test_what_public_reaches_is_reported_with_what_closes_it(engine: PostgresEngine, server: Any) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE DATABASE open_house")
        connection.execute("GRANT CONNECT ON DATABASE template1 TO PUBLIC")
        try:
            statements = (await engine.observe()).report.unhardened
            assert 'REVOKE ALL ON DATABASE "open_house" FROM PUBLIC' in statements
            for statement in statements:
                connection.execute(statement)
            assert (await engine.observe()).report.unhardened == ()
        finally:
            connection.execute("DROP DATABASE open_house")
            connection.execute("REVOKE ALL ON DATABASE template1 FROM PUBLIC")


@pytest.fixture
def poor(server: Any) -> Iterator[Any]:
    """An administrator with CREATEDB and CREATEROLE alone."""
    with server.superuser() as connection:
        connection.execute(f"CREATE ROLE poor LOGIN CREATEDB CREATEROLE PASSWORD '{server.password}'")
        connection.execute("GRANT CONNECT ON DATABASE postgres TO poor")
    yield replace(server, username="poor")
    with server.superuser() as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^poor'").fetchall():
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute("DROP OWNED BY poor")
        own = "SELECT rolname FROM pg_roles WHERE rolname ~ '^(poor|tenantry_(?!admin))' ORDER BY rolname = 'poor'"
        for (name,) in connection.execute(own).fetchall():
            with contextlib.suppress(Exception):
                connection.execute(f'DROP ROLE "{name}"')
        connection.execute("DROP ROLE IF EXISTS poor")


async def test_rights_that_are_missing_are_reported_and_the_rest_works(
    poor: Any, server: Any, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(Isolation.DATABASE, "CREATE TABLE items (id int)")
    async with engine_on(poor, "poor") as engine:
        missing = (await engine.observe()).report.missing
        assert [words.partition(":")[0] for words in missing] == [
            "ending the sessions of suspended tenants",
            "sizes and statistics",
            "limiting temporary files",
        ]
        shop.engine = engine
        limits = replace(shop.desired().limits, temp_files_bytes=1 << 20)
        acme = replace(shop.desired(), installation="poor", limits=limits)
        await shop.bring(acme, Credentials(acme.names.login_a, server.password))
        assert await shop.is_settled(acme)
        with shop.login(acme) as session:
            session.execute("SELECT * FROM items")
        with server.superuser() as connection:
            for words in missing:
                connection.execute(words.partition(": ")[2])
        assert (await engine.observe()).report.missing == ()


async def test_a_refused_administrator_is_for_a_person_to_mend(server: Any) -> None:
    for access in (replace(server, password="wrong"), replace(server, username="nobody_known")):
        async with engine_on(access) as engine:
            with pytest.raises(Stalled, match="AdminLoginRefused") as caught:
                await engine.observe()
            assert "wrong" not in str(caught.value)


async def test_a_server_that_is_away_fails_fast_and_comes_back(server: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = replace(server, port=closed.getsockname()[1])
        async with engine_on(away) as engine:
            for _ in range(2):
                with pytest.raises(Retryable, match="ServerUnreachable"):
                    await engine.observe()
            with pytest.raises(Retryable) as caught:
                await engine.observe()
            assert caught.value.delay is not None


async def test_a_server_that_does_not_answer_does_not_hold_up_for_long() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)

        class Access:
            host, port = "127.0.0.1", silent.getsockname()[1]
            username = password = "x"
            sslmode = "disable"
            certificates = ()

        async with engine_on(Access()) as engine:
            started = time.monotonic()
            with pytest.raises(Retryable, match="ServerUnreachable"):
                await engine.observe()
            assert time.monotonic() - started < 15


async def test_a_restart_of_the_server_is_survived(engine: PostgresEngine, server: Any) -> None:
    await engine.observe()
    with server.superuser() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (server.username,)
        )
    await asyncio.sleep(0.1)
    await engine.observe()


async def test_no_more_connections_are_used_than_allowed(server: Any, blueprint: Callable[..., Any]) -> None:
    shop = blueprint(Isolation.DATABASE, "SELECT pg_sleep(0.2)")
    engine = PostgresEngine(server, installation="test", settings=ConnectionSettings(concurrency=2))
    shop.engine = engine
    try:
        await shop.make("t0")
        work = asyncio.gather(*(shop.make(f"t{number}") for number in range(1, 6)))
        most = 0
        with server.superuser() as connection:
            while not work.done():
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state <> 'idle'",
                    (server.username,),
                ).fetchone()
                most = max(most, row[0] if row else 0)
                await asyncio.sleep(0.02)
        await work
        # One more observes.
        assert 2 <= most <= 3
    finally:
        await engine.close()


async def test_a_server_is_observed_while_all_connections_are_busy(
    server: Any, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(Isolation.SCHEMA, "SELECT pg_sleep(3)")
    engine = PostgresEngine(server, installation="test", settings=ConnectionSettings(concurrency=1))
    try:
        before = await engine.observe()
        acme = shop.desired()
        credentials = Credentials(acme.names.login_a, "x")
        steps = engine.plan(acme, before.database(acme), credentials)
        work = asyncio.create_task(engine.apply(acme, steps, credentials))
        with server.superuser() as connection:
            sleeping = "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND wait_event = 'PgSleep'"
            while not work.done() and not connection.execute(sleeping, (server.username,)).fetchone():
                await asyncio.sleep(0.02)
        await engine.observe()
        assert not work.done()
        await work
    finally:
        await engine.close()


async def test_a_role_of_the_installations_name_that_a_stranger_made_is_left_alone(
    server: Any, blueprint: Callable[..., Any]
) -> None:
    shop = blueprint(Isolation.SCHEMA, "SELECT 1")
    async with engine_on(server, "another") as engine:
        keeper = engine._installation.keeper
        with server.superuser() as connection:
            connection.execute(f"CREATE ROLE {keeper}")
            try:
                shop.engine = engine
                acme = replace(shop.desired(), installation="another")
                with pytest.raises(Stalled, match=f"NameTaken.*{keeper}"):
                    await shop.bring(acme, Credentials(acme.names.login_a, "x"))
            finally:
                connection.execute(f"DROP ROLE {keeper}")
