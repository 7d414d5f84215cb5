"""The facade's core: identities, ownership of fields, tokens, limits, the envelope around every request."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm
from pydantic import TypeAdapter, ValidationError

from tenantry_api import identity
from tenantry_api.auth.tokens import Tokens
from tenantry_api.envelope import CORRELATION, Envelope
from tenantry_api.fields import FreeForm, Text
from tenantry_api.ownership import leaves, owners
from tenantry_api.problems import Problem, Unauthenticated
from tenantry_api.ratelimit import Limiter
from tenantry_api.settings import Settings
from tenantry_api.tenants import Tenant

SECRET = "a secret that is long enough, even for those who take the longer hash"
Object = dict[str, Any]
UUID = "6474e4c3-2f1c-5e94-ace6-e2421ec66db3"
"""Clients keep it: it never changes."""


def tokens(**settings: Any) -> Tokens:
    return Tokens(Settings(jwt_secret=SECRET, **settings))


# Identity


def test_a_uuid_is_the_same_for_ever() -> None:
    found = identity.uuid_of("default", "acme")
    assert found == UUID
    assert uuid.UUID(found).version == 5
    assert found != identity.uuid_of("other", "acme")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True), st.booleans())
def test_every_id_has_a_name_that_kubernetes_takes(tenant_id: str, taken: bool) -> None:
    name = identity.name_of(tenant_id, taken=taken)
    assert len(name) <= 63
    assert name.strip("-") == name
    assert name
    assert "_" not in name


def test_names_that_would_be_the_same_are_told_apart() -> None:
    assert identity.name_of("a_b") == identity.name_of("a-b") == "a-b"
    assert identity.name_of("a_b", taken=True) != identity.name_of("a-b", taken=True)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Corporation", "acme-corporation"),
        ("Université de Yaoundé I", "universite-de-yaounde-i"),
        ("  --  ", "tenant"),
        ("日本", "tenant"),
        ("x" * 100, "x" * 63),
    ],
)
def test_a_slug_is_made_of_a_name(name: str, slug: str) -> None:
    assert identity.slug_of(name) == slug
    assert identity.slug_of(name, number=12) == f"{slug[:60]}-12"


# Ownership


def managed(manager: str, fields: Object, **more: str) -> Object:
    return {"manager": manager, "operation": "Apply", "fieldsV1": fields, **more}


OBJ = {
    "metadata": {
        "managedFields": [
            managed("argocd", {"f:spec": {"f:displayName": {}, "f:profile": {"f:domain": {}}, "f:contacts": {}}}),
            managed("kubectl", {"f:spec": {"f:tags": {'k:{"tagKey":"a"}': {".": {}, "f:tagValue": {}}}}}),
            managed("tenantry-operator", {"f:status": {"f:phase": {}}}, subresource="status"),
            managed("tenantry-api", {"f:spec": {"f:state": {}}}),
        ]
    }
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (("spec", "displayName"), ["argocd"]),
        (("spec", "profile", "domain"), ["argocd"]),
        (("spec", "profile"), ["argocd"]),
        (("spec", "profile", "legalName"), []),
        (("spec", "contacts"), ["argocd"]),
        (("spec", "contacts", "0"), ["argocd"]),
        (("spec", "tags"), ["kubectl"]),
        (("spec", "state"), []),
        (("spec", "plan"), []),
        (("status", "phase"), []),
    ],
)
def test_a_field_is_its_managers(path: tuple[str, ...], found: list[str]) -> None:
    assert owners(OBJ, path, "tenantry-api") == found


def test_a_patch_changes_its_leaves() -> None:
    patch = {"profile": {"domain": "x"}, "tags": [1], "plan": None, "settings": {}}
    assert list(leaves(patch, ("spec",))) == [
        ("spec", "profile", "domain"),
        ("spec", "tags"),
        ("spec", "plan"),
        ("spec", "settings"),
    ]


# Fields


@pytest.mark.parametrize("value", ["a\x00b", 7, None])
def test_text_has_no_nul(value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python(value)


def nested(depth: int) -> Object:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return dict(value)


@pytest.mark.parametrize(
    "value", [nested(40), {"a": ["x\x00"]}, {"\x00": 1}, {"a": list(range(10_001))}, {"a": "\ud800"}, []]
)
def test_free_form_is_within_reason(value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FreeForm).validate_python(value)


def test_free_form_is_taken_as_it_is() -> None:
    value = {**nested(20), "list": [1, "x", None, {"b": 1.5}]}
    assert TypeAdapter(FreeForm).validate_python(value) == value


# Tokens


async def test_a_token_that_was_given_is_believed() -> None:
    principal = await tokens().check(tokens().issue("jane", "SUPER_ADMIN", tenant="acme"))
    assert (principal.subject, principal.is_admin, principal.tenant) == ("jane", True, "acme")
    other = await tokens().check(tokens().issue("joe", "USER"))
    assert (other.is_admin, other.roles) == (False, {"USER"})


def signed(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "x", "exp": time.time() + 60, **claims}, key, algorithm=algorithm)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "a.b.c",
        "e30.e30.e30",
        signed("another secret that is long enough"),
        signed(exp=time.time() - 120),
        signed(nbf=time.time() + 600),
        jwt.encode({"sub": "no end"}, SECRET, algorithm="HS256"),
        signed(None, "none"),
        signed(rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"),
        signed(SECRET, "HS512"),
        "x" * 10_000,
    ],
    # Tokens differ from one process that runs tests to the next.
    ids=[str(number) for number in range(12)],
)
async def test_no_other_token_is(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await tokens().check(token)


async def test_without_a_key_nobody_is_believed() -> None:
    with pytest.raises(Unauthenticated):
        await Tokens(Settings()).check(tokens().issue("jane", "admin"))


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="32 characters"):
        Tokens(Settings(jwt_secret="short"))


async def test_a_subject_can_be_written_anywhere() -> None:
    principal = await tokens().check(signed(sub="a\ud800b", tenant_id="\ud800"))
    assert (principal.subject, principal.tenant) == ("a?b", "?")


async def test_a_token_without_a_subject_is_its_tenants() -> None:
    assert (await tokens().check(signed(sub="", tenant_id="acme"))).subject == "acme"
    assert (await tokens().check(signed(sub=""))).subject == "unknown"


async def test_a_role_can_be_written_anywhere() -> None:
    assert (await tokens().check(signed(role="a\ud800b"))).roles == {"a?b"}


async def test_a_token_without_an_end_is_not_believed_for_ever() -> None:
    with pytest.raises(Unauthenticated):
        await tokens().check(signed(exp=10**400))


@pytest.mark.parametrize("claims", [{"role": 7}, {"roles": "admin"}, {"role": ["admin"]}, {"tenant_id": {"a": 1}}])
async def test_claims_of_a_wrong_form_give_nothing(claims: Object) -> None:
    principal = await tokens().check(signed(**claims))
    assert (principal.is_admin, principal.tenant) == (False, "")


@pytest.fixture
def keys() -> Iterator[tuple[str, list[Object]]]:
    """Where a provider's keys are, and the list of them."""
    published: list[Object] = []

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": published}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys", published
        server.shutdown()
        thread.join()


