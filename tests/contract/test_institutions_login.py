"""Logging in by the contract of institutions."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Stack
from tests.contract.test_institutions import BASE, bearer, detail, invalid, unique

pytestmark = pytest.mark.e2e


def test_who_logs_in_gets_a_token_that_works(api: httpx.Client, stack: Stack) -> None:
    body = {"email": stack.admin_email.upper(), "password": stack.admin_password}
    answer = api.post(f"{BASE}/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    session = answer.json()
    assert set(session) == {"access_token", "token_type", "user"}
    assert session["token_type"] == "bearer"
    assert set(session["user"]) == {"id", "email", "fullName", "role", "tenantId"}
    assert (session["user"]["role"], session["user"]["tenantId"]) == ("SUPER_ADMIN", None)
    assert api.get(f"{BASE}/tenants", headers=bearer(session["access_token"])).status_code == 200


def test_a_wrong_password_and_an_unknown_account_are_answered_alike(api: httpx.Client, stack: Stack) -> None:
    said = {
        detail(api.post(f"{BASE}/auth/login", json={"email": email, "password": "wrong"}), 401)
        for email in (f"{unique()}@nobody.example", f"{unique()}' OR 1=1 --")
    }
    assert said == {"Incorrect email or password"}
    _log_in_again(api, stack)


def test_who_fails_often_is_slowed(api: httpx.Client, stack: Stack) -> None:
    wrong = {"email": f"{unique()}@nobody.example", "password": "wrong"}
    answers = [api.post(f"{BASE}/auth/login", json=wrong) for _ in range(8)]
    slowed = next(answer for answer in answers if answer.status_code == 429)
    assert int(slowed.headers["Retry-After"]) >= 1
    assert "Too many" in detail(slowed, 429)
    _log_in_again(api, stack)


def _log_in_again(api: httpx.Client, stack: Stack) -> None:
    """A success clears the address that the other tests log in from."""
    body = {"email": stack.admin_email, "password": stack.admin_password}
    for _ in range(10):
        answer = api.post(f"{BASE}/auth/login", json=body)
        if answer.status_code == 200:
            return
        time.sleep(int(answer.headers["Retry-After"]))
    raise AssertionError(answer.text)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"password": "x"}, "email"),
        ({"email": "a@b.example"}, "password"),
        ({"email": 7, "password": "x"}, "email"),
        ({"email": "a\x00", "password": "x"}, "email"),
        ({"email": "a@b.example", "password": "x" * 1025}, "password"),
        ([], "body"),
    ],
)
def test_a_login_that_makes_no_sense_is_refused(api: httpx.Client, body: Any, field: str) -> None:
    assert field in invalid(api.post(f"{BASE}/auth/login", json=body))
