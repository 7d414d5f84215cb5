"""The one-machine cluster itself: started twice, stopped twice, and mended after a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from tenantry_local.__main__ import main
from tenantry_local.chart import NAMESPACE
from tenantry_local.cluster import PROCESSES, Cluster
from tenantry_local.kubectl import Kubectl, kubeconfig
from tenantry_local.paths import remove_tree
from tenantry_local.pool import NAME as POOL
from tenantry_local.postgres import ADMIN
from tenantry_local.processes import start_time

SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "postgres", "node")


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A cluster of this module's own, for its processes are killed. Without operator: it has tests of its own."""
    root = Path(__file__).resolve().parents[2]
    cluster = Cluster(root / ".local" / "test" / f"lifecycle-{os.getpid()}")
    cluster.up(operator=False)
    yield cluster
    cluster.clean()
    remove_tree(cluster.paths.home)


@pytest.fixture
def started(own: Cluster) -> Cluster:
    """The cluster, whatever the test before did to it."""
    own.up(operator=False)
    return own


def pids(cluster: Cluster) -> dict[str, int | None]:
    return {name: cluster.processes.pid(name) for name in (*SERVERS, "api")}


def test_every_process_is_one_of_its_own(started: Cluster) -> None:
    running = pids(started)
    assert None not in running.values()
    assert len(set(running.values())) == len(running)


def test_a_second_start_changes_nothing(started: Cluster) -> None:
    before = pids(started)
    versions = started.kubectl.get("databaseinstances,secrets,deployments", "-n", NAMESPACE)
    started.up(operator=False)
    assert pids(started) == before
    again = started.kubectl.get("databaseinstances,secrets,deployments", "-n", NAMESPACE)
    assert [item["metadata"]["resourceVersion"] for item in again["items"]] == [
        item["metadata"]["resourceVersion"] for item in versions["items"]
    ]


@pytest.mark.parametrize("name", [*SERVERS, "api"])
def test_a_killed_process_is_started_again_and_nothing_else(started: Cluster, name: str) -> None:
    before = pids(started)
    started.kill(name)
    assert started.processes.pid(name) is None
    started.up(operator=False)
    after = pids(started)
    assert after[name] not in {None, before[name]}
    assert {n: pid for n, pid in after.items() if n != name} == {n: p for n, p in before.items() if n != name}


