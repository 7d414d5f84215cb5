"""Clusters for end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenantry_local.cluster import Cluster
from tests.conftest import running


@pytest.fixture(scope="module")
def private_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster of one test module's own, whose operator it starts and kills as it likes."""
    with running("private", request, operator=False, api=False) as started:
        yield started
