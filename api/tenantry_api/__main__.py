"""``python -m tenantry_api``: serves the facade until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop
from kubernetes.aio.config import ConfigException
from pydantic import ValidationError
from starlette.types import ASGIApp

from tenantry_api.app import create_app, explain, follow
from tenantry_api.facade import Facade
from tenantry_api.settings import Settings
from tenantry_operator import telemetry
from tenantry_operator.kube import KubeClient

_log = structlog.get_logger(__name__)
_LAST_WORDS = 3.0
"""Seconds that the watches get to end."""


class Server(uvicorn.Server):
    """The HTTP server. Told to stop, it answers what it has begun, and ends."""

    def listen(self) -> None:
        """Has signals stop it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would raise the signal once more at the end, before the rest has ended."""
        self.listen()
        yield

    def stop(self) -> None:
        """Stops it."""
        self.should_exit = True


def configuration(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How it serves."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
        log_level=settings.log_level.lower(),
        log_config=None,
        # Probes would fill the log; writes are in the audit.
        access_log=False,
        forwarded_allow_ips=settings.trusted_proxies,
        # Says nothing of what serves here.
        server_header=False,
        timeout_graceful_shutdown=25,
        # Longer than proxies keep a connection that nobody uses: one would send a request into what just closes.
        timeout_keep_alive=75,
    )


async def serve(settings: Settings) -> int:
    """Serves until it is told to stop, or follows the cluster no more; the exit code."""
    kube = await KubeClient.connect()
    facade = Facade(settings, kube)
    server = Server(configuration(create_app(settings, facade), settings))
    stop = asyncio.Event()
    following = asyncio.create_task(follow(facade, stop, server.listen), name="follow the cluster")
    # Without it, what is answered would be from a world of long ago.
    following.add_done_callback(lambda _: server.stop())
    try:
        await server.serve()
    finally:
        ended = following.done()
        stop.set()
        await asyncio.wait([following], timeout=_LAST_WORDS)
        following.cancel()
        (result,) = await asyncio.gather(following, return_exceptions=True)
        await facade.limiter.close()
        await kube.close()
    if ended:
        _log.error("the cluster is followed no more; stopping", error=repr(result))
    return 1 if ended else 0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="tenantry-api",
        description="Serves the REST contracts. Set up by environment variables, TENANTRY_API_...; the "
        "API server is the pod's own, or by KUBECONFIG.",
    )
    parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write(explain(error))
        sys.exit(2)
    telemetry.configure_logging(settings.log_level, settings.log_format)
    try:
        sys.exit(uvloop.run(serve(settings)))
    except ConfigException as error:
        sys.stderr.write(f"no way to the API server: {error}; set KUBECONFIG or run in a cluster\n")
        sys.exit(2)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
