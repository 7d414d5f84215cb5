"""Fingerprints tell whose schema differs from the others' and in what, and nothing else moves them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from tenantry_operator.engines.base import Isolation
from tenantry_operator.engines.postgres import definitions, fingerprint
from tenantry_operator.engines.postgres.connections import Connection, Connections, ConnectionSettings
from tenantry_operator.engines.postgres.fingerprint import (
    differences,
    read_changes,
    read_fingerprints,
    read_objects,
)
from tenantry_operator.engines.postgres.likeness import read_likeness
from tenantry_operator.tenants.naming import fit, group_of

from .conftest import Server

DATABASE = "fingerprints"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "shop"

BASE = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE place AS (street text, city text);
CREATE TYPE span AS RANGE (subtype = date);
CREATE DOMAIN price AS numeric(10, 2) DEFAULT 0 CONSTRAINT positive CHECK (VALUE >= 0);
CREATE FUNCTION same(mood, mood) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE OPERATOR === (leftarg = mood, rightarg = mood, function = same);
CREATE COLLATION plain FROM "C";
CREATE SEQUENCE numbers START 5;
CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  feeling mood NOT NULL DEFAULT 'good',
  home place,
  orders integer,
  mood mood
);
CREATE TABLE guests (since date) INHERITS (customers);
CREATE FUNCTION total(integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 1.0';
CREATE TABLE orders (
  id serial PRIMARY KEY,
  customer bigint REFERENCES customers ON DELETE CASCADE,
  total price NOT NULL,
  doubled numeric GENERATED ALWAYS AS (total * 2) STORED,
  note text COLLATE "C" DEFAULT 'none',
  status mood CHECK (status <> 'bad'),
  during span,
  number bigint DEFAULT nextval('numbers'),
  CHECK (total < 1000000)
);
CREATE UNIQUE INDEX orders_note ON orders (lower(note)) WHERE status = 'good';
CREATE TABLE events (at timestamptz NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX events_at ON events (at);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS 'BEGIN RETURN new; END';
CREATE FUNCTION happy(who mood, lowest price DEFAULT 1) RETURNS bigint
  BEGIN ATOMIC SELECT count(*) FROM customers WHERE feeling = who; END;
CREATE PROCEDURE tidy() LANGUAGE sql AS 'DELETE FROM orders';
CREATE AGGREGATE biggest(integer) (sfunc = int4larger, stype = integer);
CREATE TRIGGER stamp BEFORE UPDATE ON orders FOR EACH ROW
  WHEN (old.note IS DISTINCT FROM new.note) EXECUTE FUNCTION stamp();
CREATE VIEW moods AS
  SELECT c.id, c.name, orders.total, total(orders.id) AS all_of_it
  FROM customers c JOIN orders ON orders.customer = c.id WHERE c.feeling = 'good' AND c.name <> 'acme.orders';
CREATE MATERIALIZED VIEW counts AS SELECT feeling, count(*) AS n FROM customers GROUP BY feeling;
CREATE UNIQUE INDEX counts_feeling ON counts (feeling);
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON customers
  USING (name = current_user AND EXISTS (SELECT FROM orders WHERE orders.number = customers.orders));
CREATE RULE quiet AS ON DELETE TO guests DO ALSO INSERT INTO orders (note) VALUES (old.name);
CREATE STATISTICS related ON customer, status FROM orders;
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
"""


# Schemas are called like what is in here, too.
ODD = """
CREATE VIEW odd AS
  WITH c AS (SELECT customers.orders, customers.mood FROM customers)
  SELECT DISTINCT customers.orders, customers.mood, orders.number, c.orders AS others, happy(customers.mood) AS n,
    extract(year FROM customers.since) AS year, (SELECT max(orders.number) FROM orders, events) AS latest,
    customers.mood = 'good' OR customers.mood === 'bad'::mood AS equal,
    customers.orders IS DISTINCT FROM orders.number AS differs, customers.name COLLATE plain AS plain
  FROM (guests customers JOIN orders ON customers.orders = orders.number), c, LATERAL (
    SELECT mood.mood, orders.number FROM customers mood WHERE mood.orders = orders.number) new
  WHERE new.number = ANY (SELECT customers.orders FROM ONLY customers)
  ORDER BY customers.orders;
CREATE RULE moved AS ON UPDATE TO guests WHERE old.orders <> new.orders DO ALSO (
  UPDATE customers c SET orders = new.orders + old.orders FROM orders WHERE orders.number = new.orders;
  DELETE FROM orders USING customers WHERE customers.orders = orders.number AND orders.number = old.orders
);
"""


