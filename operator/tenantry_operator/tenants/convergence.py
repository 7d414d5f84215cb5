"""From what is on a server to what is wanted there for one database: observe, plan, apply, and look again."""

from __future__ import annotations

from dataclasses import replace

import structlog

from tenantry_crds.common import RECREATE_ANNOTATION
from tenantry_operator import telemetry
from tenantry_operator.context import Context
from tenantry_operator.engines.base import Credentials, DatabaseState, Desired, Ownership, Presence, Stale
from tenantry_operator.errors import ReconcileError, Retryable, Stalled
from tenantry_operator.faults import reached
from tenantry_operator.instances.servers import Server
from tenantry_operator.tenants import desired, secrets
from tenantry_operator.tenants.outcome import Outcome, Seen
from tenantry_operator.tenants.quotas import Limits
from tenantry_operator.tenants.variants import name_variants
from tenantry_operator.tenants.view import Entry, TenantView

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3


class Convergence:
    """Brings one database of a tenant to what is wanted of it, on the server that it is on.

    :param outcome: takes what was seen and done.
    :param current: the blueprint's current version; None: the version of the data is left alone.
    """

    def __init__(
        self, context: Context, view: TenantView, entry: Entry, outcome: Outcome, current: str | None
    ) -> None:
        self._context = context
        self._view = view
        self._entry = entry
        self._outcome = outcome
        self._current = current

    async def bring(self, server: Server, wanted: Desired, limits: Limits | None) -> Desired:
        """Observes, plans and applies until nothing is left to do.

        :returns: what was wanted, with the version that it is at now.
        :raises ReconcileError: with the instance named in its message.
        """
        try:
            return await self._attempt(server, wanted, limits)
        except ReconcileError as error:
            error.about(f"instance {server.name}")
            raise

    async def _attempt(self, server: Server, wanted: Desired, limits: Limits | None) -> Desired:
        wanted, state = await self._own(server, wanted, await server.state(wanted))
        for _ in range(_ATTEMPTS):
            if state is None:
                return wanted
            if self._current is not None:
                wanted = await desired.at_version(
                    self._context,
                    self._view,
                    self._entry,
                    self._current,
                    wanted,
                    state,
                    server.access.engine,
                )
            try:
                await self._apply(server, wanted, state, limits)
            except Stale as stale:
                _log.debug("planned from an outdated observation", tenant=self._view.tenant, what=str(stale))
                server.touch(wanted)
                wanted, state = await self._own(server, wanted, await server.engine.observe_one(wanted))
            else:
                return wanted
        raise Retryable("ServerChanging", "the server changes while it is worked on; trying again")

    async def _own(
        self, server: Server, wanted: Desired, state: DatabaseState
    ) -> tuple[Desired, DatabaseState | None]:
        """Makes sure that nothing of anybody else's is meant; None: there is nothing of the tenant's."""
        engine = server.access.engine
        for names in name_variants(self._view, self._entry, self._outcome.entered, wanted.isolation, engine)[1:]:
            if state.ownership is not Ownership.OTHER_TENANT:
                break
            wanted = replace(wanted, names=names)
            state = await server.state(wanted)
        if state.ownership in (Ownership.OTHER_TENANT, Ownership.STRANGER):
            if wanted.presence is not Presence.LIVE and not self._outcome.entered.get("database"):
                return wanted, None
            raise Stalled(
                "NameTaken",
                f"database {self._entry.name}: {state.conflict} was not made for this tenant and is left alone; "
                "rename or remove it there, or choose another tenant id",
            )
        return wanted, state

    async def _apply(self, server: Server, wanted: Desired, state: DatabaseState, limits: Limits | None) -> None:
        if wanted.presence is not Presence.LIVE or limits is None:
            await self._execute(server, wanted, state, None)
            self._outcome.seen = Seen(server.key, wanted, state, None)
            if wanted.chain is not None:
                self._note_version(wanted, state)
            return
        wanted = self._check_lost(wanted, state)
        turn, password = await secrets.whose_turn(
            self._context, self._view, self._entry.name, wanted.names, state.logins
        )
        wanted = replace(
            wanted,
            login=turn.login,
            retired=turn.retired,
            read_only=limits.enforce_storage
            and limits.storage is not None
            and state.bytes is not None
            and state.bytes > limits.storage,
        )
        made = Credentials(turn.login, password) if password is not None else None
        if state.exists and not turn.new_password:
            self._outcome.drift = state.drift
            if made is not None and any(login.name == turn.login for login in state.logins):
                self._outcome.drift += (f"login {turn.login} had another password than its Secret",)
        await self._execute(server, wanted, state, made)
        self._outcome.look_again = turn.look_again
        written = await secrets.bind(
            self._context, self._view, self._entry.name, server.access, wanted.names, turn, password
        )
        if written:
            reached("secret-written")
            self._outcome.done.append("secret")
            if turn.new_password and state.logins:
                self._outcome.look_again = self._context.settings.retire_after
        self._outcome.seen = Seen(server.key, wanted, state, limits)
        self._outcome.entered["readOnly"] = True if wanted.read_only else None
        self._outcome.entered["login"] = turn.login
        self._note_version(wanted, state)

    def _note_version(self, wanted: Desired, state: DatabaseState) -> None:
        chain = wanted.chain
        self._outcome.entered["version"] = chain.version if chain is not None else state.version
        self._outcome.entered["digest"] = chain.digest if chain is not None else state.digest

    def _check_lost(self, wanted: Desired, state: DatabaseState) -> Desired:
        """A database that vanished is not made again, empty, unless somebody says so."""
        if state.exists:
            return wanted
        asked = self._view.annotation(RECREATE_ANNOTATION)
        handled = (self._view.status.get("handled") or {}).get("recreate", "")
        if asked and asked != handled:
            return replace(wanted, recreate=True)
        if not self._outcome.entered.get("version"):
            return wanted
        raise Stalled(
            "DataLost",
            f"database {self._entry.name}: {wanted.names.database}"
            f"{'/' + wanted.names.schema if wanted.names.schema else ''} is gone from its server, though it was "
            f"there. Restore it, or set the annotation {RECREATE_ANNOTATION} to a new value to start empty",
        )

    async def _execute(
        self, server: Server, wanted: Desired, state: DatabaseState, made: Credentials | None
    ) -> None:
        steps = server.engine.plan(wanted, state, made)
        if not steps:
            return
        server.touch(wanted)
        await server.engine.apply(wanted, steps, made)
        server.touch(wanted)
        for step in steps:
            telemetry.database_steps.labels(step.name).inc()
            self._outcome.done.append(step.name)
