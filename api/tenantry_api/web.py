"""What all dialects share: answers, errors in the words of a contract, who is asking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tenantry_api.auth.principal import Principal
from tenantry_api.facade import Facade
from tenantry_api.problems import FieldError, Invalid, Missing, Problem, Unauthenticated
from tenantry_operator.errors import ReconcileError

_log = structlog.get_logger(__name__)

PRINCIPAL = "tenantry.principal"
"""Where in a request's scope stands who sent it, for the audit."""
_LOGIN = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
"""How to log in. FastAPI's class for it would parse the header of each request once more."""
Render = Callable[[Request, Problem], Any]
"""Makes the body of an error."""
_SOURCES = ("body", "query", "path", "header", "cookie")


class Json(Response):
    """JSON, written by orjson. ``content`` may be bytes that are JSON already."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


def etag_of(body: bytes) -> str:
    """A strong entity tag of what is answered."""
    return f'"{hashlib.sha256(body).hexdigest()[:24]}"'


def fits(header: str, etag: str) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names an entity tag; weak ones compare as strong."""
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def facade_of(request: Request) -> Facade:
    """The facade that serves a request."""
    facade: Facade = request.app.state.facade
    return facade


async def anybody(request: Request) -> Principal | None:
    """A dependency: who sent a request, by its token or a trusted gateway; None: it does not say.

    :raises Unauthenticated: for a token that is not valid.
    :raises Problem: 429, when he sent too many.
    """
    facade = facade_of(request)
    principal = facade.gateway.principal(request.headers)
    header = request.headers.get("authorization") or ""
    if principal is None and header:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated
        principal = await facade.tokens.check(token.strip())
    request.scope[PRINCIPAL] = principal
    await facade.limiter.check(_counted_as(request, principal))
    return principal


def _counted_as(request: Request, principal: Principal | None) -> str:
    """Whose requests are counted together. Subjects are not unique: each tenant may have its own ``admin``."""
    return f"address {address_of(request)}" if principal is None else f"{principal.tenant}/{principal.subject}"


async def authenticated(principal: Annotated[Principal | None, Depends(anybody)]) -> Principal:
    """A dependency: who sent a request.

    :raises Unauthenticated: when it does not say.
    """
    if principal is None:
        raise Unauthenticated
    return principal


def address_of(request: Request) -> str:
    """The address of who sent a request."""
    return request.client.host if request.client is not None else "unknown"


def sub_app(facade: Facade, router: APIRouter, render: Render, errors: type[Any], **about: Any) -> FastAPI:
    """The app of a dialect.

    :param render: makes the body of an error.
    :param errors: the pydantic model of that.
    :param about: title, version and description of the OpenAPI document.
    """
    app = FastAPI(redirect_slashes=False, **about)
    app.state.facade = facade
    app.include_router(router)
    install_errors(app, router, render)
    document(app, router, errors)
    return app


def _asks_who(dependant: Any) -> bool:
    return any(each.call is anybody or _asks_who(each) for each in dependant.dependencies)


def install_errors(app: FastAPI, router: APIRouter, render: Render) -> None:
    """Has everything that goes wrong answered in the words of a contract."""

    def allowed(request: Request) -> str:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        here = [route for route in router.routes if isinstance(route, Route) and route.path_regex.match(path)]
        methods = {method for route in here for method in route.methods or ()}
        return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    def answer(request: Request, problem: Problem) -> Response:
        return Json(render(request, problem), problem.status, headers=problem.headers)

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - by its registration
        return answer(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - by its registration
        return answer(request, invalid_request(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - by its registration
        if error.status_code == 404:
            return answer(request, Missing("Not found"))
        code, headers = "invalid_request", error.headers
        if error.status_code == 405:
            # The first route of a path knows only of its own method.
            code, headers = "method_not_allowed", {"Allow": allowed(request)}
        problem = Problem(str(error.detail), status=error.status_code, code=code, headers=headers)
        return answer(request, problem)

    async def away(request: Request, error: Exception) -> Response:
        _log.warning("the API server did not answer as it should", error=str(error))
        return answer(
            request,
            Problem(
                "the cluster does not answer; try again",
                status=503,
                code="unavailable",
                headers={"Retry-After": "5"},
            ),
        )

    async def bug(request: Request, error: Exception) -> Response:
        _log.error("a request failed unexpectedly", path=request.url.path, exc_info=error)
        return answer(request, Problem("Internal server error", status=500, code="internal"))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ReconcileError, away)
    app.add_exception_handler(Exception, bug)


def invalid_request(error: RequestValidationError) -> Invalid:
    """What pydantic says of a request, field by field."""
    errors = []
    for each in error.errors():
        place = [str(part) for part in each["loc"]]
        if place and place[0] in _SOURCES:
            place = place[1:]
        errors.append(FieldError(".".join(place) or "body", _message(each)))
    first = errors[0] if errors else FieldError("body", "invalid")
    return Invalid(f"{first.field}: {first.message}", errors=errors)


def _message(error: dict[str, Any]) -> str:
    bound = {"too_short": "least", "too_long": "most"}.get(error["type"])
    if bound is None or not isinstance(error["input"], str):
        return str(error["msg"]).removeprefix("Value error, ")
    # The length of Text is checked after it was looked at, and pydantic takes it for a list then.
    count = error["ctx"]["min_length" if bound == "least" else "max_length"]
    return f"String should have at {bound} {count} character{'s' if count != 1 else ''}"


def document(app: FastAPI, router: APIRouter, errors: type[Any]) -> None:
    """Has the OpenAPI document say who needs a token, and which errors there are: 400 instead of 422.

    :param errors: the pydantic model of an error's body.
    """
    schema = errors.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    name = errors.__name__

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            made.setdefault("components", {})["securitySchemes"] = _LOGIN
            components = made["components"].setdefault("schemas", {})
            components.update({name: schema, **definitions})
            for unused in ("HTTPValidationError", "ValidationError"):
                components.pop(unused, None)
            body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
            for operations in made["paths"].values():
                for operation in operations.values():
                    if not isinstance(operation, dict):
                        continue
                    answers = operation["responses"]
                    answers.pop("422", None)
                    answers["default"] = {"description": "An error", "content": body}
            for route in router.routes:
                if isinstance(route, APIRoute) and route.include_in_schema and _asks_who(route.dependant):
                    for method in route.methods or ():
                        made["paths"][route.path_format][method.lower()]["security"] = [{"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
