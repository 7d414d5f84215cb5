"""Somebody changes a tenant's schema: it is named, nobody else is suspected, and rollouts keep off if asked to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.support import Api, Object, blueprint, condition, is_ready, manifest, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "drifting"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "5s"}
ITEMS = [
    {
        "name": "items",
        "sql": "CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL DEFAULT 'none');\n"
        "CREATE INDEX items_name ON items (name);\nCREATE VIEW names AS SELECT name FROM items;",
        "rollback": "DROP VIEW names; DROP TABLE items",
    }
]
MORE = {"name": "more", "sql": "ALTER TABLE items ADD more text", "rollback": "ALTER TABLE items DROP more"}


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Iterator[Api]:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE))
    yield api
    private_cluster.kill_operator()


def make(api: Api, of: str, tenants: dict[str, str], **spec: Any) -> None:
    """A blueprint at version 1.0 with tenants, by name, and their isolations."""
    api.apply(*blueprint(SPACE, of, ITEMS, **spec))
    api.apply(*(tenant(SPACE, name, of, isolation) for name, isolation in tenants.items()))
    for name in tenants:
        api.ready(SPACE, name)
    api.wait("blueprintversion", f"{of}-1.0", SPACE, knows_its_structure)


def knows_its_structure(found: Object | None) -> bool:
    return any(each.get("fingerprint") for each in ((found or {}).get("status") or {}).get("structures") or [])


def as_admin(api: Api, name: str, statement: str) -> None:
    """Changes a tenant's schema, as somebody who may would do by hand."""
    record = record_of(api, name)
    path = f'SET search_path TO "{record.get("schema") or "public"}"; '
    run(api.cluster.admin_dsn(record["database"]), path + statement, autocommit=True)


def record_of(api: Api, name: str) -> Object:
    found = api.get("tenant", name, SPACE)
    assert found is not None
    record: Object = found["status"]["databases"][0]
    return record


def drifted(api: Api, name: str, *objects: str) -> Object:
    """Waits until a Tenant says that exactly these objects differ."""

    def tells(found: Object | None) -> bool:
        record = ((found or {}).get("status") or {}).get("databases")[0]
        return (record.get("schemaDrift") or {}).get("objects", []) == sorted(objects)

    return api.wait("tenant", name, SPACE, tells, 60)


def is_drifted(found: Object) -> tuple[str, str]:
    told = condition(found, "Drifted")
    assert told is not None
    return told["status"], told["reason"]


def bump(api: Api, of: str, number: str, before: str, *migrations: Object) -> None:
    spec = {"blueprint": of, "version": number, "from": before, "migrations": list(migrations)}
    api.apply(manifest("BlueprintVersion", f"{of}-{number}", spec, namespace=SPACE))
    api.patch("blueprint", of, SPACE, {"spec": {"version": number}})


def completed(api: Api, name: str) -> Object:
    found = api.wait("rollout", name, SPACE, lambda r: r is not None and is_ready(r, "Completed"))
    return dict(found["status"])


@pytest.mark.parametrize("isolation", ["Schema", "Database"])
def test_objects_that_somebody_changed_are_named_until_they_are_as_before(api: Api, isolation: str) -> None:
    of = f"named-{isolation.lower()}"
    one, other = f"{of}-a", f"{of}-b"
    make(api, of, {one: isolation, other: isolation})
    as_admin(
        api, one, "CREATE TABLE extra (id int); ALTER TABLE items DROP name CASCADE; ALTER TABLE items ADD x int"
    )
    found = drifted(
        api,
        one,
        "column items.name: missing",
        "column items.x: added",
        "index items_name: missing",
        "table extra: added",
        "view names: missing",
    )
    assert is_drifted(found) == ("True", "SchemaChanged")
    message = (condition(found, "Drifted") or {})["message"]
    assert message.startswith(f"database {of} differs from version 1.0: column items.name: missing; ")
    # It works, and it is nobody's fault but its own.
    assert is_ready(found)
    assert is_drifted(api.get("tenant", other, SPACE) or {}) == ("False", "AsDesired")
    events = api.kubectl("get", "events", "-n", SPACE, "--field-selector", f"involvedObject.name={one}")
    assert "SchemaChanged" in events
    as_admin(
        api,
        one,
        "DROP TABLE extra; ALTER TABLE items DROP x; ALTER TABLE items ADD name text NOT NULL DEFAULT 'none';"
        "CREATE INDEX items_name ON items (name); CREATE VIEW names AS SELECT name FROM items",
    )
    found = drifted(api, one)
    assert is_drifted(found) == ("False", "AsDesired")


def test_what_only_moved_to_the_end_of_a_table_is_no_drift(api: Api) -> None:
    make(api, "order", {"order-a": "Schema"})
    as_admin(api, "order-a", "CREATE TABLE here (id int)")
    drifted(api, "order-a", "table here: added")
    as_admin(
        api,
        "order-a",
        "DROP TABLE here; DROP VIEW names; ALTER TABLE items DROP id; ALTER TABLE items ADD id int PRIMARY KEY;"
        "CREATE VIEW names AS SELECT name FROM items",
    )
    assert is_drifted(drifted(api, "order-a")) == ("False", "AsDesired")


