"""The REST facade: reads through each contract, against the same objects straight from kube-apiserver."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import Any

import aiohttp
import yaml

from benchmarks.environment import Progress, Result, bench_cluster, say
from benchmarks.http_load import Load, load
from benchmarks.measure import memory
from tenantry_api.identity import uuid_of
from tenantry_local import facade
from tenantry_local.cluster import Cluster

PROJECT = "default"
_CONNECTIONS = 16
_SECONDS = 8.0
_TENANTS = f"/apis/tenantry.dev/v1alpha1/namespaces/{PROJECT}/tenants"
_SAMPLE = 500


async def run(count: int, created: int) -> Result:
    """Reads among ``count`` Tenants, then the creation of ``created`` more."""
    result = Result("facade", f"The REST facade over {count:,} Tenants ({_CONNECTIONS} connections)")
    with bench_cluster("facade") as cluster:
        cluster.start_api({"TENANTRY_API_WAIT": "0s"})
        pid = cluster.processes.pid("api") or 0
        empty = memory(pid)["rss"]
        await _fill(cluster, count)
        await _known(cluster, count)
        used = memory(pid)
        result.data["memory"] = {"empty": empty, **used}
        result.add(
            f"memory with {count:,} Tenants",
            f"{used['rss'] / 2**20:.0f} MiB",
            f"{empty / 2**20:.0f} MiB with none",
        )
        await _reads(cluster, count, result)
        await _creation(cluster, created, result)
    return result


def _name(number: int) -> str:
    return f"t{number:05}"


def _manifest(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "tenantry.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "namespace": PROJECT},
        "spec": {
            "displayName": f"Tenant {name}",
            "plan": {"code": "pro"},
            "profile": {"type": "UNIVERSITY", "legalName": f"{name} Inc", "contactEmail": f"info@{name}.example"},
            "settings": {"theme": "dark", "locale": "en"},
        },
    }


def _administrator(cluster: Cluster) -> tuple[str, ssl.SSLContext]:
    """The API server's address, and a context with the administrator's certificate."""
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    pki = cluster.plane.pki
    context = ssl.create_default_context(cafile=str(pki.authority.certificate))
    context.load_cert_chain(str(pki.admin.certificate), str(pki.admin.key))
    return str(config["clusters"][0]["cluster"]["server"]), context


async def _fill(cluster: Cluster, count: int) -> None:
    server, context = _administrator(cluster)
    progress, done, numbers = Progress("Tenants", count), 0, iter(range(count))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def worker() -> None:
            nonlocal done
            for number in numbers:
                async with session.post(server + _TENANTS, json=_manifest(_name(number))) as answer:
                    if answer.status != 201:
                        raise RuntimeError(await answer.text())
                done += 1
                progress.at(done)

        await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))


async def _known(cluster: Cluster, count: int) -> None:
    """Waits until the facade has them all, each with its number, and the operator has nothing more to say."""
    say("waiting until all have their numbers, and are Ready")
    headers = _bearer(cluster)
    async with aiohttp.ClientSession(headers=headers) as session:
        deadline = time.monotonic() + 1800
        while True:
            async with session.get(f"{cluster.api_url}/api/tenants/?page_size=1") as answer:
                numbered = (await answer.json())["count"]
            async with session.get(f"{cluster.api_url}/api/v3/tenants?limit=1&status=active") as answer:
                ready = (await answer.json())["total"]
            if numbered >= count and ready >= count:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"of {count:,} Tenants {numbered:,} have a number and {ready:,} are Ready")
            await asyncio.sleep(2)


def _bearer(cluster: Cluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {facade.variables(cluster.state)['TENANTRY_ADMIN_TOKEN']}"}


async def _reads(cluster: Cluster, count: int, result: Result) -> None:
    server, context = _administrator(cluster)
    step = max(1, count // _SAMPLE)
    names = [_name(number) for number in range(0, count, step)]
    single = {
        "neostack": [f"/api/v3/tenants/{name}" for name in names],
        "institutions": [f"/api/v1/tenants/{uuid_of(PROJECT, name)}" for name in names],
        "render": [f"/api/tenants/{number}/" for number in range(1, count + 1, step)],
        "management": [f"/tenant-management/v1/tenants/{name}" for name in names],
    }
    pages = {
        "neostack": ["/api/v3/tenants?limit=100&offset=0"],
        "institutions": ["/api/v1/tenants?limit=100"],
        "render": ["/api/tenants/?page_size=100"],
        "management": ["/tenant-management/v1/tenants?limit=100"],
    }
    for what, direct, through in (
        ("GET one", [f"{_TENANTS}/{name}" for name in names], single),
        ("a page of 100", [f"{_TENANTS}?limit=100"], pages),
    ):
        say(f"{what}: straight from kube-apiserver")
        reference = await load(
            server, direct, connections=_CONNECTIONS, seconds=_SECONDS, headers={}, context=context
        )
        result.data.setdefault(what, {})["kube-apiserver"] = _figures(reference)
        for dialect, paths in through.items():
            say(f"{what}: {dialect}")
            found = await load(
                cluster.api_url, paths, connections=_CONNECTIONS, seconds=_SECONDS, headers=_bearer(cluster)
            )
            result.data[what][dialect] = _figures(found)
            result.add(
                f"{what}, {dialect}",
                f"{found.rate:,.0f}/s, p99 {found.p99 * 1000:.1f} ms",
                f"kube-apiserver {reference.rate:,.0f}/s, p99 {reference.p99 * 1000:.1f} ms",
                f"{found.rate / reference.rate:.2f}",
                "1.00",
            )


def _figures(found: Load) -> dict[str, float]:
    return {"per_second": round(found.rate, 1), "p50": found.p50, "p99": found.p99, "bytes": found.size}


async def _creation(cluster: Cluster, count: int, result: Result) -> None:
    say(f"{count:,} Tenants by POST")
    numbers = iter(range(count))
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(headers=_bearer(cluster), connector=connector) as session:

        async def worker() -> None:
            for number in numbers:
                body = {"id": f"post-{number}", "name": f"Posted {number}", "plan_id": 2}
                async with session.post(f"{cluster.api_url}/api/v3/tenants", json=body) as answer:
                    if answer.status != 201:
                        raise RuntimeError(await answer.text())

        started = time.monotonic()
        await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
        posted = time.monotonic() - started
    say(f"{count:,} Tenants by kubectl apply")
    items = [_manifest(f"applied-{number}") for number in range(count)]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    started = time.monotonic()
    await asyncio.to_thread(cluster.kubectl, "apply", "-f", "-", stdin=document)
    applied = time.monotonic() - started
    result.data["creation"] = {"tenants": count, "post_seconds": posted, "kubectl_seconds": applied}
    result.add(
        f"creation of {count:,} Tenants",
        f"{count / posted:,.0f}/s by POST",
        f"{count / applied:,.0f}/s by kubectl apply",
        f"{applied / posted:.2f}",
    )
