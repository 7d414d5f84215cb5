"""The four engines through the whole operator: examples/engines on real servers, used, hurt and taken away."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenantry_local import logins
from tests.e2e import sessions
from tests.e2e.sessions import FAILURES, SYSTEM, Servers, Session
from tests.e2e.support import Api, Object, condition, is_ready, manifest, tenant

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "engines"
SPACE = "studio"
QUICK = {
    "TENANTRY_SWEEP_INTERVAL": "1s",
    "TENANTRY_LEASE_DURATION": "2s",
    "TENANTRY_RETIRE_AFTER": "2s",
    "TENANTRY_USAGE_INTERVAL": "2s",
}
ENTRIES = ("orders", "notes", "catalog", "sessions")
"""A blueprint of every engine: PostgreSQL, MySQL, MongoDB, Redis."""
POOLS = {"notes": "mysql-a", "catalog": "mongo-a", "sessions": "redis-a"}
USAGE = {
    "orders": "SELECT '' AS label, count(*) AS count FROM orders",
    "notes": "SELECT '' AS label, count(*) AS count FROM notes",
    "catalog": '{"count": "products"}',
    "sessions": '["SCARD", "{prefix}words"]',
}
MORE: dict[str, Object] = {
    "orders": {"sql": "CREATE TABLE more (id int)", "rollback": "DROP TABLE more"},
    "notes": {"sql": "CREATE TABLE more (id int)", "rollback": "DROP TABLE more"},
    "catalog": {"commands": [{"create": "more"}], "rollback": '[{"drop": "more"}]'},
    "sessions": {"commands": [["SADD", "{prefix}more", "it"]], "rollback": '[["DEL", "{prefix}more"]]'},
}


@pytest.fixture(scope="module")
def api(private_cluster: Any) -> Iterator[Api]:
    private_cluster.start_operator(QUICK)
    api = Api(private_cluster)
    api.kubectl("apply", "--server-side", "-f", str(EXAMPLES))
    api.ready(SPACE, "atelier", timeout=180)
    api.ready(SPACE, "foundry", timeout=60)
    api.apply(four("workshop"), tenant(SPACE, "bystander", "orders", "Schema"))
    api.ready(SPACE, "workshop")
    yield api
    private_cluster.kill_operator()


@pytest.fixture(scope="module")
def servers(api: Api) -> Servers:
    return Servers(api)


def four(name: str) -> Object:
    databases = [{"blueprint": entry} for entry in ENTRIES]
    return manifest("Tenant", name, {"databases": databases, "deletionPolicy": "Delete"}, namespace=SPACE)


def secrets(api: Api, name: str) -> dict[str, dict[str, str]]:
    return {entry: api.secret(SPACE, name, entry) for entry in ENTRIES}


def until(done: Callable[[], Any], timeout: float, what: str) -> float:
    """Waits; the seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < timeout, f"after {timeout} s not so: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def ended(session: Session) -> bool:
    try:
        session.put(f"late-{time.monotonic_ns()}")
    except FAILURES:
        return True
    return False


def exceeded(word: str) -> Callable[[Object | None], bool]:
    return lambda obj: (condition(obj or {}, "QuotaExceeded") or {}).get("status") == word


def test_four_engines_at_once_and_none_reaches_another_tenant(api: Api) -> None:
    own, others = secrets(api, "atelier"), secrets(api, "workshop")
    for entry in ENTRIES:
        assert logins.use(own[entry]).startswith("written-")
        assert logins.use(others[entry]).startswith("written-")
    for entry in ENTRIES:
        for one, other in ((own, others), (others, own)):
            try:
                found = logins.reach(one[entry], other[entry])
            except logins.Refused:
                continue
            assert found in ("", "None", "[]"), (entry, found)


def test_suspending_ends_open_sessions_and_resuming_brings_the_same_logins_back(api: Api) -> None:
    before = secrets(api, "atelier")
    with contextlib.ExitStack() as stack:
        opened = {entry: stack.enter_context(sessions.login(secret)) for entry, secret in before.items()}
        for session in opened.values():
            session.put("open")
        api.set_state(SPACE, "atelier", "Suspended")
        began, took = time.monotonic(), dict[str, float]()

        def all_ended() -> bool:
            for entry, session in opened.items():
                if entry not in took and ended(session):
                    took[entry] = round(time.monotonic() - began, 2)
            return len(took) == len(opened)

        until(all_ended, 10, f"sessions are ended; so far {took}")
    for entry, secret in before.items():
        until(lambda s=secret: sessions.is_refused(s), 10 - (time.monotonic() - began), f"{entry} is refused")
    api.ready(SPACE, "atelier", "Suspended")
    time.sleep(2)
    assert all(sessions.is_refused(secret) for secret in before.values())
    assert all(logins.use(secret) for secret in secrets(api, "workshop").values())
    api.set_state(SPACE, "atelier", "Active")
    api.ready(SPACE, "atelier")
    assert secrets(api, "atelier") == before
    for secret in before.values():
        with sessions.login(secret) as session:
            assert "open" in session.words()


