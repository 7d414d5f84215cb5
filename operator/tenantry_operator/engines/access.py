"""How the operator reaches a database server."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry_crds.common import DatabaseEngine


@dataclass(frozen=True, slots=True)
class Access:
    """How the operator reaches a server as its administrator."""

    engine: DatabaseEngine
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    secret_version: str = ""
    """``resourceVersion`` of the Secret it was read from."""
    sslmode: str = "prefer"
    """In libpq's words: ``disable``, ``prefer``, ``require``, ``verify-ca`` or ``verify-full``."""
    certificates: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """``ca.crt``, ``tls.crt``, ``tls.key`` of the Secret, in PEM, as far as there are any."""
    database: str | None = None
    """Of a server behind FerretDB: the database that FerretDB uses."""
    backend: Access | None = None
    """On MongoDB: the PostgreSQL server behind FerretDB; None: a server that keeps its data itself."""
