"""Requests that are made up from each OpenAPI document, valid and invalid ones: none breaks anything."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from tenantry_api.app import MOUNTS
from tenantry_api.identity import uuid_of
from tenantry_api.tenants import NUMBER_LABEL
from tests.contract.conftest import Stack
from tests.e2e.support import manifest

pytestmark = pytest.mark.e2e

EXAMPLES = 12
"""Of each operation and mode. Every valid one may make a tenant."""


@pytest.fixture
def there(stack: Stack, dialect: str, mode: GenerationMode) -> dict[str, Any]:
    """How a contract names a tenant that is there, in its paths."""
    name = f"generated-{dialect}-{mode.value}"
    stack.api.apply(manifest("Tenant", name, {"displayName": name}, namespace="default"), manager="tenantry-api")
    if dialect == "render":

        def is_numbered(obj: Any) -> bool:
            return obj is not None and NUMBER_LABEL in (obj["metadata"].get("labels") or {})

        found = stack.api.wait("tenant", name, "default", is_numbered)
        return {"id": found["metadata"]["labels"][NUMBER_LABEL]}
    return {"tenant_id": name if dialect == "neostack" else uuid_of("default", name)}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("dialect", MOUNTS)
def test_no_request_is_answered_by_a_server_error(
    stack: Stack, there: dict[str, Any], dialect: str, mode: GenerationMode
) -> None:
    mount = MOUNTS[dialect]
    schema = schemathesis.openapi.from_url(f"{stack.url}{mount}/openapi.json")
    # Made up tokens would be most of what is invalid, and lead no further.
    schema.config.generation.update(with_security_parameters=False)
    headers = {"Authorization": f"Bearer {stack.token(role='SUPER_ADMIN')}"}
    invalid, called = mode is GenerationMode.NEGATIVE, 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            nonlocal called
            called += 1
            if called % 2 and case.path_parameters and case.method != "DELETE":
                # What is made up leads to no tenant, and most of it no further.
                case.path_parameters = there
                for header in ("X-Tenant-ID", "If-Match"):
                    (case.headers or {}).pop(header, None)
            case.call_and_validate(
                base_url=f"{stack.url}{mount}", headers=headers, checks=[not_a_server_error], timeout=30
            )

        # What has no input, or takes any, has no invalid one.
        fine = (schemathesis.errors.InvalidSchema, Unsatisfiable) if invalid else ()
        with contextlib.suppress(*fine):
            call()
    assert called > EXAMPLES
