"""From what was observed to what is to be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry_operator.engines.base import Credentials, DatabaseState, Desired, Presence
from tenantry_operator.engines.guards import check_lost, own_view
from tenantry_operator.engines.redis.view import View


@dataclass(frozen=True, slots=True)
class RedisStep:
    """One step."""

    name: str
    login: str | None = None
    """The login it is about."""


def plan(desired: Desired, state: DatabaseState, credentials: Credentials | None) -> tuple[RedisStep, ...]:
    """The steps from ``state`` to ``desired``.

    A login that should work and does not exist is made only with credentials for it.

    :raises Stalled: NameTaken, DataLost.
    """
    view = own_view(desired, state, View)
    if desired.presence is Presence.ABSENT:
        return _drop(view)
    if desired.presence is Presence.REFUSED:
        return (*_refuse(view), *_version(desired, state, view))
    check_lost(desired, view.where, lost=view.lost)
    return (
        *(() if view.claimed and not view.lost else (RedisStep("create-database"),)),
        *_version(desired, state, view),
        *_logins(desired, view, credentials),
        *(RedisStep("retire-login", login=login) for login in desired.retired if login in view.logins),
    )


def _drop(view: View) -> tuple[RedisStep, ...]:
    logins = (RedisStep("drop-logins"),) if view.logins else ()
    return (*logins, RedisStep("drop-database")) if logins or view.claimed else ()


def _refuse(view: View) -> tuple[RedisStep, ...]:
    steps = []
    if any(login.enabled for login in view.logins.values()):
        steps.append(RedisStep("refuse-logins"))
    if steps or any(login.connections for login in view.logins.values()):
        # A session may have begun between the observation and the refusal.
        steps.append(RedisStep("end-sessions"))
    return tuple(steps)


def _version(desired: Desired, state: DatabaseState, view: View) -> tuple[RedisStep, ...]:
    chain = desired.chain
    if chain is None or not (view.claimed or desired.presence is Presence.LIVE):
        return ()
    if view.claimed and (state.version, state.digest, state.target) == (chain.version, chain.digest, None):
        return ()
    return (RedisStep("migrate"),)


def _logins(desired: Desired, view: View, credentials: Credentials | None) -> tuple[RedisStep, ...]:
    steps = []
    given = credentials.login if credentials is not None else None
    if given is not None and (view.built or desired.chain is not None):
        steps.append(RedisStep("set-password" if given in view.logins else "create-login", login=given))
    for name, login in view.logins.items():
        if name == given or name in desired.retired:
            continue
        if not login.enabled:
            steps.append(RedisStep("enable-login", login=name))
        elif login.findings:
            steps.append(RedisStep("mend-login", login=name))
        elif login.read_only is not desired.read_only:
            steps.append(RedisStep("refuse-writes" if desired.read_only else "allow-writes", login=name))
    return tuple(steps)