@dataclass
class Scene:
    """A database with schemas of the tests' own, and the administrator's connection to it."""

    server: Server
    connection: Connection

    def make(self, schema: str, script: str = BASE) -> None:
        """A schema with an owner and a group of its own, as a tenant has."""
        owner = fit(f"{DATABASE}__{schema}")
        with self.server.superuser(DATABASE) as session:
            for name in (owner, group_of(owner)):
                session.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
            session.execute(
                sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(schema), sql.Identifier(owner))
            )
        self.run(schema, script)

    def run(self, schema: str, script: str) -> None:
        """Runs a script as the schema's owner."""
        with self.session(schema) as session:
            session.execute(script)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def session(self, schema: str) -> Iterator[psycopg.Connection[Any]]:
        """A session of the schema's owner."""
        with self.server.superuser(DATABASE) as session:
            session.execute(
                sql.SQL("SET ROLE {}; SET search_path = {}").format(
                    sql.Identifier(fit(f"{DATABASE}__{schema}")), sql.Identifier(schema)
                )
            )
            yield session

    async def objects(self, schema: str) -> dict[str, str]:
        return dict(await read_objects(self.connection, schema))

    async def fingerprint(self, schema: str) -> str | None:
        return (await read_fingerprints(self.connection, [schema])).get(schema)

    async def differences(self, expected: str, found: str) -> tuple[str, ...]:
        """With what must hold besides: fingerprints and likeness differ when anything does."""
        words = differences(await self.objects(expected), await self.objects(found))
        prints = await read_fingerprints(self.connection, [expected, found])
        alike = await read_likeness(self.connection, [expected, found])
        assert (prints[expected] != prints[found]) == bool(words)
        if words:
            assert alike[expected] != alike[found]
        return words


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[None]:
    with server.superuser() as session:
        session.execute(f"CREATE DATABASE {DATABASE}")
        session.execute(f"GRANT CREATE ON DATABASE {DATABASE} TO PUBLIC")
    yield
    with server.superuser() as session:
        session.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
async def scene(server: Server, database: None) -> AsyncIterator[Scene]:
    connections = Connections(server, ConnectionSettings())
    async with connections.use(DATABASE) as connection:
        yield Scene(server, connection)
    await connections.close()
    with server.superuser(DATABASE) as session:
        schemas = session.execute(
            "SELECT nspname FROM pg_namespace "
            "WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"
        ).fetchall()
        for (name,) in schemas:
            session.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        roles = session.execute("SELECT rolname FROM pg_roles WHERE rolname ~ %s", (f"^{DATABASE}_",)).fetchall()
        for (name,) in roles:
            session.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


NAMES = (
    *("acme", "globex-2", "orders", "customers", "new", "old", "c", "mood", "happy", "plain", "number", "guests"),
    *('we"ird', "it's", "a.b", "select", "x" * 63, "Ünï"),
)


async def test_the_same_in_schemas_of_any_name_has_the_same_fingerprint(scene: Scene) -> None:
    for name in NAMES:
        # PostgreSQL 16 writes into an expression where in the script it stood.
        scene.make(name, "\n" * len(name) + BASE + ODD)
    prints = await read_fingerprints(scene.connection, NAMES)
    assert set(prints) == set(NAMES)
    expected = await scene.objects("acme")
    for name in NAMES:
        assert (name, differences(expected, await scene.objects(name))) == (name, ())
    assert len(set(prints.values())) == 1
    assert len(set((await read_likeness(scene.connection, NAMES)).values())) == 1


async def test_objects_are_called_in_words_without_the_tenants_name(scene: Scene) -> None:
    scene.make("acme")
    found = await scene.objects("acme")
    assert {
        *("table orders", "column orders.total", "column order of orders", "constraint orders.orders_pkey"),
        *("index orders_note", "trigger orders.stamp", "policy customers.mine", "rule guests.quiet"),
        *("view moods", "materialized view counts", "sequence numbers", "sequence orders_id_seq", "type mood"),
        *("type place", "type span", "domain price", "function total(integer)", "function happy(mood, price)"),
        *("procedure tidy()", "aggregate biggest(integer)", "statistics related", "operator ===(mood, mood)"),
        *("collation plain", "text search configuration words", "index counts_feeling"),
    } <= found.keys()
    assert not [words for words in found if "acme" in words]
    assert not [words for words in found if words.startswith("sequence customers")]
    assert await scene.objects("nowhere") == {}


async def test_all_schemas_but_the_servers_and_tenantrys_are_read(scene: Scene) -> None:
    scene.make("tenantry", "CREATE TABLE logins (id int)")
    for name in ("a1", "a2", "a3", "a4", "a5"):
        scene.make(name, "CREATE TABLE t (id int)")
    scene.run("a5", "ALTER TABLE t ADD more text")
    scene.make("empty", "")
    prints = await read_fingerprints(scene.connection)
    assert prints.keys() == {"a1", "a2", "a3", "a4", "a5", "empty", "public"}
    assert prints["a1"] == prints["a2"] == prints["a3"] == prints["a4"] != prints["a5"]
    assert prints["empty"] == prints["public"] != prints["a1"]
    # Whether one asks for all, some or one.
    assert await read_fingerprints(scene.connection, ["a5"]) == {"a5": prints["a5"]}
    assert await read_fingerprints(scene.connection, ["nowhere", "a5"]) == {"a5": prints["a5"]}
    many = [*prints, *(f"nowhere{number}" for number in range(40))]
    assert await read_fingerprints(scene.connection, many) == prints
    assert (await read_changes(scene.connection)).keys() == prints.keys()


