"""What an application is told of its database: the keys of its Secret. Pure.

The Secret follows the Service Binding specification for Kubernetes 1.1. Keys beyond it: ``schema`` on
PostgreSQL, ``prefix`` on Redis, ``authSource`` and ``authMechanism`` on MongoDB.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Names
from tenantry_operator.engines.kinds import KINDS, EngineKind


def digest(value: object) -> str:
    """A digest that tells two values apart."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:32]


def key_prefix(database: str) -> str:
    """On Redis: what the keys and channels of a tenant begin with."""
    return f"{database}:"


@dataclass(frozen=True, slots=True)
class Binding:
    """Where an application finds its database, without the password."""

    host: str
    port: int
    database: str
    schema: str | None
    username: str
    sslmode: str | None = None
    certificates: str | None = None
    """The certificate authority of the server, in PEM, when there is one of its own."""
    engine: DatabaseEngine = DatabaseEngine.POSTGRESQL
    ferretdb: bool = False
    """On MongoDB: whether FerretDB serves it, which passes logins on to its PostgreSQL."""

    @classmethod
    def of(cls, access: Access, names: Names, login: str) -> Binding:
        """The binding of a login on a server."""
        return cls(
            host=access.host,
            port=access.port,
            database=names.database,
            schema=names.schema,
            username=login,
            sslmode=None if access.sslmode == "prefer" else access.sslmode,
            certificates=dict(access.certificates).get("ca.crt"),
            engine=access.engine,
            ferretdb=access.backend is not None,
        )

    @property
    def kind(self) -> EngineKind:
        """The kind of server."""
        return KINDS[self.engine]

    def data(self) -> dict[str, str]:
        """The Secret's keys that are not secret."""
        return {
            "type": self.kind.binding,
            "provider": "tenantry",
            "host": self.host,
            "port": str(self.port),
            "database": "0" if self.engine is DatabaseEngine.REDIS else self.database,
            "schema": self.schema or "",
            "username": self.username,
            **({"sslmode": self.sslmode} if self.sslmode else {}),
            **({"certificates": self.certificates} if self.certificates else {}),
            **({"prefix": key_prefix(self.database)} if self.engine is DatabaseEngine.REDIS else {}),
            **self._authentication(),
        }

    def _authentication(self) -> dict[str, str]:
        if self.engine is not DatabaseEngine.MONGODB:
            return {}
        source = {"authSource": self.database}
        return {**source, "authMechanism": "PLAIN"} if self.ferretdb else source

    def uri(self, password: str) -> str:
        """The connection URI; on PostgreSQL the search path is the login's own setting."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        credentials = f"{quote(self.username, safe='')}:{quote(password, safe='')}"
        query = {**self._authentication(), **self._encryption()}
        path = "0" if self.engine is DatabaseEngine.REDIS else quote(self.database, safe="")
        scheme = self.kind.scheme
        if self.engine is DatabaseEngine.REDIS and self._encrypted:
            scheme, query = "rediss", {}
        words = f"?{urlencode(query)}" if query else ""
        return f"{scheme}://{credentials}@{host}:{self.port}/{path}{words}"

    @property
    def _encrypted(self) -> bool:
        return self.sslmode not in (None, "disable")

    def _encryption(self) -> dict[str, str]:
        """The parameters of a URI by which the engine's drivers encrypt and verify."""
        if self.sslmode is None:
            return {}
        match self.engine:
            case DatabaseEngine.POSTGRESQL:
                return {"sslmode": self.sslmode}
            case DatabaseEngine.MYSQL:
                modes = {"disable": "DISABLED", "require": "REQUIRED", "verify-ca": "VERIFY_CA"}
                return {"ssl-mode": modes.get(self.sslmode, "VERIFY_IDENTITY")}
            case DatabaseEngine.MONGODB:
                return {"tls": "true" if self._encrypted else "false"}
            case DatabaseEngine.REDIS:
                return {}

    def digest(self) -> str:
        """A digest of all but the password."""
        return digest(sorted(self.data().items()))
