"""A real Redis server for the tests that all engines share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tenantry_crds.common import DatabaseEngine
from tenantry_local import programs
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Chain, Desired, Isolation, Migration
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis.connections import ConnectionSettings
from tenantry_operator.engines.redis.engine import RedisEngine
from tests.integration.engines.harness import Refused
from tests.integration.processes import free_port

ADMIN = "tenantry-admin"
PASSWORD = "not-a-secret-in-a-test"


_PROGRAM = os.environ.get("TENANTRY_TEST_REDIS")
"""Another server's program, Valkey's for example. Tests run without such variables, thus read here."""


def program() -> Path:
    """The server's program."""
    return Path(_PROGRAM or programs.find("redis-server"))


class RedisServer:
    """One server process in a folder of its own.

    :param users: where its ACL users are kept: ``aclfile``, ``config`` or ``nowhere``.
    :param tls: a folder with ``ca.crt``, ``tls.crt`` and ``tls.key``; None: it speaks plainly.
    """

    def __init__(self, folder: Path, *options: str, users: str = "aclfile", tls: Path | None = None) -> None:
        self.folder = folder
        self.port = 0
        self.options = options
        self.users = users
        self.tls = tls
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def access(self) -> Access:
        """How the operator reaches it."""
        return Access(DatabaseEngine.REDIS, "127.0.0.1", self.port, ADMIN, PASSWORD, sslmode="disable")

    def start(self) -> None:
        """Starts it; again on the same port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.port:
            self.port = free_port()
        # With fewer rights of this user, transactions would be left out when the append-only file is loaded.
        users = ["user default off ~* &* +@all", f"user {ADMIN} on >{PASSWORD} ~* &* +@all"]
        arguments: list[str] = []
        if self.users == "nowhere":
            arguments = [word for user in users for word in ("--user", *user.split()[1:])]
        else:
            file = self.folder / ("users.acl" if self.users == "aclfile" else "redis.conf")
            if not file.exists():
                file.write_text("\n".join(users) + "\n", encoding="utf-8")
            arguments = ["--aclfile", str(file)] if self.users == "aclfile" else [str(file)]
        # The file comes before all options.
        command = [str(program()), *(arguments if self.users == "config" else ())]
        command += ["--bind", "127.0.0.1", "--dir", str(self.folder), "--logfile", str(self.folder / "log")]
        command += ["--save", "", "--appendonly", "yes", *(arguments if self.users != "config" else ())]
        if self.tls is None:
            command += ["--port", str(self.port)]
        else:
            command += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            for option, name in (("ca-cert", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")):
                command += [f"--tls-{option}-file", str(self.tls / name)]
        self._process = subprocess.Popen([*command, *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.admin() as admin:
                    admin.ping()
            except exceptions.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, *, kill: bool = False) -> None:
        """Ends it."""
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(20)
            self._process = None

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def admin(self) -> redis.Redis:
        """What looks behind the scenes."""
        return self.login(ADMIN, PASSWORD)

    def login(self, user: str, password: str) -> redis.Redis:
        """A client with a tenant's own login."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=password,
            decode_responses=True,
            protocol=2,
            socket_timeout=10,
            retry=Retry(NoBackoff(), 0),
            ssl=self.tls is not None,
            ssl_cert_reqs="none",
            ssl_check_hostname=False,
        )