CHANGES = [
    ("CREATE TABLE extra (id int PRIMARY KEY, owner bigint REFERENCES customers)", ["table extra: added"]),
    ("DROP TABLE events", ["table events: missing", "table events_2026: missing"]),
    (
        "DROP VIEW moods; ALTER TABLE orders DROP doubled, DROP total",
        [
            *("column orders.doubled: missing", "column orders.total: missing"),
            *("constraint orders.orders_total_check: missing", "view moods: missing"),
        ],
    ),
    ("ALTER TABLE orders ADD more text", ["column orders.more: added"]),
    ("ALTER TABLE orders RENAME during TO lasts", ["column orders.during: missing", "column orders.lasts: added"]),
    (
        "ALTER TABLE events ALTER what TYPE varchar(20)",
        ["column events.what: changed", "column events_2026.what: changed"],
    ),
    ("ALTER TABLE guests ALTER since TYPE timestamptz", ["column guests.since: changed"]),
    ("ALTER TABLE orders ALTER during SET NOT NULL", ["column orders.during: changed"]),
    ("ALTER TABLE orders ALTER total DROP NOT NULL", ["column orders.total: changed"]),
    ("ALTER TABLE orders ALTER note SET DEFAULT 'other'", ["column orders.note: changed"]),
    ("ALTER TABLE orders ALTER note DROP DEFAULT", ["column orders.note: changed"]),
    ("ALTER TABLE orders ALTER status SET DEFAULT 'good'", ["column orders.status: changed"]),
    (
        "ALTER TABLE customers ALTER feeling SET DEFAULT 'bad'",
        ["column customers.feeling: changed", "column guests.feeling: changed"],
    ),
    ("ALTER TABLE customers ALTER id SET GENERATED BY DEFAULT", ["column customers.id: changed"]),
    ("ALTER TABLE customers ALTER id SET INCREMENT 2", ["column customers.id: changed"]),
    ("ALTER TABLE customers ALTER id DROP IDENTITY", ["column customers.id: changed"]),
    ("ALTER TABLE orders ALTER doubled DROP EXPRESSION", ["column orders.doubled: changed"]),
    (
        "ALTER TABLE orders DROP doubled, ADD doubled numeric GENERATED ALWAYS AS (total * 3) STORED",
        ["column order of orders: changed", "column orders.doubled: changed"],
    ),
    (
        "ALTER TABLE events DROP what; ALTER TABLE events ADD what text COLLATE plain",
        ["column events.what: changed", "column events_2026.what: changed"],
    ),
    ("ALTER TABLE guests DROP since, ADD since date", []),
    (
        "ALTER TABLE orders DROP during, ADD during span",
        ["column order of orders: changed"],
    ),
    ("ALTER TABLE orders SET UNLOGGED", None),
    ("ALTER TABLE orders DROP CONSTRAINT orders_status_check", ["constraint orders.orders_status_check: missing"]),
    (
        "ALTER TABLE orders DROP CONSTRAINT orders_status_check,"
        " ADD CONSTRAINT orders_status_check CHECK (status <> 'good')",
        ["constraint orders.orders_status_check: changed"],
    ),
    (
        "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey,"
        " ADD CONSTRAINT orders_customer_fkey FOREIGN KEY (customer) REFERENCES customers",
        ["constraint orders.orders_customer_fkey: changed"],
    ),
    (
        "ALTER TABLE orders ALTER CONSTRAINT orders_customer_fkey DEFERRABLE",
        ["constraint orders.orders_customer_fkey: changed"],
    ),
    (
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (number > 0) NOT VALID",
        ["constraint orders.c: added"],
    ),
    (
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (number)",
        ["constraint orders.u: added", "index u: added"],
    ),
    (
        "ALTER TABLE orders ADD CONSTRAINT x EXCLUDE USING gist (during WITH &&)",
        ["constraint orders.x: added", "index x: added"],
    ),
    ("DROP INDEX orders_note", ["index orders_note: missing"]),
    (
        "DROP INDEX orders_note; CREATE UNIQUE INDEX orders_note ON orders (lower(note)) WHERE status = 'bad'",
        ["index orders_note: changed"],
    ),
    ("CREATE INDEX i ON orders (total DESC) INCLUDE (note) WITH (fillfactor = 70)", ["index i: added"]),
    ("ALTER INDEX orders_note RENAME TO other", ["index orders_note: missing", "index other: added"]),
    ("CREATE INDEX other ON ONLY events (what)", ["index other: added"]),
    (
        "CREATE OR REPLACE VIEW moods AS SELECT c.id, c.name, orders.total, total(orders.id) AS all_of_it"
        " FROM customers c JOIN orders ON orders.customer = c.id"
        " WHERE c.feeling = 'bad' AND c.name <> 'acme.orders'",
        ["view moods: changed"],
    ),
    ("ALTER VIEW moods SET (security_invoker = true)", ["view moods: changed"]),
    ("ALTER VIEW moods ALTER name SET DEFAULT 'x'", ["view moods: changed"]),
    ("ALTER VIEW moods RENAME id TO number", ["view moods: changed"]),
    ("DROP MATERIALIZED VIEW counts", ["materialized view counts: missing"]),
    ("DROP INDEX counts_feeling", ["index counts_feeling: missing"]),
    (
        "CREATE OR REPLACE FUNCTION total(integer) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT 2.0'",
        ["function total(integer): changed"],
    ),
    ("ALTER FUNCTION total(integer) VOLATILE", ["function total(integer): changed"]),
    ("ALTER FUNCTION total(integer) SECURITY DEFINER", ["function total(integer): changed"]),
    ("ALTER FUNCTION stamp() SET search_path = public", ["function stamp(): changed"]),
    ("ALTER FUNCTION stamp() RESET search_path", ["function stamp(): changed"]),
    ("CREATE FUNCTION total(text) RETURNS int LANGUAGE sql AS 'SELECT 1'", ["function total(text): added"]),
    (
        "CREATE OR REPLACE FUNCTION happy(who mood, lowest price DEFAULT 2) RETURNS bigint"
        " BEGIN ATOMIC SELECT count(*) FROM customers WHERE feeling = who; END",
        ["function happy(mood, price): changed"],
    ),
    (
        "CREATE OR REPLACE FUNCTION happy(who mood, lowest price DEFAULT 1) RETURNS bigint"
        " BEGIN ATOMIC SELECT count(*) FROM orders WHERE status = who; END",
        ["function happy(mood, price): changed"],
    ),
    ("DROP PROCEDURE tidy", ["procedure tidy(): missing"]),
    (
        "DROP AGGREGATE biggest(integer);"
        " CREATE AGGREGATE biggest(integer) (sfunc = int4smaller, stype = integer)",
        ["aggregate biggest(integer): changed"],
    ),
    ("ALTER TABLE orders DISABLE TRIGGER stamp", ["trigger orders.stamp: changed"]),
    ("DROP TRIGGER stamp ON orders", ["trigger orders.stamp: missing"]),
    (
        "DROP TRIGGER stamp ON orders; CREATE TRIGGER stamp BEFORE UPDATE OF note ON orders FOR EACH ROW"
        " WHEN (old.note IS DISTINCT FROM new.note) EXECUTE FUNCTION stamp()",
        ["trigger orders.stamp: changed"],
    ),
    ("ALTER TABLE guests DISABLE RULE quiet", ["rule guests.quiet: changed"]),
    ("DROP RULE quiet ON guests", ["rule guests.quiet: missing"]),
    ("ALTER TABLE customers DISABLE ROW LEVEL SECURITY", ["table customers: changed"]),
    ("ALTER TABLE customers FORCE ROW LEVEL SECURITY", ["table customers: changed"]),
    ("ALTER POLICY mine ON customers USING (true)", ["policy customers.mine: changed"]),
    ("ALTER POLICY mine ON customers TO pg_monitor", ["policy customers.mine: changed"]),
    (
        "CREATE POLICY theirs ON customers AS RESTRICTIVE FOR SELECT USING (true)",
        ["policy customers.theirs: added"],
    ),
    ("ALTER TYPE mood ADD VALUE 'so-so' BEFORE 'bad'", ["type mood: changed"]),
    ("ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'", None),
    ("ALTER TYPE place ADD ATTRIBUTE country text", ["type place: changed"]),
    ("ALTER DOMAIN price SET DEFAULT 1", ["domain price: changed"]),
    ("ALTER DOMAIN price SET NOT NULL", ["domain price: changed"]),
    ("ALTER DOMAIN price DROP CONSTRAINT positive", ["domain price: changed"]),
    ("CREATE TYPE span2 AS RANGE (subtype = int8)", ["type span2: added"]),
    ("ALTER SEQUENCE numbers INCREMENT 3", ["sequence numbers: changed"]),
    ("ALTER SEQUENCE numbers MAXVALUE 99 CYCLE", ["sequence numbers: changed"]),
    ("ALTER SEQUENCE numbers OWNED BY orders.number", ["sequence numbers: changed"]),
    ("ALTER SEQUENCE orders_id_seq OWNED BY NONE", ["sequence orders_id_seq: changed"]),
    ("ALTER TABLE events DETACH PARTITION events_2026", None),
    (
        "ALTER TABLE events DETACH PARTITION events_2026;"
        " ALTER TABLE events ATTACH PARTITION events_2026 FOR VALUES FROM ('2026-01-01') TO ('2028-01-01')",
        ["table events_2026: changed"],
    ),
    ("CREATE TABLE events_rest PARTITION OF events DEFAULT", ["table events_rest: added"]),
    ("ALTER TABLE guests NO INHERIT customers", ["table guests: changed"]),
    ("DROP STATISTICS related", ["statistics related: missing"]),
    (
        "DROP STATISTICS related; CREATE STATISTICS related (ndistinct) ON customer, status FROM orders",
        ["statistics related: changed"],
    ),
    ("DROP OPERATOR === (mood, mood)", ["operator ===(mood, mood): missing"]),
    ("DROP COLLATION plain", ["collation plain: missing"]),
    (
        "ALTER TEXT SEARCH CONFIGURATION words DROP MAPPING FOR email",
        ["text search configuration words: changed"],
    ),
    ("CREATE EXTENSION citext", ["extension citext: added"]),
]


