"""What stands for an image, and what its entrypoint does, with programs that only say how they were called."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from pathlib import Path

import pytest

from tenantry_local.errors import LocalError
from tenantry_local.node import manifests, scripts
from tenantry_local.node.addresses import Addresses, network_of
from tenantry_local.node.images import KNOWN, Image, Programs, UnknownImage
from tenantry_local.node.mysqlinit import statements
from tenantry_local.node.users import Account

ADDRESS = "127.16.0.5"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("postgres", "postgres"),
        ("postgres:18.1-alpine", "postgres"),
        ("docker.io/library/mariadb:11.4@sha256:abc", "mariadb"),
        ("localhost:5000/mysql", "mysql"),
        ("bitnami/postgresql:18", "postgres"),
        ("valkey/valkey:8", "valkey"),
        ("ghcr.io/ferretdb/ferretdb:1.24", "ferretdb"),
        ("python:3.13-slim", "python"),
        ("redis/redis-stack", "redis"),
    ],
)
def test_the_last_part_of_the_repository_decides(name: str, family: str) -> None:
    assert Image.of(name).family == family


@pytest.mark.parametrize("name", ["nginx", "postgres/nginx:1", "my-postgres", "", "registry:5000/"])
def test_another_image_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UnknownImage) as refused:
        Image.of(name)
    assert all(f"{family}*" in str(refused.value) for family in KNOWN)


def test_the_data_folder_is_the_tags() -> None:
    assert Image.of("postgres:17").environment["PGDATA"] == "/var/lib/postgresql/data"
    assert Image.of("postgres:18.1").environment["PGDATA"] == "/var/lib/postgresql/18/docker"
    assert Image.of("postgres").environment["PGDATA"] == "/var/lib/postgresql/18/docker"


def test_command_and_arguments() -> None:
    image = Image.of("redis")
    assert image.command(None, None) == ["docker-entrypoint.sh"]
    assert image.command(None, ["--port", "1"]) == ["docker-entrypoint.sh", "--port", "1"]
    assert image.command(["redis-server"], ["a.conf"]) == ["redis-server", "a.conf"]
    assert Image.of("python").command(None, ["python", "x.py"]) == ["python", "x.py"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder for a container's scripts, and programs that print their arguments."""
    for name in ("postgres", "initdb", "mariadbd", "server", "client"):
        program = tmp_path / f"real-{name}"
        program.write_text(f'#!/bin/sh\necho {name}; for word in "$@"; do echo "[$word]"; done\n')
        program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    return tmp_path


def installed(image: Path, made: dict[str, str]) -> None:
    for name, text in made.items():
        (image / "bin" / name).write_text(text)
        (image / "bin" / name).chmod(0o755)


