"""The operator is killed after every single step of every transition; it must converge, and lose nothing.

The points to crash at are not listed here: a first run of each transition, with ``TENANTRY_CRASH_LOG``,
tells which ones it passes, and the operator is then killed with SIGKILL at each of them.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.support import NOTES, Api, blueprint, manifest, namespace, refused, run, tenant

SPACE = "crash"
QUICK = {"TENANTRY_LEASE_DURATION": "10s", "TENANTRY_RETIRE_AFTER": "1s", "TENANTRY_SWEEP_INTERVAL": "3s"}
ISOLATIONS = ("Database", "Schema", "Row")
STRANGER = "stranger_of_crash"


def prepared(cluster: Any) -> Iterator[Api]:
    """The cluster, without its operator, with a blueprint and a stranger's database."""
    cluster.kill_operator()
    api = Api(cluster)
    api.apply(namespace(SPACE), *blueprint(SPACE, "notes", NOTES))
    run(cluster.admin_dsn(), f"CREATE DATABASE {STRANGER}", autocommit=True)
    yield api
    cluster.kill_operator()


CHANCE = ("end-sessions", "status-written", "rollout-written", "blueprint-written")
"""Points that the same transition may pass or not: whether a session is still there when it is looked for, and
how often the status changes on the way."""

numbers = itertools.count(1)


class Transition:
    """A transition of one tenant: how it is prepared, begun, and what must hold after it."""

    def __init__(self, api: Api, isolation: str) -> None:
        self.api = api
        self.isolation = isolation
        number = next(numbers)
        self.name = f"t{number}-{isolation.lower()}"
        self.blueprint = "notes"
        self.uri = ""

    def prepare(self) -> None:
        """Brings the tenant to where the transition begins, with the operator running."""
        self.create()
        self.api.ready(SPACE, self.name)
        self.uri = self.secret()["uri"]
        run(self.uri, "INSERT INTO notes (body) VALUES ('kept')")

    def create(self, **spec: Any) -> None:
        self.api.apply(tenant(SPACE, self.name, self.blueprint, self.isolation, **spec))

    def begin(self) -> None:
        raise AssertionError("a transition begins somehow")

    def end(self) -> None:
        """Waits for the end of the transition."""
        raise AssertionError("a transition ends somehow")

    def check(self) -> None:
        """What must hold after it, with the operator running."""

    def between(self) -> None:
        """What must hold at any moment, also while the operator is dead."""

    def secret(self) -> dict[str, str]:
        return self.api.secret(SPACE, self.name, self.blueprint)

    def rows(self) -> int:
        uri = self.secret()["uri"]
        return int(run(uri, "SELECT count(*) FROM notes")[0][0])


class Provision(Transition):
    def prepare(self) -> None:
        # A blueprint of its own: the first tenant of a blueprint also makes what its tenants share.
        self.blueprint = f"notes-{self.name}"
        self.api.apply(*blueprint(SPACE, self.blueprint, NOTES))

    def begin(self) -> None:
        self.create()

    def between(self) -> None:
        secret = self.secret()
        if secret:
            assert not refused(secret["uri"]), "the Secret holds a login that does not work"

    def end(self) -> None:
        self.api.ready(SPACE, self.name)

    def check(self) -> None:
        assert self.rows() == 0
        run(self.secret()["uri"], "INSERT INTO notes (body) VALUES ('x')")


class Suspend(Transition):
    def begin(self) -> None:
        self.api.set_state(SPACE, self.name, "Suspended")

    def end(self) -> None:
        self.api.ready(SPACE, self.name, "Suspended")

    def check(self) -> None:
        assert refused(self.uri)
        self.api.set_state(SPACE, self.name, "Active")
        self.api.ready(SPACE, self.name)
        assert self.rows() == 1