async def test_a_key_that_the_provider_takes_back_opens_nothing(
    keys: tuple[str, list[Object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, published = keys
    monkeypatch.setattr("tenantry_api.auth.tokens._KEPT", 0.05)
    stolen, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def public(key: Any, kid: str) -> Object:
        return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}

    def token(key: Any, kid: str, sub: str) -> str:
        return jwt.encode({"sub": sub, "exp": time.time() + 60}, key, "ES256", headers={"kid": kid})

    published.append(public(stolen, "one"))
    checked = tokens(jwks_url=url)
    assert (await checked.check(token(stolen, "one", "jane"))).subject == "jane"
    published[:] = [public(new, "two")]
    await asyncio.sleep(0.1)
    for sub in ("jane", "joe"):
        with pytest.raises(Unauthenticated):
            await checked.check(token(stolen, "one", sub))
    assert (await checked.check(token(new, "two", "jane"))).subject == "jane"


# Limits on requests


async def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    limiter = Limiter(Settings(rate_limit="2/minute"))
    await limiter.check("jane")
    await limiter.check("jane")
    await limiter.check("joe")
    with pytest.raises(Problem) as caught:
        await limiter.check("jane")
    assert caught.value.status == 429
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 62


async def test_without_redis_each_counts_for_itself() -> None:
    limiter = Limiter(Settings(rate_limit="1/minute", redis_url="redis://127.0.0.1:9"))
    await limiter.check("jane")
    with pytest.raises(Problem):
        await limiter.check("jane")


@pytest.mark.parametrize("text", ["often", "0/hour", "1000/hour;5/second", "-1/hour", " "])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="TENANTRY_API_RATE_LIMIT"):
        Limiter(Settings(rate_limit=text))


@pytest.mark.parametrize(
    "url",
    ["redis://:sec#ret@localhost", "redis://:sec/ret@localhost", "localhost:6379", "http://h", "redis://h:port"],
)
def test_a_url_of_redis_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="TENANTRY_API_REDIS_URL") as caught:
        Limiter(Settings(rate_limit="1/hour", redis_url=url))
    assert "sec" not in str(caught.value)


