"""The running stack that the contracts are tried on: control plane, PostgreSQL, operator and facade, all real."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from tenantry_local import facade
from tenantry_local.chart import NAMESPACE
from tenantry_local.cluster import Cluster
from tests.conftest import running
from tests.e2e.support import Api

QUICK = {"TENANTRY_SWEEP_INTERVAL": "2s", "TENANTRY_USAGE_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "5s"}
ACCOUNTS = "tenantry-api-accounts"
_KEPT = 11.0
"""Seconds after which the facade has read a new account."""


@dataclass
class Stack:
    """The stack, and how to get in."""

    cluster: Cluster

    @property
    def api(self) -> Api:
        """kubectl, in the words of the tests."""
        return Api(self.cluster)

    @property
    def url(self) -> str:
        """The facade."""
        return self.cluster.api_url

    @property
    def admin_email(self) -> str:
        """The first account."""
        return facade.ADMIN_EMAIL

    @property
    def admin_password(self) -> str:
        """Its password."""
        return self.cluster.state.secret("api-admin-password")

    @property
    def secret(self) -> str:
        """What tokens are signed with."""
        return self.cluster.state.secret("api-jwt")

    def account(self, email: str, role: str, tenant_id: str = "", password: str = "correct horse") -> None:
        """Makes an account, and waits until the facade may know of it."""
        value = {
            "email": email,
            "role": role,
            "tenant": tenant_id,
            "fullName": f"Somebody {email}",
            "passwordHash": PasswordHash((Argon2Hasher(),)).hash(password),
        }
        key = "".join(char if char.isalnum() else "-" for char in email)
        found = self.api.get("secret", ACCOUNTS, NAMESPACE) or {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": ACCOUNTS, "namespace": NAMESPACE},
        }
        data = {**(found.get("data") or {}), key: b64encode(json.dumps(value).encode()).decode()}
        metadata = {"name": ACCOUNTS, "namespace": NAMESPACE}
        self.api.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
        deadline = time.monotonic() + 2 * _KEPT
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while time.monotonic() < deadline:
                answer = client.post("/api/v1/auth/login", json={"email": email, "password": password})
                if answer.status_code == 200:
                    return
                time.sleep(_KEPT if answer.status_code == 401 else 1.0)
        raise AssertionError(f"the account {email} does not come: {answer.text}")

    def token(
        self,
        role: str = "admin",
        tenant: str = "",
        sub: str = "tester",
        lifetime: float = 3600,
        secret: str | None = None,
        algorithm: str = "HS256",
    ) -> str:
        """A token; with another secret or algorithm, or a lifetime below zero, one that is not valid."""
        claims: dict[str, Any] = {"sub": sub, "exp": int(time.time() + lifetime)}
        claims |= {"role": role} if role else {}
        claims |= {"tenant_id": tenant} if tenant else {}
        key = None if algorithm == "none" else secret if secret is not None else self.secret
        return jwt.encode(claims, key, algorithm=algorithm)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack; the project is the namespace ``default``. ``TENANTRY_TEST_DIALECTS`` names those to serve."""
    with running("contract", request, operator=False, api=False) as started:
        started.start_operator(QUICK)
        only = os.environ.get("TENANTRY_TEST_DIALECTS")
        started.start_api({"TENANTRY_API_DIALECTS": only} if only else None)
        yield Stack(started)


@pytest.fixture
def api(stack: Stack) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def token(stack: Stack) -> Callable[..., str]:
    """Makes tokens, see :meth:`Stack.token`."""
    return stack.token


@pytest.fixture(scope="session")
def kubectl(stack: Stack) -> Callable[..., str]:
    """kubectl as administrator."""
    return stack.cluster.kubectl
