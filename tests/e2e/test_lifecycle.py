"""The life of a tenant: retention, adoption, removal, rotation, drift, quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.e2e.support import NOTES, Api, blueprint, condition, manifest, namespace, refused, run, tenant

pytestmark = pytest.mark.e2e

SPACE = "life"
ISOLATIONS = ("Database", "Schema", "Row")
QUICK = {
    "TENANTRY_SWEEP_INTERVAL": "2s",
    "TENANTRY_USAGE_INTERVAL": "2s",
    "TENANTRY_RETIRE_AFTER": "3s",
    "TENANTRY_LEASE_DURATION": "2s",
}


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    usage = [{"resource": "notes", "query": "SELECT '' AS label, count(*) AS count FROM notes"}]
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES, usage=usage))
    return api


def made(api: Api, name: str, isolation: str = "Schema", **spec: Any) -> str:
    """A tenant with one note; its URI."""
    api.apply(tenant(SPACE, name, "notes", isolation, **spec))
    api.ready(SPACE, name)
    uri = api.secret(SPACE, name, "notes")["uri"]
    run(uri, "INSERT INTO notes (body) VALUES ('kept')")
    return uri


def notes(api: Api, name: str) -> int:
    return int(api.query(SPACE, name, "notes", "SELECT count(*) FROM notes")[0][0])


def test_a_draft_has_nothing(api: Api) -> None:
    api.apply(tenant(SPACE, "draft", "notes", state="Draft"))
    found = api.ready(SPACE, "draft", "Draft")
    assert found["status"]["phase"] == "Draft"
    assert not found["metadata"].get("finalizers")
    assert api.secret(SPACE, "draft", "notes") == {}
    assert run(api.cluster.admin_dsn(), "SELECT 1 FROM pg_roles WHERE rolname LIKE 'notes__draft%'") == []
    api.set_state(SPACE, "draft", "Active")
    api.ready(SPACE, "draft")


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_deleted_keeps_the_data_until_retention_and_comes_back(api: Api, isolation: str) -> None:
    name = f"gone-{isolation.lower()}"
    uri = made(api, name, isolation, deletionPolicy="Delete")
    api.set_state(SPACE, name, "Deleted")
    found = api.ready(SPACE, name, "Deleted")
    assert found["status"]["deletedAt"]
    assert refused(uri)
    api.set_state(SPACE, name, "Active")
    api.ready(SPACE, name)
    assert notes(api, name) == 1
    api.set_state(SPACE, name, "Deleted", retentionDays=0)
    api.wait("tenant", name, SPACE, lambda t: t is not None and not t["status"].get("databases"))
    assert refused(uri)
    assert run(api.cluster.admin_dsn(), f"SELECT 1 FROM pg_roles WHERE rolname LIKE '%{name}%'") == []


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_retain_keeps_the_data_for_a_tenant_of_the_same_name(api: Api, isolation: str) -> None:
    name = f"back-{isolation.lower()}"
    uri = made(api, name, isolation)
    api.delete("tenant", name, SPACE)
    api.gone("tenant", name, SPACE)
    assert refused(uri)
    api.apply(tenant(SPACE, name, "notes", isolation))
    api.ready(SPACE, name)
    assert notes(api, name) == 1


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_delete_drops_this_tenants_data_and_nobody_elses(api: Api, isolation: str) -> None:
    name, other = f"drop-{isolation.lower()}", f"stay-{isolation.lower()}"
    uri = made(api, name, isolation, deletionPolicy="Delete")
    made(api, other, isolation)
    api.delete("tenant", name, SPACE)
    api.gone("tenant", name, SPACE)
    assert refused(uri)
    assert api.secret(SPACE, name, "notes") == {}
    assert notes(api, other) == 1
    api.apply(tenant(SPACE, name, "notes", isolation, deletionPolicy="Delete"))
    api.ready(SPACE, name)
    assert notes(api, name) == 0


def test_archive_is_stalled_and_drops_nothing(api: Api) -> None:
    made(api, "museum", deletionPolicy="Archive")
    api.delete("tenant", "museum", SPACE)
    ready = api.trouble("tenant", SPACE, "museum", "ArchiveNotSupported")
    assert "nothing was dropped" in ready["message"]
    api.patch("tenant", "museum", SPACE, {"spec": {"deletionPolicy": "Retain"}})
    api.gone("tenant", "museum", SPACE)
    api.apply(tenant(SPACE, "museum", "notes", state="Archived"))
    api.trouble("tenant", SPACE, "museum", "ArchiveNotSupported")
    api.set_state(SPACE, "museum", "Active")
    api.ready(SPACE, "museum")
    assert notes(api, "museum") == 1


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_a_database_taken_out_goes_by_the_policy(api: Api, policy: str) -> None:
    name = f"two-{policy.lower()}"
    two = tenant(SPACE, name, "notes", deletionPolicy=policy)
    two["spec"]["databases"].append({"name": "extra", "blueprint": "notes", "isolation": "Schema"})
    api.apply(two)
    found = api.ready(SPACE, name)
    assert {d["name"]: d["schema"] for d in found["status"]["databases"]} == {
        "notes": name,
        "extra": f"{name}__extra",
    }
    assert "binding" not in found["status"]
    uri = api.secret(SPACE, name, "extra")["uri"]
    two["spec"]["databases"].pop()
    api.apply(two)
    api.wait("tenant", name, SPACE, lambda t: t is not None and len(t["status"]["databases"]) == 1)
    assert refused(uri)
    assert api.secret(SPACE, name, "extra") == {}
    left = run(api.cluster.admin_dsn("notes"), f"SELECT 1 FROM pg_namespace WHERE nspname = '{name}__extra'")
    assert bool(left) == (policy == "Retain")
    assert api.query(SPACE, name, "notes", "SELECT 1") == [(1,)]


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_rotation_changes_the_login_and_retires_the_old_one(api: Api, isolation: str) -> None:
    name = f"turn-{isolation.lower()}"
    old = made(api, name, isolation)
    with psycopg.connect(old, autocommit=True) as session:
        api.annotate(SPACE, name, rotate="1")
        api.wait(
            "tenant", name, SPACE, lambda t: t is not None and (t["status"].get("handled") or {}).get("rotate")
        )
        new = api.secret(SPACE, name, "notes")["uri"]
        assert new != old
        assert notes(api, name) == 1
        # The old login works on for a while, so that applications can change over.
        session.execute("SELECT 1")
        api.wait("tenant", name, SPACE, lambda _: refused(old), timeout=120)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    again = made(api, name, isolation)
    assert again == new
    api.annotate(SPACE, name, rotate="2")
    api.wait("tenant", name, SPACE, lambda _: api.secret(SPACE, name, "notes")["uri"] != new)
    assert notes(api, name) == 2


def test_a_password_is_rotated_before_it_gets_too_old(api: Api) -> None:
    old = made(api, "punctual", rotationDays=2)
    written = {"metadata": {"annotations": {"tenantry.dev/written-at": timestamp(days_ago=1)}}}
    api.patch("secret", "punctual-notes-db", SPACE, written)
    api.ready(SPACE, "punctual")
    assert api.secret(SPACE, "punctual", "notes")["uri"] == old
    written["metadata"]["annotations"]["tenantry.dev/written-at"] = timestamp(days_ago=2)
    api.patch("secret", "punctual-notes-db", SPACE, written)
    api.wait("tenant", "punctual", SPACE, lambda _: api.secret(SPACE, "punctual", "notes")["uri"] != old)
    api.wait("tenant", "punctual", SPACE, lambda _: refused(old))
    assert notes(api, "punctual") == 1


def timestamp(*, days_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(timespec="seconds").replace("+00:00", "Z")


def test_a_deleted_or_edited_secret_is_made_anew(api: Api) -> None:
    made(api, "careless")
    api.delete("secret", "careless-notes-db", SPACE)
    api.wait("secret", "careless-notes-db", SPACE, lambda s: s is not None)
    assert notes(api, "careless") == 1
    api.patch("secret", "careless-notes-db", SPACE, {"data": {"password": "bm9wZQ=="}})
    api.wait("secret", "careless-notes-db", SPACE, lambda s: s is not None and s["data"]["password"] != "bm9wZQ==")
    assert notes(api, "careless") == 1


def test_moves_are_refused_and_the_database_works_on(api: Api) -> None:
    made(api, "mover")
    api.patch("tenant", "mover", SPACE, {"spec": {"databases": [{"blueprint": "notes", "isolation": "Database"}]}})
    api.trouble("tenant", SPACE, "mover", "MoveNotSupported")
    assert notes(api, "mover") == 1
    api.patch("tenant", "mover", SPACE, {"spec": {"databases": [{"blueprint": "notes", "isolation": "Schema"}]}})
    api.ready(SPACE, "mover")


DRIFT = {
    "a revoked grant": ("{db}", 'REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM "{owner}__app", "{login}"'),
    "a login that was disabled": ("postgres", 'ALTER ROLE "{login}" NOLOGIN'),
    "a login that was dropped": ("{db}", 'DROP OWNED BY "{login}"; DROP ROLE "{login}"'),
    "a connection limit": ("postgres", 'ALTER ROLE "{login}" CONNECTION LIMIT 1'),
    "everybody may connect": ("postgres", 'GRANT CONNECT ON DATABASE "{db}" TO PUBLIC'),
}


@pytest.mark.parametrize("isolation", ["Database", "Schema"])
@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_found_and_mended(api: Api, isolation: str, what: str) -> None:
    name = f"drift-{list(DRIFT).index(what)}-{isolation.lower()}"
    uri = made(api, name, isolation)
    record = (api.get("tenant", name, SPACE) or {})["status"]["databases"][0]
    words = {
        "db": record["database"],
        "schema": f'"{record["schema"]}"' if record.get("schema") else "public",
        "owner": record.get("owner", f"notes__{name}"),
        "login": record["login"],
    }
    database, statement = (text.format(**words) for text in DRIFT[what])
    run(api.cluster.admin_dsn(database), statement)

    def mended(_: Any) -> bool:
        limit = f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{record['login']}' AND rolcanlogin"
        public = f"SELECT 1 FROM pg_database, aclexplode(datacl) a WHERE datname = '{words['db']}' AND grantee = 0"
        if run(api.cluster.admin_dsn(), limit) != [(-1,)] or run(api.cluster.admin_dsn(), public):
            return False
        try:
            return run(uri, "SELECT count(*) FROM notes") == [(1,)]
        except psycopg.Error:
            return False

    api.wait("tenant", name, SPACE, mended, timeout=120)
    api.ready(SPACE, name)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_lost_data_is_never_made_again_empty_in_silence(api: Api, isolation: str) -> None:
    # A blueprint of its own: under Row, all its tenants lose their data.
    of = f"lost-{isolation.lower()}"
    names = ("asks", "waits")
    api.apply(*blueprint(SPACE, of, NOTES))
    for name in names:
        api.apply(tenant(SPACE, f"{of}-{name}", of, isolation))
        record = api.ready(SPACE, f"{of}-{name}")["status"]["databases"][0]
        run(api.secret(SPACE, f"{of}-{name}", of)["uri"], "INSERT INTO notes (body) VALUES ('x')")
        if isolation == "Database":
            run(api.cluster.admin_dsn(), f'DROP DATABASE "{record["database"]}" WITH (FORCE)', autocommit=True)
    if isolation != "Database":
        run(api.cluster.admin_dsn(of), f'DROP SCHEMA "{record["schema"]}" CASCADE')
        if isolation == "Schema":
            run(api.cluster.admin_dsn(of), f'DROP SCHEMA "{of}-asks" CASCADE')
    for name in names:
        assert "tenantry.dev/recreate" in api.trouble("tenant", SPACE, f"{of}-{name}", "DataLost")["message"]
        found = api.get("tenant", f"{of}-{name}", SPACE) or {}
        assert (condition(found, "Drifted") or {})["status"] == "True"
    for name in names:
        api.trouble("tenant", SPACE, f"{of}-{name}", "DataLost")
        api.annotate(SPACE, f"{of}-{name}", recreate="1")
        api.ready(SPACE, f"{of}-{name}")
        assert run(api.secret(SPACE, f"{of}-{name}", of)["uri"], "SELECT count(*) FROM notes") == [(0,)]
    # What was asked for once is not asked for when data is lost again.
    login = api.secret(SPACE, f"{of}-asks", of)
    run(login["uri"], "INSERT INTO notes (body) VALUES ('y')")
    if isolation == "Database":
        run(api.cluster.admin_dsn(), f'DROP DATABASE "{login["database"]}" WITH (FORCE)', autocommit=True)
    else:
        run(api.cluster.admin_dsn(of), f'DROP SCHEMA "{login["schema"]}" CASCADE')
    api.trouble("tenant", SPACE, f"{of}-asks", "DataLost")


@pytest.mark.parametrize("isolation", ["Database", "Schema"])
def test_the_storage_quota_refuses_writing_until_there_is_room(api: Api, isolation: str) -> None:
    name = f"full-{isolation.lower()}"
    limit = "16Mi" if isolation == "Database" else "1Mi"
    uri = made(api, name, isolation, limits=[{"resource": "storage", "limit": limit}])
    run(uri, "INSERT INTO notes (body) SELECT repeat(md5(g::text), 60) FROM generate_series(1, 12000) g")

    def exceeded(word: str) -> Any:
        return lambda t: t is not None and (condition(t, "QuotaExceeded") or {}).get("status") == word

    api.wait("tenant", name, SPACE, exceeded("True"))
    api.wait("tenant", name, SPACE, lambda _: not writes(uri))
    assert run(uri, "SELECT count(*) FROM notes") == [(12001,)]
    run(uri, "DELETE FROM notes")
    api.wait("tenant", name, SPACE, exceeded("False"), timeout=150)
    api.wait("tenant", name, SPACE, lambda _: writes(uri))


def writes(uri: str) -> bool:
    try:
        run(uri, "INSERT INTO notes (body) VALUES ('x')")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def test_counted_resources_come_from_usage_queries(api: Api) -> None:
    uri = made(api, "counted", limits=[{"resource": "notes", "limit": 4}])

    def counted(used: int, reason: str) -> Any:
        def check(found: Any) -> bool:
            usage = {u["resource"]: u for u in found["status"].get("usage") or []}
            return (
                usage.get("notes", {}).get("used") == used
                and (condition(found, "QuotaExceeded") or {}).get("reason") == reason
            )

        return check

    api.wait("tenant", "counted", SPACE, counted(1, "WithinLimits"))
    run(uri, "INSERT INTO notes (body) SELECT 'n' FROM generate_series(1, 3)")
    api.wait("tenant", "counted", SPACE, counted(4, "NearLimit"))
    run(uri, "INSERT INTO notes (body) VALUES ('n')")
    api.wait("tenant", "counted", SPACE, counted(5, "QuotaExceeded"))
    api.ready(SPACE, "counted")


def test_the_plan_is_enforced_by_the_database(api: Api) -> None:
    database = {"connections": 2, "statementTimeout": "500ms", "tempFiles": "64Mi"}
    api.apply(manifest("Plan", "tiny", {"database": database}))
    uri = made(api, "tiny", plan={"code": "tiny"})
    with psycopg.connect(uri), psycopg.connect(uri):
        assert refused(uri)
    with pytest.raises(psycopg.errors.QueryCanceled):
        run(uri, "SELECT pg_sleep(5)")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(uri, "SET temp_file_limit = -1")
    api.patch("plan", "tiny", None, {"spec": {"database": {"connections": 4}}})
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'notes__tiny__a'"
    api.wait("tenant", "tiny", SPACE, lambda _: run(api.cluster.admin_dsn(), limit) == [(4,)])


def test_two_namespaces_may_use_the_same_names(api: Api) -> None:
    uri = made(api, "double", "Database")
    other = f"{SPACE}-two"
    api.apply(namespace(other), *blueprint(other, "notes", NOTES))
    for isolation in ISOLATIONS:
        name = "double" if isolation == "Database" else f"double-{isolation.lower()}"
        api.apply(tenant(other, name, "notes", isolation))
        api.ready(other, name)
        theirs = api.secret(other, name, "notes")
        assert theirs["database"] != api.secret(SPACE, "double", "notes")["database"]
        assert run(theirs["uri"], "SELECT count(*) FROM notes") == [(0,)]
    assert run(uri, "SELECT count(*) FROM notes") == [(1,)]
