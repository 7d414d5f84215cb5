"""Other operators on the same control plane and the same PostgreSQL: tenants a second.

They know no schemas of an application: what they make for a tenant is a login, rights and a Secret, with an
empty schema (provider-sql) or an empty database (ext-postgres-operator). Tenantry makes its 20 tables as
well.

provider-sql is built from its Go module. ext-postgres-operator has no released module, so that a checkout
of it has to be given.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.environment import Progress, Result, bench_cluster, say
from benchmarks.workload import PARALLEL, SPACE, Kube, Provisioned, blueprint, named, tenants, wide_migrations
from tenantry_local.build import Program, ensure, find_go, run_go
from tenantry_local.cluster import Cluster
from tenantry_operator.kube import SECRETS, ApiError, Object, Resource

PROVIDER_SQL = "github.com/crossplane-contrib/provider-sql"
TARGET = 10
RATES = (10, 100)
"""``--max-reconcile-rate``: its default, and ten times that."""
_STUCK_AFTER = 120.0
_GROUP = "postgresql.sql.crossplane.io"
_CONFIG = Resource(_GROUP, "v1alpha1", "providerconfigs", "ProviderConfig", namespaced=False)
_DATABASE = Resource(_GROUP, "v1alpha1", "databases", "Database", namespaced=False)
_ROLE = Resource(_GROUP, "v1alpha1", "roles", "Role", namespaced=False)
_SCHEMA = Resource(_GROUP, "v1alpha1", "schemas", "Schema", namespaced=False)
_GRANT = Resource(_GROUP, "v1alpha1", "grants", "Grant", namespaced=False)
_POSTGRES = Resource("db.movetokube.com", "v1alpha1", "postgres", "Postgres")
_USER = Resource("db.movetokube.com", "v1alpha1", "postgresusers", "PostgresUser")


@dataclass(frozen=True, slots=True)
class Server:
    """The shared PostgreSQL, as its superuser."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def of(cls, cluster: Cluster) -> Server:
        url = urlsplit(cluster.admin_dsn())
        return cls(url.hostname or "", url.port or 5432, unquote(url.username or ""), unquote(url.password or ""))


async def run(count: int, checkout: Path | None) -> Result:
    """Measures ``count`` tenants with each.

    :param checkout: of ext-postgres-operator; None: it is left out.
    """
    result = Result("peers", f"{count} tenants until ready, and other operators on the same servers")
    module = Program(
        "provider-sql",
        _folder("provider-sql"),
        f"{PROVIDER_SQL}/cmd/provider",
        PROVIDER_SQL,
        "k8s.io/client-go",
        {},
    )
    provider = ensure(module)
    crds = _module_folder(module) / "package" / "crds"
    ext = _build(checkout) if checkout is not None else None
    with bench_cluster("peers") as cluster:
        async with Kube.connect(cluster.kubeconfig) as kube:
            own = {isolation: await _own(kube, isolation, count) for isolation in ("Schema", "Database")}
            cluster.stop("operator")
            await _define(kube, cluster, crds, [_CONFIG, _DATABASE, _ROLE, _SCHEMA, _GRANT])
            for rate in RATES:
                done = await _provider_sql(kube, cluster, provider, count, rate)
                _report(result, own, f"provider-sql, {rate} reconciles a second at most", done, "Schema")
            if ext is not None and checkout is not None:
                folder = checkout / "charts" / "ext-postgres-operator" / "crds"
                await _define(kube, cluster, folder, [_POSTGRES, _USER])
                done = await _ext_postgres_operator(kube, cluster, ext, count)
                _report(result, own, "ext-postgres-operator", done, "Database")
            cluster.start_operator()
    if ext is None:
        result.notes.append("ext-postgres-operator was left out: --ext-postgres-operator names a checkout of it")
    return result


