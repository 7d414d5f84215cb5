"""The rights of a tenant's accounts. Pure.

An application may read and write, and make temporary tables. With ``ddl`` it may also define things; DROP on a
database then includes the database itself, and a lost one is never made again in silence. EVENT is given to
nobody: events run whether the tenant is suspended or not.

Over the storage quota what can make data grow is taken away. EXECUTE is, as a routine writes with the rights of
its definer; triggers go on, so that deleting does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tenantry_operator.engines.base import Desired

READ = frozenset({"SELECT", "SHOW VIEW"})
_REDUCE = READ | {"DELETE", "CREATE TEMPORARY TABLES", "LOCK TABLES"}
_USE = _REDUCE | {"INSERT", "UPDATE", "EXECUTE"}
_DEFINE = frozenset(
    {
        "ALTER",
        "ALTER ROUTINE",
        "CREATE",
        "CREATE ROUTINE",
        "CREATE VIEW",
        "DROP",
        "INDEX",
        "REFERENCES",
        "TRIGGER",
    }
)
DEFINER = _USE | _DEFINE
"""What migrations may do, in the tenant's database."""

COLUMNS: Mapping[str, str] = {
    "SELECT": "Select_priv",
    "INSERT": "Insert_priv",
    "UPDATE": "Update_priv",
    "DELETE": "Delete_priv",
    "CREATE": "Create_priv",
    "DROP": "Drop_priv",
    "GRANT OPTION": "Grant_priv",
    "REFERENCES": "References_priv",
    "INDEX": "Index_priv",
    "ALTER": "Alter_priv",
    "CREATE TEMPORARY TABLES": "Create_tmp_table_priv",
    "LOCK TABLES": "Lock_tables_priv",
    "CREATE VIEW": "Create_view_priv",
    "SHOW VIEW": "Show_view_priv",
    "CREATE ROUTINE": "Create_routine_priv",
    "ALTER ROUTINE": "Alter_routine_priv",
    "EXECUTE": "Execute_priv",
    "EVENT": "Event_priv",
    "TRIGGER": "Trigger_priv",
}
"""The columns of ``mysql.db`` that both MySQL and MariaDB have."""
MARIADB_COLUMNS: Mapping[str, str] = {**COLUMNS, "DELETE HISTORY": "Delete_history_priv"}


def of_login(desired: Desired, *, read_only: bool) -> frozenset[str]:
    """The rights of a tenant's logins on its database."""
    if read_only:
        return _REDUCE | {"DROP"} if desired.ddl else _REDUCE
    return DEFINER if desired.ddl else _USE


def words(privileges: frozenset[str]) -> str:
    """For GRANT, REVOKE and messages."""
    return ", ".join(sorted(privileges))


_GLOBAL = re.compile(r"GRANT (.*?) ON \*\.\* TO ")


def of_grants(grants: Iterable[str]) -> frozenset[str]:
    """The rights on the whole server in what SHOW GRANTS answers, with spaces: ``CREATE USER``."""
    found: set[str] = set()
    for grant in grants:
        match = _GLOBAL.match(grant)
        if match is not None:
            found |= {word.strip().replace("_", " ") for word in match.group(1).split(",")}
    return frozenset(found)


def sees_all(rights: frozenset[str]) -> bool:
    """Whether an administrator sees the sessions of others, and sizes."""
    return not rights.isdisjoint({"PROCESS", "ALL PRIVILEGES"})
