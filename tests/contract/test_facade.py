"""What the facade does around all contracts: walks, the audit, tokens of a provider, a gateway, limits."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tenantry_api.app import MOUNTS
from tenantry_local.cluster import Cluster
from tests.contract.conftest import Stack
from tests.contract.test_resilience import bearer, second_facade

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
WALKS = sorted((ROOT / "examples" / "rest").glob("*.sh"))
PATH = "/api/v3/tenants"


@pytest.mark.parametrize("walk", WALKS, ids=[walk.stem for walk in WALKS])
def test_every_walk_through_a_contract_works_as_a_user_runs_it(stack: Stack, walk: Path) -> None:
    variables = dict(
        line.split("=", 1) for line in stack.cluster.paths.dev_env.read_text(encoding="utf-8").splitlines()
    )
    environment = {**os.environ, **{name: value.strip("'") for name, value in variables.items()}}
    done = subprocess.run(
        ["bash", str(walk)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{" in done.stdout, "no answer is printed"
    assert environment["TENANTRY_ADMIN_PASSWORD"] not in done.stdout


def audit(cluster: Cluster, correlation: str, patience: float = 15) -> dict[str, Any]:
    """The line about a request; it may come after the answer."""
    deadline = time.monotonic() + patience
    while True:
        for line in reversed(cluster.paths.log("api").read_text(encoding="utf-8").splitlines()):
            if correlation in line and line.endswith("}"):
                found: dict[str, Any] = json.loads(line)
                if found.get("logger") == "tenantry.audit":
                    return found
        assert time.monotonic() < deadline, f"nothing is said of {correlation}"
        time.sleep(0.1)


def test_every_write_is_audited_with_who_what_when_and_from_where(stack: Stack, api: httpx.Client) -> None:
    headers = {**bearer(stack), "X-Correlation-ID": "audit-1"}
    answer = api.post(PATH, json={"id": "audited", "name": "x"}, headers=headers)
    assert answer.headers["X-Correlation-ID"] == "audit-1"
    found = audit(stack.cluster, "audit-1")
    assert (found["who"], found["method"], found["path"], found["status"]) == ("tester", "POST", PATH, 201)
    assert (found["address"], found["roles"]) == ("127.0.0.1", ["admin"])
    assert found["timestamp"].endswith("Z")
    # Who was refused is noted as well; who only reads is not.
    api.delete(f"{PATH}/audited", headers={"X-Correlation-ID": "audit-2"})
    assert (audit(stack.cluster, "audit-2")["who"], audit(stack.cluster, "audit-2")["status"]) == (None, 401)
    api.get(PATH, headers={**bearer(stack), "X-Correlation-ID": "audit-3"})
    with pytest.raises(AssertionError):
        audit(stack.cluster, "audit-3", patience=1)


def test_the_address_behind_a_trusted_proxy_is_the_callers(stack: Stack, api: httpx.Client) -> None:
    """A proxy on this machine is trusted by default; one that is not is an address like any other."""
    headers = {**bearer(stack), "X-Forwarded-For": "203.0.113.7", "X-Correlation-ID": "proxy-1"}
    api.delete(f"{PATH}/no-such-tenant", headers=headers)
    assert audit(stack.cluster, "proxy-1")["address"] == "203.0.113.7"


def test_no_secret_is_in_the_log(stack: Stack, api: httpx.Client) -> None:
    token = stack.token()
    api.get(PATH, headers={"Authorization": f"Bearer {token}"})
    api.post("/api/v1/auth/login", json={"email": stack.admin_email, "password": stack.admin_password})
    api.post("/api/v1/auth/login", json={"email": stack.admin_email, "password": "wrong-password-of-mine"})
    text = stack.cluster.paths.log("api").read_text(encoding="utf-8")
    assert text
    for secret in (token, stack.admin_password, stack.secret, "wrong-password-of-mine"):
        assert secret not in text


def test_metrics_count_requests_by_contract(api: httpx.Client) -> None:
    api.get("/api/v3/health")
    text = api.get("/metrics").text
    assert 'tenantry_api_requests_total{dialect="neostack",method="GET",status="200"}' in text


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/v3/tenants/no-such-tenant", "DELETE, GET, HEAD, PATCH"),
        (f"/api/v1/tenants/{UUID(int=0)}", "DELETE, GET, HEAD, PUT"),
        ("/api/tenants/", "GET, HEAD, POST"),
        ("/tenant-management/v1/tenants/no-such-tenant", "GET, HEAD, PUT"),
        ("/tenant-management/v1/tenants/no-such-tenant/lifecycle/suspend", "POST"),
    ],
)
def test_a_method_that_is_not_served_is_told_those_that_are(api: httpx.Client, path: str, methods: str) -> None:
    for method in ("OPTIONS", "TRACE", "QUERY"):
        answer = api.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


@pytest.mark.parametrize("path", ["/api/v3/health", "/api/health/", "/tenant-management/v1/tenants", "/healthz"])
def test_head_is_a_get_without_its_body(stack: Stack, api: httpx.Client, path: str) -> None:
    head, get = api.head(path, headers=bearer(stack)), api.get(path, headers=bearer(stack))
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] != "0"
    assert "X-Correlation-ID" in head.headers


def test_each_document_says_how_to_log_in_and_where(api: httpx.Client) -> None:
    for mount in MOUNTS.values():
        document = api.get(f"{mount}/openapi.json").json()
        assert document["servers"] == [{"url": mount}]
        (name, scheme), *others = document["components"]["securitySchemes"].items()
        assert (scheme["type"], scheme["scheme"], others) == ("http", "bearer", [])
        for path, operations in document["paths"].items():
            for operation in operations.values():
                free = path.startswith(("/health", "/auth/login"))
                assert operation.get("security", []) == ([] if free else [{name: []}])


@pytest.fixture
def provider() -> Iterator[tuple[str, Any]]:
    """An identity provider's keys, and the private one."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "one", "use": "sig", "alg": "ES256"}

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": [public]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/keys", key
    server.shutdown()
    thread.join()
    server.server_close()


