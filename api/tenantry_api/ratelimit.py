"""Limits on the number of requests, per account."""

from __future__ import annotations

import time

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from tenantry_api.problems import Problem
from tenantry_api.settings import Settings

_log = structlog.get_logger(__name__)


class Limiter:
    """Counts requests in a moving window. Where Redis is away, each replica counts for itself."""

    def __init__(self, settings: Settings) -> None:
        """:raises ValueError: for a limit that cannot be read."""
        self._limit: RateLimitItem | None = parse(settings.rate_limit) if settings.rate_limit else None
        self._local = MovingWindowRateLimiter(MemoryStorage())
        url = settings.redis_url.get_secret_value()
        self._shared = (
            MovingWindowRateLimiter(RedisStorage(f"async+{url}", implementation="redispy")) if url else None
        )

    async def check(self, who: str) -> None:
        """Counts a request.

        :raises Problem: 429, with Retry-After, when it was one too many.
        """
        if self._limit is None:
            return
        limiter = self._shared or self._local
        try:
            fine = await limiter.hit(self._limit, who)
        except Exception as error:  # whatever the driver raises
            _log.warning("the counts of requests are not shared, Redis does not answer", error=repr(error))
            limiter = self._local
            fine = await limiter.hit(self._limit, who)
        if fine:
            return
        stats = await limiter.get_window_stats(self._limit, who)
        raise Problem(
            f"Rate limit of {self._limit.amount} requests exceeded",
            status=429,
            code="too_many_requests",
            headers={"Retry-After": str(max(1, int(stats.reset_time - time.time()) + 1))},
        )
