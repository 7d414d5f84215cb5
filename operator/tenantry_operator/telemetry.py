"""Metrics and logs."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

tenants_by_phase = Gauge("tenantry_tenants", "Tenants by phase.", ["phase"])
reconciles = Counter("tenantry_reconciles", "Reconciles by kind and result.", ["kind", "result"])
reconcile_errors = Counter("tenantry_reconcile_errors", "Reconciles that ended in an error.", ["kind", "reason"])
reconcile_seconds = Histogram(
    "tenantry_reconcile_seconds",
    "How long reconciles took.",
    ["kind"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
queue_depth = Gauge("tenantry_queue_depth", "Objects that wait to be reconciled, or are.", ["queue"])
api_writes = Counter("tenantry_api_writes", "Writes to the API server.", ["verb", "resource"])
database_steps = Counter("tenantry_database_steps", "Steps executed on database servers.", ["step"])
drift_found = Counter("tenantry_drift_found", "Tenant databases found to differ from what they should be.")
changed_schemas = Gauge(
    "tenantry_tenants_with_changed_schema", "Tenants whose schema differs from what their version has."
)
rollouts_by_phase = Gauge("tenantry_rollouts", "Rollouts by phase.", ["phase"])
instance_up = Gauge(
    "tenantry_instance_up", "Whether a database server was reached by the last sweep.", ["database_instance"]
)
sweep_seconds = Histogram(
    "tenantry_sweep_seconds",
    "How long observing a server took.",
    ["database_instance"],
    buckets=(0.01, 0.1, 0.5, 2, 10, 60),
)
sweep_age = Gauge("tenantry_sweep_age_seconds", "Seconds since a server was last observed.", ["database_instance"])
watch_age = Gauge(
    "tenantry_watch_age_seconds", "How long a watch has been behind the API server; 0: it is not.", ["kind"]
)


def configure_logging(level: str, style: str) -> None:
    """One line per record on standard error, as JSON or for people; the libraries' records included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=("object",))],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # kopf narrates every watch event at INFO and below; its warnings are what an operator's reader needs.
    logging.getLogger("kopf").setLevel(logging.WARNING if root.level > logging.DEBUG else logging.DEBUG)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
