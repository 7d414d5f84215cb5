"""The facade's settings: environment variables with the prefix ``TENANTRY_API_``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tenantry_operator.settings import Seconds, Words

DIALECTS = ("neostack", "institutions", "render", "management")


class Settings(BaseSettings):
    """What can be set. The docstring of each field is its documentation."""

    model_config = SettingsConfigDict(env_prefix="TENANTRY_API_", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """The address to listen on. The chart and the image say ``0.0.0.0``."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0: any free one."""
    trusted_proxies: str = "127.0.0.1"
    """Addresses and networks of proxies, comma separated, whose ``X-Forwarded-For`` is believed: logins that fail
    are slowed by the address that they come from, and the audit names it. ``*``: all."""
    tls_certificate: str = ""
    """A file with the certificate to serve HTTPS with, and its chain, in PEM. Empty: HTTP."""
    tls_key: str = ""
    """A file with its private key."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe records that are written."""
    log_format: Literal["json", "console"] = "json"
    """``json`` for machines, ``console`` for people."""
    namespace: str = "tenantry-system"
    """The operator's namespace: shared DatabaseInstances, and the facade's accounts."""
    project: str = "default"
    """The namespace whose Tenants are served."""
    dialects: Words = Field(default_factory=lambda: list(DIALECTS))
    """Which contracts are served, comma separated."""

    jwt_secret: SecretStr = SecretStr("")
    """The key of tokens that are signed by HS256, its own ones included; 32 characters or more. Empty: none are
    accepted, and nobody can log in."""
    jwks_url: str = ""
    """Where the public keys of tokens are that an identity provider signs. Empty: none are accepted."""
    jwt_issuer: str = ""
    """What ``iss`` of the provider's tokens must be; empty: anything."""
    jwt_audience: str = ""
    """What ``aud`` of the provider's tokens must hold; empty: anything."""
    token_lifetime: Seconds = 8 * 3600.0
    """How long a token is valid that a login gives."""
    admin_roles: Words = Field(default_factory=lambda: ["admin", "SUPER_ADMIN", "SYSTEM_OWNER"])
    """Values of the claim ``role`` that may do everything."""
    admin_email: str = ""
    """The first account: who logs in with it is SUPER_ADMIN. Empty: there is none."""
    admin_password: SecretStr = SecretStr("")
    """Its password."""
    accounts_secret: str = "tenantry-api-accounts"  # noqa: S105 - a name
    """The Secret with the other accounts, in ``namespace``."""
    gateway_secret: SecretStr = SecretStr("")
    """What a trusted gateway sends as ``X-Gateway-Secret``, to be believed who somebody is. Empty: no gateway."""
    render_open: bool = False
    """Whether the contract ``render`` is served to everybody, as its document has it."""

    rate_limit: str = ""
    """Requests per account or token, such as ``1000/hour``; empty: no limit."""
    redis_url: SecretStr = SecretStr("")
    """Where replicas share their counts of requests; empty: each counts for itself."""
    max_body: Annotated[int, Field(ge=1024)] = 1 << 20
    """Bytes that a request may have."""
    wait: Seconds = 10.0
    """How long a request waits for what it started to be ready."""

    regions: Words = Field(default_factory=lambda: ["ap-south-1", "eu-central-1", "eu-west-1", "us-east-1"])
    """Regions that tenants may be in."""
    residency_policies: dict[str, list[str]] = Field(
        default_factory=lambda: {"eu-only": ["eu-central-1", "eu-west-1"], "in-only": ["ap-south-1"]}
    )
    """The regions that each residency policy allows, as JSON."""
    neostack_blueprint: str = "app"
    """The Blueprint of the schemas that the contract ``neostack`` makes."""
    institutions_databases: Words = Field(default_factory=lambda: ["app"])
    """Blueprints of the databases that a tenant gets which is made through ``institutions``."""
    render_databases: dict[str, str] = Field(default_factory=lambda: {"database": "app"})
    """The same for ``render``, by their name in its contract (``database``, ``redis``), as JSON."""
    render_services: dict[str, str] = Field(default_factory=dict)
    """Blueprints of services for ``render``, by their name in its contract (``web_service``, ``worker``), as
    JSON."""
    management_databases: Words = Field(default_factory=lambda: ["app"])
    """Blueprints of the databases that ``activate`` of the contract ``management`` makes."""
