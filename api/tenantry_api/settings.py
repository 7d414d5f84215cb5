"""The facade's settings: environment variables with the prefix ``TENANTRY_API_``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What can be set. The docstring of each field is its documentation."""

    model_config = SettingsConfigDict(env_prefix="TENANTRY_API_", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """The address to listen on. The chart and the image say ``0.0.0.0``."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0: any free one."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe records that are written."""
