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
from tests.contract.conftest import Stack

pytestmark = pytest.mark.e2e

EXAMPLES = 12
"""Of each operation and mode. Every valid one may make a tenant."""


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("dialect", MOUNTS)
def test_no_request_is_answered_by_a_server_error(stack: Stack, dialect: str, mode: GenerationMode) -> None:
    mount = MOUNTS[dialect]
    schema = schemathesis.openapi.from_url(f"{stack.url}{mount}/openapi.json")
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
            case.call_and_validate(
                base_url=f"{stack.url}{mount}", headers=headers, checks=[not_a_server_error], timeout=30
            )

        # What has no input, or takes any, has no invalid one.
        fine = (schemathesis.errors.InvalidSchema, Unsatisfiable) if invalid else ()
        with contextlib.suppress(*fine):
            call()
    assert called > EXAMPLES
