"""A tenant's login reaches nothing of another tenant's, of the operator's, or of the server as a whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from redis import exceptions

from tenantry_operator.engines.base import Isolation, Presence
from tenantry_operator.engines.binding import key_prefix
from tenantry_operator.engines.redis import commands
from tenantry_operator.engines.redis.connections import Session
from tests.integration.engines.redis_harness import Client, Refused, attacks
from tests.integration.redis.conftest import Shop

REFUSAL = r"(?i)no permissions|command not allowed|unknown command|invalid username-password pair"


async def _two(shop: Shop) -> tuple[Client, str]:
    acme, other = await shop.make("acme"), await shop.make("other")
    theirs = key_prefix(other.names.database)
    with shop.server.admin() as admin:
        admin.set(f"{theirs}x", "secret")
        admin.sadd(f"{theirs}flags", "on")
        admin.rpush(f"{theirs}l", "secret")
        admin.xadd(f"{theirs}s", {"a": "secret"})
        admin.pfadd(f"{theirs}p", "secret")
    own = shop.client(acme)
    for command in (("SET", "x", "1"), ("SADD", "flags", "1"), ("GEOADD", "geo", "0", "0", "m")):
        own.ask(command[0], own.prefix + command[1], *command[2:])
    return own, theirs


async def test_nothing_outside_of_the_prefix_is_reached(shop: Shop) -> None:
    own, theirs = await _two(shop)
    with shop.server.admin() as admin:
        before = sorted(admin.keys("*"))
    for words in attacks(own.prefix, theirs):
        with pytest.raises(Refused, match=REFUSAL):
            own.ask(*words)
    # The same within a transaction, where a command is refused when it is queued.
    own.ask("MULTI")
    with pytest.raises(Refused, match=REFUSAL):
        own.ask("GET", f"{theirs}x")
    with pytest.raises(Refused):
        own.ask("EXEC")
    with shop.server.admin() as admin:
        assert sorted(admin.keys("*")) == before
        assert admin.get(f"{theirs}x") == "secret"
    assert own.ask("GET", f"{own.prefix}x") == "1"
    await own.close()


KINDS: tuple[tuple[str, ...], ...] = (
    (),
    ("SET", "secret"),
    ("ZADD", "1", "secret"),
    ("PFADD", "secret"),
)


async def test_no_command_that_tenants_have_leaves_the_prefix_whatever_its_words(shop: Shop) -> None:
    """What the server lets through is tried: nothing of another tenant's is shown, told of, or changed."""
    acme, other = await shop.make("acme"), await shop.make("other")
    login, foreign, own = acme.names.login_a, f"{key_prefix(other.names.database)}x", shop.client(acme)
    tried = 0
    with shop.server.admin() as admin:
        known = set(admin.execute_command("COMMAND LIST"))
        for name in sorted(commands.DATA | {"watch"}):
            words = name.split("|")
            if words[0] not in known:
                continue
            answers = [(shape, _dry(admin, login, [*words, *shape])) for shape in _shapes(own.prefix, foreign)]
            assert any("permissions to access" in str(answer) for _, answer in answers), name
            for shape, answer in answers:
                kinds = KINDS[:1] if name.startswith(("bl", "br", "bz")) else KINDS
                for kind in kinds if answer == "OK" else ():
                    tried += 1
                    admin.delete(foreign)
                    if kind:
                        admin.execute_command(kind[0], foreign, *kind[1:])
                    before = _seen(admin, foreign)
                    try:
                        said = str(own.ask(" ".join(words), *shape))
                    except Refused as refused:
                        said = str(refused)
                    assert "secret" not in said, (name, shape)
                    assert "WRONGTYPE" not in said, (name, shape)
                    assert _seen(admin, foreign) == before, (name, shape)
                    admin.delete(f"{own.prefix}x")
    await own.close()
    assert tried > 1000


def _seen(admin: redis.Redis, key: str) -> object:
    found = admin.exists(key)
    return found and (admin.type(key), admin.object("encoding", key), admin.memory_usage(key), admin.ttl(key))


