"""The node of the one-machine cluster: real servers in pods, and pods that cannot run, on a real control plane."""

from __future__ import annotations

import json
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pymongo
import pymysql
import pytest
import redis

from tenantry_local.build import ensure_controlplane
from tenantry_local.cluster import Cluster
from tenantry_local.errors import LocalError
from tenantry_local.node import runtime
from tenantry_local.node.process import logs_of
from tenantry_local.processes import start_time

NAMESPACE = "node-test"
PASSWORD = 'it\'s a \\ "test"'
Object = dict[str, Any]


@dataclass(frozen=True)
class Pods:
    """The namespace of these tests."""

    cluster: Cluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, "-n", NAMESPACE, stdin=stdin)

    def apply(self, *objects: Object) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str) -> Any:
        return self.cluster.kubectl.get(kind, name, "-n", NAMESPACE)

    def pod(self, name: str) -> Any:
        return self.get("pod", name)

    def wait(self, name: str, what: str, seconds: int = 60) -> Any:
        self.kubectl("wait", f"pod/{name}", f"--for={what}", f"--timeout={seconds}s")
        return self.pod(name)

    def ready(self, name: str) -> str:
        """Waits until the pod is ready; its address."""
        until(lambda: self.cluster.kubectl.run("get", "pod", name, "-n", NAMESPACE, check=False).returncode == 0)
        return str(self.wait(name, "condition=Ready")["status"]["podIP"])

    def gone(self, kind: str, name: str) -> bool:
        return self.cluster.kubectl.run("get", kind, name, "-n", NAMESPACE, check=False).returncode != 0

    def found(self, name: str) -> runtime.Running | runtime.Exited | None:
        uid = self.pod(name)["metadata"]["uid"]
        return runtime.read(self.cluster.paths.node / "pods" / uid / "containers" / "main")

    def process(self, name: str) -> runtime.Running:
        found = self.found(name)
        assert isinstance(found, runtime.Running)
        return found

    def log(self, name: str) -> str:
        return "".join(path.read_text() for path in logs_of(self.cluster.paths, f"{NAMESPACE}/{name}"))


@pytest.fixture(scope="module")
def pods(control_plane: Cluster) -> Iterator[Pods]:
    """The namespace, with the servers starting at once."""
    control_plane.start_node(back_off=0.2)
    control_plane.kubectl("create", "namespace", NAMESPACE)
    made = Pods(control_plane)
    made.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "admin"},
            "stringData": {"password": PASSWORD},
        },
        postgres(),
        server("maria", "mariadb:11.4", "/var/lib/mysql", 3306, env=[password("MARIADB_ROOT_PASSWORD")]),
        server(
            "cache",
            "valkey/valkey:8",
            "/data",
            6379,
            args=["valkey-server", "/etc/redis/redis.conf", "--requirepass", "$(PASSWORD)"],
            env=[password("PASSWORD")],
            probe={"exec": {"command": ["sh", "-c", 'redis-cli -a "$PASSWORD" -h 127.0.0.1 ping | grep -q PONG']}},
            mounts=[{"name": "config", "mountPath": "/etc/redis"}],
            volumes=[{"name": "config", "configMap": {"name": "redis"}}],
        ),
        config("redis", **{"redis.conf": "dir /data\nappendonly yes\n"}),
        ferretdb(),
    )
    yield made
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def password(name: str) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": "admin", "key": "password"}}}


def config(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def server(
    name: str,
    image: str,
    data: str,
    port: int,
    *,
    args: list[str] | None = None,
    env: list[Object] | None = None,
    probe: Object | None = None,
    mounts: list[Object] | None = None,
    volumes: list[Object] | None = None,
) -> Object:
    """A StatefulSet as production gets it."""
    container = {
        "name": "main",
        "image": image,
        "args": args or [],
        "env": env or [],
        "ports": [{"name": "db", "containerPort": port}],
        "readinessProbe": {**(probe or {"tcpSocket": {"port": "db"}}), "periodSeconds": 1, "timeoutSeconds": 10},
        "volumeMounts": [{"name": "data", "mountPath": data}, *(mounts or [])],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "volumes": volumes or []},
            },
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }
            ],
        },
    }


def postgres(name: str = "pg") -> Object:
    return server(
        name,
        "docker.io/library/postgres:18.1-alpine",
        "/var/lib/postgresql/data",
        5432,
        args=["-c", "max_connections=20", "-c", "shared_buffers=8MB"],
        env=[
            password("POSTGRES_PASSWORD"),
            {"name": "POSTGRES_DB", "value": 'a "database"'},
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        ],
        probe={"exec": {"command": ["pg_isready", "-U", "postgres", "-h", "127.0.0.1"]}},
    )


