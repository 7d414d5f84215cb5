"""The application: the dialects, mounted side by side, over one cache of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp

from tenantry_api.envelope import Envelope
from tenantry_api.facade import Facade
from tenantry_api.settings import Settings

MOUNTS = {
    "neostack": "/api/v3",
    "institutions": "/api/v1",
    "render": "/api",
    "management": "/tenant-management/v1",
}
"""Where each dialect is; longer paths come first."""


class Health(BaseModel):
    """The answer of the health check."""

    status: str


def dialect_of(path: str) -> str:
    """The dialect that serves a path; "" for Tenantry's own."""
    return next((name for name, mount in MOUNTS.items() if path.startswith(f"{mount}/")), "")


def create_app(settings: Settings, facade: Facade) -> ASGIApp:
    """The application of a facade."""
    app = FastAPI(title="Tenantry", openapi_url=None)

    @app.get("/healthz")
    async def healthz(response: Response) -> Health:
        """Whether the process serves requests, and follows the cluster; it asks nobody else."""
        dead = facade.cache.audit.dead()
        if dead:
            response.status_code = 503
            return Health(status=f"the watches of {', '.join(dead)} are dead")
        return Health(status="ok")

    @app.get("/readyz")
    async def readyz(response: Response) -> Health:
        """Whether it knows the cluster."""
        if not facade.cache.ready:
            response.status_code = 503
            return Health(status="loading")
        return Health(status="ok")

    @app.get("/metrics")
    async def metrics() -> Response:
        """In Prometheus' format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for name, mount in MOUNTS.items():
        if name in settings.dialects:
            create: Callable[[Facade], FastAPI] = import_module(f"tenantry_api.dialects.{name}.routes").create
            app.mount(mount, create(facade))
    return Envelope(app, settings.max_body, lambda: facade.cache.is_stale, dialect_of)


async def follow(facade: Facade, stop: asyncio.Event, listen: Callable[[], None]) -> None:
    """Fills the cache, follows the cluster, and does what goes on behind the requests, until told to stop.

    :param listen: makes the server listen to signals again: kopf takes them over when it starts.
    :raises RuntimeError: when the cluster is followed no more.
    """
    await facade.cache.load()
    following = asyncio.Event()

    async def give_signals_back() -> None:
        await following.wait()
        listen()

    async with asyncio.TaskGroup() as group:
        others = [
            group.create_task(give_signals_back()),
            group.create_task(facade.cache.ping()),
            group.create_task(facade.cache.audit.run()),
            group.create_task(facade.tenants.number_others()),
            group.create_task(facade.claims.sweep()),
        ]
        await facade.cache.watch(stop, following)
        if not stop.is_set():
            raise RuntimeError("the watches have ended")
        for other in others:
            other.cancel()


def explain(error: Any) -> str:
    """What is wrong with the settings, a line for each."""
    return "".join(
        f"TENANTRY_API_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}\n"
        for problem in error.errors()
    )
