"""kopf alone, with an index that keeps the bodies of all Tenants: ``python -m benchmarks.kopf_index 10000``.

The reference for the operator's memory. ``KUBECONFIG`` names the cluster; nothing is written to it. Prints
JSON and ends when the index is filled.
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
    """Fills the index.

    :param secrets: watch the tenants' Secrets, too, as the operator does.
    """
    registry = kopf.OperatorRegistry()
    seen: dict[str, Any] = {}

    @kopf.index(GROUP, VERSION, "tenants", registry=registry)
    async def bodies(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> dict[Any, Any]:
        seen[f"t/{namespace}/{name}"] = None
        return {(namespace, name): dict(body)}

    if secrets:

        @kopf.index("", "v1", "secrets", registry=registry, labels={"app.kubernetes.io/managed-by": "tenantry"})
        async def bindings(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> dict[Any, Any]:
            seen[f"s/{namespace}/{name}"] = None
            return {(namespace, name): dict(body)}

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
