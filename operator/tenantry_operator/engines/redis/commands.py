"""Which commands tenants get: a list of their own, so that a newer server's new ones stay closed. Pure.

All of them work on the keys and channels that they name, so that the server can hold them against a prefix.
Not among them, and why:

- SCAN, KEYS, RANDOMKEY, DBSIZE, PUBSUB: show what others have; CLIENT TRACKING: with BCAST, too.
- SORT, SORT_RO: BY and GET name keys by patterns. COPY, MOVE, SELECT, SWAPDB: to other databases, where
  nothing is counted and nothing removed.
- PFMERGE: Redis 7.0 does not look at its only key when it is given a single one.
- RESTORE: payloads that the server would have to distrust. MIGRATE, FLUSHALL, FLUSHDB, DEBUG, CONFIG...
- EVAL, FCALL and their like, on shared servers: one script that does not end stops every tenant, and the
  escapes from the server's Lua that were found so far need nothing but the right to run one.
- INFO, on shared servers: tells of all of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

_READ = """
get mget getrange substr strlen lcs getbit bitcount bitpos bitfield_ro
hget hmget hgetall hkeys hvals hlen hexists hstrlen hscan hrandfield hexpiretime hpexpiretime httl hpttl
llen lrange lindex lpos
scard sismember smismember smembers srandmember sscan sinter sintercard sunion sdiff
zcard zcount zlexcount zscore zmscore zrank zrevrank zrange zrangebyscore zrangebylex zrevrange
zrevrangebyscore zrevrangebylex zrandmember zscan zinter zintercard zunion zdiff
geodist geohash geopos geosearch georadius_ro georadiusbymember_ro pfcount
xlen xrange xrevrange xread xpending xinfo|stream xinfo|groups xinfo|consumers
exists type ttl pttl expiretime pexpiretime touch dump memory|usage
object|encoding object|freq object|idletime object|refcount
"""
_DELETE = """
del unlink getdel expire pexpire expireat pexpireat hdel
lpop rpop lrem ltrim lmpop blpop brpop blmpop srem spop
zrem zremrangebyrank zremrangebyscore zremrangebylex zpopmin zpopmax zmpop bzpopmin bzpopmax bzmpop
xdel xtrim xack
"""
_WRITE = """
set setex psetex setnx mset msetnx append setrange getset getex incr decr incrby decrby incrbyfloat
setbit bitop bitfield
hset hmset hsetnx hincrby hincrbyfloat hexpire hpexpire hexpireat hpexpireat hpersist hgetdel hgetex hsetex
lpush rpush lpushx rpushx linsert lset lmove rpoplpush blmove brpoplpush
sadd smove sinterstore sunionstore sdiffstore
zadd zincrby zinterstore zunionstore zdiffstore zrangestore
geoadd geosearchstore georadius georadiusbymember pfadd
xadd xgroup|create xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|setid
xclaim xautoclaim xreadgroup xsetid persist rename renamenx
"""
_SESSION = """
publish spublish subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe
multi exec discard watch unwatch ping echo time command
client|id client|info client|getname client|setname client|setinfo client|reply client|no-touch
"""
_ALONE = "eval eval_ro evalsha evalsha_ro script|load script|exists scan dbsize info"
"""More of them for a tenant that has the server to itself; the server holds scripts against the prefix, too."""

READING = frozenset(_READ.split())
"""What reads data."""
DATA = READING | frozenset(_DELETE.split()) | frozenset(_WRITE.split())
"""What works on data: all that migrations may do."""
_REFUSING = READING | frozenset(_DELETE.split()) | frozenset(_SESSION.split())
_ALL = DATA | frozenset(_SESSION.split())

CATEGORIES = ("read", "write", "pubsub", "transaction", "connection", "scripting", "slow", "fast")
"""The server's categories of commands that together name all of these."""


def rules(wanted: Collection[str], known: Collection[str]) -> list[str]:
    """The ACL rules that allow commands, as far as the server has them, and nothing else."""
    containers = {name.partition("|")[0] for name in known}
    return ["-@all", *(f"+{name}" for name in sorted(wanted) if name in known or name in containers)]


def tenants(*, alone: bool, read_only: bool) -> frozenset[str]:
    """The commands of a tenant's login.

    :param alone: it has the server to itself.
    :param read_only: it is over its storage quota: what makes data larger is refused.
    """
    found = _REFUSING if read_only else _ALL
    return found | frozenset(_ALONE.split()) if alone else found


def name_of(command: Sequence[str]) -> str:
    """The command's name as ACL rules have it: ``xgroup|create``."""
    first = command[0].lower()
    pair = f"{first}|{command[1].lower()}" if len(command) > 1 else ""
    return pair if pair in _ALL else first
