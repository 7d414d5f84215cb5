"""Bodies of requests. What a body says is looked at last: strangers have none of theirs parsed, and who may not do
something learns that, not what is wrong with his JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

T = TypeVar("T")


class _Unread(bytes):
    """A body of which the request says that it is JSON."""


def _read(value: Any) -> Any:
    if not isinstance(value, _Unread):
        wanted = "Input should be JSON, sent with Content-Type: application/json"
        raise PydanticCustomError("json_expected", wanted)
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # numbers may have too many digits, lists be nested too deep
        raise PydanticCustomError("json_invalid", "JSON decode error") from None


Sent = Annotated[T, BeforeValidator(_read)]
"""The body of a request, as the model ``T``. Only for routes of :class:`Route`."""


class _Request(Request):
    async def json(self) -> Any:
        """FastAPI asks for it before it knows who is asking."""
        return _Unread(await self.body())


class Route(APIRoute):
    """A route whose body is parsed when its dependencies have let the request in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route, as a function of the request."""
        handle = super().get_route_handler()

        async def late(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return late
