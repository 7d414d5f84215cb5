"""From what was observed to what is to be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_operator.engines.base import Credentials, DatabaseState, Desired, Presence
from tenantry_operator.engines.guards import check_lost, own_view
from tenantry_operator.engines.mongodb.view import View


@dataclass(frozen=True, slots=True)
class MongoStep:
    """One step, which may be repeated."""

    name: str
    login: str | None = None
    """The login it is about."""


def plan(desired: Desired, state: DatabaseState, credentials: Credentials | None) -> tuple[MongoStep, ...]:
    """The steps from ``state`` to ``desired``.

    A login that should work and does not exist is made only with credentials for it.

    :raises Stalled: NameTaken, DataLost.
    """
    view = own_view(desired, state, View)
    if desired.presence is Presence.ABSENT:
        return (*_refuse(view), *_drop(view))
    if desired.presence is Presence.REFUSED:
        return (*_refuse(view), *_version(desired, state, view.data))
    check_lost(desired, view.where, lost=view.lost)
    return (
        *(() if view.data else (MongoStep("create-database"),)),
        *_logins(desired, view, credentials),
        *((MongoStep("mend"),) if view.data and view.findings else ()),
        *_version(desired, state, present=True),
        *_storage(desired, view),
        *(MongoStep("retire-login", login) for login in desired.retired if login in view.logins),
    )


def _refuse(view: View) -> tuple[MongoStep, ...]:
    steps = []
    if any(login.enabled for login in view.logins.values()):
        steps.append(MongoStep("refuse-logins"))
    if steps or any(login.connections for login in view.logins.values()):
        # A session may have begun between the observation and the refusal.
        steps.append(MongoStep("end-sessions"))
    return tuple(steps)


def _drop(view: View) -> tuple[MongoStep, ...]:
    if not view.begun:
        return ()
    return (*((MongoStep("drop-database"),) if view.there else ()), MongoStep("drop-rest"))


def _logins(desired: Desired, view: View, credentials: Credentials | None) -> tuple[MongoStep, ...]:
    steps = []
    if credentials is not None:
        kind = "set-password" if credentials.login in view.logins else "create-login"
        steps.append(MongoStep(kind, credentials.login))
    for name, login in view.logins.items():
        if not login.enabled and name not in desired.retired:
            steps.append(MongoStep("enable-login", name))
    return tuple(steps)


def _version(desired: Desired, state: DatabaseState, present: bool) -> tuple[MongoStep, ...]:
    chain = desired.chain
    if chain is None or not present:
        return ()
    if (state.version, state.digest, state.target) == (chain.version, chain.digest, None):
        return ()
    return (MongoStep("migrate"),)


def _storage(desired: Desired, view: View) -> tuple[MongoStep, ...]:
    if desired.read_only:
        steps = () if view.read_only else (MongoStep("refuse-writes"),)
        return (*steps, MongoStep("vacuum")) if view.data else steps
    return (MongoStep("allow-writes"),) if view.read_only else ()
