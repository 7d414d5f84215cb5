"""Open sessions of tenants on every engine, and what their servers hold, by the administrators' logins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import psycopg
import pymongo
import pymongo.errors
import pymysql
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.support import Api

FAILURES = (psycopg.Error, pymysql.Error, redis.RedisError, pymongo.errors.PyMongoError, OSError)
"""What drivers raise for what a server refuses, or when it is away."""
SYSTEM = "tenantry-system"
_WAIT = 5
_CHUNK = 1900
"""Bytes of a row; not so many that they are compressed and kept elsewhere."""


def filler(number: int) -> str:
    """Some text that no other row has."""
    return f"{number:08d}" + "x" * (_CHUNK - 8)


class Session(ABC):
    """A session of a tenant's login, which stays open. All methods may raise :data:`FAILURES`."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        self.secret = secret

    @abstractmethod
    def put(self, word: str) -> None:
        """Writes a word."""

    @abstractmethod
    def words(self) -> list[str]:
        """All words but those that :meth:`fill` wrote."""

    @abstractmethod
    def fill(self, count: int) -> None:
        """Writes ``count`` rows of about 2 kB."""

    @abstractmethod
    def clear(self) -> None:
        """Deletes everything."""

    @abstractmethod
    def close(self) -> None:
        """Ends it."""

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PostgresSession(Session):
    """On ``orders``."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        super().__init__(secret)
        self._connection = psycopg.connect(secret["uri"], connect_timeout=_WAIT, autocommit=True)

    def put(self, word: str) -> None:
        self._connection.execute("INSERT INTO orders (customer, total) VALUES (%s, 1)", [word])

    def words(self) -> list[str]:
        rows = self._connection.execute("SELECT customer FROM orders WHERE length(customer) < 100")
        return [str(row[0]) for row in rows]

    def fill(self, count: int) -> None:
        self._connection.execute(
            "INSERT INTO orders (customer, total) SELECT n || %s, 1 FROM generate_series(1, %s) n",
            [filler(0), count],
        )

    def clear(self) -> None:
        self._connection.execute("DELETE FROM orders")

    def close(self) -> None:
        self._connection.close()


class MysqlSession(Session):
    """On ``notes``."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        super().__init__(secret)
        self._connection = mysql(secret, secret["database"])

    def put(self, word: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO notes (title) VALUES (%s)", [word])

    def words(self) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT title FROM notes WHERE body IS NULL")
            return [str(row[0]) for row in cursor.fetchall()]

    def fill(self, count: int) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO notes (title, body) VALUES (%s, %s)", [("fill", filler(n)) for n in range(count)]
            )

    def clear(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute("DELETE FROM notes")

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()


class MongoSession(Session):
    """On ``products``."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        super().__init__(secret)
        self._client = pymongo.MongoClient[dict[str, Any]](
            secret["uri"],
            serverSelectionTimeoutMS=_WAIT * 1000,
            maxPoolSize=1,
            retryWrites=False,
            retryReads=False,
        )
        self._products = self._client[secret["database"]]["products"]
        try:
            self._products.find_one({})
        except FAILURES:
            self._client.close()
            raise

    def put(self, word: str) -> None:
        self._products.insert_one({"sku": word})

    def words(self) -> list[str]:
        return [str(found["sku"]) for found in self._products.find({"fill": {"$exists": False}})]

    def fill(self, count: int) -> None:
        self._products.insert_many({"sku": f"fill-{n}", "fill": filler(n)} for n in range(count))

    def clear(self) -> None:
        self._products.delete_many({})

    def close(self) -> None:
        self._client.close()


class RedisSession(Session):
    """On the set ``words`` and the hash ``fill``."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        super().__init__(secret)
        self._client = redis.Redis.from_url(
            secret["uri"], socket_timeout=_WAIT, decode_responses=True, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = secret["prefix"]
        self._client.ping()

    def put(self, word: str) -> None:
        self._client.sadd(f"{self._prefix}words", word)

    def words(self) -> list[str]:
        found: Any = self._client.smembers(f"{self._prefix}words")
        return [str(word) for word in found]

    def fill(self, count: int) -> None:
        for start in range(0, count, 500):
            part = {str(n): filler(n) for n in range(start, min(count, start + 500))}
            self._client.hset(f"{self._prefix}fill", mapping=part)

    def clear(self) -> None:
        self._client.delete(f"{self._prefix}fill", f"{self._prefix}words")

    def close(self) -> None:
        self._client.close()


_SESSIONS: Mapping[str, type[Session]] = {
    "postgresql": PostgresSession,
    "mysql": MysqlSession,
    "mongodb": MongoSession,
    "redis": RedisSession,
}


def login(secret: Mapping[str, str]) -> Session:
    """A new session with the login of a Secret."""
    return _SESSIONS[secret["type"]](secret)


def is_refused(secret: Mapping[str, str]) -> bool:
    """Whether a login cannot even read."""
    try:
        with login(secret) as session:
            session.words()
    except FAILURES:
        return True
    return False


def works(secret: Mapping[str, str], word: str) -> bool:
    """Whether a login writes."""
    try:
        with login(secret) as session:
            session.put(word)
    except FAILURES:
        return False
    return True


def mysql(secret: Mapping[str, str], database: str | None = None) -> pymysql.Connection[Any]:
    """A connection with the login of a Secret."""
    return pymysql.connect(
        host=secret["host"],
        port=int(secret["port"]),
        user=secret["username"],
        password=secret["password"],
        database=database,
        connect_timeout=_WAIT,
        autocommit=True,
    )


def has_more(secret: dict[str, str]) -> bool:
    """Whether ``more`` is there."""
    match secret["type"]:
        case "postgresql":
            with psycopg.connect(secret["uri"]) as connection:
                return connection.execute("SELECT to_regclass('more')").fetchone() != (None,)
        case "mysql":
            with mysql(secret, secret["database"]) as connection, connection.cursor() as cursor:
                return bool(cursor.execute("SHOW TABLES LIKE 'more'"))
        case "mongodb":
            with pymongo.MongoClient[dict[str, Any]](secret["uri"]) as client:
                return "more" in client[secret["database"]].list_collection_names()
        case _:
            with redis.Redis.from_url(secret["uri"]) as client:
                return bool(client.exists(f"{secret['prefix']}more"))


class Servers:
    """The shared servers of ``examples/engines``, by the operator's own logins; of pool-a, by the superuser's."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def admin(self, instance: str) -> dict[str, str]:
        """The administrator's Secret of a server, and where it is."""
        pod = self._api.get("pod", f"{instance}-0", SYSTEM) or {}
        port = {"mysql-a": "3306", "redis-a": "6379", "mongo-a": "5432"}[instance]
        secret = self._api.kubectl.secret(SYSTEM, f"{instance}-admin")
        return {**secret, "host": pod["status"]["podIP"], "port": port}

    def redis(self) -> redis.Redis:
        """Of redis-a."""
        admin = self.admin("redis-a")
        return redis.Redis(
            host=admin["host"],
            port=int(admin["port"]),
            username=admin["username"],
            password=admin["password"],
            decode_responses=True,
        )

    def ferretdb(self) -> psycopg.Connection[Any]:
        """The PostgreSQL of mongo-a."""
        admin = self.admin("mongo-a")
        return psycopg.connect(
            host=admin["host"],
            port=admin["port"],
            user=admin["username"],
            password=admin["password"],
            dbname="ferretdb",
            autocommit=True,
        )

    def take_away(self, secret: Mapping[str, str]) -> None:
        """Takes a right from a tenant's login without which it cannot write."""
        user, database = secret["username"], secret["database"]
        match secret["type"]:
            case "postgresql":
                with psycopg.connect(self._api.cluster.admin_dsn(database), autocommit=True) as connection:
                    schema = sql.Identifier(secret["schema"] or "public")
                    roles = connection.execute(
                        "SELECT DISTINCT grantee::regrole::text FROM pg_class c, aclexplode(relacl) "
                        "WHERE relnamespace = %s::regnamespace AND privilege_type = 'INSERT' "
                        "AND grantee <> relowner",
                        [schema.as_string()],
                    ).fetchall()
                    assert roles
                    for (role,) in roles:
                        connection.execute(
                            sql.SQL("REVOKE INSERT ON ALL TABLES IN SCHEMA {} FROM {}").format(
                                schema, sql.SQL(role)
                            )
                        )
            case "mysql":
                with mysql(self.admin("mysql-a")) as root, root.cursor() as cursor:
                    escaped = database.replace("_", "\\_")
                    cursor.execute(f"REVOKE INSERT ON `{escaped}`.* FROM '{user}'@'%'")
            case "mongodb":
                with self.ferretdb() as connection:
                    rows = connection.execute(
                        "SELECT grantee::regrole::text FROM pg_namespace, aclexplode(nspacl) "
                        "WHERE nspname = %s AND privilege_type = 'USAGE' AND grantee <> nspowner",
                        [database],
                    ).fetchall()
                    assert rows
                    for (role,) in rows:
                        connection.execute(
                            sql.SQL("REVOKE USAGE ON SCHEMA {} FROM {}").format(
                                sql.Identifier(database), sql.SQL(role)
                            )
                        )
            case _:
                with self.redis() as client:
                    client.execute_command("ACL", "SETUSER", user, "-sadd")

    def traces(self, name: str) -> list[str]:
        """All that has a tenant's name in it, on every shared server, marks and ledgers included."""
        like = f"%{name}%"
        found: list[str] = []
        with psycopg.connect(self._api.cluster.admin_dsn()) as connection:
            found += _rows(connection, "role", "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", like)
            found += _rows(connection, "database", "SELECT datname FROM pg_database WHERE datname LIKE %s", like)
            databases = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
        for (database,) in databases:
            with psycopg.connect(self._api.cluster.admin_dsn(database)) as connection:
                found += _rows(
                    connection, "schema", "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", like
                )
        with mysql(self.admin("mysql-a")) as root, root.cursor() as cursor:
            cursor.execute("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s", [like])
            found += [f"mysql database {row[0]}" for row in cursor.fetchall()]
            cursor.execute("SELECT user FROM mysql.user WHERE user LIKE %s", [like])
            found += [f"mysql user {row[0]}" for row in cursor.fetchall()]
            cursor.execute("SELECT name FROM tenantry.marks WHERE name LIKE %s OR mark LIKE %s", [like, like])
            found += [f"mysql mark {row[0]}" for row in cursor.fetchall()]
            cursor.execute("SELECT tenant_database FROM tenantry.ledger WHERE tenant_database LIKE %s", [like])
            found += [f"mysql ledger {row[0]}" for row in cursor.fetchall()]
        with self.ferretdb() as connection:
            found += _rows(connection, "mongo role", "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", like)
            found += _rows(
                connection, "mongo schema", "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", like
            )
            found += _rows(
                connection, "mongo ledger", "SELECT schema FROM tenantry.ledger WHERE schema LIKE %s", like
            )
        with self.redis() as client:
            keys: Any = client.keys(f"*{name}*")
            found += [f"redis key {key}" for key in keys]
            marks: Any = client.hkeys("tenantry:marks")
            found += [f"redis mark {mark}" for mark in marks if name in mark]
            users: Any = client.execute_command("ACL", "USERS")
            found += [f"redis user {user}" for user in users if name in user]
        return found


def _rows(connection: psycopg.Connection[Any], what: str, query: str, value: str) -> list[str]:
    return [f"{what} {row[0]}" for row in connection.execute(query.encode(), [value])]
