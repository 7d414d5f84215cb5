"""The planner, with plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Isolation,
    LoginState,
    Migration,
    Ownership,
    Presence,
)
from tenantry_operator.engines.path import Applied, path
from tenantry_operator.engines.postgres.plan import plan
from tenantry_operator.engines.postgres.view import Finding, Mend, View
from tenantry_operator.errors import Stalled
from tenantry_operator.tenants.naming import group_of, names_for

CHAIN = Chain.of("shop/shop", "1.0", [Migration("1.0", "a", "SELECT 1"), Migration("1.0", "b", "SELECT 2")])


def desired(isolation: Isolation = Isolation.SCHEMA, presence: Presence = Presence.LIVE) -> Desired:
    names = names_for(isolation, "shop", "acme", "main")
    return Desired(
        installation="demo",
        tenant="shop/acme",
        tenant_id="acme",
        entry="main",
        isolation=isolation,
        names=names,
        blueprint="shop/shop",
        presence=presence,
        chain=CHAIN,
        login=names.login_a,
    )


def settled(wanted: Desired) -> DatabaseState:
    """A database that is as desired."""
    login = LoginState(wanted.names.login_a, enabled=True)
    owner = wanted.names.owner
    view = View(
        where="database shop",
        data=True,
        registered=True,
        roles=frozenset({owner, group_of(owner), login.name}),
        logins={login.name: login},
    )
    return DatabaseState(
        Ownership.OURS, exists=True, version=CHAIN.version, digest=CHAIN.digest, logins=(login,), detail=view
    )


def change(state: DatabaseState, **changes: object) -> DatabaseState:
    assert isinstance(state.detail, View)
    return replace(state, detail=replace(state.detail, **changes))  # type: ignore[arg-type]


def names_of(wanted: Desired, state: DatabaseState, credentials: Credentials | None = None) -> list[str]:
    return [step.name for step in plan(wanted, state, credentials)]


isolations = st.sampled_from([Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])
ISOLATIONS = pytest.mark.parametrize("isolation", [Isolation.ROW, Isolation.SCHEMA, Isolation.DATABASE])


@ISOLATIONS
def test_nothing_is_done_to_what_is_as_desired(isolation: Isolation) -> None:
    wanted = desired(isolation)
    assert plan(wanted, settled(wanted), None) == ()


@st.composite
def views(draw: st.DrawFn, wanted: Desired) -> View:
    names = wanted.names
    fixed = frozenset({names.owner, group_of(names.owner)})
    logins = {
        name: LoginState(name, draw(st.booleans()), draw(st.integers(0, 3)))
        for name in draw(st.sets(st.sampled_from(names.logins)))
    }
    missing = draw(st.frozensets(st.sampled_from(sorted(fixed))))
    return View(
        where="database shop",
        data=draw(st.booleans()),
        complete=draw(st.booleans()),
        open=draw(st.booleans()),
        lost=draw(st.booleans()),
        prepared=draw(st.booleans()),
        registered=draw(st.booleans()),
        read_only=draw(st.booleans()),
        roles=(fixed - missing) | logins.keys(),
        missing_roles=missing,
        logins=logins,
        findings=tuple(Finding("x", mend) for mend in draw(st.lists(st.sampled_from(list(Mend)), max_size=3))),
    )


@given(st.data(), isolations, st.sampled_from(Presence), st.booleans(), st.booleans())
def test_steps_never_contradict_the_presence(
    data: st.DataObject, isolation: Isolation, presence: Presence, read_only: bool, with_credentials: bool
) -> None:
    wanted = replace(desired(isolation, presence), read_only=read_only, recreate=data.draw(st.booleans()))
    view = data.draw(views(wanted))
    state = DatabaseState(Ownership.OURS, detail=view, logins=tuple(view.logins.values()))
    credentials = Credentials(wanted.names.login_a, "x") if with_credentials else None
    if view.lost and presence is Presence.LIVE and not wanted.recreate:
        with pytest.raises(Stalled, match="DataLost"):
            plan(wanted, state, credentials)
        return
    steps = plan(wanted, state, credentials)
    names = [step.name for step in steps]
    assert len(set(zip(names, (step.login for step in steps), strict=True))) == len(steps), "a step comes twice"
    creating = {name for name in names if name.startswith(("create", "register", "build", "open", "prepare"))}
    dropping = {name for name in names if name.startswith(("drop", "remove"))}
    if presence is not Presence.ABSENT:
        assert not dropping
    if presence is not Presence.LIVE:
        assert not creating
        assert not {"enable-login", "set-password", "allow-writes"} & set(names)
        if any(login.enabled for login in view.logins.values()):
            assert names[:2] == ["refuse-logins", "end-sessions"]
    if not with_credentials:
        assert not {"set-password", "create-login"} & set(names)


@given(st.data(), isolations)
def test_a_stranger_stops_everything(data: st.DataObject, isolation: Isolation) -> None:
    for presence in Presence:
        wanted = desired(isolation, presence)
        for ownership in (Ownership.STRANGER, Ownership.OTHER_TENANT):
            state = DatabaseState(ownership, "role x", detail=data.draw(views(wanted)))
            with pytest.raises(Stalled, match=r"NameTaken.*role x"):
                plan(wanted, state, None)


def test_new_tenants_cost_one_step_when_the_shared_database_is_there() -> None:
    wanted = desired()
    owner = wanted.names.owner
    view = View(where="x", data=False, missing_roles=frozenset({owner, group_of(owner)}))
    (step,) = plan(wanted, DatabaseState(Ownership.FREE, detail=view), Credentials(wanted.names.login_a, "x"))
    assert step.name == "create-schema"
    assert step.missing == {owner, group_of(owner), wanted.names.login_a}


def test_a_database_is_built_from_where_a_crash_left_it() -> None:
    wanted = desired(Isolation.DATABASE)
    credentials = Credentials(wanted.names.login_a, "x")
    owner, login = wanted.names.owner, LoginState(wanted.names.login_a, True)
    missing = frozenset({owner, group_of(owner)})
    view = View(where="x", data=False, complete=False, open=False, missing_roles=missing)
    nothing = DatabaseState(Ownership.FREE, detail=view)
    assert names_of(wanted, nothing, credentials) == [
        "create-roles",
        "create-database",
        "open-database",
        "build-database",
    ]
    roles = frozenset({owner, group_of(owner), login.name})
    after = change(nothing, missing_roles=frozenset(), roles=roles, logins={login.name: login})
    assert names_of(wanted, after) == ["create-database", "open-database", "build-database"]
    assert names_of(wanted, change(after, data=True)) == ["open-database", "build-database"]
    assert names_of(wanted, change(after, data=True, open=True)) == ["build-database"]


@ISOLATIONS
def test_rotation_makes_the_new_login_and_then_takes_the_old_one(isolation: Isolation) -> None:
    wanted = desired(isolation)
    rotated = replace(wanted, login=wanted.names.login_b)
    credentials = Credentials(wanted.names.login_b, "x")
    assert names_of(rotated, settled(wanted), credentials) == ["create-login"]
    both = {name: LoginState(name, True) for name in wanted.names.logins}
    state = change(settled(wanted), logins=both)
    assert names_of(rotated, state) == []
    assert names_of(replace(rotated, retired=(wanted.names.login_a,)), state) == ["retire-login"]
    assert names_of(replace(rotated, retired=(wanted.names.login_a,)), change(state, logins={})) == []


@ISOLATIONS
def test_another_version_or_digest_is_migrated(isolation: Isolation) -> None:
    wanted = desired(isolation)
    for other in ({"version": "0.9"}, {"digest": "other"}, {"version": None}):
        assert names_of(wanted, replace(settled(wanted), **other)) == ["migrate"]
    assert names_of(replace(wanted, chain=None), replace(settled(wanted), version="0.9")) == []


def test_what_only_a_superuser_can_mend_is_no_step() -> None:
    wanted = desired()
    state = change(settled(wanted), findings=(Finding("x", Mend.NOBODY),))
    assert names_of(wanted, state) == []


def ledger(count: int) -> list[Applied]:
    return [Applied(m.version, m.name, m.checksum) for m in CHAIN.migrations[:count]]


def test_the_ledger_tells_what_remains() -> None:
    assert path(CHAIN, None, [], "x") == CHAIN.migrations
    assert path(CHAIN, None, ledger(1), "x") == CHAIN.migrations[1:]
    assert path(CHAIN, None, ledger(2), "x") == ()


@pytest.mark.parametrize(
    ("applied", "reason"),
    [
        ([Applied("1.0", "a", "edited")], "MigrationEdited"),
        ([Applied("1.0", "b", CHAIN.migrations[1].checksum)], "MigrationEdited"),
        ([*ledger(2), Applied("1.1", "c", "x")], "NewerVersion"),
    ],
)
def test_a_ledger_that_does_not_fit_stops_everything(applied: list[Applied], reason: str) -> None:
    with pytest.raises(Stalled, match=reason):
        path(CHAIN, None, applied, "x")
