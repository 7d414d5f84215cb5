"""Whose turn it is, and what the Secret says."""

from __future__ import annotations

import copy
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.engines.base import LoginState, Names
from tenantry_operator.tenants import credentials
from tenantry_operator.tenants.credentials import Binding, SecretSummary, turn

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NAMES = Names("shop__acme", None, "shop__acme", "shop__acme__a", "shop__acme__b")
BINDING = Binding("127.0.0.1", 5432, "shop__acme", None, "shop__acme__a")
TENANT = {
    "apiVersion": "tenantry.dev/v1alpha1",
    "kind": "Tenant",
    "metadata": {"name": "acme", "namespace": "shop", "uid": "uid-1"},
}


def secret(password: str = "p" * 43, rotation: str = "") -> dict[str, Any]:
    body = credentials.render_secret(
        "acme-shop-db", TENANT, "shop", BINDING, password, rotation=rotation, written_at=NOW
    )
    body["metadata"]["uid"] = "s-1"
    return body


def test_a_written_secret_is_intact_and_says_what_it_should() -> None:
    summary = credentials.summarise(secret(rotation="1"))
    assert summary.intact
    assert summary.username == "shop__acme__a"
    assert summary.binding_digest == BINDING.digest()
    assert summary.rotation == "1"
    assert summary.written_at == NOW


def test_the_secret_has_the_keys_of_a_service_binding() -> None:
    body = secret()
    assert body["type"] == "servicebinding.io/postgresql"
    assert set(body["data"]) == {
        "type", "provider", "host", "port", "database", "schema", "username", "password", "uri",
    }  # fmt: skip


@pytest.mark.parametrize("key", ["password", "uri", "host", "username"])
def test_a_secret_that_somebody_edited_is_noticed(key: str) -> None:
    body = copy.deepcopy(secret())
    body["data"][key] = b64encode(b"else").decode()
    summary = credentials.summarise(body)
    assert not (summary.intact and summary.binding_digest == BINDING.digest())


def test_nothing_in_the_summary_or_the_annotations_tells_the_password() -> None:
    password = credentials.new_password()
    body = secret(password)
    assert password not in repr(credentials.summarise(body))
    assert password not in repr(body["metadata"])


@given(st.text(min_size=1, max_size=60), st.sampled_from(["db.example", "::1", "10.0.0.1"]))
def test_the_uri_says_what_the_fields_say(name: str, host: str) -> None:
    binding = replace(BINDING, database=name, username=name, host=host)
    parts = urlsplit(binding.uri("pa/ss:@?#"))
    assert (parts.hostname, parts.port) == (host, 5432)
    assert unquote(parts.username or "") == name
    assert unquote(parts.password or "") == "pa/ss:@?#"
    assert unquote(parts.path[1:]) == name


def test_passwords_are_long_and_differ() -> None:
    made = {credentials.new_password() for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 32
    # As MySQL's validate_password asks for by default.
    for kind in (str.islower, str.isupper, str.isdigit, "-_".__contains__):
        assert all(any(map(kind, password)) for password in made)


def summary(username: str, **changes: Any) -> SecretSummary:
    base = SecretSummary("acme-shop-db", "s-1", "uid-1", username, BINDING.digest(), True, "f" * 16, "", NOW)
    return replace(base, **changes)


def whose(
    logins: list[str],
    known: SecretSummary | None,
    *,
    rotation: str = "",
    after: float = 0,
    lifetime: float | None = None,
) -> Any:
    states = [LoginState(name, True) for name in logins]
    now = NOW + timedelta(seconds=after)
    return turn(NAMES, states, known, rotation=rotation, now=now, retire_after=60, lifetime=lifetime)


def test_a_new_database_starts_with_the_first_login() -> None:
    found = whose([], None)
    assert (found.login, found.new_password) == (NAMES.login_a, True)


def test_an_intact_secret_keeps_its_login() -> None:
    found = whose([NAMES.login_a], summary(NAMES.login_a), after=9999)
    assert (found.login, found.new_password, found.retired, found.retire_in) == (NAMES.login_a, False, (), None)


@pytest.mark.parametrize("current", NAMES.logins)
def test_rotation_gives_the_turn_to_the_other_login(current: str) -> None:
    found = whose([current], summary(current), rotation="2026-11")
    assert found.login == next(login for login in NAMES.logins if login != current)
    assert found.new_password
    assert found.retired == ()


def test_the_old_login_is_retired_when_its_time_is_over_and_not_before() -> None:
    known = summary(NAMES.login_b, rotation="1")
    early = whose(list(NAMES.logins), known, rotation="1", after=10)
    assert early.retired == ()
    assert early.retire_in == pytest.approx(50)
    late = whose(list(NAMES.logins), known, rotation="1", after=61)
    assert late.retired == (NAMES.login_a,)


def test_a_password_that_is_too_old_gives_the_turn_to_the_other_login() -> None:
    known = summary(NAMES.login_a)
    young = whose([NAMES.login_a], known, after=900, lifetime=1000)
    assert (young.login, young.new_password, young.look_again) == (NAMES.login_a, False, pytest.approx(100))
    old = whose([NAMES.login_a], known, after=1000, lifetime=1000)
    assert (old.login, old.new_password) == (NAMES.login_b, True)
    assert whose([NAMES.login_a], known, after=10**9).look_again is None


def test_what_comes_first_is_looked_at_first() -> None:
    found = whose(list(NAMES.logins), summary(NAMES.login_a), after=10, lifetime=1000)
    assert (found.retire_in, found.rotate_in) == (pytest.approx(50), pytest.approx(990))
    assert found.look_again == pytest.approx(50)


def test_passwords_of_many_tenants_do_not_get_too_old_on_the_same_day() -> None:
    days = [(credentials.password_lifetime(f"uid-{number}", 90) or 0) / 86_400 for number in range(200)]
    assert 81 <= min(days) < max(days) <= 90
    assert len({int(day) for day in days}) > 5
    assert credentials.password_lifetime("uid-1", 90) == credentials.password_lifetime("uid-1", 90)
    assert credentials.password_lifetime("uid-1", None) is None


def test_without_a_secret_the_login_that_may_be_in_use_is_left_alone() -> None:
    found = whose([NAMES.login_a], None)
    assert (found.login, found.new_password, found.retired) == (NAMES.login_b, True, ())


def test_a_tampered_secret_gets_a_new_login() -> None:
    found = whose([NAMES.login_a], summary(NAMES.login_a, intact=False))
    assert (found.login, found.new_password) == (NAMES.login_b, True)


@given(
    logins=st.sets(st.sampled_from(NAMES.logins)),
    username=st.sampled_from([None, *NAMES.logins, "somebody"]),
    intact=st.booleans(),
    rotation=st.sampled_from(["", "1", "2"]),
    after=st.floats(0, 200),
)
def test_the_login_in_turn_is_never_retired(
    logins: set[str], username: str | None, intact: bool, rotation: str, after: float
) -> None:
    known = summary(username, intact=intact, rotation="1") if username is not None else None
    found = whose(sorted(logins), known, rotation=rotation, after=after)
    assert found.login in NAMES.logins
    assert found.login not in found.retired
    # A login whose password stands in an intact Secret goes only after another one took over.
    if known is not None and intact and username in NAMES.logins:
        assert username not in found.retired