def test_rotation_gives_new_logins_and_retires_the_old(api: Api) -> None:
    old = secrets(api, "atelier")
    api.annotate(SPACE, "atelier", rotate="1")
    until(
        lambda: all(new["password"] != old[entry]["password"] for entry, new in secrets(api, "atelier").items()),
        30,
        "all Secrets are new",
    )
    for entry, secret in secrets(api, "atelier").items():
        assert secret["username"] != old[entry]["username"]
        assert logins.use(secret)
    for entry, secret in old.items():
        until(lambda s=secret: sessions.is_refused(s), 20, f"the old login of {entry} is refused")
    api.ready(SPACE, "atelier")
    for secret in secrets(api, "atelier").values():
        with sessions.login(secret) as session:
            assert "open" in session.words()


@pytest.mark.parametrize("entry", ENTRIES)
def test_over_the_storage_quota_writing_is_refused_until_there_is_room(api: Api, entry: str) -> None:
    name = f"full-{entry}"
    spec = {
        "databases": [{"blueprint": entry}],
        "limits": [{"resource": "storage", "limit": "12Mi" if entry == "orders" else "1Mi"}],
        "deletionPolicy": "Delete",
    }
    api.apply(manifest("Tenant", name, spec, namespace=SPACE))
    api.ready(SPACE, name)
    secret = api.secret(SPACE, name, entry)
    with sessions.login(secret) as session:
        session.put("before")
        with contextlib.suppress(*FAILURES):  # it may be over its quota before all is written
            session.fill(4000)
        api.wait("tenant", name, SPACE, exceeded("True"), 30)
        until(lambda: ended(session), 20, "an open session cannot write any more")
    until(lambda: not sessions.works(secret, "no"), 20, "a new session cannot write")
    with sessions.login(secret) as session:
        assert "before" in session.words()
        session.clear()
    api.wait("tenant", name, SPACE, exceeded("False"), 60)
    until(lambda: sessions.works(secret, "after"), 20, "writing works again")
    api.ready(SPACE, name)
    api.delete("tenant", name, SPACE)


