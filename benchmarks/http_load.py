"""A load generator that costs little itself: keep-alive connections, each with one request under way."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.environment import percentile

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load."""

    rate: float
    """Answers a second."""
    p50: float
    """Seconds that half of the requests took at most."""
    p99: float
    """Seconds that 99 % of the requests took at most."""
    size: int
    """Bytes of the last answer's body."""


async def load(
    url: str,
    paths: Sequence[str],
    *,
    connections: int,
    seconds: float,
    headers: dict[str, str],
    context: ssl.SSLContext | None = None,
) -> Load:
    """Asks for paths in turn over some connections, for some seconds.

    :raises RuntimeError: when an answer is not 200.
    """
    parts = urlsplit(url)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    requests = [f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{lines}\r\n".encode() for path in paths]
    times: list[float] = []
    size = 0
    end = time.monotonic() + seconds

    async def one(first: int) -> None:
        nonlocal size
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=context, limit=1 << 24)
        number = first
        try:
            while (started := time.monotonic()) < end:
                writer.write(requests[number % len(requests)])
                size = await _answer(reader)
                times.append(time.monotonic() - started)
                number += connections
        finally:
            writer.close()

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(one(number))
    took = time.monotonic() - started
    return Load(len(times) / took, percentile(times, 0.5), percentile(times, 0.99), size)


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(_END)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head[:200].decode(errors="replace"))
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at >= 0:
        length = int(lower[at + 15 : lower.index(b"\r\n", at)])
        await reader.readexactly(length)
        return length
    total = 0  # chunked
    while True:
        length = int((await reader.readline()).strip(), 16)
        await reader.readexactly(length + 2)
        if not length:
            return total
        total += length