def ferretdb() -> Object:
    """FerretDB with its PostgreSQL in one pod, where each reaches the other at 127.0.0.1."""
    backend = postgres()["spec"]["template"]["spec"]["containers"][0]
    backend |= {
        "name": "backend",
        "env": [password("POSTGRES_PASSWORD"), {"name": "POSTGRES_DB", "value": "ferretdb"}],
    }
    url = "postgres://127.0.0.1:5432/ferretdb"
    front = {
        "name": "main",
        "image": "ghcr.io/ferretdb/ferretdb:1.24.2",
        "env": [{"name": "FERRETDB_POSTGRESQL_URL", "value": url}, {"name": "FERRETDB_DEBUG_ADDR", "value": "-"}],
        "readinessProbe": {"tcpSocket": {"port": 27017}, "periodSeconds": 1},
    }
    return script("ferret", "", containers=[front, {**backend, "volumeMounts": []}])


def script(name: str, text: str, **spec: Any) -> Object:
    """A pod with one container that runs a shell's words."""
    container = {"name": "main", "image": "python:3", "command": ["sh", "-c", text], **spec.pop("container", {})}
    pod = {"terminationGracePeriodSeconds": 5, "automountServiceAccountToken": False, **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], **pod},
    }


def state(pod: Any) -> Any:
    return pod["status"]["containerStatuses"][0]


def ready_since(pod: Any) -> str:
    return next(entry["lastTransitionTime"] for entry in pod["status"]["conditions"] if entry["type"] == "Ready")


def postgres_at(address: str, word: str = PASSWORD) -> psycopg.Connection[Any]:
    return psycopg.connect(host=address, user="postgres", password=word, dbname='a "database"', autocommit=True)


def test_postgres_answers_at_its_pods_address(pods: Pods) -> None:
    address = pods.ready("pg-0")
    assert address.startswith("127.")
    assert address != "127.0.0.1"
    with postgres_at(address) as connection:
        row = connection.execute("SELECT version(), current_setting('max_connections')").fetchone()
        assert row is not None
        assert "PostgreSQL 18" in row[0]
        assert row[1] == "20"
    for wrong in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            postgres_at(address, wrong)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=5432, user="postgres", password=PASSWORD)


def test_mariadb_answers_at_its_pods_address(pods: Pods) -> None:
    address = pods.ready("maria-0")
    with pymysql.connect(host=address, user="root", password=PASSWORD) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT current_user(), version()")
        row = cursor.fetchone()
        assert row[0] == "root@%"
        assert "MariaDB" in row[1]
        cursor.execute("SELECT count(*) FROM mysql.global_priv WHERE User = '' OR Priv LIKE '%invalid%'")
        assert cursor.fetchone() == (0,)
    for user, word in (("root", ""), ("root", "wrong"), ("", ""), ("mariadb.sys", "")):
        with pytest.raises(pymysql.err.OperationalError, match=r"denied|locked"):
            pymysql.connect(host=address, user=user, password=word)


def test_valkey_answers_at_its_pods_address_and_keeps_its_data_on_the_volume(pods: Pods) -> None:
    address = pods.ready("cache-0")
    with redis.Redis(host=address, password=PASSWORD) as client:
        client.set("key", "value")
        volume = pods.get("pvc", "data-cache-0")["spec"]["volumeName"]
        folder = pods.cluster.paths.node.resolve() / "volumes" / volume / "data"
        assert client.config_get("dir")["dir"] == str(folder)
    assert (folder / "appendonlydir").is_dir()
    with redis.Redis(host=address) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()


def test_ferretdb_finds_its_postgres_in_the_pod(pods: Pods) -> None:
    address = pods.ready("ferret")
    login = f"postgres:{quote(PASSWORD, safe='')}"
    with pymongo.MongoClient(f"mongodb://{login}@{address}/?authMechanism=PLAIN", timeoutMS=20000) as client:
        client["a"]["b"].insert_one({"word": "kept"})
        assert client["a"]["b"].count_documents({"word": "kept"}) == 1
    with (
        pymongo.MongoClient(f"mongodb://postgres:wrong@{address}/?authMechanism=PLAIN", timeoutMS=20000) as nobody,
        pytest.raises(pymongo.errors.PyMongoError),
    ):
        nobody["a"]["b"].count_documents({})
    pods.kubectl("delete", "pod", "ferret", "--wait=false")


