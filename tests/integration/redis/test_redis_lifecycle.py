"""A tenant's database from its making to its end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from tenantry_operator.engines.base import Mark, Ownership, Presence
from tenantry_operator.errors import Stalled
from tests.integration.engines.redis_harness import Refused
from tests.integration.redis.conftest import Shop


async def test_a_database_is_made_and_then_costs_nothing(shop: Shop) -> None:
    desired = shop.desired()
    state = await shop.state(desired)
    assert (state.ownership, state.exists) == (Ownership.FREE, False)
    done = await shop.bring(desired, shop.credentials(desired))
    assert done == ["create-database", "migrate", "create-login"]
    state = await shop.state(desired)
    assert state.exists
    assert (state.version, state.digest, state.target) == ("1", shop.chain.digest, None)
    assert [login.name for login in state.logins] == [desired.names.login_a]
    assert state.logins[0].fingerprint == shop.credentials(desired).fingerprint
    assert await shop.is_settled(desired)
    client = shop.client(desired)
    await client.put("a", "1")
    assert await client.get("a") == "1"
    assert (await shop.state(desired)).connections == 1
    await client.close()


async def test_no_password_reaches_the_server_in_the_clear(shop: Shop) -> None:
    with shop.server.admin() as admin, admin.monitor() as monitor:
        desired = await shop.make()
        admin.echo("the end")
        seen = []
        for line in monitor.listen():
            seen.append(line["command"])
            if "the end" in line["command"]:
                break
    assert len(seen) > 5
    assert not [line for line in seen if shop.credentials(desired).password in line]


async def test_what_has_no_mark_is_a_strangers(shop: Shop) -> None:
    desired = shop.desired()
    names = desired.names
    with shop.server.admin() as admin:
        admin.set(f"{names.database}:theirs", "1")
        with pytest.raises(Stalled, match=r"NameTaken.*left alone"):
            await shop.make()
        assert admin.keys("*") == [f"{names.database}:theirs"]
        admin.flushall()
        admin.acl_setuser(names.login_b, enabled=True, nopass=True)
        state = await shop.state(desired)
        assert (state.ownership, state.conflict) == (Ownership.STRANGER, f"login {names.login_b}")
        with pytest.raises(Stalled, match="NameTaken"):
            shop.engine.plan(desired, state, None)
        admin.acl_deluser(names.login_b)
        for mark, ownership in (
            ("something else", Ownership.STRANGER),
            (replace(desired.mark, installation="other").encode(), Ownership.STRANGER),
            (replace(desired.mark, tenant="shop/other").encode(), Ownership.OTHER_TENANT),
        ):
            admin.hset("tenantry:marks", names.database, mark)
            assert (await shop.state(desired)).ownership is ownership
        # Whatever is planned from an older look does nothing either.
        fresh = replace(await shop.state(shop.desired("fresh")))
        for presence in (Presence.LIVE, Presence.ABSENT):
            wanted = replace(desired, presence=presence)
            for step in shop.engine.plan(wanted, fresh, shop.credentials(desired)):
                with pytest.raises(Exception, match="not the tenant's"):
                    await shop.engine.apply(wanted, [step], shop.credentials(desired))
        assert names.login_a not in admin.acl_users()
        assert admin.hget("tenantry:marks", names.database) == mark


async def test_suspending_refuses_logins_and_ends_sessions_and_resuming_restores_them(shop: Shop) -> None:
    desired = await shop.make()
    client = shop.client(desired)
    await client.put("a", "1")
    refused = replace(desired, presence=Presence.REFUSED, login=None)
    assert await shop.bring(refused) == ["refuse-logins", "end-sessions"]
    with pytest.raises(Refused):
        await client.get("a")
    with pytest.raises(Refused, match="invalid username-password pair or user is disabled"):
        await shop.client(desired).get("a")
    assert await shop.is_settled(refused)
    # Without anybody telling the password again.
    assert await shop.bring(desired) == ["enable-login"]
    client = shop.client(desired)
    assert await client.get("a") == "1"
    assert (await shop.state(desired)).logins[0].fingerprint == shop.credentials(desired).fingerprint
    await client.close()


async def test_rotation_alternates_the_logins(shop: Shop) -> None:
    desired = await shop.make()
    old = shop.client(desired)
    await old.put("a", "1")
    rotated = replace(desired, login=desired.names.login_b)
    assert await shop.bring(rotated, shop.credentials(rotated)) == ["create-login"]
    new = shop.client(rotated)
    assert await new.get("a") == await old.get("a") == "1"
    retired = replace(rotated, retired=(desired.names.login_a,))
    assert await shop.bring(retired) == ["retire-login"]
    with pytest.raises(Refused):
        await old.get("a")
    with pytest.raises(Refused, match="invalid username-password"):
        await shop.client(desired).get("a")
    assert await new.get("a") == "1"
    assert await shop.is_settled(rotated)
    again = replace(shop.credentials(rotated), password="another one")
    assert await shop.bring(rotated, again) == ["set-password"]
    with pytest.raises(Refused, match="invalid username-password"):
        await shop.client(rotated).get("a")
    assert await shop.client(rotated, password="another one").get("a") == "1"
    assert (await shop.state(rotated)).logins[0].fingerprint == again.fingerprint


async def test_over_its_quota_a_tenant_reads_and_deletes_and_no_more(shop: Shop) -> None:
    desired = await shop.make()
    client = shop.client(desired)
    client.ask("RPUSH", f"{client.prefix}list", "1", "2")
    full = replace(desired, read_only=True)
    assert await shop.bring(full) == ["refuse-writes"]
    assert await shop.is_settled(full)
    for words in (("HSET", "items", "b", "2"), ("SET", "x", "1"), ("RPUSH", "list", "3"), ("INCR", "n")):
        with pytest.raises(Refused, match=r"(?i)no permissions"):
            client.ask(words[0], client.prefix + words[1], *words[2:])
    assert await client.get("made") == "yes"
    await client.delete("made")
    assert await client.get("made") is None
    assert client.ask("LPOP", f"{client.prefix}list") == "1"
    assert client.ask("UNLINK", f"{client.prefix}list") == 1
    assert not await shop.is_settled(desired)
    # A login of its own turn is made so from the start.
    rotated = replace(full, login=full.names.login_b)
    await shop.bring(rotated, shop.credentials(rotated))
    with pytest.raises(Refused, match=r"(?i)no permissions"):
        await shop.client(rotated).put("a", "1")
    assert await shop.bring(replace(rotated, read_only=False)) == ["allow-writes", "allow-writes"]
    await client.put("c", "3")
    assert await client.get("c") == "3"
    await client.close()


async def test_an_end_leaves_nothing_and_touches_nobody_else(shop: Shop) -> None:
    desired, other = await shop.make("acme"), await shop.make("acme-2")
    with shop.server.admin() as admin:
        admin.set("strange", "1")
        with admin.pipeline() as pipe:
            for number in range(3000):
                pipe.set(f"{desired.names.database}:key {number}", "x" * 20)
            pipe.set(f"{desired.names.database}:\udcff\udcfe".encode("utf-8", "surrogateescape"), "binary")
            pipe.execute()
    client = shop.client(desired)
    assert await client.get("made") == "yes"
    gone = replace(desired, presence=Presence.ABSENT, login=None)
    assert await shop.bring(gone) == ["drop-logins", "drop-database"]
    assert await shop.bring(gone) == []
    with pytest.raises(Refused):
        await client.get("made")
    with shop.server.admin() as admin:
        theirs = other.names.database
        left = {"strange", f"{theirs}:items", f"tenantry:ledger:{theirs}", "tenantry:marks"}
        assert set(admin.keys("*")) == left
        assert admin.hkeys("tenantry:marks") == [theirs]
        assert set(admin.acl_users()) == {"default", other.names.login_a, shop.server.access.username}
    assert await shop.is_settled(other)
    snapshot = await shop.engine.observe()
    assert set(snapshot.tenants()) == {"shop/acme-2"}
    await shop.make("acme")
    assert await shop.is_settled(desired)


async def test_data_that_was_lost_is_not_made_anew_unless_somebody_says_so(shop: Shop) -> None:
    desired = await shop.make()
    client = shop.client(desired)
    with shop.server.admin() as admin:
        admin.flushall()
    state = await shop.state(desired)
    assert (state.ownership, state.exists) == (Ownership.OURS, False)
    assert [login.name for login in state.logins] == [desired.names.login_a]
    with pytest.raises(Stalled, match="DataLost"):
        await shop.bring(desired)
    belongings = (await shop.engine.observe()).belongings("shop/acme")
    assert [(found.database, found.mark) for found in belongings] == [(desired.names.database, desired.mark)]
    await client.put("a", "left over")
    anew = replace(desired, recreate=True)
    assert await shop.bring(anew) == ["create-database", "migrate"]
    assert await client.get("a") is None
    assert await client.get("made") == "yes"
    assert await shop.is_settled(desired)
    with shop.server.admin() as admin:
        admin.flushall()
        await client.put("a", "left over")
        assert await shop.bring(replace(desired, presence=Presence.ABSENT)) == ["drop-logins", "drop-database"]
        assert admin.keys("*") == []
    await client.close()


def _told(admin: Any, rule: str) -> bool:
    """Whether a server has a rule, and tells of it."""
    with contextlib.suppress(redis.ResponseError):
        admin.execute_command("ACL", "SETUSER", "probe", rule)
    line = next((line for line in admin.acl_list() if line.startswith("user probe ")), "")
    admin.acl_deluser("probe")
    return rule in line.split()


async def test_drift_is_found_and_mended(shop: Shop) -> None:
    desired = await shop.make()
    name = desired.names.login_a
    broken = [
        (("~other:*",), "keys ~"),
        (("%R~*",), "keys "),
        (("allkeys",), "keys ~*"),
        (("resetkeys",), "keys none"),
        (("&*",), "STRANGER"),
        (("&news",), "channels "),
        (("+keys",), "other commands"),
        (("+@all",), "other commands"),
        (("-get",), "other commands"),
        (("(~* +get)",), "selectors"),
        (("nopass",), "any password"),
        ((">guess",), "further passwords"),
    ]
    with shop.server.admin() as admin:
        # Redis has the first of these, Valkey from 9.1 on the others.
        some = ("skip-sanitize-payload", "db=1", "resetdbs")
        told = [rule for rule in some if _told(admin, rule)]
        assert told in (["skip-sanitize-payload"], ["db=1", "resetdbs"])
        broken += [((rule,), rule) for rule in told]
        for rules, words in broken:
            admin.execute_command("ACL", "SETUSER", name, *rules)
            state = await shop.state(desired)
            if words == "STRANGER":
                # Whoever allows all channels takes the mark away: nothing is touched until a person mends it.
                assert state.ownership is Ownership.STRANGER
                admin.acl_deluser(name)
                await shop.bring(desired, shop.credentials(desired))
                continue
            assert [drift for drift in state.drift if words in drift and name in drift], (rules, state.drift)
            if rules == ("nopass",):
                # That takes the password away: the reconciler then gives the one in the Secret.
                assert state.logins[0].fingerprint != shop.credentials(desired).fingerprint
                assert await shop.bring(desired, shop.credentials(desired)) == ["set-password"]
            else:
                assert await shop.bring(desired) == ["mend-login"]
            assert await shop.is_settled(desired)
            assert await shop.client(desired).get("made") == "yes"
            with pytest.raises(Refused):
                await shop.client(desired, password="guess").get("made")
        admin.execute_command("ACL", "SETUSER", name, "resetpass", ">guess")
        state = await shop.state(desired)
        assert state.logins[0].fingerprint != shop.credentials(desired).fingerprint
        assert await shop.bring(desired, shop.credentials(desired)) == ["set-password"]
        assert await shop.client(desired).get("made") == "yes"
        admin.acl_deluser(name)
        state = await shop.state(desired)
        assert (state.exists, state.logins) == (True, ())
        assert await shop.bring(desired, shop.credentials(desired)) == ["create-login"]
        assert await shop.is_settled(desired)


async def test_sizes_are_of_each_tenants_own_keys(shop: Shop) -> None:
    acme, other = await shop.make("acme"), await shop.make("other")
    before = (await shop.state(acme)).bytes
    with shop.server.admin() as admin:
        admin.set(f"{acme.names.database}:blob", "x" * 100_000)
        measured = admin.memory_usage(f"{acme.names.database}:blob")
    assert before is not None
    state = await shop.state(acme)
    assert state.bytes == before + measured
    assert (await shop.state(other)).bytes == before


async def test_who_was_not_there_before_finds_what_there_is(shop: Shop) -> None:
    desired = await shop.make()
    snapshot = await shop.engine.observe()
    assert snapshot.blueprints() == {f"shop/{shop.name}"}
    (found,) = snapshot.belongings("shop/acme")
    assert found.database == desired.names.database
    assert found.mark == replace(desired.mark, version="1", digest=shop.chain.digest)
    assert snapshot.belongings("shop/nobody") == ()
    assert Mark.decode(snapshot.catalog.marks[desired.names.database]) == found.mark


async def test_looking_costs_the_same_for_many_as_for_few(shop: Shop) -> None:
    async def commands() -> int:
        with shop.server.admin() as admin:
            start = admin.info("stats")["total_commands_processed"]
            started = time.monotonic()
            await shop.engine.observe()
            assert time.monotonic() - started < 2
            return int(admin.info("stats")["total_commands_processed"]) - int(start)

    await shop.make("first")
    await shop.engine.observe()
    few = await commands()
    for number in range(30):
        await shop.make(f"tenant-{number}")
    # What is measured is looked at within scripts, whose commands count, too.
    scripted = 2 * 31 + 31
    assert await commands() <= few + 2 * scripted
