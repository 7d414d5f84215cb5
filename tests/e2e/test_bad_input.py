"""What is missing, wrong or broken: said where people look, healed by mending the cause, nobody else harmed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tenantry_local.errors import LocalError
from tests.e2e.support import NOTES, Api, blueprint, condition, manifest, namespace, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "bad-input"


@pytest.fixture(scope="module")
def api(cluster: Any) -> Iterator[Api]:
    api = Api(cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES), tenant(SPACE, "healthy", "notes"))
    api.ready(SPACE, "healthy")
    yield api
    healthy = api.ready(SPACE, "healthy")
    assert healthy["metadata"]["generation"] == 1
    assert run(api.cluster.tenant_uri(SPACE, "healthy-notes-db"), "SELECT 1") == [(1,)]


def test_a_wrong_field_is_rejected_and_named(api: Api) -> None:
    wrong = tenant(SPACE, "wrong", "notes")
    wrong["spec"]["databases"][0]["isolaton"] = "Schema"
    with pytest.raises(LocalError, match="isolaton"):
        api.apply(wrong)
    wrong = tenant(SPACE, "wrong", "notes", isolation="Shared")
    with pytest.raises(LocalError, match=r"(?s)isolation.*Shared"):
        api.apply(wrong)


def test_a_missing_blueprint_is_waited_for_and_heals_by_itself(api: Api) -> None:
    api.apply(tenant(SPACE, "early", "later"))
    ready = api.trouble("tenant", SPACE, "early", "BlueprintNotFound")
    assert "later" in ready["message"]
    api.apply(blueprint(SPACE, "later", NOTES)[0])
    ready = api.trouble("tenant", SPACE, "early", "BlueprintVersionNotFound")
    assert "1.0" in ready["message"]
    api.apply(*blueprint(SPACE, "later", NOTES))
    api.ready(SPACE, "early", timeout=30)


def test_a_missing_plan_is_waited_for(api: Api) -> None:
    api.apply(tenant(SPACE, "planless", "notes", plan={"code": "bad-input-plan"}))
    assert "bad-input-plan" in api.trouble("tenant", SPACE, "planless", "PlanNotFound")["message"]
    api.apply(manifest("Plan", "bad-input-plan", {"database": {"connections": 3}}))
    api.ready(SPACE, "planless", timeout=30)
    limit = run(api.cluster.admin_dsn(), "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'notes__planless__a'")
    assert limit == [(3,)]


def test_broken_sql_says_which_migration_what_and_where(api: Api) -> None:
    broken = [
        {"name": "good", "sql": "CREATE TABLE a (id int)"},
        {"name": "bad", "sql": "SELECT 1;\nCREATE TABEL b ()"},
    ]
    api.apply(*blueprint(SPACE, "broken", broken), tenant(SPACE, "unlucky", "broken"))
    ready = api.trouble("tenant", SPACE, "unlucky", "MigrationFailed")
    for word in ("broken", "1.0", "bad", "TABEL", "line 2"):
        assert word in ready["message"]
    stalled = condition(api.get("tenant", "unlucky", SPACE) or {}, "Stalled")
    assert stalled is not None
    assert stalled["status"] == "True"
    # Mended with a new version: the tenant itself is not touched.
    good = {
        "blueprint": "broken",
        "version": "1.0.1",
        "migrations": [{"name": "good", "sql": "CREATE TABLE a (id int)"}],
    }
    api.apply(manifest("BlueprintVersion", "broken-1.0.1", good, namespace=SPACE))
    api.patch("blueprint", "broken", SPACE, {"spec": {"version": "1.0.1"}})
    assert api.ready(SPACE, "unlucky")["metadata"]["generation"] == 1


def test_sql_in_a_missing_configmap_is_waited_for(api: Api) -> None:
    step = {"name": "big", "configMapRef": {"name": "big-sql", "key": "schema.sql"}}
    api.apply(*blueprint(SPACE, "mapped", [step]), tenant(SPACE, "mapped", "mapped"))
    assert "big-sql" in api.trouble("tenant", SPACE, "mapped", "ConfigMapNotFound")["message"]
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "big-sql", "namespace": SPACE},
            "data": {"schema.sql": NOTES[0]["sql"]},
        }
    )
    api.ready(SPACE, "mapped")
    # An edited, already applied migration is an error that names it; the data stays.
    api.query(SPACE, "mapped", "mapped", "INSERT INTO notes (body) VALUES ('kept')")
    api.patch("configmap", "big-sql", SPACE, {"data": {"schema.sql": "CREATE TABLE other (id int)"}})
    assert "big" in api.trouble("tenant", SPACE, "mapped", "MigrationEdited", timeout=90)["message"]
    assert api.query(SPACE, "mapped", "mapped", "SELECT count(*) FROM notes") == [(1,)]
    api.patch("configmap", "big-sql", SPACE, {"data": {"schema.sql": NOTES[0]["sql"]}})
    api.ready(SPACE, "mapped", timeout=90)


def test_a_missing_instance_and_its_missing_secret_and_an_unreachable_server(api: Api) -> None:
    away = tenant(SPACE, "away", "notes")
    away["spec"]["databases"][0]["instance"] = "elsewhere"
    api.apply(away)
    assert "elsewhere" in api.trouble("tenant", SPACE, "away", "InstanceNotFound")["message"]
    pool = api.get("databaseinstance", "pool-a", "tenantry-system") or {}
    external = {**pool["spec"]["external"], "port": 1}
    instance = manifest(
        "DatabaseInstance",
        "elsewhere",
        {"engine": "PostgreSQL", "role": "Shared", "cordoned": True, "external": external},
        namespace=SPACE,
    )
    api.apply(instance)
    ready = api.trouble("databaseinstance", SPACE, "elsewhere", "SecretNotFound")
    assert external["adminSecret"]["name"] in ready["message"]
    api.trouble("tenant", SPACE, "away", "SecretNotFound")
    values = api.kubectl.secret("tenantry-system", external["adminSecret"]["name"])
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": external["adminSecret"]["name"], "namespace": SPACE},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
        }
    )
    assert "elsewhere" in api.trouble("tenant", SPACE, "away", "ServerUnreachable")["message"]
    api.trouble("databaseinstance", SPACE, "elsewhere", "ServerUnreachable")
    # A new tenant goes on working meanwhile.
    api.apply(tenant(SPACE, "beside", "notes"))
    api.ready(SPACE, "beside", timeout=40)
    instance["spec"]["external"]["port"] = pool["spec"]["external"]["port"]
    api.apply(instance)
    assert api.ready(SPACE, "away")["metadata"]["generation"] == 1
    # An instance that holds tenants does not go.
    api.delete("databaseinstance", "elsewhere", SPACE)
    assert "bad-input/away" in api.trouble("databaseinstance", SPACE, "elsewhere", "HoldsTenants")["message"]
    api.patch("tenant", "away", SPACE, {"spec": {"deletionPolicy": "Delete"}})
    api.delete("tenant", "away", SPACE)
    api.gone("tenant", "away", SPACE)
    api.gone("databaseinstance", "elsewhere", SPACE)


def test_no_region_no_place(api: Api) -> None:
    api.apply(tenant(SPACE, "martian", "notes", regions=["mars"]))
    assert "mars" in api.trouble("tenant", SPACE, "martian", "NoInstance")["message"]
    assert not (api.get("tenant", "martian", SPACE) or {})["metadata"].get("finalizers")
    api.delete("tenant", "martian", SPACE)
    api.gone("tenant", "martian", SPACE)


def test_unsafe_keys_are_refused_under_row_isolation_and_named(api: Api) -> None:
    unsafe = [{"name": "m", "sql": "CREATE TABLE people (email text PRIMARY KEY)"}]
    api.apply(*blueprint(SPACE, "unsafe", unsafe), tenant(SPACE, "rowish", "unsafe", "Row"))
    assert "people" in api.trouble("tenant", SPACE, "rowish", "UnsafeKeys")["message"]


def test_a_pin_to_another_version_under_row_isolation_is_refused(api: Api) -> None:
    pinned = tenant(SPACE, "pinned", "notes", "Row")
    pinned["spec"]["databases"][0]["version"] = "0.9"
    api.apply(pinned)
    api.trouble("tenant", SPACE, "pinned", "PinNotSupported")


def test_two_tenants_of_one_id(api: Api) -> None:
    api.apply(tenant(SPACE, "first", "notes", id="same-id"))
    api.ready(SPACE, "first")
    api.apply(tenant(SPACE, "second", "notes", id="same-id"))
    assert "first" in api.trouble("tenant", SPACE, "second", "IdTaken")["message"]
    api.patch("tenant", "first", SPACE, {"spec": {"deletionPolicy": "Delete"}})
    api.delete("tenant", "first", SPACE)
    api.gone("tenant", "first", SPACE)
    api.ready(SPACE, "second", timeout=40)


@pytest.mark.parametrize("what", ["database", "role", "schema"])
def test_what_a_stranger_made_is_never_taken_over_or_dropped(api: Api, what: str) -> None:
    name, admin = f"taken-{what}", api.cluster.admin_dsn()
    isolation = "Schema" if what == "schema" else "Database"
    if what == "database":
        run(admin, f'CREATE DATABASE "notes__{name}"', autocommit=True)
    elif what == "role":
        run(admin, f'CREATE ROLE "notes__{name}"')
    else:
        run(api.cluster.admin_dsn("notes"), f'CREATE SCHEMA "{name}"')
    api.apply(tenant(SPACE, name, "notes", isolation, deletionPolicy="Delete"))
    assert name in api.trouble("tenant", SPACE, name, "NameTaken")["message"]
    api.delete("tenant", name, SPACE)
    api.gone("tenant", name, SPACE)
    left = {
        "database": (admin, f"SELECT 1 FROM pg_database WHERE datname = 'notes__{name}'"),
        "role": (admin, f"SELECT 1 FROM pg_roles WHERE rolname = 'notes__{name}'"),
        "schema": (api.cluster.admin_dsn("notes"), f"SELECT 1 FROM pg_namespace WHERE nspname = '{name}'"),
    }[what]
    assert run(*left) == [(1,)]