def _report(result: Result, own: Mapping[str, Provisioned], who: str, done: Provisioned, isolation: str) -> None:
    ready = "" if done.complete else f", only {len(done.ready)} of {done.asked} became ready"
    ratio = own[isolation].rate / done.rate if done.rate else float("inf")
    result.add(
        f"Tenantry, {isolation}, 20 tables",
        f"{own[isolation].rate:.1f} a second",
        f"{done.rate:.2f} a second, {who}{ready}",
        f"{ratio:.1f}",
        f"{TARGET}",
    )
    result.data[who] = {
        "tenants": done.asked,
        "ready": len(done.ready),
        "seconds": round(done.seconds, 2),
        "rate": round(done.rate, 3),
        "tenantry": round(own[isolation].rate, 3),
        "isolation": isolation,
        "ratio": round(ratio, 2),
    }


async def _own(kube: Kube, isolation: str, count: int) -> Provisioned:
    name = f"own{isolation.lower()}"
    await kube.prepare(blueprint(name, wide_migrations(), isolation))
    await kube.provision(tenants([f"warmup-{name}"], name, isolation), f"first of {name}")
    return await kube.provision(
        tenants(named(count, prefix=isolation[0].lower()), name, isolation), f"Tenantry, {isolation}"
    )


async def _define(kube: Kube, cluster: Cluster, folder: Path, resources: Sequence[Resource]) -> None:
    """Applies CRDs, and waits until the API server serves them."""
    cluster.kubectl("apply", "--server-side", "-f", str(folder))
    deadline = time.monotonic() + 60
    for resource in resources:
        while True:
            try:
                await kube.kube.request("GET", resource.path(), query={"resourceVersion": "0"})
                break
            except ApiError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


async def _provider_sql(kube: Kube, cluster: Cluster, binary: Path, count: int, rate: int) -> Provisioned:
    server, shared = Server.of(cluster), f"shared{rate}"
    data = {
        "username": server.user,
        "password": server.password,
        "endpoint": server.host,
        "port": str(server.port),
    }
    reference = {"namespace": SPACE, "name": "superuser"}
    credentials = {"source": "PostgreSQLConnectionSecret", "connectionSecretRef": reference}
    await kube.create(SECRETS, _secret("superuser", data))
    await kube.create(
        _CONFIG, _cluster_scoped(_CONFIG, "default", {"credentials": credentials, "sslMode": "disable"})
    )
    await kube.create(_DATABASE, _cluster_scoped(_DATABASE, shared, {"forProvider": {}}))
    objects = {name: _provider_objects(name, shared) for name in named(count, prefix=f"p{rate}x")}
    flags = [f"--max-reconcile-rate={rate}", "--metrics-bind-address=127.0.0.1:0"]
    with _running([str(binary), *flags], cluster, {}) as alive:
        return await _until(kube, objects, _is_ready, alive, f"provider-sql, at most {rate} a second")


def _provider_objects(name: str, shared: str) -> list[tuple[Resource, Object]]:
    role = {
        "forProvider": {"privileges": {"login": True}},
        "writeConnectionSecretToRef": {"namespace": SPACE, "name": f"{name}-sql"},
    }
    schema = {"forProvider": {"databaseRef": {"name": shared}, "roleRef": {"name": name}}}
    rights = {"roleRef": {"name": name}, "databaseRef": {"name": shared}, "privileges": ["CONNECT", "TEMPORARY"]}
    return [
        (_ROLE, _cluster_scoped(_ROLE, name, role)),
        (_SCHEMA, _cluster_scoped(_SCHEMA, name, schema)),
        (_GRANT, _cluster_scoped(_GRANT, name, {"forProvider": rights})),
    ]


