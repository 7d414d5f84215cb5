"""No password is lost when the API server does what it was asked and its answer does not arrive.

PostgreSQL is real. The API server is a stand-in, because a real one does not lose answers when it is told to;
that real servers may be killed at any moment is shown in ``tests/e2e/test_outages.py``.
"""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from tenantry_crds.common import Isolation
from tenantry_operator.conditions import find
from tenantry_operator.context import Context
from tenantry_operator.engines.base import Credentials
from tenantry_operator.engines.postgres.connections import ConnectionSettings
from tenantry_operator.engines.postgres.engine import PostgresEngine
from tenantry_operator.errors import Retryable
from tenantry_operator.instances.servers import Access
from tenantry_operator.kube import ApiError, Conflict, NotFound, Resource
from tenantry_operator.settings import Settings
from tenantry_operator.tenants import secrets
from tenantry_operator.tenants.reconcile import TenantReconciler

Object = dict[str, Any]
INSTALLATION = "test"
SPACE = "lost-answers"
NOTES = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)"
ISOLATIONS = (Isolation.DATABASE, Isolation.SCHEMA, Isolation.ROW)
_numbers = itertools.count(1)


class Unreliable:
    """An API server that does what it is asked, and may not say so. Objects by plural, namespace and name."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], Object] = {}
        self.down = False
        self.loses = ""
        """The verb whose next answer gets lost, on Secrets; after it the server is down."""
        self._versions = itertools.count(100)

    def _answer(self, verb: str, resource: Resource, obj: Object) -> Object:
        if (verb, resource.plural) == (self.loses, "secrets"):
            self.loses, self.down = "", True
            raise ApiError(0, "ApiServerUnreachable", "the answer got lost")
        return copy.deepcopy(obj)

    def _keep(self, resource: Resource, namespace: str | None, obj: Object) -> Object:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[resource.plural, namespace, obj["metadata"]["name"]] = obj
        return obj

    def _known(self, resource: Resource, namespace: str | None, name: str) -> Object:
        if self.down:
            raise ApiError(0, "ApiServerUnreachable", "connection refused")
        found = self.objects.get((resource.plural, namespace, name))
        if found is None:
            raise NotFound(404, "NotFound", name)
        return found

    def add(self, resource: Resource, obj: Object) -> Object:
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{meta['name']}")
        meta.setdefault("generation", 1)
        return copy.deepcopy(self._keep(resource, meta.get("namespace"), copy.deepcopy(obj)))

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        return self._answer("get", resource, self._known(resource, namespace, name))

    async def create(self, resource: Resource, namespace: str | None, body: Object) -> Object:
        try:
            self._known(resource, namespace, body["metadata"]["name"])
        except NotFound:
            return self._answer("create", resource, self.add(resource, body))
        raise Conflict(409, "AlreadyExists", "it exists")

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Object) -> Object:
        known = self._known(resource, namespace, name)
        if body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "it was changed")
        body["metadata"]["uid"] = known["metadata"]["uid"]
        return self._answer("replace", resource, self.add(resource, body))

    async def patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Object, *, sub: str | None = None
    ) -> Object:
        known = copy.deepcopy(self._known(resource, namespace, name))
        return self._answer("patch", resource, self._keep(resource, namespace, _merged(known, patch)))


def _merged(obj: Object, patch: Object) -> Object:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(obj.get(key), dict):
            _merged(obj[key], value)
        elif value is None:
            obj.pop(key, None)
        else:
            obj[key] = value
    return obj


class Tenant:
    """A tenant, and the operator that reconciles it."""

    def __init__(self, server: Any, isolation: Isolation) -> None:
        self.kube = Unreliable()
        self.blueprint = f"bp-lost-{next(_numbers)}"
        self.key = (SPACE, "acme")
        self.server = server
        self.isolation = isolation
        settings = Settings()
        self.context = Context(settings, INSTALLATION, self.kube, self._engine)  # type: ignore[arg-type]
        self.reconciler = TenantReconciler(self.context)
        self._fill(settings.namespace)

    def _engine(self, access: Access) -> PostgresEngine:
        return PostgresEngine(access, installation=INSTALLATION, settings=ConnectionSettings(lock_timeout=0.5))

    def _fill(self, home: str) -> None:
        context, kube = self.context, self.kube
        spec = {"engine": "PostgreSQL", "version": "1", "isolation": self.isolation}
        version = {"blueprint": self.blueprint, "version": "1", "migrations": [{"name": "m", "sql": NOTES}]}
        tenant = {"databases": [{"name": "main", "blueprint": self.blueprint, "instance": "pool"}]}
        external = {
            "host": self.server.host,
            "port": self.server.port,
            "adminSecret": {"name": "pool-admin"},
            "tls": {"mode": "Disable"},
        }
        for kind, store, name, where, content in (
            ("Blueprint", context.blueprints, self.blueprint, SPACE, spec),
            ("BlueprintVersion", context.versions, f"{self.blueprint}-1", SPACE, version),
            ("DatabaseInstance", context.instances, "pool", home, {"engine": "PostgreSQL", "external": external}),
            ("Tenant", context.tenants, "acme", SPACE, tenant),
        ):
            meta = {"name": name, "namespace": where, "creationTimestamp": "2026-11-25T00:00:00Z"}
            obj = {"apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": content}
            plural = f"{kind.lower()}s"
            store.put(kube.add(Resource("tenantry.dev", "v1alpha1", plural, kind), obj))
        login = {"username": self.server.username, "password": self.server.password}
        data = {key: base64.b64encode(value.encode()).decode() for key, value in login.items()}
        kube.add(secrets.SECRETS, {"metadata": {"name": "pool-admin", "namespace": home}, "data": data})

    async def reconcile(self) -> None:
        await self.reconciler.reconcile(self.key)

    async def struggle(self, verb: str) -> None:
        """The answer to a write of the Secret gets lost, and for some reconciles nothing answers at all."""
        self.kube.loses = verb
        for _ in range(4):
            with pytest.raises(Retryable):
                await self.reconcile()
        assert not self.kube.loses, "the Secret was not written"
        self.kube.down = False

    def is_ready(self) -> bool:
        obj = self.context.tenants.get(self.key) or {}
        return (find(obj, "Ready") or {}).get("status") == "True"

    def secret(self) -> dict[str, str]:
        data = self.kube.objects["secrets", SPACE, "acme-main-db"]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @staticmethod
    def works(uri: str) -> bool:
        try:
            psycopg.connect(uri).close()
        except psycopg.OperationalError:
            return False
        return True

    def annotate(self, name: str, value: str) -> None:
        obj = self.kube.objects["tenants", SPACE, "acme"]
        obj["metadata"].setdefault("annotations", {})[f"tenantry.dev/{name}"] = value
        self.context.tenants.put(self.kube.add(Resource("tenantry.dev", "v1alpha1", "tenants", "Tenant"), obj))


@pytest.fixture(params=ISOLATIONS, ids=str)
async def tenant(server: Any, request: pytest.FixtureRequest) -> AsyncIterator[Tenant]:
    made = Tenant(server, request.param)
    yield made
    made.kube.down = False
    await made.context.servers.close()
    with server.superuser() as connection:
        pattern = f"^{made.blueprint}"
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname ~ %s", (pattern,)):
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", (pattern,)):
            connection.execute(f'DROP ROLE "{name}"')


async def test_a_first_secret_whose_writing_was_not_confirmed_has_a_login_that_works(tenant: Tenant) -> None:
    await tenant.struggle("create")
    handed_out = tenant.secret()["uri"]
    assert tenant.works(handed_out)
    await tenant.reconcile()
    assert tenant.is_ready()
    assert tenant.secret()["uri"] == handed_out
    assert tenant.works(handed_out)


async def test_a_rotation_whose_writing_was_not_confirmed_leaves_two_logins_that_work(tenant: Tenant) -> None:
    await tenant.reconcile()
    old = tenant.secret()["uri"]
    tenant.annotate("rotate", "1")
    await tenant.struggle("replace")
    new = tenant.secret()["uri"]
    assert new != old
    await tenant.reconcile()
    assert tenant.is_ready()
    assert tenant.secret()["uri"] == new
    assert tenant.works(new)
    assert tenant.works(old)


async def test_a_password_that_was_set_by_an_operator_that_came_late_is_put_right(tenant: Tenant) -> None:
    await tenant.reconcile()
    await tenant.reconcile()
    known = tenant.secret()
    seen = tenant.reconciler.seen[tenant.key][0]
    server = await tenant.context.servers.get(seen.home)
    late = Credentials(known["username"], "set-by-the-other-operator")
    steps = server.engine.plan(seen.desired, await server.engine.observe_one(seen.desired), late)
    assert [step.name for step in steps] == ["set-password"]
    await server.engine.apply(seen.desired, steps, late)
    assert not tenant.works(known["uri"])
    await server.observe()
    await tenant.reconcile()
    assert tenant.is_ready()
    assert tenant.secret() == known
    assert tenant.works(known["uri"])


async def test_a_secret_that_an_earlier_tenant_of_the_name_left_is_taken_over(tenant: Tenant) -> None:
    await tenant.reconcile()
    known, secret = tenant.secret(), tenant.kube.objects["secrets", SPACE, "acme-main-db"]
    secret["metadata"]["ownerReferences"][0]["uid"] = "of-an-earlier-tenant"
    secrets.remember(tenant.context.secrets, tenant.kube.add(secrets.SECRETS, secret))
    await tenant.reconcile()
    owners = tenant.kube.objects["secrets", SPACE, "acme-main-db"]["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == ["uid-acme"]
    assert tenant.secret() == known


async def test_nothing_is_done_to_logins_while_the_secret_is_somebody_elses(tenant: Tenant) -> None:
    await tenant.reconcile()
    uri = tenant.secret()["uri"]
    secret = tenant.kube.objects["secrets", SPACE, "acme-main-db"]
    secret["metadata"]["labels"] = {}
    tenant.context.secrets.drop((SPACE, "acme-main-db"))
    for _ in range(3):
        await tenant.reconcile()
    assert (find(tenant.context.tenants.get(tenant.key) or {}, "Ready") or {})["reason"] == "SecretNameTaken"
    assert tenant.works(uri)
