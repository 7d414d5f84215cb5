"""Tenants' logins on all engines: tried by the demo and by tests, with nothing but what the Secret says."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import psycopg
import pymongo
import pymongo.errors
import pymysql
import redis
from psycopg import sql

_PATIENCE = 5


class Refused(Exception):
    """The server does not let the login in, or not do what it asks for."""


def use(secret: Mapping[str, str]) -> str:
    """Writes something with a tenant's login and reads it again, in the database of its Secret.

    :returns: what was read.
    :raises Refused: with what the server says.
    """
    return _ENGINES[secret["type"]](secret, f"written-{uuid.uuid4().hex[:8]}")


def _postgres(secret: Mapping[str, str], word: str) -> str:
    try:
        with psycopg.connect(secret["uri"], connect_timeout=_PATIENCE) as connection:
            connection.execute("INSERT INTO orders (customer, total) VALUES (%s, 1)", [word])
            found = connection.execute("SELECT customer FROM orders WHERE customer = %s", [word]).fetchone()
    except psycopg.Error as error:
        raise Refused(str(error).strip()) from None
    return str(found[0]) if found else ""


def _mysql(secret: Mapping[str, str], word: str) -> str:
    try:
        connection = pymysql.connect(
            host=secret["host"],
            port=int(secret["port"]),
            user=secret["username"],
            password=secret["password"],
            database=secret["database"],
            connect_timeout=_PATIENCE,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO notes (title) VALUES (%s)", [word])
            cursor.execute("SELECT title FROM notes WHERE title = %s", [word])
            found = cursor.fetchone()
    except pymysql.Error as error:
        raise Refused(str(error.args[-1])) from None
    return str(found[0]) if found else ""


def _mongodb(secret: Mapping[str, str], word: str) -> str:
    try:
        with pymongo.MongoClient[dict[str, str]](
            secret["uri"], serverSelectionTimeoutMS=_PATIENCE * 1000
        ) as client:
            products = client[secret["database"]]["products"]
            products.insert_one({"sku": word})
            found = products.find_one({"sku": word})
    except pymongo.errors.PyMongoError as error:
        raise Refused(str(error).splitlines()[0]) from None
    return found["sku"] if found else ""


def _redis(secret: Mapping[str, str], word: str) -> str:
    key = f"{secret['prefix']}demo"
    try:
        with redis.Redis.from_url(secret["uri"], socket_timeout=_PATIENCE) as client:
            client.set(key, word)
            found = client.get(key)
    except redis.RedisError as error:
        raise Refused(str(error)) from None
    return found.decode() if isinstance(found, bytes) else ""


_ENGINES: Mapping[str, Callable[[Mapping[str, str], str], str]] = {
    "postgresql": _postgres,
    "mysql": _mysql,
    "mongodb": _mongodb,
    "redis": _redis,
}


def reach(secret: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Reads what is another's with a tenant's login, on the same server.

    :param other: the other's Secret.
    :raises Refused: with what the server says; that is how it should be.
    """
    wanted = other["database"]
    try:
        match secret["type"]:
            case "postgresql":
                target = psycopg.conninfo.make_conninfo(secret["uri"], dbname=wanted, connect_timeout=_PATIENCE)
                with psycopg.connect(target) as connection:
                    schema = sql.Identifier(other["schema"] or "public")
                    rows = connection.execute(sql.SQL("SELECT * FROM {}.orders").format(schema)).fetchall()
                return str(rows)
            case "mysql":
                return _mysql({**secret, "database": wanted}, "nobody-knows")
            case "mongodb":
                with pymongo.MongoClient[dict[str, str]](
                    secret["uri"], serverSelectionTimeoutMS=_PATIENCE * 1000
                ) as client:
                    return str(client[wanted]["products"].find_one({}))
            case _:
                with redis.Redis.from_url(secret["uri"], socket_timeout=_PATIENCE) as client:
                    return str(client.get(f"{other['prefix']}demo"))
    except psycopg.Error as error:
        raise Refused(str(error).strip()) from None
    except pymongo.errors.PyMongoError as error:
        raise Refused(str(error).splitlines()[0]) from None
    except redis.RedisError as error:
        raise Refused(str(error)) from None
