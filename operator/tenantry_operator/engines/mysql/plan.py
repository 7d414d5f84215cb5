"""From what was observed to what is to be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_operator.engines.base import Credentials, DatabaseState, Desired, Presence
from tenantry_operator.engines.guards import check_lost, own_view
from tenantry_operator.engines.mysql.view import View


@dataclass(frozen=True, slots=True)
class MySqlStep:
    """One step."""

    name: str
    login: str | None = None
    """The login it is about."""


def plan(desired: Desired, state: DatabaseState, credentials: Credentials | None) -> tuple[MySqlStep, ...]:
    """The steps from ``state`` to ``desired``.

    A login that should work and does not exist is made only with credentials for it.

    :raises Stalled: NameTaken, DataLost.
    """
    view = own_view(desired, state, View)
    if desired.presence is Presence.ABSENT:
        return (*_refuse(view), *_drop(view))
    if desired.presence is Presence.REFUSED:
        return (*_refuse(view), *_version(desired, state, view))
    check_lost(desired, view.where, lost=view.lost)
    logins = _logins(desired, view, credentials)
    if not view.data or not view.made:
        # Nobody logs in before the data is complete.
        return (
            MySqlStep("create-database"),
            *((MySqlStep("migrate"),) if desired.chain is not None else ()),
            *logins,
            *_retire(desired, view),
        )
    begun = desired.chain is not None and state.version is None
    return (
        *((MySqlStep("mend-accounts"),) if view.findings else ()),
        *(() if begun else logins),
        *_version(desired, state, view),
        *(logins if begun else ()),
        *_storage(desired, view),
        *_retire(desired, view),
    )


def _refuse(view: View) -> tuple[MySqlStep, ...]:
    if view.unlocked:
        # A session may begin between the observation and the refusal.
        return (MySqlStep("refuse-logins"), MySqlStep("end-sessions"))
    return (MySqlStep("end-sessions"),) if view.sessions else ()


def _drop(view: View) -> tuple[MySqlStep, ...]:
    if not view.marked:
        return ()
    return (*((MySqlStep("drop-database"),) if view.data else ()), MySqlStep("drop-accounts"))


def _logins(desired: Desired, view: View, credentials: Credentials | None) -> tuple[MySqlStep, ...]:
    steps = []
    if credentials is not None:
        known = credentials.login in view.logins
        steps.append(MySqlStep("set-password" if known else "create-login", login=credentials.login))
    for name, login in view.logins.items():
        if not login.enabled and name not in desired.retired:
            steps.append(MySqlStep("enable-login", login=name))
    return tuple(steps)


def _version(desired: Desired, state: DatabaseState, view: View) -> tuple[MySqlStep, ...]:
    chain = desired.chain
    if chain is None or not view.data or not view.made:
        return ()
    if (state.version, state.digest, state.target) == (chain.version, chain.digest, None):
        return ()
    return (MySqlStep("migrate"),)


def _storage(desired: Desired, view: View) -> tuple[MySqlStep, ...]:
    if desired.read_only:
        # Only what is rebuilt becomes smaller by deleting.
        return (*(() if view.read_only else (MySqlStep("refuse-writes"),)), MySqlStep("vacuum"))
    return (MySqlStep("allow-writes"),) if view.read_only else ()


def _retire(desired: Desired, view: View) -> tuple[MySqlStep, ...]:
    return tuple(MySqlStep("retire-login", login=login) for login in desired.retired if login in view.logins)
