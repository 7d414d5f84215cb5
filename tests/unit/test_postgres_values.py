"""Small values of the PostgreSQL engine: access lists, verifiers, SQLSTATEs, the circuit breaker."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.engines.base import LoginLimits, Mark, Stale
from tenantry_operator.engines.postgres import acl, logins, scram, sqlstate
from tenantry_operator.engines.postgres.connections import Breaker
from tenantry_operator.engines.postgres.installation import STEWARDS, Installation
from tenantry_operator.errors import Retryable, Stalled


def test_access_lists_are_read() -> None:
    assert acl.rights(["=Tc/postgres", "acme=UC/acme", '"a ""b="=r*w/"x/y"', "acme=X/other"]) == {
        "": {"T", "c"},
        "acme": {"U", "C", "X"},
        'a "b=': {"r*", "w"},
    }
    assert acl.rights(None) == {}
    with pytest.raises(ValueError, match="not an entry"):
        acl.parse("nonsense")


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64))
def test_a_verifier_is_what_the_server_would_make(password: str) -> None:
    salt = b"0123456789abcdef"
    text = scram.verifier(password, salt)
    head, keys = text.removeprefix("SCRAM-SHA-256$4096:").split("$")
    stored, server = (b64decode(part) for part in keys.split(":"))
    assert b64decode(head) == salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    assert stored == hashlib.sha256(client_key).digest()
    assert server == hmac.digest(salted, b"Server Key", "sha256")


def test_salts_differ_and_passwords_are_ascii() -> None:
    assert scram.verifier("x") != scram.verifier("x")
    with pytest.raises(ValueError, match="ASCII"):
        scram.verifier("pässword")


def error(state: str, text: str = "") -> psycopg.Error:
    return psycopg.errors.lookup(state)(text)


@pytest.mark.parametrize(
    ("state", "kind", "reason"),
    [
        ("40P01", Retryable, "Deadlock"),
        ("55P03", Retryable, "LockTimeout"),
        ("57P01", Retryable, "ServerUnreachable"),
        ("53300", Retryable, "ServerOutOfResources"),
        ("42501", Stalled, "AdminLacksRights"),
        ("28P01", Stalled, "AdminLoginRefused"),
        ("2BP01", Stalled, "ObjectsDependOnIt"),
        ("22012", Stalled, "ServerRefused"),
    ],
)
def test_sqlstates_become_errors(state: str, kind: type[Exception], reason: str) -> None:
    translated = sqlstate.translate(error(state, "it broke"), "database shop on db:5432")
    assert isinstance(translated, kind)
    assert getattr(translated, "reason", None) == reason
    assert "database shop on db:5432" in str(translated)


@pytest.mark.parametrize("state", ["42710", "42P04", "42P06", "42704", "3D000", "23505"])
def test_what_changed_meanwhile_is_stale(state: str) -> None:
    assert isinstance(sqlstate.translate(error(state), "x"), Stale)


@pytest.mark.parametrize(
    ("text", "kind", "reason", "answered"),
    [
        ("connection refused", Retryable, "ServerUnreachable", False),
        ("timeout expired", Retryable, "ServerUnreachable", False),
        ('FATAL:  password authentication failed for user "x"', Stalled, "AdminLoginRefused", True),
        ('FATAL:  role "x" does not exist', Stalled, "AdminLoginRefused", True),
        ('FATAL:  no pg_hba.conf entry for host "1"', Stalled, "AdminLoginRefused", True),
        ("FATAL:  the database system is starting up", Retryable, "ServerUnreachable", True),
        ("FATAL:  sorry, too many clients already", Retryable, "ServerUnreachable", True),
    ],
)
def test_failed_connections_are_told_apart(text: str, kind: type[Exception], reason: str, answered: bool) -> None:
    failed = psycopg.OperationalError(text)
    translated = sqlstate.connect_error(failed, "db:5432", "shop")
    assert isinstance(translated, kind)
    assert getattr(translated, "reason", None) == reason
    assert sqlstate.answered(failed) is answered


def test_a_database_that_is_gone_is_stale() -> None:
    failed = psycopg.OperationalError('FATAL:  database "shop" does not exist')
    assert isinstance(sqlstate.connect_error(failed, "db:5432", "shop"), Stale)


def test_the_breaker_opens_after_failures_and_waits_ever_longer() -> None:
    breaker = Breaker(failures_allowed=2, pause=1.0, longest_pause=4.0)
    breaker.check(0)
    breaker.failed(0, "refused")
    breaker.check(0)
    pauses = []
    now = 0.0
    for _ in range(5):
        breaker.failed(now, "refused")
        with pytest.raises(Retryable, match="refused") as caught:
            breaker.check(now)
        assert caught.value.delay is not None
        pauses.append(caught.value.delay)
        now += caught.value.delay
        breaker.check(now)
        with pytest.raises(Retryable):
            breaker.check(now)
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    breaker.succeeded()
    breaker.check(now)
    breaker.check(now)


def test_a_search_path_is_compared_as_the_server_keeps_it() -> None:
    config = ['search_path="my-tenant"', "statement_timeout=30s", "work_mem=1MB"]
    assert logins.observed(config) == {"search_path": "my-tenant", "statement_timeout": "30s"}
    assert logins.differences({"search_path": "my-tenant"}, config) == ["statement_timeout is set to 30s"]
    assert logins.differences({"role": "x"}, None) == ["role is not set, not x"]
    assert LoginLimits().connections is None


@given(st.text(max_size=50))
def test_a_mark_survives_being_written(text: str) -> None:
    mark = Mark("inst", f"shop/{text}", text, "shop/x", "1.0", "abc")
    assert Mark.decode(mark.encode()) == mark


def test_stewards_are_spread_and_stable() -> None:
    installation = Installation("demo")
    used = {installation.steward(f"shop__{number}") for number in range(2000)}
    assert used == set(installation.stewards)
    assert len(used) == STEWARDS
    assert installation.steward("shop__acme") == Installation("demo").steward("shop__acme")
    assert set(Installation("other").roles).isdisjoint(installation.roles)