class Rotate(Transition):
    def begin(self) -> None:
        self.api.annotate(SPACE, self.name, rotate="1")

    def between(self) -> None:
        uri = self.secret()["uri"]
        assert not refused(uri), "the Secret holds a login that does not work"

    def end(self) -> None:
        def rotated(found: Any) -> bool:
            return (found["status"].get("handled") or {}).get("rotate") == "1"

        self.api.wait("tenant", self.name, SPACE, rotated)
        self.api.wait("tenant", self.name, SPACE, lambda _: refused(self.uri), timeout=120)

    def check(self) -> None:
        new = self.secret()["uri"]
        assert new != self.uri
        assert self.rows() == 1
        assert not refused(new)


class Delete(Transition):
    def create(self, **_: Any) -> None:
        super().create(deletionPolicy="Delete")

    def begin(self) -> None:
        self.api.delete("tenant", self.name, SPACE)

    def end(self) -> None:
        self.api.gone("tenant", self.name, SPACE)

    def check(self) -> None:
        assert refused(self.uri)
        admin = self.api.cluster.admin_dsn()
        pattern = f"%{self.name}%"
        left = run(admin, f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{pattern}'")
        left += run(admin, f"SELECT datname FROM pg_database WHERE datname LIKE '{pattern}'")
        if self.isolation != "Database":
            shared = self.api.cluster.admin_dsn("notes")
            left += run(shared, f"SELECT nspname FROM pg_namespace WHERE nspname LIKE '{pattern}'")
        assert left == []


STEPS = [
    {"name": "column", "sql": "ALTER TABLE notes ADD more text", "rollback": "ALTER TABLE notes DROP more"},
    {
        "name": "indexes",
        "sql": "CREATE INDEX CONCURRENTLY by_more ON notes (more);"
        "CREATE INDEX CONCURRENTLY by_body ON notes (body)",
        "rollback": "DROP INDEX CONCURRENTLY by_body; DROP INDEX CONCURRENTLY by_more",
        "transactional": False,
    },
    {
        "name": "once",
        "sql": "CREATE TABLE once (tenant_id text); CREATE SEQUENCE times; SELECT nextval('times')",
        "rollback": "DROP TABLE once; DROP SEQUENCE times",
    },
]


class Migrate(Transition):
    """A new version in Git: the Blueprint has the tenant's name, so that its steps count as the tenant's."""

    to = "1.1"

    def prepare(self) -> None:
        self.blueprint = self.name
        spec = {"blueprint": self.name, "version": "1.1", "from": "1.0", "migrations": STEPS}
        self.api.apply(
            *blueprint(SPACE, self.name, NOTES),
            manifest("BlueprintVersion", f"{self.name}-1.1", spec, namespace=SPACE),
        )
        super().prepare()

    def begin(self) -> None:
        self.api.patch("blueprint", self.name, SPACE, {"spec": {"version": self.to}})

    def between(self) -> None:
        assert not refused(self.uri)

    def end(self) -> None:
        def settled(found: Any) -> bool:
            return bool(found["status"].get("currentVersion") == self.to)

        self.api.wait("blueprint", self.name, SPACE, settled)
        self.api.ready(SPACE, self.name)

    def check(self) -> None:
        found = self.api.get("tenant", self.name, SPACE)
        assert found is not None
        record = found["status"]["databases"][0]
        assert record["version"] == self.to
        new = self.to == "1.1"
        where = record.get("schema") or "public"
        admin = self.api.cluster.admin_dsn(record["database"])
        lines = run(admin, f"SELECT migration FROM tenantry.ledger WHERE schema = '{where}' ORDER BY position")
        assert lines == [(name,) for name in (["notes", "column", "indexes", "once"] if new else ["notes"])]
        valid = run(
            admin,
            "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            f"WHERE c.relnamespace = '{where}'::regnamespace AND c.relname LIKE 'by_%' ORDER BY 1",
        )
        assert valid == ([("by_body", True), ("by_more", True)] if new else [])
        if new:
            assert run(admin, f'SELECT last_value FROM "{where}".times') == [(1,)]
        assert self.rows() == 1
        assert run(admin, f"SELECT 1 FROM pg_roles WHERE rolname LIKE '%{self.name}__migrator'") == []


class GoBack(Migrate):
    """And the version before, in Git."""

    to = "1.0"

    def prepare(self) -> None:
        super().prepare()
        self.api.patch("blueprint", self.name, SPACE, {"spec": {"version": "1.1"}})

        def settled(found: Any) -> bool:
            return bool(found["status"].get("currentVersion") == "1.1")

        self.api.wait("blueprint", self.name, SPACE, settled)
        self.api.ready(SPACE, self.name)


class Retain(Transition):
    def begin(self) -> None:
        self.api.delete("tenant", self.name, SPACE)

    def end(self) -> None:
        self.api.gone("tenant", self.name, SPACE)

    def check(self) -> None:
        assert refused(self.uri)
        self.create()
        self.api.ready(SPACE, self.name)
        assert self.rows() == 1


class Adopt(Transition):
    def prepare(self) -> None:
        super().prepare()
        self.api.delete("tenant", self.name, SPACE)
        self.api.gone("tenant", self.name, SPACE)

    def begin(self) -> None:
        self.create()

    def end(self) -> None:
        self.api.ready(SPACE, self.name)

    def check(self) -> None:
        assert self.rows() == 1


Make = Callable[[Api, str], Transition]


def start_operator(api: Api, **variables: str) -> None:
    """Starts the operator anew; the Lease of the one that was killed, which it would wait for, is taken away."""
    api.cluster.kill_operator()
    api.delete("lease", "tenantry-operator", "tenantry-system")
    api.cluster.start_operator({**QUICK, **variables})


def passed_points(api: Api, make: Make, isolation: str, folder: Path) -> list[str]:
    """The points that a transition passes, each with its count: ``name:2`` for the second time."""
    log = folder / "points"
    start_operator(api)
    transition = make(api, isolation)
    transition.prepare()
    api.cluster.kill_operator()
    log.write_text("")
    start_operator(api, TENANTRY_CRASH_LOG=str(log))
    transition.begin()
    transition.end()
    api.cluster.kill_operator()
    counts: Counter[str] = Counter()
    points = []
    for line in log.read_text().splitlines():
        who, _, point = line.partition(" ")
        if who == f"{SPACE}/{transition.name}":
            counts[point] += 1
            if counts[point] <= 2:
                points.append(f"{point}:{counts[point]}")
    return points


def wait_until_clear(api: Api) -> None:
    """What is made for a moment only, scratch copies and logins that migrate, is gone by the next sweeps."""
    query = "SELECT rolname FROM pg_roles WHERE rolname LIKE '%__scratch%' OR rolname LIKE '%__migrator%'"
    deadline = time.monotonic() + 60
    while left := run(api.cluster.admin_dsn(), query):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def crash_after_every_step(api: Api, make: Make, isolation: str, folder: Path) -> None:
    """Kills the operator at every point that a transition passes, and sees that it comes to the same end."""
    points = passed_points(api, make, isolation, folder)
    assert points, "the transition passes no point to crash at"
    transitions = []
    start_operator(api)
    for _ in points:
        transitions.append(make(api, isolation))
        transitions[-1].prepare()
    api.cluster.kill_operator()
    survived = []
    for point, transition in zip(points, transitions, strict=True):
        start_operator(api, TENANTRY_CRASH_AT=f"{SPACE}/{transition.name}:{point}")
        transition.begin()
        deadline = time.monotonic() + (8 if point.startswith(CHANCE) else 45)
        while api.cluster.operator_pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        if api.cluster.operator_pid() is not None:
            survived.append(point)
        transition.between()
        api.cluster.kill_operator()
    assert [point for point in survived if not point.startswith(CHANCE)] == []
    start_operator(api)
    for transition in transitions:
        transition.end()
        transition.check()
    wait_until_clear(api)
    api.cluster.kill_operator()
    assert run(api.cluster.admin_dsn(), f"SELECT 1 FROM pg_database WHERE datname = '{STRANGER}'")
