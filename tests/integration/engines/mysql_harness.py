"""A real MariaDB or MySQL server, administered without SUPER, and what the tests of all engines do with it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from tenantry_crds.common import DatabaseEngine
from tenantry_local import programs
from tenantry_operator.engines.access import Access
from tenantry_operator.engines.base import Chain, Desired, Migration
from tenantry_operator.engines.mysql.connections import ConnectionSettings
from tenantry_operator.engines.mysql.engine import MySqlEngine
from tenantry_operator.engines.mysql.names import BOOKS, own_accounts
from tests.integration.engines.harness import PASSWORD, Refused
from tests.integration.processes import account, free_port

ADMIN = "tenantry_admin"
_SYSTEM_TABLES = (
    "{}_system_tables.sql",
    "{}_performance_tables.sql",
    "{}_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "{}_sys_schema.sql",
)
_OPTIONS = (
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-name-resolve",
    "--max-connections=100",
)
_FOLDER = os.environ.get("TENANTRY_TEST_MYSQL")
"""Where another server's program is. Tests run without such variables, thus read here."""
MYSQL = _FOLDER is not None and not (Path(_FOLDER) / "mariadbd").exists()
"""The server is MySQL itself."""


def program() -> Path:
    """The server's program."""
    if _FOLDER is None:
        return programs.find("mariadbd")
    return Path(_FOLDER) / ("mysqld" if MYSQL else "mariadbd")


class MariaDb:
    """One server in a folder."""

    host = "127.0.0.1"
    mysql = False
    own_options: tuple[str, ...] = ("--innodb-log-file-size=16M",)
    unencrypted: tuple[str, ...] = ("--skip-ssl",)
    accounts = "mysql.global_priv"
    """The table of accounts and passwords."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where root logs in without a password."""
        return self.folder / "socket"

    def _command(self, *options: str) -> list[str]:
        return [
            str(program()),
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.folder / 'tmp'}",
            *_OPTIONS,
            *self.own_options,
            *options,
        ]

    def install(self) -> None:
        """Makes the system tables."""
        who = account("mysql")
        for name in ("", "data", "tmp"):
            path = self.folder / name
            path.mkdir(exist_ok=True)
            if who:
                os.chown(path, who["user"], who["group"])
        self._initialise(who)

    def _initialise(self, who: dict[str, Any]) -> None:
        """As mariadb-install-db does, which needs programs of another package."""
        # Newer ones are in a folder mariadb, and called after it, too.
        found = next((program().parents[1] / "share").glob("m*/m*_system_tables.sql"))
        family = found.name.partition("_")[0]
        texts = [(found.parent / name.format(family)).read_text(encoding="utf-8") for name in _SYSTEM_TABLES]
        script = "\n".join(["CREATE DATABASE mysql;", "USE mysql;", "SET @auth_root_socket = NULL;", *texts])
        subprocess.run(
            self._command("--bootstrap", "--max-allowed-packet=8M", "--default-storage-engine=Aria"),
            input=script.encode(),
            check=True,
            capture_output=True,
            cwd="/",
            **who,
        )

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(
                    f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.socket}", *self.options
                ),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                **account("mysql"),
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                # The driver leaves a socket open that does not connect.
                with socket.create_connection((self.host, self.port), timeout=1):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def harden(self) -> None:
        """Makes the administrator, with the rights that the documentation asks for."""
        with self.root() as root:
            root.execute(f"CREATE USER '{ADMIN}'@'%' IDENTIFIED BY '{PASSWORD}'")
            root.execute(f"GRANT {', '.join(self.admin_rights)} ON *.* TO '{ADMIN}'@'%'")
            root.execute(f"GRANT ALL ON `%`.* TO '{ADMIN}'@'%' WITH GRANT OPTION")

    @property
    def admin_rights(self) -> tuple[str, ...]:
        """What the administrator has on the server as a whole."""
        return ("CREATE USER", "PROCESS", "CONNECTION ADMIN")

    def password(self, text: str) -> str:
        """What ``SET PASSWORD`` takes."""
        return f"PASSWORD('{text}')"

    @contextlib.contextmanager
    def root(self, database: str | None = None) -> Iterator[Any]:
        """What the operator never has: for setting up and looking behind the scenes."""
        with self._session(unix_socket=str(self.socket), user="root", database=database) as cursor:
            yield cursor

    @contextlib.contextmanager
    def login(self, user: str, database: str | None, password: str = PASSWORD) -> Iterator[Any]:
        """A session of a tenant's own login, over TCP."""
        with self._session(
            host=self.host, port=self.port, user=user, password=password, database=database
        ) as cursor:
            yield cursor

    @contextlib.contextmanager
    def _session(self, **options: Any) -> Iterator[Any]:
        connection = pymysql.connect(autocommit=True, charset="utf8mb4", read_timeout=30, **options)
        try:
            yield connection.cursor()
        finally:
            with contextlib.suppress(pymysql.MySQLError):
                connection.close()

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of one statement, as root."""
        with self.root() as root:
            root.execute(statement, values or None)
            return list(root.fetchall())

    def access(self, **changes: Any) -> Access:
        """How the operator reaches it."""
        values = {"username": ADMIN, "password": PASSWORD, "sslmode": "disable", **changes}
        return Access(engine=DatabaseEngine.MYSQL, host=self.host, port=self.port, **values)


class MySql(MariaDb):
    """MySQL itself."""

    mysql = True
    own_options = (
        "--innodb-redo-log-capacity=16M",
        "--innodb-doublewrite=OFF",
        "--sync-binlog=0",
        "--log-bin-trust-function-creators=ON",
        "--mysqlx=OFF",
        "--pid-file=pid",
    )
    unencrypted = ("--tls-version=",)
    accounts = "mysql.user"
    _made: ClassVar[Path | None] = None
    """A folder with the data of a new server."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *options)
        self.own_options = (*self.own_options, f"--secure-file-priv={folder / 'tmp'}")

    def _initialise(self, who: dict[str, Any]) -> None:
        """It takes long: once for all."""
        if MySql._made is None:
            subprocess.run(self._command("--initialize-insecure"), check=True, capture_output=True, cwd="/", **who)
            MySql._made = Path(tempfile.mkdtemp(prefix="tenantry-mysql-", dir="/tmp"))
            atexit.register(shutil.rmtree, MySql._made, ignore_errors=True)
            shutil.copytree(self.folder / "data", MySql._made / "data")
            return
        shutil.copytree(MySql._made / "data", self.folder / "data", dirs_exist_ok=True)
        if who:
            for path in (self.folder / "data").rglob("*"):
                os.chown(path, who["user"], who["group"])

    @property
    def admin_rights(self) -> tuple[str, ...]:
        return ("CREATE USER", "PROCESS", "CONNECTION_ADMIN", "SHOW_ROUTINE")

    def password(self, text: str) -> str:
        return f"'{text}'"