def _shapes(prefix: str, foreign: str) -> list[list[str]]:
    """Words of commands, with numbers of keys that are too small, too large, or none."""
    own = f"{prefix}x"
    return [
        *([foreign, *["1"] * extra] for extra in range(7)),
        *([own, *[foreign] * extra] for extra in range(1, 4)),
        *([number, foreign, *["1"] * extra] for number in ("1", "0", "5", "-1", "x") for extra in range(3)),
        *([own, number, foreign] for number in ("1", "0", "2", "5", "-1", "x")),
        *(["0", number, foreign, "LEFT"] for number in ("1", "0", "2")),
        *(["0", number, foreign, "MIN"] for number in ("1", "0", "2")),
        [own, "2", f"{prefix}y", foreign],
        ["2", own, foreign, "LEFT"],
        ["1", foreign, "LEFT"],
        ["1", foreign, "MIN"],
        ["LEFT", foreign],
        ["AND", foreign],
        ["AND", own, foreign],
        ["STREAMS", foreign],
        ["STREAMS", foreign, "0"],
        ["STREAMS", own, foreign, "0"],
        ["COUNT", "1", "STREAMS", foreign, "0"],
        ["GROUP", "g", "c", "STREAMS", foreign, ">"],
        [own, "0", "0", "1", "m", "STORE", foreign],
        [own, "0", "0", "1", "m", "STORE", own, "STOREDIST", foreign],
        [own, "a", "1", "m", "STORE", foreign],
    ]


def _dry(admin: redis.Redis, login: str, words: list[str]) -> object:
    try:
        return admin.execute_command("ACL", "DRYRUN", login, *words)
    except exceptions.ResponseError as error:
        return error


async def test_channels_are_confined_to_the_prefix(shop: Shop) -> None:
    acme, other = await shop.make("acme"), await shop.make("other")
    own, theirs = shop.client(acme), shop.client(other)
    listening = own.client.pubsub(ignore_subscribe_messages=True)
    listening.subscribe(f"{own.prefix}news")
    listening.psubscribe(f"{own.prefix}*")
    assert listening.get_message(timeout=1) is None
    own.ask("PUBLISH", f"{own.prefix}news", "hello")
    found = [listening.get_message(timeout=0.5) for _ in range(4)]
    assert [message["data"] for message in found if message] == ["hello", "hello"]
    for channel in (f"{own.prefix}news", "tenantry:mark:x"):
        with pytest.raises(Refused, match=REFUSAL):
            theirs.ask("PUBLISH", channel, "forged")
    listening.close()
    await own.close()
    await theirs.close()


async def test_glob_characters_in_a_name_match_themselves_only(shop: Shop) -> None:
    plain = shop.desired()
    names = replace(plain.names, database="a[b]*?c^-d\\e")
    odd = replace(plain, names=names)
    await shop.bring(odd, shop.credentials(odd))
    own = shop.client(odd)
    await own.put("a", "1")
    assert await own.get("a") == "1"
    for foreign in ("ab:items", "a[b]xyc^-d\\e:items", "a[b]*?c^-de:items", "abc:items"):
        with pytest.raises(Refused, match=REFUSAL):
            own.ask("HGETALL", foreign)
    state = await shop.state(odd)
    assert state.drift == ()
    assert state.bytes is not None
    assert state.bytes > 0
    await own.close()
    with shop.server.admin() as admin:
        admin.set("a[b]xyc^-d\\e:other", "stays")
        await shop.bring(replace(odd, presence=Presence.ABSENT))
        assert admin.keys("*") == ["a[b]xyc^-d\\e:other"]


