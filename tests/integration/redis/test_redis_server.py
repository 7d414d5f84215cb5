"""The server as a whole: away, restarted, short of rights or memory, and what its report says."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis import exceptions

from tenantry_operator.engines.base import Ownership, Presence
from tenantry_operator.engines.redis import keyspace, saving, usage
from tenantry_operator.engines.redis.connections import Connections, ConnectionSettings, Session
from tenantry_operator.engines.redis.engine import RedisEngine
from tenantry_operator.engines.redis.keyspace import KeySpace
from tenantry_operator.errors import Retryable, Stalled
from tests.integration.engines.redis_harness import PASSWORD, RedisServer, Refused
from tests.integration.processes import free_port
from tests.integration.redis.conftest import INSTALLATION, ITEMS, SETTINGS, Shop, migration

Start = Callable[..., RedisServer]
On = Callable[[RedisServer], Shop]


async def test_a_wrong_password_is_for_a_person_to_mend(server: RedisServer) -> None:
    for access in (replace(server.access, password="guess-me"), replace(server.access, username="nobody")):
        engine = RedisEngine(access, installation=INSTALLATION, settings=SETTINGS)
        for _ in range(5):
            with pytest.raises(Stalled) as caught:
                await engine.observe()
            assert caught.value.reason == "AdminLoginRefused"
            assert "adminSecret" in caught.value.message
            assert access.password not in caught.value.message
        await engine.close()


async def test_a_server_that_is_away_is_left_alone_and_found_again(own_server: Start, shop_on: On) -> None:
    server = own_server()
    shop = shop_on(server)
    desired = await shop.make()
    server.stop()
    for _ in range(4):
        with pytest.raises(Retryable) as caught:
            await shop.bring(desired)
        assert caught.value.reason == "ServerUnreachable"
        assert str(server.port) in caught.value.message
    assert caught.value.delay is not None
    server.start()
    await asyncio.sleep(caught.value.delay + 0.1)
    assert await shop.is_settled(desired)
    # A session that was kept from before the restart is not relied on.
    server.stop()
    server.start()
    assert await shop.is_settled(desired)


async def test_what_was_not_kept_yet_is_kept_with_the_next_sweep(
    own_server: Start, shop_on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server()
    shop = shop_on(server)
    desired = await shop.make()

    async def lost(*_: object) -> None:
        raise exceptions.ConnectionError("the answer got lost")

    with monkeypatch.context() as patched:
        patched.setattr(saving, "_save", lost)
        with pytest.raises(Retryable):
            await shop.bring(replace(desired, presence=Presence.REFUSED))
    assert f"user {desired.names.login_a} on" in (server.folder / "users.acl").read_text(encoding="utf-8")
    await shop.engine.observe()
    assert f"user {desired.names.login_a} off" in (server.folder / "users.acl").read_text(encoding="utf-8")


@pytest.mark.parametrize("users", ["aclfile", "config"])
async def test_logins_outlive_the_server(own_server: Start, shop_on: On, users: str) -> None:
    server = own_server(users=users)
    shop = shop_on(server)
    acme, other = await shop.make("acme"), await shop.make("other")
    assert (await shop.engine.observe()).report.missing == ()
    await shop.bring(replace(other, presence=Presence.REFUSED))
    server.stop(kill=True)
    server.start()
    assert await shop.client(acme).get("made") == "yes"
    with pytest.raises(Refused, match="user is disabled"):
        await shop.client(other).get("made")
    assert await shop.is_settled(acme)
    await shop.bring(replace(acme, presence=Presence.ABSENT))
    server.stop(kill=True)
    server.start()
    with server.admin() as admin:
        assert acme.names.login_a not in admin.acl_users()


async def test_logins_that_a_restart_lost_are_made_again(own_server: Start, shop_on: On) -> None:
    server = own_server(users="nowhere")
    shop = shop_on(server)
    desired = await shop.make()
    (words,) = (await shop.engine.observe()).report.missing
    assert "keeping logins over a restart" in words
    server.stop()
    server.start()
    state = await shop.state(desired)
    assert (state.ownership, state.exists, state.logins) == (Ownership.OURS, True, ())
    assert shop.engine.plan(desired, state, None) == ()
    assert await shop.bring(desired, shop.credentials(desired)) == ["create-login"]
    assert await shop.client(desired).get("made") == "yes"
    assert await shop.is_settled(desired)


async def test_a_server_that_forgot_everything_has_lost_the_data(own_server: Start, shop_on: On) -> None:
    server = own_server("--appendonly", "no", users="nowhere")
    shop = shop_on(server)
    desired = await shop.make()
    missing = (await shop.engine.observe()).report.missing
    assert [words for words in missing if "keeping data over a restart" in words]
    server.stop()
    server.start()
    state = await shop.state(desired)
    # Nothing there tells of it; that there was a version stands in the Tenant's status.
    assert (state.ownership, state.exists, state.version, state.logins) == (Ownership.FREE, False, None, ())


async def test_the_report_names_what_needs_no_password(own_server: Start, shop_on: On) -> None:
    server = own_server()
    shop = shop_on(server)
    assert (await shop.engine.observe()).report.unhardened == ()
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")
        report = (await shop.engine.observe()).report
        assert report.unhardened == ("ACL SETUSER default off",)
        admin.execute_command(*report.unhardened[0].split())
    report = (await shop.engine.observe()).report
    assert report.unhardened == ()
    assert report.version[0].isdigit()
    assert report.bytes > 100_000
    assert report.connections >= 1
    assert report.max_connections == 10_000


async def test_the_report_warns_of_transactions_that_a_restart_would_lose(own_server: Start, shop_on: On) -> None:
    server = own_server()
    shop = shop_on(server)
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "off", "resetpass", "nocommands")
        (words,) = (await shop.engine.observe()).report.missing
        assert "append-only file" in words
        statement = words.rpartition(": ")[2]
        admin.execute_command(*statement.split())
    assert (await shop.engine.observe()).report.missing == ()
    assert (await shop.engine.observe()).report.unhardened == ()
    with pytest.raises(exceptions.AuthenticationError), server.login("default", "") as client:
        client.ping()
    # That is what happens otherwise.
    desired = await shop.make()
    server.stop()
    text = (server.folder / "users.acl").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("user default")]
    (server.folder / "users.acl").write_text("\n".join([*kept, "user default off"]) + "\n", encoding="utf-8")
    server.start()
    missing = (await shop.engine.observe()).report.missing
    assert [words for words in missing if "append-only file" in words]
    if not (await shop.state(desired)).exists:
        with pytest.raises(Stalled, match="DataLost"):
            await shop.bring(desired)


async def test_the_report_names_rights_that_lack_and_data_that_may_go(own_server: Start, shop_on: On) -> None:
    server = own_server("--maxmemory-policy", "allkeys-lru")
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", server.access.username, "-client|kill", "-eval")
    shop = shop_on(server)
    with pytest.raises(Stalled) as caught:
        await shop.engine.observe()
    assert caught.value.reason == "AdminLacksRights"
    assert "eval" in caught.value.message
    server.stop()
    (server.folder / "users.acl").unlink()
    server.start()
    with server.admin() as admin:
        admin.execute_command("ACL", "SETUSER", server.access.username, "-client|kill")
    report = (await shop_on(server).engine.observe()).report
    assert [words for words in report.missing if f"ACL SETUSER {server.access.username} +client|kill" in words]
    assert [words for words in report.missing if "allkeys-lru" in words]


async def test_a_replica_or_a_cluster_is_not_written_to(own_server: Start, shop_on: On) -> None:
    clustered = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    primary, replica, cluster = own_server(), own_server(), own_server(*clustered)
    with replica.admin() as admin:
        admin.replicaof("127.0.0.1", primary.port)
    with pytest.raises(Retryable, match="ServerIsReplica"):
        await shop_on(replica).engine.observe()
    with pytest.raises(Stalled, match="ServerIsCluster"):
        await shop_on(cluster).engine.observe()


async def test_short_of_memory_a_migration_changes_nothing(own_server: Start, shop_on: On) -> None:
    server = own_server("--maxmemory-policy", "noeviction")
    shop = shop_on(server)
    desired = await shop.make()
    more = migration("2", "more", [["DEL", "{prefix}items"], ["SET", "{prefix}a", "1"]])
    ahead = replace(desired, chain=shop.at("2", ITEMS, more))
    with server.admin() as admin:
        admin.config_set("maxmemory", "100kb")
        with pytest.raises(Retryable) as caught:
            await shop.bring(ahead)
        assert caught.value.reason == "ServerOutOfResources"
        assert admin.hget(f"{desired.names.database}:items", "made") == "yes"
        admin.config_set("maxmemory", "0")
    assert await shop.bring(ahead) == ["migrate"]
    assert await shop.is_settled(ahead)


async def test_many_keys_are_measured_over_several_sweeps(own_server: Start, shop_on: On) -> None:
    server = own_server()
    shop = shop_on(server)
    desired = await shop.make()
    with server.admin() as admin:
        for start in range(0, 20_000, 5000):
            admin.mset({f"{desired.names.database}:{number}": "x" * 50 for number in range(start, start + 5000)})
        admin.mset({f"strange {number}": "x" for number in range(500)})
        keys_of_it = admin.keys(f"{desired.names.database}:*")
        with admin.pipeline() as pipe:
            for key in keys_of_it:
                pipe.memory_usage(key)
            expected = sum(pipe.execute())
    keys, connections = KeySpace(), Connections(server.access, SETTINGS)
    sweeps = 0
    async with connections.use() as session:
        while keys.bytes is None:
            assert keys.size(desired.names.database) is None
            began = time.monotonic()
            await keys.measure(session, 0.0)
            assert time.monotonic() - began < 2
            sweeps += 1
        assert sweeps > 10
        assert keys.size(desired.names.database) == pytest.approx(expected, rel=0.01)
        assert keys.size("nobody") == 0
        assert keys.measured_at < time.monotonic()
        assert await keys.holds(session, desired.names.database)
        assert not await keys.holds(session, "nobody")
        # On a large server the figures answer, and whoever is not among them is not there.
        keyspace_few = keyspace._FEW
        try:
            keyspace._FEW = 10
            assert await keys.holds(session, desired.names.database)
            assert not await keys.holds(session, "nobody")
        finally:
            keyspace._FEW = keyspace_few
    await connections.close()


async def test_those_who_work_at_the_same_time_share_connections_and_saves(own_server: Start, shop_on: On) -> None:
    server = own_server()
    shop = shop_on(server)
    before = (await shop.engine.observe()).report
    most = 0
    with server.admin() as admin:

        async def watch() -> None:
            nonlocal most
            while True:
                mine = [client for client in admin.client_list() if client["name"] == "tenantry"]
                most = max(most, len(mine))
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        tenants = await asyncio.gather(*(shop.make(f"tenant-{number}") for number in range(40)))
        watching.cancel()
        saves = admin.info("commandstats")["cmdstat_acl|save"]["calls"]
        saved = (server.folder / "users.acl").read_text(encoding="utf-8")
    assert before.missing == ()
    assert 1 < most <= ConnectionSettings().concurrency + 1
    assert saves <= 40
    for desired in tenants:
        assert f"user {desired.names.login_a} on" in saved
        assert await shop.is_settled(desired)


def _authority(folder: Path, host: str = "127.0.0.1") -> Path:
    """A certificate authority, and a server's certificate of it."""
    now = datetime.datetime.now(datetime.UTC)
    folder.mkdir()

    def build(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> bytes:
        builder = x509.CertificateBuilder()
        builder = builder.subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(build("authority", root, "authority", root, ca=True))
    (folder / "tls.crt").write_bytes(build("server", leaf, "authority", root, ca=False))
    (folder / "tls.key").write_bytes(
        leaf.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder


async def test_encryption_in_the_words_of_libpq(own_server: Start, tmp_path: Path) -> None:
    good, elsewhere = _authority(tmp_path / "good"), _authority(tmp_path / "elsewhere", "127.0.0.9")
    other = _authority(tmp_path / "other")
    servers = {"right": own_server(tls=good), "wrong name": own_server(tls=elsewhere), "plain": own_server()}
    authorities = {name: (folder / "ca.crt").read_text() for name, folder in (("right", good), ("other", other))}
    authorities["wrong name"] = (elsewhere / "ca.crt").read_text()
    for where, mode, authority, reason in (
        ("right", "verify-full", "right", None),
        ("right", "verify-ca", "right", None),
        ("right", "require", None, None),
        ("right", "require", "right", None),
        ("right", "prefer", None, None),
        ("right", "disable", None, "ServerUnreachable"),
        ("right", "verify-full", "other", "AdminLoginRefused"),
        ("right", "verify-ca", "other", "AdminLoginRefused"),
        ("right", "require", "other", "AdminLoginRefused"),
        ("right", "verify-full", None, "AdminLoginRefused"),
        ("wrong name", "verify-ca", "wrong name", None),
        ("wrong name", "verify-full", "wrong name", "AdminLoginRefused"),
        ("plain", "prefer", None, None),
        ("plain", "require", None, "ServerUnreachable"),
        ("plain", "verify-full", "right", "ServerUnreachable"),
    ):
        certificates = (("ca.crt", authorities[authority]),) if authority else ()
        access = replace(servers[where].access, sslmode=mode, certificates=certificates)
        settings = replace(SETTINGS, connect_timeout=1, timeout=1)
        engine = RedisEngine(access, installation=INSTALLATION, settings=settings)
        try:
            if reason is None:
                assert (await engine.observe()).report.connections >= 1
            else:
                with pytest.raises((Retryable, Stalled)) as caught:
                    await engine.observe()
                assert caught.value.reason == reason, (where, mode, authority, caught.value)
                assert PASSWORD not in caught.value.message
        finally:
            await engine.close()


async def test_usage_is_not_counted_again_while_nothing_is_written(
    own_server: Callable[..., RedisServer],
    shop_on: Callable[[RedisServer], Shop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = shop_on(own_server())
    acme = await shop.make("acme")
    asked = 0
    count = usage.count

    async def counting(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await count(*arguments)

    monkeypatch.setattr(usage, "count", counting)

    async def used() -> int:
        await shop.engine.observe()
        rows = await shop.engine.usage(acme, {"people": '["SCARD", "{prefix}people"]'})
        return rows["people"][0].count

    assert [await used() for _ in range(4)] == [0] * 4
    assert asked == 1
    own = shop.client(acme)
    own.ask("SADD", f"{own.prefix}people", "a", "b")
    assert [await used() for _ in range(3)] == [2] * 3
    assert asked == 2
    with shop.server.admin() as admin:
        admin.save()
    own.ask("SREM", f"{own.prefix}people", "a")
    assert await used() == 1
    own.ask("PEXPIRE", f"{own.prefix}people", "1")
    deadline = time.monotonic() + 20
    while await used() != 0:
        assert time.monotonic() < deadline, "that it expired is not noticed"
        await asyncio.sleep(0.05)
    await own.close()


async def test_a_tenant_is_made_in_few_round_trips(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.make("first")
    acme, trips = shop.desired(), 0
    pipeline, call = Session.pipeline, Session.call

    async def together(self: Session, asked: Any) -> Any:
        nonlocal trips
        trips += 1
        return await pipeline(self, asked)

    async def alone(self: Session, *words: Any) -> Any:
        nonlocal trips
        trips += 1
        return await call(self, *words)

    monkeypatch.setattr(Session, "pipeline", together)
    monkeypatch.setattr(Session, "call", alone)
    credentials = shop.credentials(acme)
    steps = shop.engine.plan(acme, await shop.engine.observe_one(acme), credentials)
    await shop.engine.apply(acme, steps, credentials)
    assert trips <= 11
    assert await shop.is_settled(acme)