def test_usage_queries_count_on_every_engine(api: Api) -> None:
    for entry, query in USAGE.items():
        usage = [{"resource": f"{entry}-count", "query": query}]
        api.patch("blueprint", entry, SPACE, {"spec": {"usage": usage}})

    def counted() -> dict[str, int]:
        found = (api.get("tenant", "workshop", SPACE) or {})["status"].get("usage") or []
        return {one["resource"]: one["used"] for one in found if one.get("source") == "Query"}

    own = secrets(api, "workshop")
    for round_ in (1, 2):
        wanted = {}
        for entry, secret in own.items():
            with sessions.login(secret) as session:
                session.put(f"counted-{round_}")
                wanted[f"{entry}-count"] = len(session.words())
        until(lambda w=wanted: counted() == w, 40, f"usage is {wanted}, not {counted()}")


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_new_version_rolls_out_and_back(api: Api, entry: str) -> None:
    version = {
        "blueprint": entry,
        "version": "1.1",
        "from": "1.0",
        "migrations": [{"name": "more", **MORE[entry]}],
    }
    api.apply(manifest("BlueprintVersion", f"{entry}-1.1", version, namespace=SPACE))
    api.patch("blueprint", entry, SPACE, {"spec": {"version": "1.1"}})

    def finished(obj: Object | None) -> bool:
        phase = ((obj or {}).get("status") or {}).get("phase")
        assert phase not in ("Failed", "RolledBack", "Paused"), (obj or {})["status"]
        return bool(phase == "Completed")

    def at(wanted: str) -> bool:
        return all(
            record["version"] == wanted
            for name in ("atelier", "workshop")
            for record in (api.get("tenant", name, SPACE) or {})["status"]["databases"]
            if record["name"] == entry
        )

    api.wait("rollout", f"{entry}-1.1", SPACE, finished, 90)
    until(lambda: at("1.1"), 10, "tenants are at 1.1")
    secret = api.secret(SPACE, "atelier", entry)
    assert logins.use(secret)
    assert sessions.has_more(secret)
    api.patch("blueprint", entry, SPACE, {"spec": {"version": "1.0"}})
    until(lambda: at("1.0"), 60, "tenants are at 1.0")
    assert not sessions.has_more(secret)
    with sessions.login(secret) as session:
        assert "open" in session.words()


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_right_that_was_taken_away_is_given_back(api: Api, servers: Servers, entry: str) -> None:
    secret = api.secret(SPACE, "workshop", entry)
    servers.take_away(secret)

    def told() -> bool:
        text = api.kubectl("get", "events", "-n", SPACE, "-o", "json", "--field-selector", "reason=DriftMended")
        return any(
            event["involvedObject"]["name"] == "workshop" and f"database {entry}:" in event["message"]
            for event in json.loads(text)["items"]
        )

    until(told, 20, "an Event tells of it")
    until(lambda: sessions.works(secret, "mended"), 10, "the login writes again")
    api.ready(SPACE, "workshop")


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_server_that_goes_takes_nobody_else_along_and_comes_back(api: Api, entry: str) -> None:
    own = secrets(api, "workshop")
    if entry in POOLS:
        pod = api.get("pod", f"{POOLS[entry]}-0", SYSTEM)
        assert pod is not None
        api.kubectl("delete", "pod", f"{POOLS[entry]}-0", "-n", SYSTEM, "--grace-period=0", "--force")
    else:
        api.cluster.kill("postgres")
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        for other, secret in own.items():
            if other != entry:
                assert logins.use(secret)
        if entry != "orders":
            assert is_ready(api.get("tenant", "bystander", SPACE) or {})
        else:
            assert is_ready(api.get("tenant", "foundry", SPACE) or {})
    if entry == "orders":
        api.cluster.start_postgres()
    until(lambda: sessions.works(own[entry], f"back-{time.monotonic_ns()}"), 60, "its login works again")
    api.ready(SPACE, "workshop", timeout=60)
    assert secrets(api, "workshop")[entry]["password"] == own[entry]["password"]
    with sessions.login(secrets(api, "workshop")[entry]) as session:
        assert "counted-2" in session.words()


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_administrators_secret_that_is_lost_is_told_and_can_be_put_back(api: Api, entry: str) -> None:
    pool = POOLS.get(entry, "pool-a")
    instance = api.get("databaseinstance", pool, SYSTEM) or {}
    name = f"{pool}-admin" if entry in POOLS else instance["spec"]["external"]["adminSecret"]["name"]
    kept = api.get("secret", name, SYSTEM)
    assert kept is not None
    api.delete("secret", name, SYSTEM)
    reason = "AdminSecretLost" if entry in POOLS else "SecretNotFound"
    assert name in api.trouble("databaseinstance", SYSTEM, pool, reason, 30)["message"]
    assert all(logins.use(secret) for secret in secrets(api, "workshop").values())
    metadata = {key: kept["metadata"][key] for key in ("name", "namespace", "labels") if key in kept["metadata"]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": kept["data"],
        "type": kept["type"],
    }
    api.apply(secret)
    api.wait("databaseinstance", pool, SYSTEM, lambda obj: obj is not None and is_ready(obj), 30)
    api.ready(SPACE, "workshop")
    assert all(logins.use(secret) for secret in secrets(api, "workshop").values())


def may_mount(folder: Path) -> bool:
    """Whether file systems can be mounted here: it takes root, and not every container lets it."""
    if subprocess.run(
        ["mount", "-t", "tmpfs", "tenantry-probe", folder], check=False, capture_output=True
    ).returncode:
        return False
    subprocess.run(["umount", folder], check=True)
    return True


