"""Limits on requests that replicas count together, in a real Redis."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from structlog.testing import capture_logs

from tenantry_api.problems import Problem
from tenantry_api.ratelimit import Limiter
from tenantry_api.settings import Settings
from tests.contract.conftest import Stack
from tests.contract.test_resilience import second_facade
from tests.integration.engines.redis_harness import ADMIN, PASSWORD, RedisServer

pytestmark = pytest.mark.e2e

PATH = "/api/v1/tenants"
TOO_MANY = "Rate limit of 5 requests exceeded"
LOGIN = "facade"
SECRET = "p@ss/w#rd"
RIGHTS = ("~tenantry:*", "+@scripting", "+@connection", "+lindex", "+lpush", "+lrange", "+ltrim", "+expire")
"""What the counting takes."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    server = RedisServer(Path(tempfile.mkdtemp(prefix="tenantry-counts-", dir="/tmp")))
    server.start()
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", LOGIN, "on", f">{SECRET}", "resetkeys", "-@all", *RIGHTS)
        admin.execute_command("ACL", "SAVE")
    yield server
    server.stop(kill=True)
    shutil.rmtree(server.folder)


def url_of(redis: RedisServer, login: str = LOGIN, password: str = SECRET) -> str:
    return f"redis://{login}:{quote(password, safe='')}@127.0.0.1:{redis.port}/0"


@pytest.fixture(scope="module")
def two(stack: Stack, redis: RedisServer) -> Iterator[list[httpx.Client]]:
    """Clients of two replicas that allow five requests in ten minutes."""
    with ExitStack() as started:
        limits = {"TENANTRY_API_RATE_LIMIT": "5/10 minutes", "TENANTRY_API_REDIS_URL": url_of(redis)}
        urls = [started.enter_context(second_facade(stack, limits)) for _ in range(2)]
        yield [started.enter_context(httpx.Client(base_url=url, timeout=30)) for url in urls]


Ask = Callable[[str, int], list[int]]


@pytest.fixture
def ask(stack: Stack, two: list[httpx.Client]) -> Ask:
    """Has somebody send requests to the replicas in turn; the status codes."""

    def ask(who: str, count: int) -> list[int]:
        headers = {"Authorization": f"Bearer {stack.token('SYSTEM_OWNER', sub=who)}"}
        return [two[number % 2].get(PATH, headers=headers).status_code for number in range(count)]

    return ask


def test_replicas_count_together(stack: Stack, two: list[httpx.Client], ask: Ask, redis: RedisServer) -> None:
    assert ask("jane", 8) == [200] * 5 + [429] * 3
    headers = {"Authorization": f"Bearer {stack.token('SYSTEM_OWNER', sub='jane')}"}
    for path, body in ((PATH, {"detail": TOO_MANY}), ("/api/tenants/", {"error": TOO_MANY})):
        refused = two[0].get(path, headers=headers)
        assert (refused.status_code, refused.json()) == (429, body)
        assert 1 <= int(refused.headers["Retry-After"]) <= 601
    assert ask("joe", 1) == [200]
    with redis.admin() as admin:
        keys = admin.keys("*jane*")
        assert len(keys) == 1
        assert keys[0].startswith("tenantry:default:")
        assert 0 < admin.ttl(keys[0]) <= 600


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_with_redis_away_each_counts_for_itself_until_it_is_back(ask: Ask, redis: RedisServer, how: str) -> None:
    assert ask(how, 2) == [200] * 2
    redis.stop(kill=True) if how == "killed" else redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert ask(how, 12) == [200] * 10 + [429] * 2
        assert time.monotonic() - began < 20, "every request waits for Redis"
    finally:
        redis.start() if how == "killed" else redis.signal(signal.SIGCONT)
    deadline = time.monotonic() + 30
    for number in itertools.count():
        if ask(f"{how} {number}", 8) == [200] * 5 + [429] * 3:
            break
        assert time.monotonic() < deadline, "Redis is not asked again"
        time.sleep(0.5)


@asynccontextmanager
async def limiter(
    redis: RedisServer, limit: str, login: str = LOGIN, password: str = SECRET
) -> AsyncIterator[Limiter]:
    made = Limiter(Settings(rate_limit=limit, redis_url=url_of(redis, login, password)))
    try:
        yield made
    finally:
        await made.close()


async def test_what_was_counted_runs_out(redis: RedisServer) -> None:
    async with limiter(redis, "2/2 seconds") as patient:
        for _ in range(2):
            await patient.check("patient")
        with pytest.raises(Problem) as caught:
            await patient.check("patient")
        assert 1 <= int(caught.value.headers["Retry-After"]) <= 3
        await asyncio.sleep(int(caught.value.headers["Retry-After"]))
        await patient.check("patient")
    with redis.admin() as admin:
        deadline = time.monotonic() + 10
        while admin.keys("*patient*"):
            assert time.monotonic() < deadline, "counts are left behind"
            await asyncio.sleep(0.1)


async def test_a_wrong_password_is_told_once_and_each_counts_for_itself(redis: RedisServer) -> None:
    with capture_logs() as said:
        async with limiter(redis, "3/10 minutes", ADMIN, f"not {PASSWORD}") as wrong:
            for _ in range(3):
                await wrong.check("jane")
            with pytest.raises(Problem):
                await wrong.check("jane")
    (warning,) = [entry for entry in said if "shared" in entry["event"]]
    assert "AuthenticationError" in warning["error"]
    assert PASSWORD not in str(said)
