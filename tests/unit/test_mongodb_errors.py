"""What errors of MongoDB and FerretDB mean, and what of them people read."""

from __future__ import annotations

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError, ServerSelectionTimeoutError

from tenantry_operator.engines.base import Stale
from tenantry_operator.engines.mongodb.errors import tidy, translate
from tenantry_operator.errors import ReconcileError, Retryable, Stalled

PLACES = "[msg_insert.go:168 handler.(*Handler).MsgInsert] [collection.go:163 postgresql.(*collection).x] "


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (AutoReconnect("closed"), Retryable, "ServerUnreachable"),
        (
            ServerSelectionTimeoutError("refused, Timeout: 5s, Topology: x"),
            Retryable,
            "ServerUnreachable",
        ),
        (OperationFailure("Authentication failed.", 18), Stalled, "AdminLoginRefused"),
        (OperationFailure("not authorized", 13), Stalled, "AdminLacksRights"),
        (OperationFailure("busy", 24), Retryable, "LockTimeout"),
        (OperationFailure("slow", 50), Retryable, "Timeout"),
        (OperationFailure("not primary", 10107), Retryable, "ServerUnreachable"),
        (OperationFailure("no such command", 59), Stalled, "ServerRefused"),
        (OperationFailure(f"{PLACES}FATAL: password (SQLSTATE 28P01)", 1), Stalled, "AdminLoginRefused"),
        (OperationFailure(f"{PLACES}ERROR: denied (SQLSTATE 42501)", 1), Stalled, "AdminLacksRights"),
        (OperationFailure(f"{PLACES}FATAL: terminating (SQLSTATE 57P01)", 1), Retryable, "ServerUnreachable"),
        (OperationFailure(f"{PLACES}ERROR: lock (SQLSTATE 55P03)", 1), Retryable, "LockTimeout"),
        (OperationFailure(f"{PLACES}failed to connect to `user=x`: refused", 1), Retryable, "ServerUnreachable"),
    ],
)
def test_what_they_mean(error: PyMongoError, kind: type[ReconcileError], reason: str) -> None:
    found = translate(error, "database shop__acme on 10.0.0.5:27017")
    assert isinstance(found, kind)
    assert found.reason == reason
    assert "database shop__acme on 10.0.0.5:27017" in found.message
    assert ".go:" not in found.message
    assert "Topology" not in found.message


def test_a_user_that_came_or_went_is_looked_at_again() -> None:
    assert isinstance(translate(OperationFailure("exists", 51003), "x"), Stale)


def test_values_of_a_tenant_are_not_told() -> None:
    text = 'E11000 duplicate key error collection: a.b index: sku dup key: { sku: "what is nobody\'s business" }'
    assert tidy(text) == "E11000 duplicate key error collection: a.b index: sku"
