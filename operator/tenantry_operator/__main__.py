"""``python -m tenantry_operator``: the operator."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from typing import Any

import kopf
import structlog
from kopf import DiffBaseStorage
from kubernetes.aio.config import ConfigException
from prometheus_client import start_http_server
from pydantic import ValidationError

from tenantry_operator import telemetry
from tenantry_operator.audit import Audit
from tenantry_operator.context import Context
from tenantry_operator.errors import ReconcileError
from tenantry_operator.handlers.objects import register
from tenantry_operator.instances.engines import engine_factory
from tenantry_operator.kube import CLAIMS, NAMESPACES, PODS, SECRETS, STATEFUL_SETS, KubeClient
from tenantry_operator.lease import Lease, LeaseLost
from tenantry_operator.names import GROUP
from tenantry_operator.operator import OWN_OBJECTS, Operator
from tenantry_operator.settings import Settings
from tenantry_operator.sweep import Sweep
from tenantry_operator.usage import UsageCounter

_log = structlog.get_logger(__name__)
_LAST_WORDS = 3.0
"""Seconds that the watches get to end."""


class _NoDiffs(DiffBaseStorage):
    """Reconciles are level-triggered: copying every object to compare it with its last self is for nothing."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """How kopf is to work here: it watches, and nothing else."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # Events are posted by the recorder, for what people care about
    # kopf takes its finalizer away from objects that have no handlers for their deletion: it must not be ours.
    chosen.persistence.finalizer = f"{GROUP}/unused"
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    chosen.persistence.diffbase_storage = _NoDiffs()
    chosen.watching.server_timeout = 600
    chosen.watching.connect_timeout = 30
    chosen.watching.chunk_size = 500
    for resource in (SECRETS, STATEFUL_SETS, PODS, CLAIMS):
        chosen.watching.label_selectors[resource.group, resource.version, resource.plural] = OWN_OBJECTS
    # A worker per object lives this long after its last event; ten thousand idle ones are only memory.
    chosen.queueing.idle_timeout = 0.5
    chosen.scanning.disabled = bool(settings.watch_namespaces)
    return chosen


async def _installation(settings: Settings, kube: KubeClient) -> str:
    if settings.installation_id:
        return settings.installation_id
    namespace = await kube.get(NAMESPACES, None, "kube-system")
    uid: str = namespace["metadata"]["uid"]
    return uid


async def run(settings: Settings) -> int:
    """Runs the operator until it is told to stop; the exit code."""
    kube = await KubeClient.connect()
    lease = Lease(kube, settings.namespace, settings.lease_name, settings.lease_duration)
    await lease.acquire()
    installation = await _installation(settings, kube)
    context = Context(settings, installation, kube, engine_factory(settings, installation))
    operator = Operator(context)
    await operator.load()
    audit = Audit(kube, operator.kinds, operator.namespaces)
    registry = kopf.OperatorRegistry()
    register(registry, operator)

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_via_client(**kwargs)

    @kopf.on.probe(registry=registry, id="watches")
    async def watches(**_: Any) -> str:
        dead = audit.dead()
        if dead:
            raise RuntimeError(f"the watches of {', '.join(dead)} are dead")
        return "alive"

    host = f"[{settings.bind_address}]" if ":" in settings.bind_address else settings.bind_address
    start_http_server(settings.metrics_port, settings.bind_address)
    work = [
        operator.run(),
        Sweep(operator).run(),
        UsageCounter(operator).run(),
        audit.run(),
        lease.hold(),
    ]
    background = [asyncio.create_task(coroutine) for coroutine in work]
    stop, watching_since = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=kopf_settings(settings),
            standalone=True,
            clusterwide=not settings.watch_namespaces,
            namespaces=settings.watch_namespaces,
            liveness_endpoint=f"http://{host}:{settings.liveness_port}/healthz",
            stop_flag=stop,
            ready_flag=watching_since,
        )
    )
    told = asyncio.create_task(_told_to_stop(watching_since))
    done, _ = await asyncio.wait([*background, watching, told], return_when=asyncio.FIRST_COMPLETED)
    code = 0
    for task in done:
        error = task.exception()
        if error is not None:
            code = 1
            _log.error("stopping", error=str(error))
            if isinstance(error, LeaseLost):
                # Another operator may be at work: not even the clean-up may go on.
                os._exit(code)
    await _cancel(*background, told)
    stop.set()
    await asyncio.wait([watching], timeout=_LAST_WORDS)
    await _cancel(watching)
    await context.servers.close()
    await lease.give_up()
    await kube.close()
    return code


async def _told_to_stop(watching: asyncio.Event) -> None:
    """Waits for a signal. kopf sets handlers of its own when it starts, and would then wait for our tasks."""
    await watching.wait()
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    await told.wait()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="tenantry-operator",
        description="Reconciles Tenants, Blueprints, Plans and DatabaseInstances. Set up by environment variables "
        "with the prefix TENANTRY_ (see docs/operations.md); the API server is the pod's own, or by KUBECONFIG.",
    )
    parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "TENANTRY_" + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{name}: {problem['msg']}\n")
        sys.exit(2)
    telemetry.configure_logging(settings.log_level, settings.log_format)
    try:
        sys.exit(asyncio.run(run(settings)))
    except ConfigException as error:
        sys.stderr.write(f"no way to the API server: {error}; set KUBECONFIG or run in a cluster\n")
        sys.exit(2)
    except ReconcileError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