def test_the_pod_says_what_a_kubelet_would(pods: Pods) -> None:
    pods.ready("pg-0")
    pod = pods.pod("pg-0")
    status = pod["status"]
    assert pod["spec"]["nodeName"] == "local"
    assert status["phase"] == "Running"
    assert {entry["type"] for entry in status["conditions"] if entry["status"] == "True"} >= {
        "PodScheduled",
        "Initialized",
        "ContainersReady",
        "Ready",
    }
    found = state(pod)
    assert (found["ready"], found["started"], found["restartCount"]) == (True, True, 0)
    assert found["state"]["running"]["startedAt"]
    assert pods.cluster.kubectl.get("node", "local")["status"]["conditions"][0]["status"] == "True"


def test_nothing_runs_as_root_when_there_is_another_user(pods: Pods) -> None:
    pods.ready("pg-0")
    text = Path(f"/proc/{pods.process('pg-0').pid}/status").read_text()
    owner = int(text.split("Uid:")[1].split()[0])
    assert owner == os.geteuid() if os.geteuid() else owner != 0
    if not os.geteuid():
        assert pwd.getpwuid(owner).pw_name != "root"


def test_nothing_is_written_while_nothing_changes(pods: Pods) -> None:
    names = ("pg-0", "maria-0", "cache-0")
    for name in names:
        pods.ready(name)
    time.sleep(0.5)
    before = [pods.pod(name)["metadata"]["resourceVersion"] for name in names]
    node = pods.cluster.kubectl.get("node", "local")["metadata"]["resourceVersion"]
    time.sleep(3)  # several probes of each
    assert [pods.pod(name)["metadata"]["resourceVersion"] for name in names] == before
    assert pods.cluster.kubectl.get("node", "local")["metadata"]["resourceVersion"] == node


def test_a_new_pod_of_the_name_has_the_address_and_the_data(pods: Pods) -> None:
    address = pods.ready("pg-0")
    with postgres_at(address) as connection:
        connection.execute("CREATE TABLE kept (a int)")
    old = pods.process("pg-0")
    pods.kubectl("delete", "pod", "pg-0", "--timeout=60s")
    assert start_time(old.pid) != old.start
    assert pods.ready("pg-0") == address
    with postgres_at(address) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert "database system was not properly shut down" not in pods.log("pg-0")


def test_an_unknown_image_says_which_are_known(pods: Pods) -> None:
    pods.apply(script("bad", "true", container={"image": "example.org/nginx:1"}))
    pod = pods.wait("bad", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull")
    message = state(pod)["state"]["waiting"]["message"]
    assert "example.org/nginx:1" in message
    assert all(f"{family}*" in message for family in ("postgres", "mariadb", "redis", "valkey", "ferretdb"))
    assert pod["status"]["phase"] == "Pending"
    pods.kubectl("delete", "pod", "bad", "--timeout=30s")


def test_a_missing_secret_is_waited_for(pods: Pods) -> None:
    variable = {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "later", "key": "word"}}}
    pods.apply(script("waits", 'echo "word=$WORD"; exec sleep 1000', container={"env": [variable]}))
    where = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    pod = pods.wait("waits", f"{where}=CreateContainerConfigError")
    assert state(pod)["state"]["waiting"]["message"] == f"secret {NAMESPACE}/later not found"
    pods.kubectl("create", "secret", "generic", "later", "--from-literal=other=1")
    until(lambda: "couldn't find key word" in state(pods.pod("waits"))["state"]["waiting"]["message"])
    patch = json.dumps({"stringData": {"word": "found"}})
    pods.kubectl("patch", "secret", "later", "-p", patch)
    pods.ready("waits")
    until(lambda: "word=found" in pods.log("waits"))
    pods.kubectl("delete", "pod", "waits", "--timeout=30s")


def test_a_container_that_ends_is_started_again_later_and_later(pods: Pods) -> None:
    pods.apply(script("crashes", "echo crashed; exit 3"))
    where = "jsonpath={.status.containerStatuses[0]"
    pods.wait("crashes", f"{where}.restartCount}}=4")
    pod = pods.wait("crashes", f"{where}.state.waiting.reason}}=CrashLoopBackOff")
    found = state(pod)
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert "back-off" in found["state"]["waiting"]["message"]
    assert pod["status"]["phase"] == "Running"
    assert not found["ready"]
    assert pods.log("crashes").count("crashed") == found["restartCount"] + 1
    pods.kubectl("delete", "pod", "crashes", "--timeout=30s")