def test_everything_killed_at_once_comes_back_with_its_data(started: Cluster) -> None:
    started.kubectl("create", "configmap", "kept", "-n", "default")
    with psycopg.connect(started.admin_dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE kept")
    busy = psycopg.connect(started.admin_dsn())  # a session that dies with its server
    for name in (*SERVERS, "api"):
        started.kill(name)
    started.up(operator=False)
    busy.close()
    started.kubectl("delete", "configmap", "kept", "-n", "default")
    with psycopg.connect(started.admin_dsn(), autocommit=True) as connection:
        connection.execute("DROP DATABASE kept")


def test_down_ends_every_process_and_may_be_called_twice(started: Cluster) -> None:
    before = pids(started)
    started.down()
    assert all(pid is None for pid in started.status().values())
    assert all(start_time(pid) is None for pid in before.values() if pid)
    started.down()


def test_data_outlives_down(started: Cluster) -> None:
    started.kubectl("create", "configmap", "kept", "-n", "default")
    ports = started.paths.state.read_text()
    started.down()
    started.up(operator=False)
    started.kubectl("delete", "configmap", "kept", "-n", "default")
    assert started.paths.state.read_text() == ports


def test_a_record_of_another_boot_is_no_reason_to_kill_anybody(started: Cluster) -> None:
    started.down()
    record = {"pid": os.getpid(), "started": "another-boot/1", "fingerprint": "x", "signals": [15]}
    for name in PROCESSES:
        (started.paths.pids / f"{name}.json").write_text(json.dumps(record))
    started.up(operator=False)
    assert os.getpid() not in pids(started).values()


def test_a_postgres_whose_record_was_lost_is_replaced(started: Cluster) -> None:
    lost = started.processes.pid("postgres")
    assert lost is not None
    (started.paths.pids / "postgres.json").unlink()
    started.up(operator=False)
    assert started.processes.pid("postgres") != lost
    assert start_time(lost) is None


@pytest.mark.parametrize("name", ["operator", "api"])
def test_a_token_makes_its_bearer_the_charts_service_account(started: Cluster, tmp_path: Path, name: str) -> None:
    account = f"tenantry-{name}"
    token = started.kubectl("create", "token", account, "-n", NAMESPACE, "--duration=10m").strip()
    file = tmp_path / "kubeconfig"
    file.write_text(kubeconfig(started.plane.url, started.plane.pki.authority.certificate, token=token))
    bearer = Kubectl(file)
    who = json.loads(bearer("auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{NAMESPACE}:{account}"
    refused = bearer.run("delete", "namespace", "default", "--dry-run=server", check=False)
    assert "is forbidden" in refused.stderr


def test_the_facade_runs_on_its_service_account(started: Cluster) -> None:
    who = json.loads(Kubectl(started.paths.service_kubeconfig("api"))("auth", "whoami", "-o", "json"))
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{NAMESPACE}:tenantry-api"


def test_the_server_is_registered_and_no_pod_waits(started: Cluster) -> None:
    instance = started.kubectl.get("databaseinstance", POOL, "-n", NAMESPACE)
    assert instance["spec"]["external"]["port"] == started.postgres.port
    assert started.kubectl.secret(NAMESPACE, f"{POOL}-admin")["username"] == ADMIN
    assert started.kubectl.get("pods", "-A")["items"] == []


def test_the_operators_login_is_no_superuser_and_creates_databases(started: Cluster) -> None:
    with psycopg.connect(started.postgres.admin_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert row.fetchone() == (False, True, True)
        connection.execute("CREATE DATABASE trial")
        connection.execute("DROP DATABASE trial")
        connection.execute("CREATE ROLE trial")
        connection.execute("ALTER ROLE trial SET temp_file_limit = '1GB'")
        connection.execute("SET ROLE trial")
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE trial")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT pg_read_file('/etc/passwd')")


def test_a_login_without_grants_connects_nowhere(started: Cluster) -> None:
    with psycopg.connect(started.admin_dsn(), autocommit=True) as connection:
        connection.execute("CREATE ROLE outsider LOGIN PASSWORD 'outsider'")
        try:
            for database in ("postgres", "template1"):
                with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                    psycopg.connect(
                        host="127.0.0.1",
                        port=started.postgres.port,
                        user="outsider",
                        password="outsider",
                        dbname=database,
                    )
        finally:
            connection.execute("DROP ROLE outsider")


def test_passwords_are_scram_and_a_wrong_one_is_refused(started: Cluster) -> None:
    with psycopg.connect(started.admin_dsn()) as connection:
        verifiers = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
        assert all(row[0].startswith("SCRAM-SHA-256$") for row in verifiers)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://{ADMIN}:wrong@127.0.0.1:{started.postgres.port}/postgres")


def test_the_environment_file_leads_to_the_cluster(started: Cluster, tmp_path: Path) -> None:
    script = 'set -a; . "$1"; set +a; kubectl get ns -o name; echo "$TENANTRY_API_URL"'
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    shell = ["sh", "-ec", script, "sh", str(started.paths.dev_env)]
    result = subprocess.run(shell, capture_output=True, text=True, check=True, env=env)
    assert f"namespace/{NAMESPACE}" in result.stdout
    assert started.api_url in result.stdout


def test_the_command_line_tells_what_runs(started: Cluster, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TENANTRY_LOCAL_DIR", str(started.paths.home))
    assert main(["status", "-o", "json"]) == 1, "the operator does not run"
    value = json.loads(capsys.readouterr().out)
    running = {process["name"]: process["pid"] for process in value["processes"] if process["running"]}
    assert running == pids(started)


def test_two_clusters_run_at_once(started: Cluster, database_server: Cluster) -> None:
    assert started.postgres.port != database_server.postgres.port
    with psycopg.connect(started.admin_dsn()) as one, psycopg.connect(database_server.admin_dsn()) as other:
        query = "SELECT system_identifier FROM pg_control_system()"
        assert one.execute(query).fetchone() != other.execute(query).fetchone()
