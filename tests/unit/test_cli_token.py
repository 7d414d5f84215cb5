"""``tenantry token``: a token and nothing else on standard output."""

from __future__ import annotations

import pytest

from tests.unit.cli_standin import Cli, Standin


def test_the_token_is_all_that_is_printed(api: Standin, cli: Cli) -> None:
    result = cli("token")
    assert (result.code, result.out, result.err) == (0, "token-of-shop-default\n", "")


def test_it_is_asked_for_an_hour_and_for_nobody_else(api: Standin, cli: Cli) -> None:
    cli("token", "--service-account", "ci", "-n", "zoo")
    (asked,) = api.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/zoo/serviceaccounts/ci/token")
    assert (asked.body["kind"], asked.body["spec"]) == ("TokenRequest", {"expirationSeconds": 3600})


def test_audiences_and_duration_are_passed_on(api: Standin, cli: Cli) -> None:
    cli("token", "--audience", "tenantry-api", "--audience", "other", "--duration", "10m")
    assert api.asked[0].body["spec"] == {"expirationSeconds": 600, "audiences": ["tenantry-api", "other"]}


def test_a_duration_that_is_too_short_is_refused_before_anything_is_asked(api: Standin, cli: Cli) -> None:
    result = cli("token", "--duration", "9m")
    assert (result.code, result.out, api.asked) == (2, "", [])
    assert result.err == "error: --duration 9m is too short; the API server gives tokens of 10m and longer\n"


def test_less_than_was_asked_for_is_told_on_standard_error(api: Standin, cli: Cli) -> None:
    result = cli("token", "--duration", "24h")
    assert (result.code, result.out) == (0, "token-of-shop-default\n")
    assert result.err == "the API server gives it for 1h only, instead of 1d\n"


def test_an_account_that_is_not_there_is_named(api: Standin, cli: Cli) -> None:
    result = cli("token", "--service-account", "nobody")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: there is no ServiceAccount shop/nobody; create it, or name another with --service-account\n"
    )


def test_who_may_not_have_tokens_is_told(api: Standin, cli: Cli) -> None:
    api.refusals["POST", "serviceaccounts"] = (403, "no tokens for jane")
    result = cli("token")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "error: not allowed for context dev: no tokens for jane; ask for a role that allows it\n"
    )


@pytest.mark.parametrize("text", ["soon", "-1h", ""])
def test_a_duration_that_is_none_is_refused(api: Standin, cli: Cli, text: str) -> None:
    result = cli("token", f"--duration={text}")
    assert (result.code, result.out, result.err.count("\n"), api.asked) == (2, "", 1, [])