@pytest.mark.parametrize(("statement", "words"), CHANGES, ids=[statement[:60] for statement, _ in CHANGES])
async def test_every_change_is_seen_and_named(statement: str, words: list[str] | None, scene: Scene) -> None:
    scene.make("acme")
    scene.make("globex")
    before = await read_changes(scene.connection)
    if "EXTENSION" in statement:
        with scene.server.superuser(DATABASE) as session:
            session.execute(f"{statement} SCHEMA globex")
    else:
        scene.run("globex", statement)
    found = await scene.differences("acme", "globex")
    if words is None:
        assert found
    else:
        assert found == tuple(words)
    after = await read_changes(scene.connection)
    assert after["globex"] != before["globex"]
    assert after["acme"] == before["acme"]
    if "EXTENSION" not in statement:
        scene.run("acme", statement)
        assert await scene.differences("acme", "globex") == ()
        alike = await read_likeness(scene.connection, ["acme", "globex"])
        assert alike["acme"] == alike["globex"]


NOTHING = [
    "GRANT ALL ON ALL TABLES IN SCHEMA globex TO pg_monitor",
    "GRANT USAGE ON ALL SEQUENCES IN SCHEMA globex TO PUBLIC",
    "COMMENT ON TABLE orders IS 'a comment'; COMMENT ON COLUMN orders.note IS 'another'",
    "INSERT INTO customers (name) SELECT 'x' FROM generate_series(1, 500); UPDATE customers SET name = 'y'",
    "SELECT nextval('numbers'), nextval('orders_id_seq')",
    "DELETE FROM orders; TRUNCATE orders RESTART IDENTITY; TRUNCATE events",
    "VACUUM",
    "VACUUM (FREEZE, ANALYZE) customers, orders, pg_catalog.pg_class, pg_catalog.pg_attribute",
    "VACUUM FULL customers, orders",
    "VACUUM FULL pg_catalog.pg_attribute, pg_catalog.pg_class, pg_catalog.pg_constraint, pg_catalog.pg_proc",
    "ANALYZE",
    "REINDEX SCHEMA globex",
    "REFRESH MATERIALIZED VIEW counts; REFRESH MATERIALIZED VIEW CONCURRENTLY counts",
    "ALTER TABLE orders OWNER TO pg_monitor; ALTER FUNCTION total(integer) OWNER TO pg_monitor",
]