def new_server(folder: Path, *options: str) -> MariaDb:
    """A server of the kind that the tests run on."""
    return MySql(folder, *options) if MYSQL else MariaDb(folder, *options)


ITEMS = "CREATE TABLE items (name VARCHAR(100) PRIMARY KEY, value TEXT)"
NOTE = "ALTER TABLE items ADD COLUMN note TEXT"


class Client:
    """A program of a tenant's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Executes a statement.

        :raises Refused: when the server does not.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise Refused(str(error)) from None

    async def put(self, key: str, value: str) -> None:
        self.run("REPLACE INTO items (name, value) VALUES (%s, %s)", key, value)

    async def get(self, key: str) -> str | None:
        rows = self.run("SELECT value FROM items WHERE name = %s", key)
        return str(rows[0][0]) if rows else None

    async def delete(self, key: str) -> None:
        self.run("DELETE FROM items WHERE name = %s", key)

    async def has_version_2(self) -> bool:
        return bool(self.run("SHOW COLUMNS FROM items LIKE 'note'"))

    async def close(self) -> None:
        with contextlib.suppress(pymysql.MySQLError):
            self._connection.close()


class Harness:
    """MariaDB or MySQL, for the tests of all engines."""

    name = "mysql"
    kind = DatabaseEngine.MYSQL

    def __init__(self) -> None:
        self._server: MariaDb | None = None

    @property
    def server(self) -> MariaDb:
        """The server, once it was started."""
        if self._server is None:
            raise RuntimeError("the server was not started")
        return self._server

    def start(self, folder: Path) -> None:
        self._server = new_server(folder)
        self._server.install()
        self._server.start()
        self._server.harden()

    def stop(self) -> None:
        self.server.stop()
        shutil.rmtree(self.server.folder, ignore_errors=True)

    def engine(self, installation: str = "test") -> MySqlEngine:
        settings = ConnectionSettings(lock_timeout=1, pause=0.1, longest_pause=0.2)
        return MySqlEngine(self.server.access(), installation=installation, settings=settings)

    def chain(self, version: int) -> Chain:
        first = Migration("1", "items", ITEMS, rollback="DROP TABLE items")
        second = Migration("2", "note", NOTE, rollback="ALTER TABLE items DROP COLUMN note")
        third = Migration("3", "wrong", "ALTER TABLE nothing ADD COLUMN more INT", rollback="DO 0")
        migrations = {1: [first], 2: [first, second], 3: [first, second, third]}[version]
        return Chain.of(f"shop/{self.name}", str(version), migrations, [str(n + 1) for n in range(version)])

    async def client(self, desired: Desired, login: str, password: str) -> Client:
        try:
            connection = pymysql.connect(
                host=self.server.host,
                port=self.server.port,
                user=login,
                password=password,
                database=desired.names.database,
                autocommit=True,
                read_timeout=10,
            )
        except pymysql.MySQLError as error:
            raise Refused(str(error)) from None
        return Client(connection)

    async def attacks(self, own: Client, other: Desired) -> dict[str, Callable[[], Awaitable[object]]]:
        theirs, login = f"`{other.names.database}`", f"'{other.names.login_a}'@'%'"
        texts = {
            "read another's table": f"SELECT * FROM {theirs}.items",
            "write another's table": f"INSERT INTO {theirs}.items (name) VALUES ('x')",
            "use another's database": f"USE {theirs}",
            "drop another's database": f"DROP DATABASE {theirs}",
            "see another's definitions": "SELECT * FROM information_schema.tables WHERE table_schema = "
            f"'{other.names.database}'",
            "see another's sessions": "SELECT * FROM information_schema.processlist WHERE user <> "
            "SUBSTRING_INDEX(CURRENT_USER(), '@', 1)",
            "see another's rights": f"SHOW GRANTS FOR {login}",
            "set another's password": f"SET PASSWORD FOR {login} = {self.server.password('x')}",
            "drop another's login": f"DROP USER {login}",
            "read the operator's books": f"SELECT * FROM {BOOKS}.marks",
            "read the ledger": f"SELECT * FROM {BOOKS}.ledger",
            "read all passwords": f"SELECT * FROM {self.server.accounts}",
            "make a login": "CREATE USER 'intruder'@'%'",
            "make a database": "CREATE DATABASE intruder",
            "take rights": f"GRANT ALL ON {theirs}.* TO CURRENT_USER()",
            "read a file": "SELECT 1 FROM DUAL WHERE LOAD_FILE('/etc/passwd') IS NOT NULL",
            "write a file": "SELECT 1 INTO OUTFILE '/tmp/intruder'",
            "load a file": "LOAD DATA INFILE '/etc/passwd' INTO TABLE items (name)",
            "set a global variable": "SET GLOBAL max_connections = 1",
            "act as another": f"CREATE DEFINER = {login} PROCEDURE intrude() SELECT 1",
        }
        attacks: dict[str, Callable[[], Awaitable[object]]] = {}
        for what, text in texts.items():

            async def attack(text: str = text) -> object:
                return own.run(text)

            attacks[what] = attack
        return attacks

    async def break_something(self, desired: Desired) -> str:
        with self.server.root() as root:
            database = desired.names.database.replace("_", "\\_")
            for login in desired.names.logins:
                with contextlib.suppress(pymysql.MySQLError):
                    root.execute(f"REVOKE INSERT ON `{database}`.* FROM '{login}'@'%'")
        return "INSERT"

    async def lose_data(self, desired: Desired) -> None:
        with self.server.root() as root:
            root.execute(f"DROP DATABASE `{desired.names.database}`")

    async def leftovers(self, desired: Desired) -> list[str]:
        names, found = desired.names, list[str]()
        with self.server.root() as root:

            def look(words: str, statement: str, *values: object) -> None:
                root.execute(statement, values or None)
                found.extend(f"{words}: {row[0]}" for row in root.fetchall())

            own = names.database
            look("database", "SELECT schema_name FROM information_schema.schemata WHERE schema_name = %s", own)
            for login in own_accounts(names):
                for table in (self.server.accounts, "mysql.db", "mysql.tables_priv", "mysql.procs_priv"):
                    look(table, f"SELECT User FROM {table} WHERE User = %s", login)
                look("mark", f"SELECT name FROM {BOOKS}.marks WHERE name = %s", login)
            look("mark", f"SELECT name FROM {BOOKS}.marks WHERE name = %s", names.database)
            for table in ("ledger", "unfinished"):
                look(table, f"SELECT version FROM {BOOKS}.{table} WHERE tenant_database = %s", names.database)
            look("progress", f"SHOW TABLES FROM {BOOKS} LIKE 'run\\_%'")
        return found

    def stop_server(self) -> None:
        self.server.stop()

    def start_server(self) -> None:
        self.server.start()