async def _ext_postgres_operator(kube: Kube, cluster: Cluster, binary: Path, count: int) -> Provisioned:
    server = Server.of(cluster)
    environment = {
        "POSTGRES_HOST": f"{server.host}:{server.port}",
        "POSTGRES_USER": server.user,
        "POSTGRES_PASS": server.password,
        "POSTGRES_URI_ARGS": "sslmode=disable",
        "POSTGRES_DEFAULT_DATABASE": "postgres",
        "WATCH_NAMESPACE": SPACE,
    }
    objects = {}
    for name in named(count, prefix="x"):
        user = {"role": name, "database": name, "secretName": "ext", "privileges": "WRITE"}
        objects[name] = [
            (_POSTGRES, _namespaced(_POSTGRES, name, {"database": name})),
            (_USER, _namespaced(_USER, name, user)),
        ]
    flags = ["--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=127.0.0.1:0"]
    with _running([str(binary), *flags], cluster, environment) as alive:
        return await _until(kube, objects, _succeeded, alive, "ext-postgres-operator")


async def _until(
    kube: Kube,
    objects: Mapping[str, Sequence[tuple[Resource, Object]]],
    done: Callable[[Object], bool],
    alive: Callable[[], bool],
    what: str,
) -> Provisioned:
    """Creates objects as fast as they are taken, and waits until all of each tenant are done."""
    reached = Provisioned(len(objects))
    started = time.monotonic()
    todo = iter(objects.items())
    progress = Progress(what, len(objects))

    async def create() -> None:
        for _, pairs in todo:
            for resource, obj in pairs:
                await kube.create(resource, obj)

    creating = asyncio.gather(*(create() for _ in range(PARALLEL)))
    kinds = list(dict.fromkeys(resource for pairs in objects.values() for resource, _ in pairs))
    last = started
    while not reached.complete and time.monotonic() - last < _STUCK_AFTER and alive():
        await asyncio.sleep(0.25)
        missing = {}
        for kind in kinds:
            listed = await kube.kube.request("GET", kind.path(SPACE), query={"resourceVersion": "0"})
            missing[kind] = {obj["metadata"]["name"] for obj in listed["items"] if done(obj)}
        now = time.monotonic()
        for name in objects.keys() - reached.ready.keys():
            if all(name in missing[kind] for kind in kinds):
                reached.ready[name] = now - started
                last = now
        progress.at(len(reached.ready))
    await creating
    reached.seconds = max(reached.ready.values(), default=0.0)
    return reached


def _is_ready(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _succeeded(obj: Object) -> bool:
    return bool((obj.get("status") or {}).get("succeeded"))


def _cluster_scoped(resource: Resource, name: str, spec: Object) -> Object:
    return {
        "apiVersion": f"{resource.group}/{resource.version}",
        "kind": resource.kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _namespaced(resource: Resource, name: str, spec: Object) -> Object:
    obj = _cluster_scoped(resource, name, spec)
    obj["metadata"]["namespace"] = SPACE
    return obj


def _secret(name: str, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SPACE},
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }


@contextmanager
def _running(
    command: Sequence[str], cluster: Cluster, environment: Mapping[str, str]
) -> Iterator[Callable[[], bool]]:
    """Runs an operator as the cluster's administrator; it is ended by its process id. Yields whether it runs."""
    env = {**os.environ, **environment, "KUBECONFIG": str(cluster.kubeconfig)}
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
        try:
            yield lambda: process.poll() is None
            if process.poll() is not None:
                log.seek(0)
                end = log.read()[-2000:].decode(errors="replace")
                raise RuntimeError(f"{command[0]} ended while it was measured:\n{end}")
        finally:
            process.terminate()


def _folder(name: str) -> Path:
    return Path(__file__).resolve().parent / "peers" / name


def _module_folder(program: Program) -> Path:
    """Where the source of a module is, in Go's cache."""
    go = find_go(program.go_mod())
    found = json.loads(run_go([go, "mod", "download", "-json", program.release], program, "modules fetched"))
    return Path(found["Dir"])


def _build(checkout: Path) -> Path:
    binary = checkout / ".ext-postgres-operator"
    say(f"building {checkout}")
    subprocess.run(
        [find_go((checkout / "go.mod").read_text()), "build", "-trimpath", "-o", str(binary), "./cmd"],
        cwd=checkout,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
        check=True,
    )
    return binary