@pytest.mark.parametrize("statement", NOTHING, ids=[statement[:60] for statement in NOTHING])
async def test_nothing_else_moves_them(statement: str, scene: Scene) -> None:
    scene.make("globex")
    scene.run("globex", "INSERT INTO customers (name) SELECT 'x' FROM generate_series(1, 500)")
    objects = await scene.objects("globex")
    changes = (await read_changes(scene.connection))["globex"]
    with scene.server.superuser(DATABASE) as session:
        session.execute("SET search_path = globex")
        for single in statement.split("; "):
            session.execute(single)  # type: ignore[call-overload]
    assert differences(objects, await scene.objects("globex")) == ()
    if "OWNER" not in statement:
        assert (await read_changes(scene.connection))["globex"] == changes


async def test_a_dropped_column_leaves_no_trace(scene: Scene) -> None:
    scene.make("acme", "CREATE TABLE t (id int)")
    scene.make("globex", "CREATE TABLE t (id int, gone text, gone_too int)")
    scene.run("globex", "ALTER TABLE t DROP gone, DROP gone_too")
    for name in ("acme", "globex"):
        scene.run(
            name,
            """
            ALTER TABLE t ADD a int NOT NULL DEFAULT 1, ADD b int CHECK (b > a), ADD c int REFERENCES t (a);
            """.replace("REFERENCES t (a)", "GENERATED ALWAYS AS (a + b) STORED")
            + """
            ALTER TABLE t ADD UNIQUE (a, b), ADD FOREIGN KEY (b, a) REFERENCES t (a, b);
            CREATE INDEX ON t (b, lower(a::text)) WHERE a > 0;
            CREATE VIEW v AS SELECT x.b, y.a AS other, t FROM t x JOIN t y USING (id), t WHERE x.a = y.b;
            CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT sum(a) FROM t; END;
            CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
            CREATE TRIGGER g BEFORE UPDATE OF b ON t FOR EACH ROW WHEN (new.a > old.b) EXECUTE FUNCTION g();
            CREATE STATISTICS s ON a, b FROM t;
            CREATE POLICY p ON t USING (a = b);
            """,
        )
    assert await scene.differences("acme", "globex") == ()


def migrations(version: str) -> list[dict[str, str]]:
    read = yaml.safe_load((EXAMPLES / f"shop-{version}.yaml").read_text())
    steps: list[dict[str, str]] = read["spec"]["migrations"]
    return steps


async def test_the_same_version_by_different_ways_has_the_same_fingerprint(scene: Scene) -> None:
    first, second = migrations("1.0"), migrations("1.1")
    up = [[step["sql"] for step in steps] for steps in (first, second)]
    down = [[step["rollback"] for step in reversed(steps)] for steps in (first, second)]
    ways = {
        "straight": up[0] + up[1],
        "back": up[0] + up[1] + down[1],
        "old": up[0],
        "again": up[0] + up[1] + down[1] + up[1] + down[1] + up[1],
        "anew": up[0] + down[0] + up[0] + up[1],
        "new": up[0] + up[1],
        "straight-too": up[0] + up[1],
    }
    scene.make(
        "tenantry", "CREATE FUNCTION tenant_id() RETURNS text LANGUAGE sql STABLE AS 'SELECT session_user::text'"
    )
    with scene.server.superuser(DATABASE) as session:
        session.execute("GRANT USAGE ON SCHEMA tenantry TO PUBLIC")
    for name, scripts in ways.items():
        scene.make(name, ";\n".join(script.rstrip().rstrip(";") for script in scripts))
    prints = await read_fingerprints(scene.connection, list(ways))
    assert prints.keys() == ways.keys()
    assert {prints[name] for name in ("straight", "again", "anew", "new", "straight-too")} == {prints["straight"]}
    assert prints["back"] == prints["old"] != prints["straight"]
    words = differences(await scene.objects("straight"), await scene.objects("back"))
    assert "table gift_cards: missing" in words
    assert "column products.slug: missing" in words
    assert "index orders_customer: added" in words
    assert "view order_summary: changed" in words
    assert not [line for line in words if "gift_cards." in line or "loyalty_entries_pkey" in line]
    alike = await read_likeness(scene.connection, list(ways))
    assert alike["straight"] == alike["new"] == alike["straight-too"]


