"""How the objects of databases are defined, and what differs between two.

Left out are what differs from tenant to tenant (the name of the database, definers, the next AUTO_INCREMENT) and
the order of columns, which going back to a version may change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from tenantry_operator.engines.mysql.connections import Connection
from tenantry_operator.engines.mysql.errno import BUSY
from tenantry_operator.engines.mysql.flavour import Flavour
from tenantry_operator.engines.mysql.sql import literal
from tenantry_operator.engines.structure import Deviation, Structure

_OF = " of table "

_PARTS = (
    """SELECT CONCAT('table ', table_name), '',
  CONCAT_WS('|', engine, table_collation, table_comment)
  FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = {own}""",
    """SELECT CONCAT('column ', table_name, '.', column_name), table_name,
  CONCAT_WS('|', column_type, is_nullable, COALESCE(QUOTE(column_default), '-'), extra, collation_name,
  generation_expression)
  FROM information_schema.columns WHERE table_schema = {own}""",
    """SELECT CONCAT('index ', table_name, '.', index_name), table_name,
  GROUP_CONCAT(CONCAT_WS('|', non_unique, index_type, column_name, sub_part, collation{index_more})
  ORDER BY seq_in_index)
  FROM information_schema.statistics WHERE table_schema = {own} GROUP BY 1, 2""",
    # Two parts, as a join of them is a look into all databases.
    """SELECT CONCAT('foreign key ', table_name, '.', constraint_name), table_name,
  GROUP_CONCAT(CONCAT_WS('|', column_name, referenced_table_name, referenced_column_name)
  ORDER BY ordinal_position)
  FROM information_schema.key_column_usage
  WHERE table_schema = {own} AND referenced_table_name IS NOT NULL GROUP BY 1, 2""",
    """SELECT CONCAT('rules of foreign key ', table_name, '.', constraint_name), table_name,
  CONCAT_WS('|', update_rule, delete_rule)
  FROM information_schema.referential_constraints WHERE constraint_schema = {own}""",
    """SELECT CONCAT('check ', {check_table}constraint_name), {check_owner}, check_clause
  FROM information_schema.check_constraints WHERE constraint_schema = {own}""",
    """SELECT CONCAT('partition ', table_name, '.', partition_name, '.',
  COALESCE(subpartition_name, '')), table_name,
  CONCAT_WS('|', partition_method, partition_expression, partition_description, subpartition_method,
  subpartition_expression)
  FROM information_schema.partitions WHERE partition_name IS NOT NULL AND table_schema = {own}""",
    """SELECT CONCAT('view ', table_name), '',
  CONCAT_WS('|', REPLACE(view_definition, CONCAT('`', table_schema, '`.'), ''), check_option, security_type)
  FROM information_schema.views WHERE table_schema = {own}""",
    """SELECT CONCAT(LOWER(routine_type), ' ', routine_name), '',
  CONCAT_WS('|', dtd_identifier, routine_definition, is_deterministic, sql_data_access, security_type, sql_mode)
  FROM information_schema.routines WHERE routine_schema = {own}""",
    """SELECT CONCAT('parameters of ', LOWER(routine_type), ' ', specific_name), '',
  GROUP_CONCAT(CONCAT_WS('|', parameter_mode, parameter_name, dtd_identifier) ORDER BY ordinal_position)
  FROM information_schema.parameters WHERE ordinal_position > 0 AND specific_schema = {own}
  GROUP BY 1, 2""",
    """SELECT CONCAT('trigger ', trigger_name), event_object_table,
  CONCAT_WS('|', action_timing, event_manipulation, action_order, action_statement, sql_mode)
  FROM information_schema.triggers WHERE event_object_schema = {own}""",
    """SELECT CONCAT('event ', event_name), '',
  CONCAT_WS('|', event_definition, interval_value, interval_field, execute_at)
  FROM information_schema.events WHERE event_schema = {own}""",
)


async def read_structure(
    connection: Connection, database: str, flavour: Flavour, *, patience: int = 0
) -> Structure | None:
    """The structure of a database, in one query; of one that is empty, or not there, too.

    :param patience: seconds to wait for each part that somebody else holds a lock on. MariaDB leaves out what it
        cannot look at; MySQL has no need to wait.
    :returns: None when some of it could not be looked at.
    """
    query = " UNION ALL ".join(
        part.format(
            # Only what is compared with one name by "=" spares the server a look into all databases.
            own=literal(database),
            # In MariaDB the name of a constraint is unique in its table only.
            check_table="table_name, '.', " if flavour.mariadb else "",
            check_owner="table_name" if flavour.mariadb else "''",
            index_more="" if flavour.mariadb else ", expression, is_visible",
        )
        for part in _PARTS
    )
    wait = f"SET STATEMENT lock_wait_timeout = {patience} FOR " if flavour.mariadb else ""
    rows = await connection.run(f"{wait}{query}")
    if connection.warnings and any(row[1] in BUSY for row in await connection.run("SHOW WARNINGS")):
        return None
    objects = {}
    for words, table, definition in rows:
        objects[_text(words)] = _hash(_text(definition)) + (f"{_OF}{_text(table)}" if table else "")
    return Structure(_digest(objects), objects)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _digest(objects: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(objects.items())).encode("utf-8", "replace")).hexdigest()[:32]


def compare(expected: Structure, found: Structure) -> Deviation:
    """What differs, in words: ``table extra: added``. What belongs to a table, or view, that is itself added or
    missing is left out. Pure."""
    alone = expected.objects.keys() ^ found.objects.keys()
    tables = {words.partition(" ")[2] for words in alone if words.startswith(("table ", "view "))}
    lines, differing = [], []
    for words in sorted(expected.objects.keys() | found.objects.keys()):
        before, after = expected.objects.get(words), found.objects.get(words)
        if before == after:
            continue
        differing.append((words, after))
        if (before or after or "").partition(_OF)[2] in tables or words.partition(" of ")[2] in alone:
            continue
        how = "missing" if after is None else "added" if before is None else "changed"
        lines.append(f"{words}: {how}")
    digest = hashlib.sha256(repr(differing).encode()).hexdigest()[:32] if lines else ""
    return Deviation(tuple(lines), digest)
