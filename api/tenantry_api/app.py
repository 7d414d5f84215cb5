"""The application: the dialects, mounted side by side, over one cache of the cluster."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import structlog
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp

from tenantry_api.envelope import Envelope
from tenantry_api.facade import Facade
from tenantry_api.settings import Settings
from tenantry_operator.kube import KubeClient

_log = structlog.get_logger(__name__)

MOUNTS = {
    "neostack": "/api/v3",
    "institutions": "/api/v1",
    "render": "/api",
    "management": "/tenant-management/v1",
}
"""Where each dialect is; longer paths come first."""
_LAST_WORDS = 3.0


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
    async def healthz() -> Health:
        """Whether the process serves requests; it asks nobody else."""
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


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Facade]:
    """A facade that is connected, and follows the cluster."""
    kube = await KubeClient.connect()
    facade = Facade(settings, kube)
    stop, following = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(_follow(facade, stop, following), name="follow the cluster")]
    try:
        yield facade
    finally:
        stop.set()
        await asyncio.wait(tasks, timeout=_LAST_WORDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kube.close()


async def _follow(facade: Facade, stop: asyncio.Event, following: asyncio.Event) -> None:
    await facade.cache.load()
    loop = asyncio.get_running_loop()
    # kopf takes the signals over when it starts; they are the server's.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def give_signals_back() -> None:
        await following.wait()
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    async with asyncio.TaskGroup() as group:
        others = [
            group.create_task(give_signals_back()),
            group.create_task(facade.cache.ping()),
            group.create_task(facade.tenants.number_others()),
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
