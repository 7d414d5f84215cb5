"""ACL users as Redis lists them, and as the operator leaves them."""

from __future__ import annotations

import pytest

from tenantry_operator.engines.base import Mark
from tenantry_operator.engines.redis.acl import (
    Rights,
    differences,
    hash_of,
    parse,
    parse_one,
    pattern,
    render,
    settled,
)
from tenantry_operator.engines.redis.commands import DATA, READING, name_of, rules, tenants

MARK = Mark("installation", "shop/acme", "main", "shop/shop", fingerprint="0123")
RIGHTS = Rights("-@all +get +set", "-@all +get", ("-@all", "+get", "+set"), ("-@all", "+get"))


def _line(*rules_: str) -> str:
    return " ".join(("user", "shop__acme__a", *rules_))


def _made() -> str:
    asked = render("shop__acme", MARK, hash_of("secret"), RIGHTS.rules)
    said = [rule for rule in asked if rule != "reset"]
    return _line(*said)


def test_what_is_rendered_is_read_again() -> None:
    user = parse(_made())
    assert user is not None
    assert (user.name, user.enabled, user.mark, user.database) == ("shop__acme__a", True, MARK, "shop__acme")
    assert user.password == hash_of("secret")
    assert user.fingerprint == "0123"
    assert differences(user, "shop__acme", RIGHTS) == []
    assert parse("nonsense") is None
    assert parse_one("x", None) is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("~*", "keys"),
        ("&other:*", "channels"),
        ("+del", "other commands"),
        ("(~* +get)", "selectors"),
        ("nopass", "any password"),
        (f"#{hash_of('other')}", "further passwords"),
        ("skip-sanitize-payload", "skip-sanitize-payload"),
        ("db=1,2", "databases db=1,2"),
        ("resetdbs", "databases resetdbs"),
    ],
)
def test_what_differs_is_told(more: str, words: str) -> None:
    user = parse(f"{_made()} {more}")
    assert user is not None
    assert [found for found in differences(user, "shop__acme", RIGHTS) if words in found]


@pytest.mark.parametrize(("answer", "databases"), [(None, ""), ("alldbs", ""), ("db=1", "db=1"), ("", "resetdbs")])
def test_databases_that_a_user_is_confined_to(answer: str | None, databases: str) -> None:
    told = [] if answer is None else ["databases", answer]
    user = parse_one("x", ["flags", ["on"], *told])
    assert user is not None
    assert user.databases == databases


def test_a_mark_that_cannot_be_read_is_none() -> None:
    for channel in ("tenantry:mark:", "tenantry:mark:!:0", "tenantry:mark:AAAA:0", "tenantry:mark:_w:0"):
        user = parse(_line("on", f"&{channel}", "-@all"))
        assert user is not None
        assert user.mark is None
    twice = _made() + " &tenantry:mark:AAAA:0"
    user = parse(twice)
    assert user is not None
    assert user.mark is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-@all +@string -pubsub|a -pubsub|b", "-@all +@string -pubsub|b -pubsub|a"),
        ("-@all +get +set", "-@all +set +get"),
        ("-@all +client -client|kill +get", "-@all +get +client -client|kill"),
    ],
)
def test_an_order_without_meaning_does_not_count(one: str, other: str) -> None:
    assert settled(one) == settled(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-@all +@string -get", "-@all -get +@string"),
        ("-@all +@string -@read", "-@all -@read +@string"),
        ("-@all +client -client|kill", "-@all -client|kill +client"),
        ("-@all +get", "+get -@all"),
        ("-@all +get -get", "-@all -get +get"),
    ],
)
def test_an_order_with_a_meaning_counts(one: str, other: str) -> None:
    assert settled(one) != settled(other)


def test_a_pattern_matches_a_name_as_it_is() -> None:
    assert pattern("shop__acme") == "shop__acme:*"
    assert pattern(r"a*b?c[d]e\f") == r"a\*b\?c\[d\]e\\f:*"


def test_commands_are_those_the_server_has() -> None:
    assert rules(["get", "set", "new", "command"], ["get", "set", "command|count"]) == [
        "-@all",
        "+command",
        "+get",
        "+set",
    ]
    assert (name_of(["XGROUP", "Create"]), name_of(["GET", "x"]), name_of(["ACL", "LIST"])) == (
        "xgroup|create",
        "get",
        "acl",
    )


def test_who_may_not_write_reads_and_deletes() -> None:
    full, refused = tenants(alone=False, read_only=False), tenants(alone=False, read_only=True)
    assert refused < full
    assert refused > READING
    assert {"del", "unlink", "hdel", "expire"} <= refused
    assert {"set", "hset", "rpush", "xadd", "rename"} <= full - refused
    assert not full & {"scan", "keys", "eval", "select", "sort", "copy", "restore", "pfmerge", "info", "acl"}
    assert "eval" in tenants(alone=True, read_only=False)
    assert not DATA & {"eval", "publish", "multi", "exec", "reset", "auth"}