def test_a_command_that_is_not_there_is_a_start_error(pods: Pods) -> None:
    pods.apply(script("nothing", "", container={"command": ["no-such-program"]}, restartPolicy="Never"))
    pod = pods.wait("nothing", "jsonpath={.status.phase}=Failed")
    ended = state(pod)["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "no-such-program" in ended["message"]


def test_init_containers_come_first_and_one_after_the_other(pods: Pods) -> None:
    mounts = [{"name": "shared", "mountPath": "/work"}]
    first, second = (
        {"name": name, "image": "python:3", "command": ["sh", "-c", text], "volumeMounts": mounts}
        for name, text in (("first", "sleep 0.3; echo 1 > /work/file"), ("second", "echo 2 >> /work/file"))
    )
    pods.apply(
        script(
            "prepared",
            "cat /work/file; echo ${HOSTNAME} $0 end",
            container={"volumeMounts": mounts},
            volumes=[{"name": "shared", "emptyDir": {}}],
            initContainers=[first, second],
            restartPolicy="Never",
        )
    )
    pod = pods.wait("prepared", "jsonpath={.status.phase}=Succeeded")
    assert pods.log("prepared/main").split()[:3] == ["1", "2", "prepared"]
    assert [entry["state"]["terminated"]["exitCode"] for entry in pod["status"]["initContainerStatuses"]] == [0, 0]
    pods.kubectl("delete", "pod", "prepared", "--timeout=30s")


def test_a_failed_init_container_ends_a_pod_that_is_never_restarted(pods: Pods) -> None:
    failing = {"name": "first", "image": "python:3", "command": ["sh", "-c", "exit 5"]}
    pods.apply(script("unprepared", "echo ran", initContainers=[failing], restartPolicy="Never"))
    pod = pods.wait("unprepared", "jsonpath={.status.phase}=Failed")
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    assert "waiting" in state(pod)["state"]


def test_configuration_names_the_folders_of_this_machine(pods: Pods) -> None:
    pods.apply(
        config("files", **{"a.conf": "dir=/etc/own/sub\n", "b.conf": "hidden\n"}),
        script(
            "configured",
            "cat /etc/own/one.conf /etc/own/secret/key; ls /etc/own; echo at $AT; id -u; exec sleep 1000",
            container={
                "env": [{"name": "AT", "value": "/etc/own/x:localhost:80"}],
                "volumeMounts": [{"name": "all", "mountPath": "/etc/own"}],
            },
            volumes=[
                {
                    "name": "all",
                    "projected": {
                        "sources": [
                            {"configMap": {"name": "files", "items": [{"key": "a.conf", "path": "one.conf"}]}},
                            {"secret": {"name": "admin", "items": [{"key": "password", "path": "secret/key"}]}},
                            {
                                "downwardAPI": {
                                    "items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]
                                }
                            },
                        ]
                    },
                }
            ],
        ),
    )
    address = pods.ready("configured")
    until(lambda: "at " in pods.log("configured"))
    folder = f"{pods.cluster.paths.node.resolve()}/pods/{pods.pod('configured')['metadata']['uid']}"
    lines = pods.log("configured").splitlines()
    own = f"{folder}/containers/main/mounts/all"
    assert lines[0] == f"dir={own}/sub"
    assert lines[1].startswith(PASSWORD)
    assert "b.conf" not in lines
    assert f"at {own}/x:{address}:80" in lines
    assert (Path(own) / "secret/key").stat().st_mode & 0o077 == 0
    pods.kubectl("delete", "pod", "configured", "--timeout=30s")


def test_deleting_a_pod_ends_its_processes_gently_and_those_that_do_not_listen_by_force(pods: Pods) -> None:
    pods.apply(
        script("gentle", "trap 'echo asked; exit 0' TERM; sleep 1000 & wait; exit 1"),
        script("deaf", "trap '' TERM; while :; do sleep 1; done", terminationGracePeriodSeconds=1),
    )
    pods.ready("gentle")
    pods.ready("deaf")
    running = [pods.process(name) for name in ("gentle", "deaf")]
    uids = [pods.pod(name)["metadata"]["uid"] for name in ("gentle", "deaf")]
    log = logs_of(pods.cluster.paths, f"{NAMESPACE}/gentle")[0]
    started = time.monotonic()
    pods.kubectl("delete", "pod", "gentle", "deaf", "--timeout=30s")
    assert time.monotonic() - started > 0.9
    assert "asked" in log.read_text()
    assert all(start_time(process.pid) != process.start for process in running)
    until(lambda: not any((pods.cluster.paths.node / "pods" / uid).exists() for uid in uids))


def test_what_a_container_leaves_running_ends_with_it(pods: Pods) -> None:
    pods.apply(script("parent", "setsid sleep 1000 & echo child=$!; exec sleep 1000"))
    pods.ready("parent")
    until(lambda: "child=" in pods.log("parent"))
    child = int(pods.log("parent").split("child=")[1].split()[0])
    assert start_time(child) is not None
    pods.kubectl("delete", "pod", "parent", "--timeout=30s")
    until(lambda: start_time(child) is None)


def test_a_liveness_probe_restarts_and_a_startup_probe_holds_the_others_back(pods: Pods) -> None:
    alive = {"exec": {"command": ["sh", "-c", "test -f /work/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    pods.apply(
        script(
            "probed",
            "sleep 1; touch /work/alive; exec sleep 1000",
            container={
                "volumeMounts": [{"name": "w", "mountPath": "/work"}],
                "startupProbe": {**alive, "failureThreshold": 30},
                "livenessProbe": alive,
            },
            volumes=[{"name": "w", "emptyDir": {}}],
            terminationGracePeriodSeconds=0,
        )
    )
    pods.ready("probed")
    assert state(pods.pod("probed"))["restartCount"] == 0
    uid = pods.pod("probed")["metadata"]["uid"]
    (pods.cluster.paths.node / "pods" / uid / "volumes" / "w" / "data" / "alive").unlink()
    pods.wait("probed", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    pods.ready("probed")
    pods.kubectl("delete", "pod", "probed", "--timeout=30s")


def test_a_pod_that_is_ending_can_be_hurried(pods: Pods) -> None:
    stubborn = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    for name in ("shorter", "forced"):
        pods.apply(script(name, stubborn, terminationGracePeriodSeconds=600))
    for name, options in (("shorter", ["--grace-period=1"]), ("forced", ["--grace-period=0", "--force"])):
        pods.ready(name)
        until(lambda name=name: "deaf" in pods.log(name))
        process = pods.process(name)
        pods.kubectl("delete", "pod", name, "--wait=false")
        until(lambda name=name: "deletionTimestamp" in pods.pod(name)["metadata"])
        pods.kubectl("delete", "pod", name, "--wait=false", *options)
        until(lambda found=process: start_time(found.pid) != found.start)
        until(lambda name=name: pods.gone("pod", name))


def test_a_node_that_was_killed_takes_its_pods_up_again(pods: Pods) -> None:
    pods.apply(
        script("ends", "exec sleep 1000"), script("goes", "exec sleep 1000"), script("stays", "exec sleep 1000")
    )
    address = pods.ready("pg-0")
    for name in ("ends", "goes", "stays"):
        pods.ready(name)
    server, ends, goes, stays = (pods.process(name) for name in ("pg-0", "ends", "goes", "stays"))
    session = postgres_at(address)
    before = ready_since(pods.pod("pg-0"))
    assert pods.cluster.kill("node")
    os.kill(ends.pid, signal.SIGKILL)
    pods.kubectl("delete", "pod", "goes", "--grace-period=0", "--force")
    assert start_time(goes.pid) == goes.start
    pods.cluster.start_node(back_off=0.2)
    assert session.execute("SELECT 1").fetchone() == (1,)  # the server never noticed
    session.close()
    assert pods.process("pg-0") == server
    assert pods.process("stays") == stays
    pods.wait("ends", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    found = state(pods.pod("ends"))
    assert found["lastState"]["terminated"]["exitCode"] == 137
    until(lambda: start_time(goes.pid) != goes.start)
    pods.ready("pg-0")
    assert ready_since(pods.pod("pg-0")) == before  # nor did who watches the pod
    pods.kubectl("delete", "pod", "ends", "stays", "--timeout=30s")
    assert start_time(stays.pid) != stays.start


def test_a_stopped_node_ends_all_processes_and_keeps_their_data(pods: Pods) -> None:
    address = pods.ready("maria-0")
    with pymysql.connect(host=address, user="root", password=PASSWORD) as connection:
        connection.cursor().execute("CREATE DATABASE IF NOT EXISTS kept")
    names = ("pg-0", "maria-0", "cache-0")
    for name in names:
        pods.ready(name)
    before = [pods.process(name) for name in names]
    assert pods.cluster.node.stop()
    assert all(start_time(process.pid) != process.start for process in before)
    pods.cluster.start_node(back_off=0.2)
    for name, old in zip(names, before, strict=True):
        until(lambda name=name: isinstance(pods.found(name), runtime.Running))
        assert pods.process(name) != old
        pods.ready(name)
        assert state(pods.pod(name))["restartCount"] == 1
    with pymysql.connect(host=address, user="root", password=PASSWORD) as connection:
        cursor = connection.cursor()
        assert cursor.execute("SHOW DATABASES LIKE 'kept'") == 1
    with redis.Redis(host=pods.ready("cache-0"), password=PASSWORD) as client:
        assert client.get("key") == b"value"


def test_a_restarted_api_server_is_reached_again(pods: Pods) -> None:
    pods.cluster.kill("kube-apiserver")
    pods.cluster.plane.start_apiserver(ensure_controlplane())
    pods.apply(script("late", "exec sleep 1000"))
    pods.ready("late")
    pods.kubectl("delete", "pod", "late", "--timeout=30s")


def test_a_claim_grows_and_its_folder_goes_with_it(pods: Pods) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "grows"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    pods.apply(claim)
    pods.kubectl("wait", "pvc/grows", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s")
    volume = pods.get("pvc", "grows")["spec"]["volumeName"]
    folder = pods.cluster.paths.node / "volumes" / volume
    assert folder.is_dir()
    pods.kubectl("patch", "pvc", "grows", "-p", '{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}')
    pods.kubectl("wait", "pvc/grows", "--for=jsonpath={.status.capacity.storage}=3Gi", "--timeout=30s")
    assert pods.cluster.kubectl.get("pv", volume)["spec"]["capacity"]["storage"] == "3Gi"
    pods.kubectl("delete", "pvc", "grows", "--timeout=30s")
    until(lambda: pods.gone("pv", volume))
    assert not folder.exists()


def test_a_pod_without_its_claim_says_so_and_can_be_deleted(pods: Pods) -> None:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "nowhere"}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    pods.apply(script("unbound", "exec sleep 1000", container={"volumeMounts": mounts}, volumes=[volume]))
    pod = pods.wait("unbound", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ContainerCreating")
    assert state(pod)["state"]["waiting"]["message"] == 'persistentvolumeclaim "nowhere" not found'
    pods.kubectl("delete", "pod", "unbound", "--timeout=20s")


def test_a_sidecar_starts_first_and_ends_with_the_pod(pods: Pods) -> None:
    command = ["sh", "-c", "exec sleep 1000"]
    sidecar = {"name": "side", "image": "python:3", "command": command, "restartPolicy": "Always"}
    pods.apply(script("accompanied", "sleep 0.5", initContainers=[sidecar], restartPolicy="OnFailure"))
    pod = pods.wait("accompanied", "jsonpath={.status.phase}=Succeeded")
    until(lambda: "terminated" in pods.pod("accompanied")["status"]["initContainerStatuses"][0]["state"])
    assert pod["status"]["initContainerStatuses"][0]["restartCount"] == 0


def test_a_deployment_goes_to_nothing_and_back(pods: Pods) -> None:
    template = script("web", "exec sleep 1000")["spec"]
    pods.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": template | {"restartPolicy": "Always"},
                },
            },
        }
    )
    for replicas in (2, 0, 1):
        pods.kubectl("scale", "deployment", "web", f"--replicas={replicas}")
        until(lambda count=replicas: pods.get("deployment", "web")["status"].get("readyReplicas", 0) == count)
    pods.kubectl("delete", "deployment", "web")


def test_the_logs_of_a_pod_are_found_by_its_name(pods: Pods) -> None:
    pods.ready("pg-0")
    for name in ("pg-0", f"{NAMESPACE}/pg-0", f"{NAMESPACE}/pg-0/main"):
        assert [path.name for path in logs_of(pods.cluster.paths, name)] == [f"{NAMESPACE}_pg-0_main.log"]
    with pytest.raises(LocalError, match="node-test/pg-0"):
        logs_of(pods.cluster.paths, "nobody")
    assert PASSWORD not in pods.log("pg-0")


def test_the_node_may_not_do_what_it_has_no_business_with(pods: Pods) -> None:
    file = pods.cluster.paths.service_kubeconfig("node")
    for verb, resource in (("create", "deployments"), ("delete", "namespaces"), ("update", "secrets")):
        answer = pods.cluster.kubectl.run("--kubeconfig", str(file), "auth", "can-i", verb, resource, check=False)
        assert answer.stdout.strip() == "no"
