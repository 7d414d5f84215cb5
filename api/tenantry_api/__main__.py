"""``python -m tenantry_api``: serves the facade until it is stopped."""

from __future__ import annotations

import uvicorn

from tenantry_api.app import app
from tenantry_api.settings import Settings


def server(settings: Settings) -> uvicorn.Server:
    """The HTTP server, not started yet."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level=settings.log_level.lower(),
            # Probes would fill the log.
            access_log=False,
            # Says nothing of what serves here.
            server_header=False,
        )
    )


def main() -> None:
    """Serves with the settings of the environment."""
    server(Settings()).run()


if __name__ == "__main__":
    main()
