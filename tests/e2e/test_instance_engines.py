"""A server of every engine that Tenantry runs: a tenant works with it, strangers do not, it sleeps and wakes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiomysql
import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.e2e.support import Api, Object, manifest, namespace
from tests.e2e.test_instance_servers import QUICK, wait_instance

pytestmark = pytest.mark.e2e

SPACE = "engines"
MIGRATIONS: dict[str, Object] = {
    "MySQL": {"sql": "CREATE TABLE notes (id int AUTO_INCREMENT PRIMARY KEY, body text NOT NULL)"},
    "MongoDB": {"commands": [{"create": "notes"}]},
    "Redis": {"commands": [["HSET", "{prefix}config", "theme", "light"]]},
}
SERVERS = [("MySQL", "mariadb:11.4"), ("Redis", "valkey/valkey:8"), ("Redis", "redis:7"), ("MongoDB", None)]


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Api:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.apply(namespace(SPACE))
    for engine, migration in MIGRATIONS.items():
        name = engine.lower()
        version = {"blueprint": name, "version": "1.0", "migrations": [{"name": "notes", **migration}]}
        api.apply(
            manifest("Blueprint", name, {"engine": engine, "version": "1.0"}, namespace=SPACE),
            manifest("BlueprintVersion", f"{name}-1.0", version, namespace=SPACE),
        )
    return api


def write(engine: str, binding: dict[str, str], value: str) -> None:
    """Writes as the tenant."""
    if engine == "MySQL":
        asyncio.run(mysql(binding, f"INSERT INTO notes (body) VALUES ('{value}')"))
    elif engine == "Redis":
        with contextlib.closing(redis.Redis.from_url(binding["uri"])) as client:
            client.set(f"{binding['prefix']}note", value)
    else:
        with MongoClient[Object](binding["uri"], serverSelectionTimeoutMS=5000) as mongo:
            mongo[binding["database"]]["notes"].insert_one({"_id": 1, "body": value})


def read(engine: str, binding: dict[str, str]) -> str:
    """Reads as the tenant.

    :raises Exception: when the server refuses it.
    """
    if engine == "MySQL":
        return asyncio.run(mysql(binding, "SELECT body FROM notes"))
    if engine == "Redis":
        with contextlib.closing(redis.Redis.from_url(binding["uri"])) as client:
            return bytes(client.get(f"{binding['prefix']}note") or b"").decode()  # type: ignore[arg-type]
    with MongoClient[Object](binding["uri"], serverSelectionTimeoutMS=3000) as mongo:
        return str((mongo[binding["database"]]["notes"].find_one() or {}).get("body"))


async def mysql(binding: dict[str, str], statement: str) -> str:
    connection = await aiomysql.connect(
        host=binding["host"],
        port=int(binding["port"]),
        user=binding["username"],
        password=binding["password"],
        db=binding["database"],
        autocommit=True,
    )
    try:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)
            rows = await cursor.fetchall()
    finally:
        connection.close()
    return str(rows[0][0]) if rows else ""


def is_refused(engine: str, binding: dict[str, str]) -> bool:
    try:
        read(engine, binding)
    except (redis.RedisError, PyMongoError, aiomysql.Error, OSError):
        return True
    return False


@pytest.mark.parametrize(("engine", "image"), SERVERS)
def test_a_server_of_every_engine(api: Api, engine: str, image: str | None) -> None:
    name = (image or engine).partition(":")[0].rpartition("/")[2].lower()
    server = {"storage": "1Gi"} | ({"image": image} if image else {})
    spec = {"engine": engine, "role": "Dedicated", "deletionPolicy": "Delete", "statefulSet": server}
    api.apply(manifest("DatabaseInstance", name, spec, namespace=SPACE))
    wait_instance(api, name, "True", "Ready", where=SPACE)
    database = {"name": "notes", "blueprint": engine.lower(), "isolation": "Database", "instance": name}
    tenant = {"databases": [database], "deletionPolicy": "Delete"}
    api.apply(manifest("Tenant", f"t-{name}", tenant, namespace=SPACE))
    api.ready(SPACE, f"t-{name}")
    binding = api.secret(SPACE, f"t-{name}", "notes")
    write(engine, binding, "kept")
    assert read(engine, binding) == "kept"

    # Nobody comes in without a password, or with another one.
    for other in ({"username": "default", "password": ""}, {"password": "guessed"}):
        values = {**binding, **other}
        values["uri"] = (
            binding["uri"]
            .replace(binding["password"], values["password"])
            .replace(f"//{binding['username']}:", f"//{values['username']}:")
        )
        assert is_refused(engine, values), other

    api.set_state(SPACE, f"t-{name}", "Suspended")
    api.ready(SPACE, f"t-{name}", "Suspended")
    wait_instance(api, name, "True", "Hibernated", where=SPACE)
    api.gone("pod", f"{name}-0", SPACE)
    api.set_state(SPACE, f"t-{name}", "Active")
    api.ready(SPACE, f"t-{name}")
    assert read(engine, api.secret(SPACE, f"t-{name}", "notes")) == "kept"

    api.delete("tenant", f"t-{name}", SPACE)
    api.gone("tenant", f"t-{name}", SPACE)
    api.delete("databaseinstance", name, SPACE)
    api.gone("databaseinstance", name, SPACE)
    assert api.get("persistentvolumeclaim", f"data-{name}-0", SPACE) is None
    assert api.get("secret", f"{name}-admin", SPACE) is None
