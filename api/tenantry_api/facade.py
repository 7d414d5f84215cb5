"""The parts of the facade that the dialects use."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orjson import Fragment, dumps

from tenantry_api.auth.accounts import Accounts
from tenantry_api.auth.principal import Principal
from tenantry_api.auth.tokens import Tokens
from tenantry_api.cache import Cache
from tenantry_api.catalog import Catalog
from tenantry_api.claims import Claims
from tenantry_api.ratelimit import Limiter
from tenantry_api.settings import Settings
from tenantry_api.store import Tenants
from tenantry_api.tenants import Tenant
from tenantry_operator.kube import KubeClient


class Gateway:
    """A gateway in front that has found out who is asking, and proves that it is the one."""

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._secret = settings.gateway_secret.get_secret_value().encode()
        self._tokens = tokens

    def principal(self, headers: Mapping[str, str]) -> Principal | None:
        """Who is asking, by ``X-Auth-Subject``, ``X-Auth-Role``, ``X-Auth-Tenant``; None: no gateway says."""
        given = headers.get("x-gateway-secret") or ""
        if not self._secret or not hmac.compare_digest(given.encode(), self._secret):
            return None
        claims = {"sub": "x-auth-subject", "role": "x-auth-role", "tenant_id": "x-auth-tenant"}
        return self._tokens.principal({claim: headers.get(header) or "" for claim, header in claims.items()})


@dataclass(slots=True)
class Facade:
    """One of these for each process."""

    settings: Settings
    kube: KubeClient
    cache: Cache = field(init=False)
    tenants: Tenants = field(init=False)
    tokens: Tokens = field(init=False)
    accounts: Accounts = field(init=False)
    gateway: Gateway = field(init=False)
    limiter: Limiter = field(init=False)
    catalog: Catalog = field(init=False)
    claims: Claims = field(init=False)

    def rendered(self, tenant: Tenant, what: str, make: Callable[[], Any]) -> Fragment:
        """A view of a Tenant as JSON, made once for each version of it and of the plans.

        :param what: the dialect, and which of its views.
        """
        return tenant.remembered(f"{what} {self.cache.plans_epoch}", lambda: Fragment(dumps(make())))

    def __post_init__(self) -> None:
        self.cache = Cache(self.kube, (self.settings.project, self.settings.namespace))
        self.tenants = Tenants(self.settings, self.kube, self.cache)
        self.tokens = Tokens(self.settings)
        self.accounts = Accounts(self.settings, self.kube)
        self.gateway = Gateway(self.settings, self.tokens)
        self.limiter = Limiter(self.settings)
        self.catalog = Catalog(self.settings, self.cache)
        self.claims = Claims(self.kube, self.settings.project)
