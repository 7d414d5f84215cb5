"""One call of each REST contract, with the answer: the part of the demo that is about the facade."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from tenantry_local import facade
from tenantry_local.cluster import Cluster
from tenantry_local.errors import LocalError

TENANT = "demo"
_SHOWN = 300


def walk(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Makes a tenant through one contract and reads it through all of them.

    :returns: each call and its answer, in words.
    :raises LocalError: when an answer is none of the contract's.
    """
    caller = _Caller(cluster)
    made = {"id": TENANT, "name": "Demo", "domain": "demo.example", "plan_id": 2, "settings": {"theme": "dark"}}
    # 409: it is there from the last time.
    yield caller.call("POST", "/api/v3/tenants", made, expect=(201, 409))
    yield caller.call("GET", f"/api/v3/tenants/{TENANT}")
    login = {"email": facade.ADMIN_EMAIL, "password": cluster.state.secret("api-admin-password")}
    caller.login(login)
    yield caller.call("GET", "/api/v1/tenants?limit=1")
    yield caller.call("GET", "/api/tenants/?page_size=1")
    yield caller.call("GET", f"/tenant-management/v1/tenants/{TENANT}")


class _Caller:
    def __init__(self, cluster: Cluster) -> None:
        self._base = cluster.api_url
        self._token = facade.variables(cluster.state)["TENANTRY_ADMIN_TOKEN"]

    def login(self, body: dict[str, Any]) -> None:
        """What follows goes with the token of a login."""
        _, answer = self._request("POST", "/api/v1/auth/login", body)
        self._token = json.loads(answer)["access_token"]

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, expect: tuple[int, ...] = (200,)
    ) -> tuple[str, str]:
        """A call in words, and what was answered."""
        status, answer = self._request(method, path, body)
        if status not in expect:
            raise LocalError(f"{method} {path} was answered {status}: {answer}")
        shown = answer if len(answer) <= _SHOWN else f"{answer[:_SHOWN]}..."
        text = f" {json.dumps(body)}" if body is not None else ""
        return f"{method} {path}{text}", f"{status} {shown}"

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        request = urllib.request.Request(  # noqa: S310 - a URL of this cluster's
            self._base + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            raise LocalError(f"{method} {path}: the facade does not answer: {error}") from error
