"""``python -m tenantry_api``: serves the facade until it is stopped."""

from __future__ import annotations

import argparse
import sys

import uvicorn
import uvloop
from kubernetes.aio.config import ConfigException
from pydantic import ValidationError
from starlette.types import ASGIApp

from tenantry_api.app import create_app, explain, running
from tenantry_api.settings import Settings
from tenantry_operator import telemetry


def server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """The HTTP server, not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.tls_certificate or None,
            ssl_keyfile=settings.tls_key or None,
            log_level=settings.log_level.lower(),
            log_config=None,
            # Probes would fill the log; writes are in the audit.
            access_log=False,
            # Says nothing of what serves here.
            server_header=False,
            timeout_graceful_shutdown=25,
        )
    )


async def serve(settings: Settings) -> None:
    """Serves until it is told to stop."""
    async with running(settings) as facade:
        await server(create_app(settings, facade), settings).serve()


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
        uvloop.run(serve(settings))
    except ConfigException as error:
        sys.stderr.write(f"no way to the API server: {error}; set KUBECONFIG or run in a cluster\n")
        sys.exit(2)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
