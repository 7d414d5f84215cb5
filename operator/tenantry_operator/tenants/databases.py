"""Bringing one database of a tenant to where it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import structlog

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.cache import Key
from tenantry_operator.context import Context
from tenantry_operator.engines.base import Belonging, Desired, Isolation, Presence
from tenantry_operator.errors import ReconcileError, Stalled, Waiting
from tenantry_operator.faults import reached
from tenantry_operator.instances.hibernation import AT_REST, ends_with_namespace, is_asleep
from tenantry_operator.instances.servers import Server
from tenantry_operator.tenants import credentials, dedicated, desired, homes, secrets
from tenantry_operator.tenants.convergence import Convergence
from tenantry_operator.tenants.lifecycle import Goal
from tenantry_operator.tenants.outcome import Outcome, known_error
from tenantry_operator.tenants.quotas import Limits
from tenantry_operator.tenants.variants import name_variants
from tenantry_operator.tenants.view import Entry, TenantView

Object = dict[str, Any]
_log = structlog.get_logger(__name__)


class Databases:
    """Reconciles single databases of tenants."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def bring(
        self, view: TenantView, entry: Entry, goal: Goal, limits: Callable[[], Limits]
    ) -> tuple[TenantView, Outcome]:
        """Brings a database to the goal; errors come back in the outcome.

        :param limits: the tenant's limits; it may raise what stands in their way.
        :returns: the view, newer when the Tenant was written, and the outcome.
        """
        known = view.known.get(entry.name)
        outcome = Outcome(entry.name, dict(known) if known else {"name": entry.name, "blueprint": entry.blueprint})
        task = _Task(self._context, view, entry, goal, outcome)
        try:
            if goal.presence is Presence.LIVE:
                await task.live(limits())
            else:
                await task.away()
            if outcome.record is not None and outcome.error is None:
                outcome.record["phase"] = goal.phase
        except Exception as error:
            if not isinstance(error, ReconcileError):
                _log.exception("a database was not reconciled", tenant=view.tenant, database=entry.name)
            outcome.error = known_error(error)
            if outcome.record is not None:
                outcome.record["phase"] = "Pending" if isinstance(outcome.error, Waiting) else "Failed"
        return task.view, outcome


