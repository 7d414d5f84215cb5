"""The application. Each REST contract is to be mounted as a sub-app with an OpenAPI document of its own,
so this one has none."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Health(BaseModel):
    """The answer of the health check."""

    status: str


def create_app() -> FastAPI:
    """A new application."""
    app = FastAPI(title="Tenantry", openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Health:
        """Whether the process serves requests; it asks nobody else."""
        return Health(status="ok")

    return app


app = create_app()