def run(image: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{image / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [image / "bin" / command[0], *command[1:]],
        env={"PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=image,
        timeout=30,
    )


def programs(image: Path, *names: str) -> dict[str, str]:
    return {name: str(image / f"real-{name}") for name in names}


def test_postgres_makes_its_data_once_and_listens_on_its_address_only(image: Path) -> None:
    fake = image / "real-initdb"
    fake.write_text(
        '#!/bin/sh\nfor word in "$@"; do\n'
        'case "$word" in --pgdata=*) data=${word#*=} ;; --pwfile=*) pw=${word#*=} ;; esac; done\n'
        'mkdir "$data"; echo 18 > "$data/PG_VERSION"; cat "$pw" > "$data/pw"; echo "$@" > "$data/args"\n'
    )
    installed(image, scripts.postgres(programs(image, "postgres", "initdb"), ADDRESS, "/sockets", fsync="on"))
    data = image / "data"
    data.mkdir()
    settings = {"PGDATA": str(data), "POSTGRES_PASSWORD": "a 'word'", "POSTGRES_INITDB_ARGS": "--wal-segsize=1"}
    (image / "data.init").mkdir()
    (image / "data.init" / "half").touch()  # a first start that was killed
    first = run(image, "docker-entrypoint.sh", "-c", "max_connections=5", **settings)
    assert first.returncode == 0, first.stderr
    assert first.stdout.split()[-6:] == [
        "[-c]",
        "[max_connections=5]",
        "[-c]",
        f"[listen_addresses={ADDRESS}]",
        "[-c]",
        "[unix_socket_directories=/sockets]",
    ]
    assert (data / "pw").read_text() == "a 'word'\n"
    assert not list(image.glob("data.init*"))
    assert "--wal-segsize=1" in (data / "args").read_text()
    assert "'word'" not in (data / "args").read_text()
    assert (data / "pg_hba.conf").read_text().strip() == "host all all all scram-sha-256"
    (data / "mark").touch()
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n")  # a number that is another process's now
    second = run(image, "docker-entrypoint.sh", "postgres", **settings)
    assert second.returncode == 0, second.stderr
    assert (data / "mark").exists()
    assert not (data / "postmaster.pid").exists()


def test_postgres_refuses_to_start_without_a_password_or_over_other_files(image: Path) -> None:
    installed(image, scripts.postgres(programs(image, "postgres", "initdb"), ADDRESS, "/sockets", fsync="on"))
    data = image / "data"
    refused = run(image, "docker-entrypoint.sh", PGDATA=str(data))
    assert refused.returncode == 1
    assert "POSTGRES_PASSWORD" in refused.stderr
    data.mkdir()
    (data / "precious").touch()
    refused = run(image, "docker-entrypoint.sh", PGDATA=str(data), POSTGRES_PASSWORD="x")
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert (data / "precious").exists()


def test_a_servers_own_script_adds_the_address_whoever_calls_it(image: Path) -> None:
    installed(image, scripts.redis(programs(image, "server", "client"), ADDRESS))
    assert run(image, "valkey-server", "/a.conf", "--bind", "0.0.0.0").stdout.split()[-2:] == [
        "[--bind]",
        f"[{ADDRESS}]",
    ]
    assert run(image, "docker-entrypoint.sh").stdout.split() == ["server", "[--bind]", f"[{ADDRESS}]"]
    assert run(image, "redis-cli", "ping").stdout.split() == ["client", "[-h]", f"[{ADDRESS}]", "[ping]"]
    assert run(image, "docker-entrypoint.sh", "sh", "-c", "echo own").stdout == "own\n"


def test_mariadb_takes_a_file_of_options_first_and_none_of_this_machines(image: Path) -> None:
    made = scripts.mariadb(
        programs(image, "mariadbd"),
        "/share",
        ADDRESS,
        "/sockets",
        tables=scripts.TABLES["mysql"],
        mysql=True,
    )
    installed(image, made)
    data = image / "data"
    (data / "mysql").mkdir(parents=True)
    said = run(image, "docker-entrypoint.sh", "--defaults-extra-file=/my.cnf", TENANTRY_NODE_DATA=str(data))
    words = said.stdout.split()
    assert words[1:3] == ["[--defaults-file=/my.cnf]", f"[--datadir={data}]"]
    assert f"[--bind-address={ADDRESS}]" in words
    assert "MariaDB in place of MySQL" in said.stderr
    assert "[--no-defaults]" in run(image, "mysqld", "--port=1", TENANTRY_NODE_DATA=str(data)).stdout
    refused = run(image, "docker-entrypoint.sh", TENANTRY_NODE_DATA=str(image / "none"))
    assert refused.returncode == 1
    assert "MARIADB_ROOT_PASSWORD" in refused.stderr


@pytest.mark.parametrize(("folder", "family"), [("mysql", "mysql"), ("mysql", "mariadb"), ("mariadb", "mariadb")])
def test_the_tables_of_older_and_newer_mariadbs_are_found(
    folder: str, family: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = image / "bin" / "mariadbd"
    monkeypatch.setattr("tenantry_local.programs.find", lambda name: server)
    node = Programs(Account(None, None, None))
    with pytest.raises(LocalError, match=r"mysql_system_tables\.sql or mariadb_system_tables\.sql"):
        node.scripts(Image.of("mariadb"), ADDRESS, image / "sockets")
    share = image / "share" / folder
    share.mkdir(parents=True)
    (share / f"{family}_system_tables.sql").touch()
    entrypoint = node.scripts(Image.of("mariadb"), ADDRESS, image / "sockets")["docker-entrypoint.sh"]
    assert f"cd {share}\n    cat {family}_system_tables.sql {family}_performance_tables.sql" in entrypoint


def test_what_a_new_mariadb_runs_is_quoted() -> None:
    given = {
        "MYSQL_ROOT_PASSWORD": "a'b\\c\nDROP",
        "MYSQL_DATABASE": "x`_y",
        "MYSQL_USER": "u'",
        "MYSQL_PASSWORD": "p",
    }
    said = statements(given, lambda _: "")
    assert said is not None
    assert "IDENTIFIED BY 'a\\'b\\\\c\\nDROP'" in said
    assert "CREATE DATABASE `x``_y`;" in said
    assert "GRANT ALL PRIVILEGES ON `x``\\_y`.* TO 'u\\''@'%';" in said
    assert statements({}, lambda _: "") is None
    from_file = statements({"MARIADB_ROOT_PASSWORD_FILE": "/f"}, lambda path: f"content of {path}\n")
    assert from_file is not None
    assert "'content of /f'" in from_file
    assert "'root'@'%'" not in (
        statements({"MARIADB_ROOT_PASSWORD": "x", "MARIADB_ROOT_HOST": "localhost"}, str) or ""
    )


def test_a_pods_address_is_its_names_and_outlives_the_node(tmp_path: Path) -> None:
    file, network = tmp_path / "addresses.json", ipaddress.IPv4Network("127.16.0.0/29")
    first = Addresses(file, network)
    taken = [first.take("shop", f"pg-{number}") for number in range(3)]
    assert len(set(taken)) == 3
    assert first.take("shop", "pg-1") == taken[1]
    again = Addresses(file, network)
    assert again.take("shop", "pg-1") == taken[1]
    assert again.take("shop", "pg-9") not in taken


def test_when_no_address_is_left_that_of_a_pod_that_is_gone_is_given_away(tmp_path: Path) -> None:
    addresses = Addresses(tmp_path / "addresses.json", ipaddress.IPv4Network("127.16.0.0/29"))
    taken = [addresses.take("shop", str(number)) for number in range(6)]
    with pytest.raises(LocalError, match="in use"):
        addresses.take("shop", "one more")
    addresses.release("shop", "3")
    assert addresses.take("shop", "one more") == taken[3]


def test_addresses_are_loopback_and_never_the_machines_own(tmp_path: Path) -> None:
    for number in range(200):
        network = network_of(tmp_path / str(number))
        assert network.subnet_of(ipaddress.IPv4Network("127.0.0.0/8"))
        assert ipaddress.IPv4Address("127.0.0.1") not in network
    assert network_of(tmp_path) == network_of(tmp_path)


def test_the_nodes_rights_are_named_one_by_one() -> None:
    roles = [value for value in manifests.objects() if value["kind"] == "ClusterRole"]
    for rule in roles[0]["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"]
        assert "secrets" not in rule["resources"]