class _Task:
    """The reconcile of one database: its steps share these values."""

    def __init__(self, context: Context, view: TenantView, entry: Entry, goal: Goal, outcome: Outcome) -> None:
        self.context = context
        self.view = view
        self.entry = entry
        self.goal = goal
        self.outcome = outcome
        self._current: str | None = None
        """The blueprint's current version; None: the version of the data is left alone."""

    @property
    def record(self) -> Object:
        return self.outcome.entered

    async def live(self, limits: Limits) -> None:
        """The database exists, is at its version, and its login and Secret work."""
        design = desired.design(self.context, self.view, self.entry)
        moved = self._move(design.isolation)
        if moved is not None:
            self.outcome.error = moved
            design = replace(design, isolation=Isolation(self.record["isolation"]))
        home, isolation = await self._home(design.engine, design.isolation)
        homes.check_alone(self.context, self.view, home)
        if isolation is Isolation.INSTANCE and self.entry.instance is None:
            problem = await dedicated.declare(self.context, self.view, self.entry, home, design.engine)
            self.outcome.error = self.outcome.error or problem
        if isolation is not design.isolation:
            raise Stalled(
                "MoveNotSupported",
                f"database {self.entry.name}: an earlier tenant of this name left its data under isolation "
                f"{isolation}; ask for that isolation, nothing was touched",
            )
        server = await self.context.servers.get(home)
        wanted = self._desired(isolation, Presence.LIVE, design.engine)
        wanted = replace(
            wanted,
            row_column=design.row_column,
            allow_unsafe_keys=design.allow_unsafe_keys,
            limits=limits.login,
            ddl=self.entry.ddl,
        )
        self._current = design.current
        wanted = await self._converge(server, wanted, limits)
        self._describe(home, wanted, design.engine)

    async def away(self) -> None:
        """The database's logins are refused, or it is dropped, as far as it exists."""
        home = self.view.placements.get(self.entry.name)
        isolation = self.record.get("isolation")
        if home is None or isolation is None:
            found = await homes.find(self.context, self.view, self.entry) if self.view.claimed else None
            if found is None and home is None:
                await self._gone()
                return
            if found is not None:
                home, isolation = self._adopt(found)
            else:
                isolation = await self._isolation_of_spec()
        assert home is not None  # noqa: S101 - either placed or found, or returned above
        if self.goal.presence is Presence.ABSENT and dedicated.is_own(self.context, self.view, self.entry, home):
            # All that is on the server is this tenant's.
            await dedicated.remove(self.context, self.view, self.entry)
            await self._leave()
            return
        if self._sleeps_on(home):
            return
        if self.view.deleting and ends_with_namespace(self.context.instances.get(home)):
            return  # there is nothing left whose logins could be refused
        server = await self.context.servers.get(home)
        engine = server.access.engine
        wanted = self._desired(Isolation(isolation), self.goal.presence, engine)
        if self.goal.presence is Presence.REFUSED and self.context.runs.turn(self.view, self.entry) is not None:
            # Who is suspended is migrated in place.
            wanted = self._as_designed(wanted)
        await self._converge(server, wanted, None)
        if self.goal.presence is Presence.ABSENT or self.entry.removed:
            await self._leave()

    async def _leave(self) -> None:
        await secrets.remove(self.context, self.view, self.entry.name)
        reached("secret-removed")
        await self._gone()

    def _sleeps_on(self, home: Key) -> bool:
        """Whether there is nothing to do on a server that sleeps: it does so since its logins are refused."""
        if self.goal.presence is not Presence.REFUSED or self.entry.removed:
            return False
        known = self.view.known.get(self.entry.name, {}).get("phase") in AT_REST
        turn = self.context.runs.turn(self.view, self.entry)
        return known and turn is None and is_asleep(self.context.instances.get(home))

    def _as_designed(self, wanted: Desired) -> Desired:
        design = desired.design(self.context, self.view, self.entry)
        self._current = design.current
        return replace(wanted, row_column=design.row_column, allow_unsafe_keys=design.allow_unsafe_keys)

    async def _gone(self) -> None:
        if self.entry.removed or self.goal.presence is Presence.ABSENT:
            self.outcome.record = None

    async def _isolation_of_spec(self) -> Isolation:
        if self.entry.isolation is not None:
            return self.entry.isolation
        return desired.blueprint_spec(self.context, self.view, self.entry)[0].effective_isolation

    def _move(self, isolation: Isolation) -> Stalled | None:
        known, pin = self.record.get("isolation"), self.entry.instance
        home = self.view.placements.get(self.entry.name)
        wants = []
        if known and self.record.get("database") and known != isolation:
            wants.append(f"isolation {isolation} (it is {known})")
        if pin is not None and home is not None and home[1] != pin and self.record.get("database"):
            wants.append(f"instance {pin} (it is on {home[1]})")
        if not wants:
            return None
        return Stalled(
            "MoveNotSupported",
            f"database {self.entry.name}: moving to {' and '.join(wants)} is not supported yet; the data stays "
            "where it is and works; put the old value back to clear this",
        )

    async def _home(self, engine: DatabaseEngine, isolation: Isolation) -> tuple[Key, Isolation]:
        """Where the database is or goes; claimed before it is made."""
        home = self.view.placements.get(self.entry.name)
        if home is not None and self.view.claimed:
            return home, isolation
        pin = homes.pinned(self.context, self.view, self.entry)
        found = await homes.find(self.context, self.view, self.entry)
        if found is not None:
            asked = isolation
            home, isolation = self._adopt(found)
            if asked is Isolation.INSTANCE and homes.candidate(self.context, home).dedicated:
                isolation = asked  # its marks are those of a whole database
            if pin is not None and pin != home:
                raise Stalled(
                    "MoveNotSupported",
                    f"database {self.entry.name}: an earlier tenant of this name left its data on instance "
                    f"{home[1]}; pin that one or none, nothing was touched",
                )
        elif home is None:
            home = homes.place(self.context, self.view, self.entry, engine, isolation, pin)
        self.view = await homes.claim(self.context, self.view, self.entry, home)
        reached("claimed")
        return home, isolation

    def _adopt(self, found: tuple[Key, Belonging]) -> tuple[Key, Isolation]:
        """What an earlier tenant of this name left keeps its names."""
        home, belonging = found
        self.record["database"] = belonging.database
        if belonging.schema is not None:
            self.record["schema"] = belonging.schema
        return home, belonging.isolation

    def _desired(self, isolation: Isolation, presence: Presence, engine: DatabaseEngine) -> Desired:
        return Desired(
            installation=self.context.installation,
            tenant=self.view.tenant,
            tenant_id=self.view.id,
            entry=self.entry.name,
            isolation=isolation,
            names=name_variants(self.view, self.entry, self.record, isolation, engine)[0],
            blueprint=f"{self.view.namespace}/{self.entry.blueprint}",
            presence=presence,
        )

    async def _converge(self, server: Server, wanted: Desired, limits: Limits | None) -> Desired:
        convergence = Convergence(self.context, self.view, self.entry, self.outcome, self._current)
        return await convergence.bring(server, wanted, limits)

    def _describe(self, home: Key, wanted: Desired, engine: str) -> None:
        names = wanted.names
        self.record.update(
            {
                "name": self.entry.name,
                "blueprint": self.entry.blueprint,
                "engine": engine,
                "isolation": str(wanted.isolation),
                "instance": home[1],
                "instanceNamespace": home[0],
                "database": names.database,
                "owner": names.owner,
                "secret": credentials.secret_name(self.view.name, self.entry.name),
            }
        )
        if names.schema is not None:
            self.record["schema"] = names.schema
        for optional in ("readOnly", "digest", "version"):
            if self.record.get(optional) is None:
                self.record.pop(optional, None)