async def test_all_schemas_are_read_as_a_few_are(scene: Scene) -> None:
    for name in ("acme", "globex"):
        scene.make(name)
    scene.run(
        "globex", "ALTER TABLE orders ADD more text COLLATE plain; CREATE TYPE other AS (a mood[], b customers)"
    )
    few = await read_likeness(scene.connection, ["acme", "globex"])
    many = await read_likeness(scene.connection, ["acme", "globex", *(f"nowhere{number}" for number in range(40))])
    assert few == many
    assert few["acme"] != few["globex"]


@pytest.mark.parametrize("isolation", [Isolation.DATABASE, Isolation.SCHEMA])
async def test_a_tenants_database_is_as_a_tenants_schema(
    isolation: Isolation, blueprint: Callable[..., Any]
) -> None:
    script = "\n".join(line for line in BASE.splitlines() if "COLLATION" not in line)
    prints = []
    for way in (isolation, Isolation.SCHEMA):
        shop = blueprint(way, script)
        acme = await shop.make("acme")
        connections = Connections(shop.server, ConnectionSettings())
        async with connections.use(acme.names.database) as connection:
            schema = acme.names.schema or "public"
            assert not await _may_use(connection, acme.names.schema)
            prints.append((await read_fingerprints(connection))[schema])
            assert (await read_fingerprints(connection, [schema])) == {schema: prints[-1]}
            assert schema in await read_changes(connection)
        await connections.close()
    assert prints[0] == prints[1]


async def _may_use(connection: Connection, schema: str | None) -> bool:
    """Whether the administrator may look into a schema: nothing depends on that."""
    if schema is None:
        return False
    cursor = await connection.execute("SELECT has_schema_privilege(%s, 'USAGE')", (schema,))
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def test_of_too_many_that_differ_the_largest_groups_are_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a1", "a2", "a3", "a4", "a5"):
        scene.make(name, "CREATE TABLE t (id int)")
    scene.run("a1", "ALTER TABLE t ADD more text")
    monkeypatch.setattr(fingerprint, "UNLIKE_AT_ONCE", 1)
    found = await read_fingerprints(scene.connection, ["a1", "a2", "a3", "a4", "a5"])
    assert found.keys() == {"a2", "a3", "a4", "a5"}


