"""kopf alone, keeping the bodies of all Tenants: ``python -m benchmarks.kopf_watch 10000``.

The reference for the operator's memory. ``KUBECONFIG`` names the cluster; nothing is written to it. Prints
JSON and ends when all were seen. ``kopf.index`` would do the same with more memory, but wakes every object
that waits for each one that is indexed: 10,000 were not indexed within six minutes, at 470 MiB.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import kopf

from benchmarks.measure import memory

GROUP, VERSION = "tenantry.dev", "v1alpha1"


async def run(count: int, *, secrets: bool) -> dict[str, Any]:
    """Watches until all were seen.

    :param secrets: watch the tenants' Secrets, too, as the operator does.
    """
    registry = kopf.OperatorRegistry()
    seen: dict[tuple[str, str | None, str | None], dict[str, Any]] = {}

    @kopf.on.event(GROUP, VERSION, "tenants", registry=registry)
    async def tenants(namespace: str | None, name: str | None, body: kopf.Body, **_: Any) -> None:
        seen["tenant", namespace, name] = dict(body)

    if secrets:
        labels = {"app.kubernetes.io/managed-by": "tenantry"}

        @kopf.on.event("", "v1", "secrets", registry=registry, labels=labels)
        async def bindings(namespace: str | None, name: str | None, body: kopf.Body, **_: Any) -> None:
            seen["secret", namespace, name] = dict(body)

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    started = time.monotonic()
    task = asyncio.create_task(
        kopf.operator(registry=registry, settings=settings, standalone=True, clusterwide=True)
    )
    wanted = count * (2 if secrets else 1)
    while len(seen) < wanted and not task.done():
        await asyncio.sleep(0.1)
    seconds = time.monotonic() - started
    await asyncio.sleep(10)  # workers of kopf's that are idle end
    used = memory(os.getpid())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {"objects": len(seen), "seconds": round(seconds, 2), **used}


if __name__ == "__main__":
    found = asyncio.run(run(int(sys.argv[1]), secrets="--secrets" in sys.argv))
    sys.stdout.write(json.dumps(found) + "\n")