def test_tokens_of_an_identity_provider_are_believed_as_configured(
    stack: Stack, provider: tuple[str, Any]
) -> None:
    url, key = provider
    settings = {
        "TENANTRY_API_JWKS_URL": url,
        "TENANTRY_API_JWT_ISSUER": "https://login.example",
        "TENANTRY_API_JWT_AUDIENCE": "tenantry",
    }
    good = {
        "sub": "jane",
        "role": "admin",
        "iss": "https://login.example",
        "aud": "tenantry",
        "exp": time.time() + 60,
    }

    def status(base: str, key: Any, **claims: Any) -> int:
        token = jwt.encode({**good, **claims}, key, algorithm="ES256", headers={"kid": "one"})
        return httpx.get(f"{base}{PATH}", headers={"Authorization": f"Bearer {token}"}).status_code

    with second_facade(stack, settings) as base:
        assert status(base, key) == 200
        assert status(base, key, role="nobody") == 403
        assert status(base, key, iss="https://other.example") == 401
        assert status(base, key, aud="others") == 401
        assert status(base, key, exp=time.time() - 120) == 401
        assert status(base, ec.generate_private_key(ec.SECP256R1())) == 401
        # Its own tokens go on.
        assert httpx.get(f"{base}{PATH}", headers=bearer(stack)).status_code == 200
    assert status(stack.url, key) == 401, "nobody configured a provider there"


def test_a_trusted_gateway_is_believed_when_it_proves_that_it_is(stack: Stack) -> None:
    with second_facade(stack, {"TENANTRY_API_GATEWAY_SECRET": "the gateway's own"}) as base:
        said = {"X-Auth-Subject": "jane", "X-Auth-Role": "admin"}
        proof = {"X-Gateway-Secret": "the gateway's own"}
        assert httpx.get(f"{base}{PATH}", headers={**said, **proof}).status_code == 200
        assert httpx.get(f"{base}{PATH}", headers=said).status_code == 401
        assert httpx.get(f"{base}{PATH}", headers={**said, "X-Gateway-Secret": "guess"}).status_code == 401
    assert httpx.get(f"{stack.url}{PATH}", headers={**said, **proof}).status_code == 401


def test_who_asks_too_often_is_slowed(stack: Stack) -> None:
    with second_facade(stack, {"TENANTRY_API_RATE_LIMIT": "5/minute"}) as base:
        jane = {"Authorization": f"Bearer {stack.token(sub='jane')}"}
        answers = [httpx.get(f"{base}{PATH}", headers=jane) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert int(answers[-1].headers["Retry-After"]) >= 1
        # Others of that name, and others of none, are others.
        for claims in ({"sub": "joe"}, {"sub": "jane", "tenant": "a"}, {"sub": "", "tenant": "a"}):
            other = {"Authorization": f"Bearer {stack.token(**claims)}"}
            assert httpx.get(f"{base}{PATH}", headers=other).status_code == 200


def test_a_contract_can_be_left_out(stack: Stack) -> None:
    with second_facade(stack, {"TENANTRY_API_DIALECTS": "neostack"}) as base:
        assert httpx.get(f"{base}/api/v3/health").status_code == 200
        assert httpx.get(f"{base}/api/tenants/").status_code == 404


def test_a_tenant_made_through_one_contract_is_in_all(stack: Stack, api: httpx.Client) -> None:
    headers = bearer(stack)
    made = api.post(PATH, json={"id": "everywhere", "name": "Everywhere Inc"}, headers=headers)
    assert made.status_code == 201
    managed = api.get("/tenant-management/v1/tenants/everywhere", headers=headers).json()
    assert managed["legal_name"] == "Everywhere Inc"
    login = {"email": stack.admin_email, "password": stack.admin_password}
    session = {"Authorization": f"Bearer {api.post('/api/v1/auth/login', json=login).json()['access_token']}"}
    institution = api.get(f"/api/v1/tenants/{managed['tenant_id']}", headers=session).json()
    assert (institution["slug"], institution["name"]) == ("everywhere", "Everywhere Inc")
    rendered = api.get("/api/tenants/", params={"page_size": 100}).json()
    names = [each["slug"] for each in rendered["results"]]
    for page in range(2, rendered["count"] // 100 + 2):
        names += [
            each["slug"]
            for each in api.get("/api/tenants/", params={"page_size": 100, "page": page}).json()["results"]
        ]
    assert "everywhere" in names


def test_placement_obeys_the_residency(stack: Stack, api: httpx.Client) -> None:
    headers = bearer(stack)
    base = "/tenant-management/v1/tenants"
    for slug, policy in (("lives-in-eu", "eu-only"), ("lives-in-in", "in-only")):
        assert api.post(base, json={"slug": slug, "legal_name": "x"}, headers=headers).status_code == 201
        assert api.put(f"{base}/{slug}/residency", json={"policy_id": policy}, headers=headers).status_code == 200
        assert api.post(f"{base}/{slug}/lifecycle/activate", headers=headers).status_code == 200
    found = stack.api.ready("default", "lives-in-eu")
    assert found["status"]["databases"][0]["instance"] == "pool-a"
    # The only server is in eu-central-1.
    assert "region" in stack.api.trouble("tenant", "default", "lives-in-in", "NoInstance")["message"]