TRICKS = [
    ("CREATE VIEW v AS SELECT 'acme.t'::text AS x", "CREATE VIEW v AS SELECT 'globex.t'::text AS x"),
    ("CREATE TABLE x (a text DEFAULT 'acme.')", "CREATE TABLE x (a text DEFAULT 'globex.')"),
    ('CREATE TABLE "acme.t" ()', 'CREATE TABLE "globex.t" ()'),
    (
        'CREATE TABLE x ("acme.t" int CHECK ("acme.t" > 0))',
        'CREATE TABLE x ("globex.t" int CHECK ("globex.t" > 0))',
    ),
    ("CREATE VIEW v AS SELECT a FROM acme.t", "CREATE VIEW v AS SELECT a FROM acme.t"),
    ("CREATE VIEW v AS SELECT a FROM globex.t", "CREATE VIEW v AS SELECT a FROM globex.t"),
    ("CREATE TABLE x (a acme.mood)", "CREATE TABLE x (a acme.mood)"),
    ("CREATE TABLE x (a int REFERENCES acme.t)", "CREATE TABLE x (a int REFERENCES acme.t)"),
    ("CREATE TABLE x (a text DEFAULT acme.lower('x'))", "CREATE TABLE x (a text DEFAULT pg_catalog.lower('x'))"),
    ("CREATE TABLE x (a acme.date)", "CREATE TABLE x (a pg_catalog.date)"),
    ("CREATE VIEW v AS SELECT 'acme.t'::regclass AS x", "CREATE VIEW v AS SELECT 'acme.t'::regclass AS x"),
    ("CREATE VIEW v AS SELECT E'\\x01t' AS x", "CREATE VIEW v AS SELECT 'globex.t' AS x"),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM acme.t'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM globex.t'",
    ),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = acme AS 'SELECT 1'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = acme AS 'SELECT 1'",
    ),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = 'x, acme' AS 'SELECT 1'",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = 'x, globex' AS 'SELECT 1'",
    ),
    (
        "CREATE POLICY p ON t TO fingerprints__acme USING (true)",
        "CREATE POLICY p ON t TO fingerprints__acme USING (true)",
    ),
    ("CREATE VIEW v AS SELECT a AS x, b AS y FROM t", "CREATE VIEW v AS SELECT b AS x, a AS y FROM t"),
    ("CREATE TABLE x (a numeric(10, 2))", "CREATE TABLE x (a numeric(10, 3))"),
    ("CREATE VIEW v AS SELECT 'good'::mood AS x", "CREATE VIEW v AS SELECT 'bad'::mood AS x"),
    ("CREATE VIEW v AS SELECT 'good'::mood AS x", "CREATE VIEW v AS SELECT 'good'::other AS x"),
]
LITTLE = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE other AS ENUM ('good', 'bad');
CREATE TYPE date AS ENUM ('good');
CREATE TABLE t (a int PRIMARY KEY, b int);
CREATE FUNCTION lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
"""


@pytest.mark.parametrize(("here", "there"), TRICKS, ids=[there[:60] for _, there in TRICKS])
async def test_what_is_not_the_same_never_looks_the_same(here: str, there: str, scene: Scene) -> None:
    for name in ("acme", "globex"):
        scene.make(name, LITTLE)
        with scene.server.superuser(DATABASE) as session:
            session.execute(f"GRANT USAGE ON SCHEMA {name} TO PUBLIC")
            session.execute(f"GRANT ALL ON {name}.t TO PUBLIC")
    assert await scene.differences("acme", "globex") == ()
    scene.run("acme", here)
    scene.run("globex", there)
    assert await scene.differences("acme", "globex")


SAME = [
    "CREATE VIEW v AS SELECT 'acme.t'::text AS x, t.a FROM t",
    "CREATE TABLE x (a text DEFAULT 'acme.', b mood DEFAULT 'good')",
    'CREATE TABLE "acme.t" ("globex.a" int CHECK ("globex.a" > 0))',
    "CREATE TABLE x (a text DEFAULT lower('x'), b regclass DEFAULT 't')",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT a FROM acme.t); END'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'",
    "CREATE POLICY p ON t TO current_role USING (true)",
    "CREATE VIEW v AS SELECT acme.a, globex.b FROM t AS acme JOIN t AS globex USING (a)",
    "CREATE FUNCTION f(date) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " CREATE FUNCTION f(pg_catalog.date) RETURNS int LANGUAGE sql AS 'SELECT 2'",
]


@pytest.mark.parametrize("script", SAME, ids=[script[:60] for script in SAME])
async def test_what_looks_like_the_schemas_name_is_left_alone(script: str, scene: Scene) -> None:
    for name in ("acme", "globex"):
        scene.make(name, LITTLE)
        with scene.server.superuser(DATABASE) as session:
            session.execute("SELECT set_config('search_path', %s, false)", (f"{name}, pg_catalog",))
            session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(f"{DATABASE}__{name}")))
            session.execute(script)  # type: ignore[call-overload]
    assert await scene.differences("acme", "globex") == ()


async def test_functions_of_types_of_the_same_name_are_told_apart(scene: Scene) -> None:
    scene.make("acme", LITTLE)
    scene.run("acme", "CREATE FUNCTION f(acme.date) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    before = await scene.objects("acme")
    scene.run("acme", "CREATE FUNCTION f(pg_catalog.date) RETURNS int LANGUAGE sql AS 'SELECT 2'")
    assert differences(before, await scene.objects("acme")) == ("function f(date): changed",)


async def test_the_databases_settings_change_nothing(scene: Scene) -> None:
    scene.make("acme")
    before = (await scene.objects("acme"), await read_fingerprints(scene.connection))
    settings = {
        "quote_all_identifiers": "on",
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "IntervalStyle": "iso_8601",
        "bytea_output": "escape",
        "extra_float_digits": "-3",
        "search_path": "acme",
        "enable_indexscan": "off",
    }
    with scene.server.superuser(DATABASE) as session:
        for name, value in settings.items():
            session.execute(f"ALTER DATABASE {DATABASE} SET {name} = '{value}'")
    try:
        connections = Connections(scene.server, ConnectionSettings())
        async with connections.use(DATABASE) as connection:
            cursor = await connection.execute("SELECT current_setting('quote_all_identifiers')")
            assert await cursor.fetchone() == ("on",)
            assert (await read_objects(connection, "acme"), await read_fingerprints(connection)) == before
            # What a reading sets does not outlast it.
            cursor = await connection.execute("SELECT current_setting('quote_all_identifiers')")
            assert await cursor.fetchone() == ("on",)
        await connections.close()
    finally:
        with scene.server.superuser(DATABASE) as session:
            session.execute(f"ALTER DATABASE {DATABASE} RESET ALL")


async def test_who_locks_his_tables_holds_up_nobody_else(scene: Scene) -> None:
    names = [f"a{number}" for number in range(6)]
    for name in names:
        scene.make(name, LITTLE + "CREATE VIEW v AS SELECT a FROM t WHERE 'good'::mood <> 'bad'")
    scene.run("a5", "ALTER TABLE t ADD more text")
    before = await read_fingerprints(scene.connection, names)
    assert before.keys() == set(names)
    with scene.session("a0") as alike, scene.session("a5") as alone:
        for session in (alike, alone):
            session.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        for asked in (names, names[:2], names[4:]):
            found = await read_fingerprints(scene.connection, asked)
            wanted = {name: before[name] for name in asked if name != "a5"}
            if len(asked) < 5:
                wanted.pop("a0", None)
            assert found == wanted
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await read_objects(scene.connection, "a5")
        # Neither numbers nor likeness wait for anybody.
        assert (await read_changes(scene.connection)).keys() >= set(names)
        assert (await read_likeness(scene.connection, names)).keys() == set(names)
    assert await read_fingerprints(scene.connection, names) == before


async def test_what_the_server_cannot_write_down_is_left_out_and_no_more(scene: Scene) -> None:
    names = [f"a{number}" for number in range(6)]
    for name in names:
        scene.make(name, LITTLE)
    before = await read_fingerprints(scene.connection, names)
    for depth in range(3000, 12000, 500):
        with scene.session("a3") as session:
            session.execute(f"CREATE OR REPLACE VIEW v AS SELECT {'NOT ' * depth}(a = 1) AS x FROM t")
            try:
                session.execute("SELECT pg_get_viewdef('v'::regclass)")
            except psycopg.errors.StatementTooComplex:
                break
    else:
        pytest.fail("the server writes down whatever it accepts")
    before.pop("a3")
    for asked in (names, names[2:4]):
        found = await read_fingerprints(scene.connection, asked)
        assert found == {name: before[name] for name in asked if name != "a3"}
    with pytest.raises(psycopg.errors.StatementTooComplex):
        await read_objects(scene.connection, "a3")


async def test_names_and_numbers_of_any_kind_are_taken(scene: Scene) -> None:
    nasty = [
        "%s",
        "a'b",
        'a"b',
        "a\\b",
        "a\nb",
        "a\x01b",
        "{a}",
        "99999999999",
        "12345",
        "ü" * 31,
        "-- a",
        "a,b",
        "#",
    ]
    script = LITTLE
    for name in nasty:
        quoted = sql.Identifier(name).as_string(None)
        literal = sql.Literal(name).as_string(None)
        script += f"""
        CREATE TABLE {quoted} ({quoted} text DEFAULT {literal} CHECK ({quoted} <> {literal}));
        CREATE INDEX ON {quoted} (({quoted} || {literal}));
        CREATE TYPE {sql.Identifier("e" + name).as_string(None)} AS ENUM ({literal});
        CREATE VIEW {sql.Identifier("v" + name).as_string(None)} AS
          SELECT {quoted}.{quoted} AS {quoted}, {literal}::{sql.Identifier("e" + name).as_string(None)} AS x
          FROM {quoted} AS {quoted};
        """
    script += f"CREATE VIEW long AS SELECT a FROM t WHERE a IN ({', '.join(map(str, range(30000)))});"
    script += f"CREATE FUNCTION long() RETURNS text LANGUAGE sql AS $$SELECT '{'x' * 2_000_000}'$$"
    for name in ("acme", "we'ird\n%s"):
        scene.make(name, script)
    assert await scene.differences("acme", "we'ird\n%s") == ()
    found = await scene.objects("we'ird\n%s")
    assert 'column "%s"."%s"' in found
    assert not [words for words in found if "we'ird" in words]


async def test_what_changes_while_it_is_read_fails_nothing(scene: Scene) -> None:
    names = [f"a{number}" for number in range(6)]
    for name in names:
        scene.make(name, LITTLE)
    before = await read_fingerprints(scene.connection, names)
    over = threading.Event()
    rounds = 0

    def work() -> None:
        nonlocal rounds
        with scene.session("a3") as session:
            while not over.is_set():
                session.execute(
                    "CREATE TABLE x (a int CHECK (a > 0)); CREATE VIEW v AS SELECT x.a FROM x JOIN t USING (a)"
                )
                session.execute(
                    "CREATE INDEX ON x ((a + 1)); CREATE OR REPLACE VIEW v AS SELECT a FROM x WHERE a > 1"
                )
                session.execute("DROP TABLE x CASCADE")
                rounds += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(40):
            found = await read_fingerprints(scene.connection, names)
            for name in names:
                if name != "a3":
                    assert found[name] == before[name]
            await asyncio.sleep(0)
    finally:
        over.set()
        thread.join()
    assert rounds > 10
    assert await read_fingerprints(scene.connection, names) == before


async def test_one_that_was_another_for_a_moment_makes_no_other_look_different(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a{number}" for number in range(6)]
    for name in names:
        scene.make(name, "CREATE TABLE t (id int)")
    before = await read_fingerprints(scene.connection, names)

    async def read(connection: Connection, schema: str) -> dict[str, str] | None:
        return {"table x": "1"} if schema == "a3" else await definitions.read_definitions(connection, schema)

    monkeypatch.setattr(fingerprint, "read_definitions", read)
    for _ in range(20):
        assert await read_fingerprints(scene.connection, names) == before


def test_what_belongs_to_a_table_that_is_gone_or_new_is_left_out() -> None:
    expected = {
        "table a": "1",
        "column a.x": "1 of table a",
        "index a_pkey": "1 of table a",
        "table b": "1",
        "column b.x": "1 of table b",
        "column order of b": "1 of table b",
        "index i": "1 of table b",
        "type t": "1",
    }
    found = {
        "table b": "1",
        "column b.x": "2 of table b",
        "column order of b": "2 of table b",
        "index i": "1 of view c",
        "view c": "1",
        "rule c.r": "1 of view c",
        "type t": "1",
    }
    assert differences(expected, expected) == ()
    assert differences(expected, found) == (
        *("column b.x: changed", "column order of b: changed", "index i: changed"),
        *("table a: missing", "view c: added"),
    )
    found["column b.y"] = "1 of table b"
    assert "column order of b: changed" not in differences(expected, found)