class Client:
    """An application with a tenant's login."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client = client
        self.prefix = prefix

    def ask(self, *words: Any) -> Any:
        """The answer to one command.

        :raises Refused: when the server refuses it.
        """
        try:
            return self.client.execute_command(*words)
        except exceptions.RedisError as error:
            raise Refused(str(error)) from error

    async def put(self, key: str, value: str) -> None:
        self.ask("HSET", f"{self.prefix}items", key, value)

    async def get(self, key: str) -> str | None:
        found: str | None = self.ask("HGET", f"{self.prefix}items", key)
        return found

    async def delete(self, key: str) -> None:
        self.ask("HDEL", f"{self.prefix}items", key)

    async def has_version_2(self) -> bool:
        return bool(self.ask("EXISTS", f"{self.prefix}flags"))

    async def close(self) -> None:
        self.client.close()


class Harness:
    """Redis, for the tests that all engines share."""

    name = "redis"
    kind = DatabaseEngine.REDIS

    def __init__(self) -> None:
        self.server: RedisServer | None = None

    @property
    def running(self) -> RedisServer:
        assert self.server is not None, "it was not started"
        return self.server

    def start(self, folder: Path) -> None:
        self.server = RedisServer(folder / "redis")
        self.server.start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            shutil.rmtree(self.server.folder, ignore_errors=True)

    def stop_server(self) -> None:
        self.running.stop()

    def start_server(self) -> None:
        self.running.start()

    def engine(self, installation: str = "test") -> RedisEngine:
        settings = ConnectionSettings(pause=0.1, longest_pause=0.2, connect_timeout=2)
        return RedisEngine(self.running.access, installation=installation, settings=settings)

    def chain(self, version: int) -> Chain:
        """Version 1 makes items; 2 adds flags; 3 does that, too, and its last migration has an error."""
        first = _migration("1", "items", [["HSET", "{prefix}items", "made", "yes"]])
        second = _migration("2", "flags", [["SADD", "{prefix}flags", "on"]], [["DEL", "{prefix}flags"]])
        wrong = [["HSET", "{prefix}items", "wrong", "yes"], ["SADD", "{prefix}items", "no set"]]
        third = _migration("3", "wrong", wrong, [["HDEL", "{prefix}items", "wrong"]])
        migrations = [first, second, third][:version]
        return Chain.of(f"shop/{self.name}", str(version), migrations, [str(n + 1) for n in range(version)])

    async def client(self, desired: Desired, login: str, password: str) -> Client:
        client = Client(self.running.login(login, password), key_prefix(desired.names.database))
        try:
            client.client.ping()
        except exceptions.RedisError as error:
            client.client.close()
            raise Refused(str(error)) from error
        return client

    async def attacks(self, own: Client, other: Desired) -> Mapping[str, Callable[[], Awaitable[object]]]:
        theirs = key_prefix(other.names.database)
        asked = attacks(own.prefix, theirs)
        if other.isolation is Isolation.INSTANCE:
            # On a server of its own there is nobody whom these could tell of.
            asked = [words for words in asked if words[0] not in ("SCAN", "DBSIZE", "INFO")]

        def attack(words: Sequence[str]) -> Callable[[], Awaitable[object]]:
            async def run() -> object:
                return own.ask(*words)

            return run

        return {" ".join(words): attack(words) for words in asked}

    async def break_something(self, desired: Desired) -> str:
        with self.running.admin() as admin:
            admin.execute_command("ACL", "SETUSER", desired.login or desired.names.login_a, "~*", "+keys")
        return "keys"

    async def lose_data(self, desired: Desired) -> None:
        database = desired.names.database
        with self.running.admin() as admin:
            for key in admin.scan_iter(f"{key_prefix(database)}*"):
                admin.delete(key)
            admin.hdel("tenantry:marks", database)
            admin.delete(f"tenantry:ledger:{database}")

    async def leftovers(self, desired: Desired) -> list[str]:
        names = desired.names
        found = []
        with self.running.admin() as admin:
            found += [key for key in admin.keys("*") if key.startswith(key_prefix(names.database))]
            found += [key for key in admin.keys("tenantry:*") if names.database in key]
            for key in ("tenantry:marks", "tenantry:unfinished"):
                found += [f"{key} {name}" for name in admin.hkeys(key) if name == names.database]
            users = admin.execute_command("ACL", "USERS")
            found += [name for name in users if name in (*names.logins, names.owner)]
            saved = (self.running.folder / "users.acl").read_text(encoding="utf-8")
            found += [f"saved {name}" for name in names.logins if f"user {name} " in saved]
        return found


Commands = list[list[str]]


def _migration(version: str, name: str, commands: Commands, undo: Commands | None = None) -> Migration:
    rollback = None if undo is None else json.dumps(undo)
    return Migration(version, name, json.dumps(commands), rollback=rollback)


def attacks(own: str, theirs: str) -> list[tuple[str, ...]]:
    """What a tenant's login might try to reach another tenant, the operator, or the server as a whole.

    :param own: the prefix of the tenant's own keys.
    :param theirs: that of another tenant's.
    """
    return [
        ("GET", f"{theirs}x"),
        ("HGETALL", f"{theirs}items"),
        ("HSET", f"{theirs}items", "a", "b"),
        ("DEL", f"{theirs}items"),
        ("EXISTS", f"{theirs}items"),
        ("TYPE", f"{theirs}items"),
        ("TTL", f"{theirs}items"),
        ("DUMP", f"{theirs}items"),
        ("OBJECT", "ENCODING", f"{theirs}items"),
        ("MEMORY", "USAGE", f"{theirs}items"),
        ("TOUCH", f"{theirs}items"),
        ("EXPIRE", f"{theirs}items", "1"),
        ("RENAME", f"{theirs}items", f"{own}stolen"),
        ("RENAME", f"{own}items", f"{theirs}items"),
        ("COPY", f"{theirs}items", f"{own}stolen"),
        ("COPY", f"{own}items", f"{own}hidden", "DB", "1"),
        ("MOVE", f"{own}items", "1"),
        ("SELECT", "1"),
        ("SWAPDB", "0", "1"),
        ("MGET", f"{own}x", f"{theirs}x"),
        ("BITOP", "AND", f"{own}y", f"{theirs}x"),
        ("SUNIONSTORE", f"{own}y", f"{theirs}flags"),
        ("ZUNIONSTORE", f"{own}y", "1", f"{theirs}flags"),
        ("SMOVE", f"{theirs}flags", f"{own}flags", "on"),
        ("LMPOP", "2", f"{own}l", f"{theirs}l", "LEFT"),
        ("GEORADIUS", f"{own}geo", "0", "0", "1", "m", "STORE", f"{theirs}geo"),
        ("XREAD", "STREAMS", f"{theirs}s", "0"),
        ("XGROUP", "CREATE", f"{theirs}s", "g", "0", "MKSTREAM"),
        ("PFCOUNT", f"{theirs}p"),
        ("LCS", f"{own}x", f"{theirs}x"),
        ("WATCH", f"{theirs}items"),
        ("SORT", f"{own}flags", "BY", "nosort", "GET", f"{theirs}*"),
        ("SORT_RO", f"{own}flags", "BY", f"{theirs}*"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("RANDOMKEY",),
        ("DBSIZE",),
        ("INFO",),
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("RESTORE", f"{own}y", "0", "payload"),
        ("MIGRATE", "127.0.0.1", "1", f"{own}y", "0", "100"),
        ("EVAL", f"return redis.call('GET', '{theirs}x')", "0"),
        ("EVAL_RO", "return redis.call('KEYS', '*')", "0"),
        ("EVALSHA", "0" * 40, "0"),
        ("SCRIPT", "FLUSH"),
        ("SCRIPT", "KILL"),
        ("FUNCTION", "LIST"),
        ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() return 1 end)"),
        ("FCALL", "x", "0"),
        ("PUBLISH", f"{theirs}c", "hello"),
        ("SPUBLISH", f"{theirs}c", "hello"),
        ("SUBSCRIBE", f"{theirs}c"),
        ("SSUBSCRIBE", f"{theirs}c"),
        ("PSUBSCRIBE", f"{theirs}*"),
        ("PSUBSCRIBE", "*"),
        ("SUBSCRIBE", "__keyevent@0__:set"),
        ("SUBSCRIBE", "__redis__:invalidate"),
        ("PUBSUB", "CHANNELS"),
        ("PUBSUB", "NUMSUB", f"{theirs}c"),
        ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("CLIENT", "TRACKING", "ON", "BCAST"),
        ("CLIENT", "PAUSE", "1"),
        ("CLIENT", "UNBLOCK", "1"),
        ("CLIENT", "NO-EVICT", "on"),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "requirepass", ""),
        ("ACL", "LIST"),
        ("ACL", "SETUSER", "default", "on", "nopass"),
        ("ACL", "GETUSER", "default"),
        ("ACL", "LOG"),
        ("ACL", "SAVE"),
        ("MONITOR",),
        ("DEBUG", "SLEEP", "0"),
        ("SLOWLOG", "GET"),
        ("LATENCY", "LATEST"),
        ("MEMORY", "STATS"),
        ("MODULE", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("PSYNC", "?", "-1"),
        ("SYNC",),
        ("ROLE",),
        ("LASTSAVE",),
        ("SAVE",),
        ("BGREWRITEAOF",),
        ("WAIT", "0", "1"),
        ("CLUSTER", "INFO"),
        ("HGETALL", "tenantry:marks"),
        ("HSET", "tenantry:marks", "x", "y"),
        ("DEL", "tenantry:marks"),
        ("AUTH", "default", ""),
    ]
