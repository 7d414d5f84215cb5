"""A blueprint of many small tables, the same every time: for Tenantry as objects, for psql as one text."""

from __future__ import annotations

from benchmarks.workload import Object, blueprint
from tenantry_operator.kube import Resource

TABLES = 200
_EACH = 20
"""Tables in a migration."""
_COLUMNS = (
    "  name text NOT NULL",
    "  amount numeric(12, 2) NOT NULL DEFAULT 0 CHECK (amount >= 0)",
    "  created_at timestamptz NOT NULL DEFAULT now()",
)


def statements(number: int) -> list[str]:
    """The DDL of table ``number``, counted from 1: a primary key, two to four columns, one or two indexes.

    Every third table refers to one before it.
    """
    name = f"t{number:03d}"
    columns = ["  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", *_COLUMNS[: 2 + number % 2]]
    indexes = [f"CREATE INDEX {name}_name ON {name} (name);"]
    if number % 3 == 0:
        columns.append(f"  parent_id bigint NOT NULL REFERENCES t{number // 2:03d} (id) ON DELETE CASCADE")
        indexes.append(f"CREATE INDEX {name}_parent ON {name} (parent_id);")
    elif number % 2:
        indexes.append(f"CREATE INDEX {name}_created ON {name} (created_at);")
    return [f"CREATE TABLE {name} (\n" + ",\n".join(columns) + "\n);", *indexes]


def migrations(tables: int = TABLES) -> list[Object]:
    """The blueprint's migrations, twenty tables each."""
    steps = []
    for first in range(1, tables + 1, _EACH):
        texts = [text for number in range(first, min(first + _EACH, tables + 1)) for text in statements(number)]
        steps.append({"name": f"tables-{first:03d}", "sql": "\n".join(texts) + "\n"})
    return steps


def script(tables: int = TABLES) -> str:
    """All of it as one text."""
    return "".join(step["sql"] for step in migrations(tables))


def manifests(name: str, tables: int = TABLES, isolation: str = "Database") -> list[tuple[Resource, Object]]:
    """A Blueprint and its only version, as ``Kube.prepare`` takes them."""
    return blueprint(name, migrations(tables), isolation)