@pytest.mark.parametrize("kind", ["list", "hash", "set", "zset", "stream"])
async def test_small_members_do_not_hide_large_ones_from_the_quota(shop: Shop, kind: str) -> None:
    own = shop.client(await shop.make("acme"))
    key, large = f"{own.prefix}hidden", "x" * 2_000_000
    with own.client.pipeline(transaction=False) as pipe:
        for number in range(2000):
            # Lists are made of blocks of 8 KiB, of which the first few would be looked at.
            small = f"{number:08}" + ("y" * 100 if kind in ("list", "stream") else "")
            for member in (small, *([f"{number}{large}"] if number > 1996 else [])):
                {
                    "list": lambda m: pipe.rpush(key, m),
                    "hash": lambda m: pipe.hset(key, m[:8], m),
                    "set": lambda m: pipe.sadd(key, m),
                    "zset": lambda m: pipe.zadd(key, {m: 1}),
                    "stream": lambda m: pipe.xadd(key, {"a": m}),
                }[kind](member)
        pipe.execute()
    await own.close()
    size = (await shop.state(shop.desired("acme"))).bytes
    assert size is not None
    assert size > 6_000_000


async def test_very_many_members_are_looked_at_a_little_at_a_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = await shop.make("acme")
    with shop.server.admin() as admin, admin.pipeline(transaction=False) as pipe:
        for key in range(40):
            pipe.sadd(f"{acme.names.database}:{key}", *range(3000))
        pipe.execute()
    asked: list[tuple[object, ...]] = []
    call = Session.call

    async def noting(self: Session, *words: str | int | bytes) -> object:
        answer = await call(self, *words)
        if words[0] == "EVAL" and "MEMORY" in str(words[1]):
            asked.append((words[4], answer[1]))
        return answer

    monkeypatch.setattr(Session, "call", noting)
    for _ in range(8):
        await shop.engine.observe()
    assert asked[0][0] == 500
    # From then on a script looks at fewer keys, and at no more members than it may.
    steps, spent = [step for step, _ in asked[-3:]], [done for _, done in asked[-3:]]
    assert all(isinstance(step, int) and 10 <= step < 500 for step in steps)
    assert all(isinstance(done, int) and done <= 40_000 for done in spent)


async def test_a_tenant_with_a_server_of_its_own_has_scripts_that_keep_to_the_prefix(shop: Shop) -> None:
    acme = await shop.make("acme", isolation=Isolation.INSTANCE)
    assert await shop.is_settled(acme)
    own = shop.client(acme)
    await own.put("a", "1")
    script = "return redis.call('HGET', KEYS[1], 'a')"
    assert own.ask("EVAL", script, "1", f"{own.prefix}items") == "1"
    with pytest.raises(Refused, match=r"(?i)permission|can.t access|not allowed"):
        own.ask("EVAL", "return redis.call('HGETALL', 'tenantry:marks')", "0")
    with pytest.raises(Refused, match=r"(?i)permission|can.t access|not allowed"):
        own.ask("EVAL", "return redis.call('ACL', 'LIST')", "0")
    assert own.ask("SCAN", "0")
    await own.close()


async def test_what_applications_need_works(shop: Shop) -> None:
    own = shop.client(await shop.make("acme"))
    key = own.prefix
    with own.client.pipeline(transaction=True) as pipe:
        pipe.watch(f"{key}n")
        pipe.multi()
        pipe.incr(f"{key}n")
        pipe.expire(f"{key}n", 100)
        assert pipe.execute() == [1, True]
    own.client.lpush(f"{key}queue", "job")
    assert own.client.blmove(f"{key}queue", f"{key}running", 1) == "job"
    own.client.xadd(f"{key}events", {"a": 1})
    own.client.xgroup_create(f"{key}events", "g", id="0")
    assert own.client.xreadgroup("g", "me", {f"{key}events": ">"})
    assert dict(own.client.hscan_iter(f"{key}items")) == {"made": "yes"}
    own.client.client_setname("application")
    assert own.client.client_getname() == "application"
    assert own.client.execute_command("COMMAND COUNT") > 100
    own.client.bitfield(f"{key}bits").set("u8", 0, 7).execute()
    own.client.pfadd(f"{key}people", "a")
    assert own.client.pfcount(f"{key}people") == 1
    own.client.geoadd(f"{key}places", (13.4, 52.5, "here"))
    own.client.set(f"{key}lock", "mine", nx=True, px=1000)
    await own.close()