def test_who_may_change_the_schema_does_not_drift(api: Api) -> None:
    make(api, "free", {"free-a": "Schema", "free-b": "Schema"})
    allowed = [{"blueprint": "free", "isolation": "Schema", "ddl": "Allowed"}]
    api.patch("tenant", "free-a", SPACE, {"spec": {"databases": allowed}})
    api.ready(SPACE, "free-a")
    for name in ("free-a", "free-b"):
        as_admin(api, name, "CREATE TABLE extra (id int)")
    drifted(api, "free-b", "table extra: added")
    assert "schemaDrift" not in record_of(api, "free-a")
    # What was drift is none any more once it is allowed.
    api.patch("tenant", "free-b", SPACE, {"spec": {"databases": allowed}})
    drifted(api, "free-b")


def test_rollouts_and_their_ways_back_are_no_drift(api: Api) -> None:
    make(api, "moving", {"moving-a": "Schema", "moving-b": "Database"})
    bump(api, "moving", "1.1", "1.0", MORE)
    completed(api, "moving-1.1")
    time.sleep(4)
    api.patch("blueprint", "moving", SPACE, {"spec": {"version": "1.0"}})
    completed(api, "moving-1.0")
    time.sleep(4)
    for name in ("moving-a", "moving-b"):
        found = api.get("tenant", name, SPACE) or {}
        assert is_drifted(found) == ("False", "AsDesired")
        assert record_of(api, name)["version"] == "1.0"
    assert "SchemaChanged" not in api.kubectl("get", "events", "-n", SPACE, "-o", "name")


def test_a_restart_makes_no_copy_and_forgets_no_drift(api: Api) -> None:
    make(api, "again", {"again-a": "Schema", "again-b": "Schema"})
    as_admin(api, "again-a", "CREATE TABLE extra (id int)")
    before = drifted(api, "again-a", "table extra: added")["metadata"]["resourceVersion"]
    made = run(api.cluster.admin_dsn(), "SELECT max(oid) FROM pg_database")
    api.cluster.kill_operator()
    api.cluster.start_operator(QUICK)
    time.sleep(5)
    assert drifted(api, "again-a", "table extra: added")["metadata"]["resourceVersion"] == before
    assert run(api.cluster.admin_dsn(), "SELECT max(oid) FROM pg_database") == made
    # What comes then is compared in detail, with a copy that is made for it.
    as_admin(api, "again-b", "CREATE TABLE other (id int)")
    drifted(api, "again-b", "table other: added")


def test_a_frozen_tenant_gets_no_version_until_its_changes_are_acknowledged(api: Api) -> None:
    make(api, "frozen", {"frozen-a": "Schema", "frozen-b": "Schema"}, rollout={"drift": "Freeze"})
    as_admin(api, "frozen-a", "CREATE TABLE extra (id int)")
    assert is_ready(drifted(api, "frozen-a", "table extra: added"))
    bump(api, "frozen", "1.1", "1.0", MORE)
    status = completed(api, "frozen-1.1")
    assert (status["total"], status["completed"], status["skipped"]) == (1, 1, 1)
    assert "1 frozen (frozen-a)" in status["message"]
    ready = api.trouble("tenant", SPACE, "frozen-a", "Frozen")
    assert "table extra: added" in ready["message"]
    assert "tenantry.dev/acknowledge" in ready["message"]
    assert record_of(api, "frozen-a")["version"] == "1.0"
    assert record_of(api, "frozen-b")["version"] == "1.1"
    # It works as before.
    assert api.query(SPACE, "frozen-a", "frozen", "SELECT count(*) FROM items") == [(0,)]
    api.annotate(SPACE, "frozen-a", acknowledge="by-hand-1")
    api.ready(SPACE, "frozen-a")
    assert record_of(api, "frozen-a")["version"] == "1.1"
    found = drifted(api, "frozen-a", "table extra: added")
    assert found["status"]["handled"]["acknowledge"] == "by-hand-1"
    # What was accepted holds for the next version too; what is new does not.
    bump(api, "frozen", "1.2", "1.1", {"name": "third", "sql": "ALTER TABLE items ADD third text"})
    assert completed(api, "frozen-1.2")["completed"] == 2
    as_admin(api, "frozen-a", "ALTER TABLE extra ADD more int")
    api.wait(
        "tenant",
        "frozen-a",
        SPACE,
        lambda t: (
            t is not None
            and t["status"]["databases"][0]["schemaDrift"]["digest"]
            != t["status"]["databases"][0]["acknowledgedSchema"]
        ),
    )
    bump(api, "frozen", "1.3", "1.2", {"name": "fourth", "sql": "ALTER TABLE items ADD fourth text"})
    assert completed(api, "frozen-1.3")["skipped"] == 1
    api.trouble("tenant", SPACE, "frozen-a", "Frozen")
    # The policy is not for ever either.
    api.patch("blueprint", "frozen", SPACE, {"spec": {"rollout": {"drift": "Report"}}})
    api.ready(SPACE, "frozen-a")
    assert record_of(api, "frozen-a")["version"] == "1.3"


def test_undoing_the_change_thaws_a_frozen_tenant_in_a_rollout(api: Api) -> None:
    make(api, "thaw", {"thaw-a": "Schema", "thaw-b": "Schema"}, rollout={"drift": "Freeze"})
    as_admin(api, "thaw-a", "ALTER TABLE items ADD extra int")
    drifted(api, "thaw-a", "column items.extra: added")
    bump(api, "thaw", "1.1", "1.0", MORE)
    completed(api, "thaw-1.1")
    api.trouble("tenant", SPACE, "thaw-a", "Frozen")
    as_admin(api, "thaw-a", "ALTER TABLE items DROP extra")
    api.ready(SPACE, "thaw-a")
    assert record_of(api, "thaw-a")["version"] == "1.1"
    assert "schemaDrift" not in record_of(api, "thaw-a")