# The envelope


def wrapped(*, stale: bool = False) -> httpx.AsyncClient:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Object:
        return {"size": len(await request.body()), "id": request.scope[CORRELATION]}

    @app.get("/echo")
    async def get(request: Request) -> Object:
        return {"id": request.scope[CORRELATION]}

    transport = httpx.ASGITransport(app=Envelope(app, 2048, lambda: stale, lambda path: ""))
    return httpx.AsyncClient(transport=transport, base_url="http://x")


async def test_head_is_answered_as_get() -> None:
    async with wrapped(stale=True) as client:
        answer = await client.head("/echo")
        assert (answer.status_code, answer.headers["Warning"][:3]) == (200, "110")


async def test_every_answer_has_a_correlation_id() -> None:
    async with wrapped() as client:
        given = await client.get("/echo", headers={"X-Correlation-ID": "mine-1"})
        assert given.headers["X-Correlation-ID"] == given.json()["id"] == "mine-1"
        for value in ("bad\tvalue", "x" * 200, "<script>"):
            made = await client.get("/echo", headers={"X-Correlation-ID": value})
            assert made.headers["X-Correlation-ID"] == made.json()["id"] != value


async def test_what_is_too_large_is_refused_whether_it_says_so_or_not() -> None:
    async def pieces() -> Any:
        for _ in range(10):
            yield b"x" * 1000

    async with wrapped() as client:
        assert (await client.post("/echo", content=b"x" * 2048)).json()["size"] == 2048
        for content in (b"x" * 2049, pieces()):
            answer = await client.post("/echo", content=content)
            assert answer.status_code == 413
            assert "2048 bytes" in json.loads(answer.content)["detail"]


async def test_a_line_end_in_a_path_is_part_of_it() -> None:
    async with wrapped() as client:
        assert (await client.get("/echo%0A")).status_code == 404


async def test_reads_say_when_they_may_be_old() -> None:
    async with wrapped(stale=True) as client:
        assert (await client.get("/echo")).headers["Warning"].startswith("110 ")
        assert "Warning" not in (await client.post("/echo")).headers
    async with wrapped() as client:
        assert "Warning" not in (await client.get("/echo")).headers


# A Tenant as the dialects read it


def test_a_tenant_that_has_nothing_is_read_all_the_same() -> None:
    meta = {"namespace": "default", "name": "acme", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    tenant = Tenant({"metadata": meta})
    assert (tenant.id, tenant.display_name, tenant.legal_name, tenant.state) == ("acme", "acme", "acme", "Active")
    assert (tenant.number, tenant.is_ready, tenant.is_stalled, tenant.trouble) == (None, False, False, "")
    assert (tenant.updated_at, tenant.usage, tenant.databases) == ("2026-01-01T00:00:00Z", {}, {})


def test_a_status_of_an_older_spec_does_not_count() -> None:
    conditions = [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "True"}]
    meta = {"namespace": "default", "name": "acme", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2}
    tenant = Tenant({"metadata": meta, "status": {"observedGeneration": 1, "conditions": conditions}})
    assert (tenant.is_ready, tenant.is_stalled) == (False, False)
