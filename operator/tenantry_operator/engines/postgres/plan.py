"""From what was observed to what is to be done. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry_operator.engines.base import Credentials, DatabaseState, Desired, Isolation, Presence
from tenantry_operator.engines.guards import check_lost, own_view
from tenantry_operator.engines.postgres.view import Mend, View


@dataclass(frozen=True, slots=True)
class PostgresStep:
    """One step: a transaction, or what cannot be in one."""

    name: str
    login: str | None = None
    """The login it is about."""
    missing: frozenset[str] = field(default=frozenset())
    """The roles that are to be created on the way."""


def plan(desired: Desired, state: DatabaseState, credentials: Credentials | None) -> tuple[PostgresStep, ...]:
    """The steps from ``state`` to ``desired``.

    A login that should work and does not exist is made only with credentials for it.

    :raises Stalled: NameTaken, DataLost.
    """
    view = own_view(desired, state, View)
    if desired.presence is Presence.ABSENT:
        return (*_refuse(view), *_drop(desired, view))
    if desired.presence is Presence.REFUSED:
        return (*_refuse(view), *_distribute(desired, view), *_version(desired, state, view))
    check_lost(desired, view.where, lost=view.lost)
    return (
        *_create(desired, view, credentials),
        *_distribute(desired, view),
        *_logins(desired, view, credentials),
        *_mend(view),
        *_rest(desired, view),
        *_version(desired, state, view),
        *_storage(desired, view),
        *(PostgresStep("retire-login", login=login) for login in desired.retired if login in view.logins),
    )


def _refuse(view: View) -> tuple[PostgresStep, ...]:
    steps = []
    if any(login.enabled for login in view.logins.values()):
        steps.append(PostgresStep("refuse-logins"))
    if steps or any(login.connections for login in view.logins.values()):
        # A session may have begun between the observation and the refusal.
        steps.append(PostgresStep("end-sessions"))
    return tuple(steps)


def _drop(desired: Desired, view: View) -> tuple[PostgresStep, ...]:
    if desired.isolation is Isolation.ROW:
        return (PostgresStep("remove-rows"),) if view.registered or view.logins else ()
    if desired.isolation is Isolation.SCHEMA:
        if not view.data and not view.roles:
            return ()
        on_nodes = view.distribution is not None and view.distribution.installed
        return (*((PostgresStep("drop-on-nodes"),) if on_nodes else ()), PostgresStep("drop-schema"))
    steps = []
    if view.data:
        steps.append(PostgresStep("drop-database"))
    if view.roles:
        steps.append(PostgresStep("drop-roles"))
    return tuple(steps)


def _create(desired: Desired, view: View, credentials: Credentials | None) -> tuple[PostgresStep, ...]:
    missing = view.missing_roles
    if credentials is not None and credentials.login not in view.logins:
        missing |= {credentials.login}
    if desired.isolation in (Isolation.DATABASE, Isolation.INSTANCE):
        steps = []
        if not view.complete:
            if missing:
                steps.append(PostgresStep("create-roles", missing=missing))
            if not view.data:
                steps.append(PostgresStep("create-database"))
            if not view.open:
                steps.append(PostgresStep("open-database"))
            steps.append(PostgresStep("build-database"))
        return tuple(steps)
    steps = []
    if not view.prepared:
        steps.append(PostgresStep("prepare-database"))
    if view.distribution is not None and not view.distribution.installed:
        steps.append(PostgresStep("check-citus"))
    if desired.isolation is Isolation.SCHEMA:
        if not view.data:
            steps.append(PostgresStep("create-schema", missing=missing))
    else:
        if not view.data:
            steps.append(PostgresStep("create-row-schema", missing=view.missing_roles))
        if not view.registered or not view.data:
            # Tables that are made anew forget whose they were: each tenant asks for its own empty start.
            steps.append(PostgresStep("register-tenant", missing=missing - view.missing_roles))
    return tuple(steps)


def _distribute(desired: Desired, view: View) -> tuple[PostgresStep, ...]:
    """Before what only the coordinator knows: whoever may do more there can do it on the nodes, too."""
    if view.distribution is None:
        return ()
    if not view.distribution.distributed:
        if desired.presence is not Presence.LIVE and not (view.data and view.distribution.installed):
            return ()
        return (PostgresStep("sync-nodes"), PostgresStep("distribute"))
    wanted = {finding.mend for finding in view.findings}
    writable = view.read_only and not desired.read_only
    return (PostgresStep("sync-nodes"),) if writable or {Mend.NODES, Mend.GRANTS} & wanted else ()


def _logins(desired: Desired, view: View, credentials: Credentials | None) -> tuple[PostgresStep, ...]:
    steps = []
    created = view.data and view.complete and (desired.isolation is not Isolation.ROW or view.registered)
    if credentials is not None:
        if credentials.login in view.logins:
            steps.append(PostgresStep("set-password", login=credentials.login))
        elif created:
            steps.append(PostgresStep("create-login", login=credentials.login))
    for name, login in view.logins.items():
        if not login.enabled and name not in desired.retired:
            steps.append(PostgresStep("enable-login", login=name))
    return tuple(steps)


def _mend(view: View) -> tuple[PostgresStep, ...]:
    if not view.data or not view.complete:
        return ()
    wanted = {finding.mend for finding in view.findings}
    steps = []
    # Roles first: rights are given to them.
    if Mend.ROLES in wanted:
        steps.append(PostgresStep("mend-roles"))
    if Mend.DATABASE in wanted:
        steps.append(PostgresStep("mend-database"))
    if Mend.GRANTS in wanted:
        steps.append(PostgresStep("mend-grants"))
    return tuple(steps)


def _rest(desired: Desired, view: View) -> tuple[PostgresStep, ...]:
    """What of a chain cannot be run in the transaction that makes a schema or a database."""
    made = not view.data or not view.complete
    if made and desired.chain is not None and not all(m.transactional for m in desired.chain.migrations):
        return (PostgresStep("migrate"),)
    return ()


def _version(desired: Desired, state: DatabaseState, view: View) -> tuple[PostgresStep, ...]:
    chain = desired.chain
    if chain is None or not view.data or not view.complete:
        return ()
    if (state.version, state.digest, state.target) == (chain.version, chain.digest, None):
        return ()
    return (PostgresStep("migrate"),)


def _storage(desired: Desired, view: View) -> tuple[PostgresStep, ...]:
    if desired.read_only:
        steps = () if view.read_only else (PostgresStep("refuse-writes"),)
        # Under Row isolation a tenant's share is counted in rows: deleting helps at once.
        row = desired.isolation is Isolation.ROW
        return (*steps, PostgresStep("vacuum")) if view.data and not row else steps
    return (PostgresStep("allow-writes"),) if view.read_only else ()
