"""Database servers that CloudNativePG and the MariaDB operator run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiomysql
import pytest

from tests.e2e import operators
from tests.e2e.support import NOTES, Api, Object, blueprint, condition, manifest, namespace

pytestmark = pytest.mark.e2e

SPACE = "others"
QUICK = {"TENANTRY_SWEEP_INTERVAL": "1s", "TENANTRY_LEASE_DURATION": "2s"}
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    return api


@pytest.fixture(scope="module")
def cnpg(api: Api) -> Iterator[operators.CloudNativePG]:
    """Started by the first test that wants it: before, the operator is not installed."""
    install(api, "cloudnativepg.yaml")
    running = operators.CloudNativePG(api, SPACE)
    yield running
    running.stop()


def install(api: Api, file: str) -> None:
    api.kubectl("apply", "--server-side", "-f", str(DATA / file))
    api.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(DATA / file))


def instance(name: str, engine: str = "PostgreSQL", **spec: Any) -> Object:
    return manifest("DatabaseInstance", name, {"engine": engine, **spec}, namespace=SPACE)


def wait_instance(api: Api, name: str, *wanted: str, timeout: float = 90) -> Object:
    def reached(obj: Object | None) -> bool:
        ready = condition(obj or {}, "Ready") or {}
        return (ready.get("status"), ready.get("reason")) == wanted

    try:
        return api.wait("databaseinstance", name, SPACE, reached, timeout)
    except AssertionError as error:
        error.add_note(api.kubectl("get", "statefulsets,pods,persistentvolumeclaims", "-n", SPACE, "-o", "wide"))
        raise


def test_operators_that_are_not_installed_are_waited_for(api: Api) -> None:
    api.apply(instance("pg", role="Dedicated", cloudNativePG={"storage": "1Gi"}))
    api.apply(instance("maria", "MySQL", role="Dedicated", mariaDB={"storage": "1Gi"}))
    told = api.trouble("databaseinstance", SPACE, "pg", "OperatorNotInstalled")
    assert "install CloudNativePG" in told["message"]
    told = api.trouble("databaseinstance", SPACE, "maria", "OperatorNotInstalled")
    assert "install the MariaDB operator" in told["message"]


def test_a_cluster_of_cloudnativepg_serves_and_sleeps(api: Api, cnpg: operators.CloudNativePG) -> None:
    up = wait_instance(api, "pg", "True", "Ready")
    assert (condition(up, "Hardened") or {})["status"] == "True"
    assert (condition(up, "Privileged") or {})["status"] == "True"
    cluster = api.get(cnpg.plural, "pg", SPACE)
    assert cluster is not None
    assert "ownerReferences" not in cluster["metadata"]
    assert cluster["spec"]["enableSuperuserAccess"] is True
    assert cluster["spec"]["storage"]["size"] == "1Gi"
    database = {"blueprint": "notes", "isolation": "Database", "instance": "pg"}
    api.apply(manifest("Tenant", "acme", {"databases": [database]}, namespace=SPACE))
    api.ready(SPACE, "acme")
    api.query(SPACE, "acme", "notes", "INSERT INTO notes (body) VALUES ('kept')")
    api.set_state(SPACE, "acme", "Suspended")
    wait_instance(api, "pg", "True", "Hibernated")
    api.gone("pod", "pg-1", SPACE)
    api.set_state(SPACE, "acme", "Active")
    api.ready(SPACE, "acme")
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]


def test_a_cluster_that_is_retained_sleeps_until_it_is_wanted(api: Api, cnpg: operators.CloudNativePG) -> None:
    api.delete("databaseinstance", "pg", SPACE)
    api.trouble("databaseinstance", SPACE, "pg", "HoldsTenants")
    api.delete("tenant", "acme", SPACE)
    api.gone("databaseinstance", "pg", SPACE)
    kept = api.get(cnpg.plural, "pg", SPACE)
    assert kept is not None
    assert kept["metadata"]["annotations"]["cnpg.io/hibernation"] == "on"
    api.apply(instance("pg", deletionPolicy="Delete", cloudNativePG={"storage": "512Mi"}))
    told = api.trouble("databaseinstance", SPACE, "pg", "StorageShrink")
    assert "at least 1Gi" in told["message"]
    api.apply(instance("pg", deletionPolicy="Delete", cloudNativePG={"storage": "2Gi"}))
    wait_instance(api, "pg", "True", "Ready")
    again = api.get(cnpg.plural, "pg", SPACE)
    assert again is not None
    assert again["metadata"]["uid"] == kept["metadata"]["uid"]
    assert again["spec"]["storage"]["size"] == "2Gi"
    database = {"blueprint": "notes", "isolation": "Database", "instance": "pg"}
    api.apply(manifest("Tenant", "acme", {"databases": [database], "deletionPolicy": "Delete"}, namespace=SPACE))
    api.ready(SPACE, "acme")
    assert api.query(SPACE, "acme", "notes", "SELECT body FROM notes") == [("kept",)]
    api.delete("tenant", "acme", SPACE)
    api.gone("tenant", "acme", SPACE)
    api.delete("databaseinstance", "pg", SPACE)
    api.gone("databaseinstance", "pg", SPACE)
    assert api.get(cnpg.plural, "pg", SPACE) is None
    assert api.get("secret", "pg-admin", SPACE) is None


def term(key: str) -> Object:
    expressions = [{"key": key, "operator": "Exists"}]
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": expressions}]
        }
    }


def test_pods_of_others_run_where_they_are_to(api: Api, cnpg: operators.CloudNativePG) -> None:
    server: Object = {
        "storage": "1Gi",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "a", "disk": "ssd"},
        "affinity": {"nodeAffinity": term("zone")},
    }
    install(api, "mariadb-operator.yaml")
    engines = {"cloudNativePG": "PostgreSQL", "mariaDB": "MySQL"}
    for way, engine in engines.items():
        api.apply(instance(f"placed-{way.lower()}", engine, **{way: server}))

    def spec(way: str, done: Callable[[Object], bool]) -> None:
        kind = {"cloudNativePG": cnpg.plural, "mariaDB": operators.MariaDB.plural}[way]
        api.wait(kind, f"placed-{way.lower()}", SPACE, lambda found: found is not None and done(found["spec"]), 30)

    own = {"nodeSelector": server["nodeSelector"], "nodeAffinity": term("zone")}
    spec("cloudNativePG", lambda s: s["affinity"] == own and s["imagePullSecrets"] == server["imagePullSecrets"])
    spec("mariaDB", lambda s: {**s, "storage": "1Gi"} == {**s, **server})
    # What its definition has no place for is told, and what was there stays.
    for way, engine in engines.items():
        bad = {**server, "affinity": {"nodeAffinity": {"required": []}}}
        api.apply(instance(f"placed-{way.lower()}", engine, **{way: bad}))
        told = api.trouble("databaseinstance", SPACE, f"placed-{way.lower()}", "ObjectRefused")
        assert 'unknown field "spec.affinity.nodeAffinity.required"' in told["message"]
        api.apply(
            instance(f"placed-{way.lower()}", engine, **{way: {"storage": "1Gi", "nodeSelector": {"pool": "b"}}})
        )
    spec(
        "cloudNativePG", lambda s: s["affinity"] == {"nodeSelector": {"pool": "b"}} and "imagePullSecrets" not in s
    )
    spec("mariaDB", lambda s: s["nodeSelector"] == {"pool": "b"} and not s.get("affinity"))
    for way in engines:
        api.patch("databaseinstance", f"placed-{way.lower()}", SPACE, {"spec": {"deletionPolicy": "Delete"}})
        api.delete("databaseinstance", f"placed-{way.lower()}", SPACE)
        api.gone("databaseinstance", f"placed-{way.lower()}", SPACE)


def test_a_cluster_of_somebody_else_is_left_alone(api: Api, cnpg: operators.CloudNativePG) -> None:
    foreign = {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "theirs", "namespace": SPACE},
        "spec": {"instances": 1, "storage": {"size": "1Gi"}},
    }
    api.apply(foreign, instance("theirs", deletionPolicy="Delete", cloudNativePG={"storage": "1Gi"}))
    api.trouble("databaseinstance", SPACE, "theirs", "NameTaken")
    api.delete("databaseinstance", "theirs", SPACE)
    api.gone("databaseinstance", "theirs", SPACE)
    kept = api.get(cnpg.plural, "theirs", SPACE)
    assert kept is not None
    assert "deletionTimestamp" not in kept["metadata"]


def test_mariadb_s_root_is_the_administrator(api: Api) -> None:
    operator = operators.MariaDB(api, SPACE)
    try:
        api.wait("pod", "maria-0", SPACE, operators.is_ready, 90)
        values = api.cluster.kubectl.secret(SPACE, "maria-admin")
        assert values["username"] == "root"

        async def who() -> str:
            pod = api.get("pod", "maria-0", SPACE) or {}
            connection = await aiomysql.connect(
                host=pod["status"]["podIP"], user="root", password=values["password"]
            )
            async with connection.cursor() as cursor:
                await cursor.execute("SELECT current_user()")
                (name,) = await cursor.fetchone()
            connection.close()
            return str(name)

        assert asyncio.run(who()) == "root@%"
        wait_instance(api, "maria", "True", "Ready")
        api.delete("databaseinstance", "maria", SPACE)
        api.gone("databaseinstance", "maria", SPACE)
        assert api.get("persistentvolumeclaim", "storage-maria-0", SPACE) is not None
        api.delete("secret", "maria-admin", SPACE)
        api.apply(instance("maria", "MySQL", deletionPolicy="Delete", mariaDB={"storage": "1Gi"}))
        api.trouble("databaseinstance", SPACE, "maria", "AdminSecretLost")
        # Restored by hand, without the labels.
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "maria-admin", "namespace": SPACE},
            "stringData": values,
        }
        api.apply(secret)
        # Not only its pod: the one of the earlier MariaDB may be there until the garbage collector comes by.
        wait_instance(api, "maria", "True", "Ready")
        assert asyncio.run(who()) == "root@%"
        api.delete("databaseinstance", "maria", SPACE)
        api.gone("databaseinstance", "maria", SPACE)
        assert api.get("persistentvolumeclaim", "storage-maria-0", SPACE) is None
        assert api.get("secret", "maria-admin", SPACE) is None
    finally:
        operator.stop()
