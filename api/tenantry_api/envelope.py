"""What every request gets, whatever it asks: a correlation id, limits of size, a log line, metrics, the audit."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenantry_api.web import PRINCIPAL

_access = structlog.get_logger("tenantry.access")
_audit = structlog.get_logger("tenantry.audit")

CORRELATION = "tenantry.correlation_id"
"""Where in a request's scope its correlation id stands."""
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_SAFE = ("GET", "HEAD", "OPTIONS")
_STALE = 'tenantry "what the cluster holds may be newer"'

requests = Counter(
    "tenantry_api_requests", "Requests by dialect, method and status.", ["dialect", "method", "status"]
)
seconds = Histogram(
    "tenantry_api_request_seconds",
    "How long requests took.",
    ["dialect", "method"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
)


class _TooLarge(Exception):
    pass


class _Counted:
    """The body of a request, as far as it may be long."""

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive = receive
        self._left = longest
        self.too_large = False

    async def receive(self) -> Message:
        """The next piece.

        :raises _TooLarge: when it is one too many.
        """
        message = await self._receive()
        self._left -= len(message.get("body") or b"")
        if self._left < 0:
            self.too_large = True
            raise _TooLarge
        return message


class Envelope:
    """Wraps the application.

    :param longest: bytes that a request may have.
    :param is_stale: whether reads may be old.
    :param dialect_of: the dialect of a path, for metrics.
    """

    def __init__(
        self, app: ASGIApp, longest: int, is_stale: Callable[[], bool], dialect_of: Callable[[str], str]
    ) -> None:
        self._app = app
        self._longest = longest
        self._is_stale = is_stale
        self._dialect_of = dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-correlation-id") or ""
        correlation = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope[CORRELATION] = correlation
        if "\n" in scope["path"] or "\r" in scope["path"]:
            # Patterns of paths end at a line's end: what is behind it would be nobody's.
            scope["path"] = scope["path"].replace("\n", "%0A").replace("\r", "%0D")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=correlation)
        answer: dict[str, Any] = {"status": 500, "begun": False}
        body = _Counted(receive, self._longest)

        async def sending(message: Message) -> None:
            if body.too_large and not answer["begun"]:
                return  # whatever the application makes of it
            if message["type"] == "http.response.start":
                answer["status"], answer["begun"] = message["status"], True
                out = MutableHeaders(scope=message)
                out["X-Correlation-ID"] = correlation
                out["X-Content-Type-Options"] = "nosniff"
                if scope["method"] in _SAFE and self._is_stale():
                    out["Warning"] = f"110 {_STALE}"
            await send(message)

        try:
            if _length(headers) > self._longest:
                body.too_large = True
            else:
                # Who asks for the headers alone gets those of GET; the server leaves out the body.
                asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await self._app(asked, body.receive, sending)
        except _TooLarge:
            pass
        finally:
            if body.too_large and not answer["begun"]:
                body.too_large = False
                await _refuse(sending, self._longest, correlation)
            self._note(scope, answer["status"], time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, took: float) -> None:
        method, path = scope["method"], scope["path"]
        dialect = self._dialect_of(path)
        requests.labels(dialect, method if method.isascii() and len(method) < 10 else "other", status).inc()
        seconds.labels(dialect, method if method.isascii() and len(method) < 10 else "other").observe(took)
        if method in _SAFE:
            return
        principal = scope.get(PRINCIPAL)
        client = scope.get("client")
        _audit.info(
            "write",
            who=principal.subject if principal is not None else None,
            roles=sorted(principal.roles) if principal is not None else [],
            method=method,
            path=path[:512],
            status=status,
            address=client[0] if client else None,
            seconds=round(took, 4),
        )


def _length(headers: Headers) -> int:
    text = headers.get("content-length") or "0"
    return int(text) if text.isdecimal() and len(text) < 20 else 0


async def _refuse(send: Send, longest: int, correlation: str) -> None:
    """In the words of all contracts at once: which one it is, nobody has looked yet."""
    text = f"the request has more than {longest} bytes"
    answer = {"detail": text, "error": text, "code": "too_large", "message": text, "correlation_id": correlation}
    body = orjson.dumps(answer)
    start = {"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"application/json")]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
