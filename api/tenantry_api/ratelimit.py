"""Limits on the number of requests, per account."""

from __future__ import annotations

import asyncio
import time

import structlog
from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tenantry_api.problems import Problem
from tenantry_api.settings import Settings

_log = structlog.get_logger(__name__)

_PATIENCE = 1.0
"""Seconds that a request waits for Redis; then it is counted here."""
_LEFT_ALONE = 5.0
"""Seconds for which a Redis that did not answer is not asked again: no request waits for it meanwhile."""


class Limiter:
    """Counts requests in a moving window, where Redis is away each replica for itself."""

    def __init__(self, settings: Settings) -> None:
        """:raises ValueError: for a limit or a URL that cannot be read."""
        self._limit = _limit(settings.rate_limit) if settings.rate_limit else None
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._pool = (
            _pool(settings.redis_url.get_secret_value()) if settings.redis_url.get_secret_value() else None
        )
        self._shared = None if self._pool is None else _shared(self._pool, settings.project)
        self._asked_again = 0.0
        self._is_away = False

    async def check(self, who: str) -> None:
        """Counts a request.

        :raises Problem: 429, with Retry-After, when it was one too many.
        """
        if self._limit is None:
            return
        until = await self._count(self._limit, who)
        if until is None:
            return
        raise Problem(
            f"Rate limit of {self._limit.amount} requests exceeded",
            status=429,
            code="too_many_requests",
            headers={"Retry-After": str(max(1, int(until - time.time()) + 1))},
        )

    async def close(self) -> None:
        """Closes the connections to Redis."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _count(self, limit: RateLimitItem, who: str) -> float | None:
        """When there may be another request; None: this one was fine."""
        if self._shared is not None and time.monotonic() >= self._asked_again:
            try:
                async with asyncio.timeout(_PATIENCE):
                    until = await _hit(self._shared, limit, who)
            except Exception as error:  # whatever the driver raises
                self._asked_again = time.monotonic() + _LEFT_ALONE
                if not self._is_away:
                    _log.warning("the counts of requests are not shared, Redis does not answer", error=repr(error))
                self._is_away = True
            else:
                if self._is_away:
                    _log.info("the counts of requests are shared again")
                self._is_away = False
                return until
        return await _hit(self._local, limit, who)


async def _hit(limiter: MovingWindowRateLimiter, limit: RateLimitItem, who: str) -> float | None:
    if await limiter.hit(limit, who):
        return None
    return (await limiter.get_window_stats(limit, who)).reset_time


def _limit(text: str) -> RateLimitItem:
    """:raises ValueError: for what is no limit, or more than one: only the first would hold."""
    try:
        limits = parse_many(text)
    except ValueError:
        limits = []
    if len(limits) != 1 or limits[0].amount < 1:
        raise ValueError(f"TENANTRY_API_RATE_LIMIT must be one limit, such as 1000/hour; it is '{text}'")
    return limits[0]


def _pool(url: str) -> ConnectionPool:
    """:raises ValueError: for a URL that is none; the message does not hold it, since it has the password."""
    try:
        return ConnectionPool.from_url(
            url,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            # Once more on a new connection: one that nobody used for long may have been cut off.
            retry=Retry(NoBackoff(), 1),
        )
    except Exception:  # whatever the driver raises
        raise ValueError(
            "TENANTRY_API_REDIS_URL must be redis://[user:password@]host[:port][/database], or rediss://; "
            "special characters of the password percent-encoded"
        ) from None


def _shared(pool: ConnectionPool, project: str) -> MovingWindowRateLimiter:
    storage = RedisStorage(
        "async+redis://localhost:6379",  # not used beside a pool
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]  # as documented
        # Of accounts that another project has, which shares the server, these are not.
        key_prefix=f"tenantry:{project}",
    )
    return MovingWindowRateLimiter(storage)
