"""The first statements of a new MariaDB, from the variables of the official images."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def statements(environment: Mapping[str, str], read: Callable[[str], str]) -> str | None:
    """What sets the root's password and makes the first database and login; None when no variable says how.

    :param read: gives the content of the file that a variable ending in ``_FILE`` names.
    """

    def value(name: str) -> str:
        for prefix in ("MARIADB_", "MYSQL_"):
            if environment.get(prefix + name):
                return environment[prefix + name]
            if environment.get(f"{prefix}{name}_FILE"):
                return read(environment[f"{prefix}{name}_FILE"]).rstrip("\n")
        return ""

    password = value("ROOT_PASSWORD")
    if not (password or value("ALLOW_EMPTY_ROOT_PASSWORD") or value("ALLOW_EMPTY_PASSWORD")):
        return None
    result = [
        "SET NAMES utf8mb4;",
        # What the installation makes for the machine's name, and logins without a name or password.
        "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys' AND (User <> 'root' OR Host <> 'localhost');",
        "FLUSH PRIVILEGES;",
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY {_text(password)};",
    ]
    host = value("ROOT_HOST") or "%"
    if host != "localhost":
        root = f"'root'@{_text(host)}"
        result.append(f"CREATE USER {root} IDENTIFIED BY {_text(password)};")
        result.append(f"GRANT ALL PRIVILEGES ON *.* TO {root} WITH GRANT OPTION;")
    database, user = value("DATABASE"), value("USER")
    if database:
        result.append(f"CREATE DATABASE {_name(database)};")
    if user:
        result.append(f"CREATE USER {_text(user)}@'%' IDENTIFIED BY {_text(value('PASSWORD'))};")
        if database:
            pattern = database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
            result.append(f"GRANT ALL PRIVILEGES ON {_name(pattern)}.* TO {_text(user)}@'%';")
    return "\n".join(result)


def _text(value: str) -> str:
    # A line is a statement to the server's bootstrap: none may begin within a text.
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\0", "\\0")
    return f"'{escaped}'"


def _name(value: str) -> str:
    return "`" + value.replace("`", "``").replace("\n", "") + "`"
