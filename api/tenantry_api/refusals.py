"""How the facade writes to the API server, and what its refusals mean for a caller."""

from __future__ import annotations

import structlog

from tenantry_api.problems import Forbidden, Invalid, Missing, Problem, Taken, Unavailable
from tenantry_operator.kube import ApiError

_log = structlog.get_logger(__name__)

MANAGER = "tenantry-api"
"""The facade's name as a manager of fields."""
MERGE_PATCH = "application/merge-patch+json"
ATTEMPTS = 16
"""How often something is tried that others change at the same time."""


def problem_of(error: ApiError) -> Problem:
    """What an answer of the API server means for a caller."""
    said = error.message.partition(": ")[2] or error.message
    if error.status == 404:
        return Missing("Tenant not found")
    if error.status in (400, 422):
        return Invalid(said)
    if error.status == 403:
        _log.error("the API server refuses", error=error.message)
        return Forbidden("the server may not do that; its operator has to allow it")
    if error.status == 409:
        return Taken("it was changed by somebody else at the same time; try again")
    if error.status == 413:
        return Invalid("it is too large", status=413)
    return Unavailable("the cluster does not answer; try again")