def test_a_full_disk_is_told_hurts_nobody_else_and_is_got_over(api: Api, tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("no file system can be mounted here, thus none that is small")
    api.set_state(SPACE, "foundry", "Suspended")
    api.ready(SPACE, "foundry", "Suspended")
    api.gone("pod", "foundry-orders-0", SPACE, 60)
    claim = api.get("persistentvolumeclaim", "data-foundry-orders-0", SPACE)
    assert claim is not None
    volume = api.get("persistentvolume", claim["spec"]["volumeName"])
    assert volume is not None
    folder = Path(volume["spec"]["hostPath"]["path"])
    with small_disk(folder, spare=24) as enlarge:
        api.set_state(SPACE, "foundry", "Active")
        api.ready(SPACE, "foundry")
        secret = api.secret(SPACE, "foundry", "orders")
        words = ""
        with sessions.login(secret) as session:
            session.put("kept")
            try:
                for _ in range(60):
                    session.fill(1000)
            except FAILURES as error:
                words = str(error)
        assert "No space left" in words or "closed" in words or "terminat" in words, words or "it never was full"
        # The condition says why, in the server's own words.
        until(lambda: "foundry-orders-0" in full_disk_told(api), 60, "the condition names the full disk")
        for _ in range(3):
            assert all(logins.use(other) for other in secrets(api, "workshop").values())
            assert is_ready(api.get("tenant", "workshop", SPACE) or {})
            time.sleep(1)
        enlarge()
        until(lambda: sessions.works(secret, "room"), 90, "it works again")
        api.ready(SPACE, "foundry")
        with sessions.login(secret) as session:
            assert {"kept", "room"} <= set(session.words())
        api.delete("tenant", "foundry", SPACE)
        api.gone("tenant", "foundry", SPACE, 60)
        api.gone("pod", "foundry-orders-0", SPACE, 60)


def full_disk_told(api: Api) -> str:
    """The message of the dedicated server, once it says that the disk is full; before, ""."""
    found = api.get("databaseinstance", "foundry-orders", SPACE) or {}
    message = str((condition(found, "Ready") or {}).get("message", ""))
    return message if "No space left" in message else ""


@contextlib.contextmanager
def small_disk(folder: Path, spare: int) -> Iterator[Callable[[], None]]:
    """Puts a file system with so many MiB to spare in the place of a folder, with what is in it.

    :returns: what makes it larger.
    """
    aside = folder.with_name("aside")
    folder.rename(aside)
    status = aside.stat()
    folder.mkdir()
    used = int(subprocess.run(["du", "-sm", aside], check=True, capture_output=True, text=True).stdout.split()[0])
    options = f"size={used + spare}m,mode={status.st_mode & 0o7777:o},uid={status.st_uid},gid={status.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tenantry-small", folder], check=True)
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", folder], check=True)
        shutil.rmtree(aside)
        yield lambda: subprocess.run(["mount", "-o", f"remount,size={used + 512}m", folder], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


def test_what_is_deleted_leaves_nothing_behind(api: Api, servers: Servers) -> None:
    api.apply(four("leaving"))
    api.ready(SPACE, "leaving")
    own = secrets(api, "leaving")
    assert all(logins.use(secret) for secret in own.values())
    before = servers.traces("leaving")
    for word in ("role", "database", "mysql user", "mysql mark", "mongo schema", "redis key", "redis user"):
        assert any(trace.startswith(word) for trace in before), (word, before)
    api.delete("tenant", "leaving", SPACE)
    api.gone("tenant", "leaving", SPACE, 60)
    assert servers.traces("leaving") == []
    # By writing: FerretDB says of a database that is not there that it is empty, whoever asks.
    assert not any(sessions.works(secret, "gone") for secret in own.values())
    kinds = "secrets,configmaps,databaseinstances,statefulsets,pods,services,persistentvolumeclaims"
    assert "leaving" not in api.kubectl("get", kinds, "-n", SPACE, "-o", "name")
    assert all(logins.use(secret) for secret in secrets(api, "workshop").values())


@pytest.mark.parametrize(
    ("making", "going"),
    [
        ("login-written", "accounts-dropped"),  # Redis, MySQL
        ("account-created", "database-dropped"),  # MySQL, MongoDB
        ("schema-created", "logins-dropped"),  # MongoDB, Redis
    ],
)
def test_an_operator_that_is_killed_on_the_way_gets_there(
    api: Api, servers: Servers, making: str, going: str
) -> None:
    name = f"killed-{making}"
    api.cluster.kill_operator()
    start(api, f"{SPACE}/{name}:{making}")
    api.apply(four(name))
    until(lambda: api.cluster.operator_pid() is None, 45, f"the operator passes {making}")
    for entry, secret in secrets(api, name).items():
        assert not secret or sessions.works(secret, "early"), f"the login of {entry} does not work"
    start(api, f"{SPACE}/{name}:{going}")
    api.ready(SPACE, name)
    own = secrets(api, name)
    assert all(logins.use(secret) for secret in own.values())
    api.delete("tenant", name, SPACE)
    until(lambda: api.cluster.operator_pid() is None, 45, f"the operator passes {going}")
    start(api)
    api.gone("tenant", name, SPACE, 60)
    assert servers.traces(name) == []
    assert not any(sessions.works(secret, "gone") for secret in own.values())
    assert name not in api.kubectl("get", "secrets", "-n", SPACE, "-o", "name")


def start(api: Api, crash_at: str = "") -> None:
    api.cluster.start_operator({**QUICK, **({"TENANTRY_CRASH_AT": crash_at} if crash_at else {})}, wait=False)
