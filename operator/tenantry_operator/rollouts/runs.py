"""All rollouts under way, and what they mean for single tenants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from tenantry_crds.blueprint import DriftPolicy
from tenantry_crds.common import ACKNOWLEDGE_ANNOTATION
from tenantry_operator.cache import Key, Store
from tenantry_operator.engines.base import DatabaseState
from tenantry_operator.errors import ReconcileError, Retryable, Stalled, Waiting
from tenantry_operator.rollouts.members import Result, Standing, followers
from tenantry_operator.rollouts.phase import FINAL, phase_of
from tenantry_operator.rollouts.run import Run
from tenantry_operator.tenants.deviations import describe, is_unaccepted
from tenantry_operator.tenants.outcome import Outcome
from tenantry_operator.tenants.versions import Choice, Situation, Turn, choose, was_kept_from, was_taken
from tenantry_operator.tenants.view import Entry, TenantView

Object = dict[str, Any]

_AWAY = frozenset({"ServerUnreachable", "ServerOutOfResources"})
"""Faults of a server, which are no tenant's failure."""


class Runs:
    """The rollouts under way, at most one for each blueprint.

    :param rollouts: all Rollouts that are known, by blueprint in the index ``blueprint``.
    :param is_up: whether a server answers.
    """

    def __init__(self, rollouts: Store, blueprints: Store, tenants: Store, is_up: Callable[[Key], bool]) -> None:
        self._rollouts = rollouts
        self._blueprints = blueprints
        self._tenants = tenants
        self._is_up = is_up
        self._runs: dict[str, tuple[Key, Run]] = {}
        self.wake: Callable[[Key], None] = lambda key: None
        """Called with each tenant whose turn it is."""
        self.moved: Callable[[Key], None] = lambda key: None
        """Called with the Rollout whose numbers changed."""
        self.turned: Callable[[str], None] = lambda blueprint: None
        """Called with the blueprint (``<namespace>/<name>``) one of whose Rollouts has another phase."""

    def get(self, blueprint: str) -> tuple[Key, Run] | None:
        """The rollout under way for a blueprint (``<namespace>/<name>``)."""
        return self._runs.get(blueprint)

    def of(self, key: Key) -> Run | None:
        """The run of a Rollout."""
        return next((run for rollout, run in self._runs.values() if rollout == key), None)

    def start(self, key: Key, blueprint: str, run: Run) -> None:
        """A rollout is under way."""
        self._runs[blueprint] = (key, run)
        self._wake_all(run.frozen)  # they tell so themselves

    def stop(self, key: Key) -> None:
        """A rollout is under way no longer."""
        for blueprint, (rollout, run) in list(self._runs.items()):
            if rollout == key:
                del self._runs[blueprint]
                self._wake_all([*run.running, *run.failures])

    def _wake_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.wake(key)

    def advance(self, run: Run) -> None:
        """Begins with as many tenants as may be begun now."""
        self._wake_all(run.admit(time.time(), time.monotonic(), self._is_up))

    def changed(self, key: Key) -> None:
        """A tenant changed, or went."""
        tenant = self._tenants.get(key)
        for blueprint, (rollout, run) in list(self._runs.items()):
            namespace, _, name = blueprint.partition("/")
            if namespace != key[0]:
                continue
            follows = tenant is not None and any(
                database.get("blueprint") == name for database in tenant["spec"].get("databases") or []
            )
            if not follows and run.standing(key) is None:
                continue
            before = (run.standing(key), key in run.running)
            frozen = key in run.frozen
            run.update(key, tenant if follows else None)
            standing = run.standing(key)
            if key in run.frozen and not frozen:
                self.wake(key)
            if before != (standing, key in run.running):
                self.advance(run)
                self.moved(rollout)
                if standing is Standing.FAILED:
                    self.wake(key)  # it goes on without the version, and is watched again

    # What a reconcile of a tenant asks

    def choose(self, view: TenantView, entry: Entry, current: str, state: DatabaseState, *, row: bool) -> Choice:
        """Which version a tenant's database is to be at.

        :param current: the blueprint's ``spec.version``.
        :param row: tables that are shared have no pins, and are there before the tenant is.
        """
        blueprint = f"{view.namespace}/{entry.blueprint}"
        record = view.known.get(entry.name, {})
        found = self._runs.get(blueprint)
        pin = None if row else entry.version
        there = state.exists or row
        situation = Situation(
            pin=pin,
            current=current,
            settled=self._settled(blueprint),
            installed=state.version if there else None,
            unfinished=state.target if there else None,
            record=record,
            turn=self.turn(view, entry) if pin is None else None,
            joins=found[1].aim.version if found is not None and found[1].reached(view.obj) else None,
            busy=self._is_busy(blueprint),
            failed=self.failure_of(view, record) is not None,
            frozen=self.freezes(blueprint) and is_unaccepted(view.obj, record),
        )
        return choose(situation)

    def _settled(self, blueprint: str) -> str | None:
        namespace, _, name = blueprint.partition("/")
        obj = self._blueprints.get((namespace, name)) or {}
        settled: str | None = (obj.get("status") or {}).get("currentVersion")
        return settled

    def freezes(self, blueprint: str) -> bool:
        """Whether tenants of a blueprint whose schemas differ from their version get no other one."""
        namespace, _, name = blueprint.partition("/")
        obj = self._blueprints.get((namespace, name)) or {}
        return bool(((obj.get("spec") or {}).get("rollout") or {}).get("drift") == DriftPolicy.FREEZE)

    def _is_busy(self, blueprint: str) -> bool:
        if blueprint in self._runs:
            return True
        return any(phase_of(obj) not in FINAL for obj in self._rollouts.all("blueprint", blueprint))

    def turn(self, view: TenantView, entry: Entry) -> Turn | None:
        """A tenant's turn in a rollout; None: it is not its turn."""
        found = self._runs.get(f"{view.namespace}/{entry.blueprint}")
        if found is None:
            return None
        (_, name), run = found
        attempt = run.running.get(view.key)
        if attempt is None:
            return None
        version = run.aim.version
        if run.aim.back:
            rollout = view.known.get(entry.name, {}).get("rollout") or {}
            if rollout.get("uid") != run.aim.uid or not rollout.get("previous"):
                return None
            version = rollout["previous"]
        left = run.timeout - (time.monotonic() - attempt.since)
        return Turn(name, run.aim.uid, version, run.lock_timeout, max(left, 1.0), run.aim.back)

    def failure_of(self, view: TenantView, record: Object) -> Stalled | None:
        """What a rollout could not do to a tenant's database, as long as the rollout stands by it."""
        rollout = record.get("rollout") or {}
        if rollout.get("result") not in (Result.FAILED, Result.ROLL_BACK_FAILED):
            return None
        obj = self._rollouts.get((view.namespace, rollout["name"]))
        if obj is None or obj["metadata"]["uid"] != rollout.get("uid") or "deletionTimestamp" in obj["metadata"]:
            return None
        if phase_of(obj) in ("RolledBack", "Cancelled"):
            return None
        return Stalled(rollout.get("reason") or "Failed", rollout.get("message") or "")

    def behind(self, view: TenantView, outcome: Outcome) -> ReconcileError | None:
        """Why a tenant's database, which works, does not have the version that it should have."""
        record = outcome.record or {}
        entry = next((entry for entry in view.entries if entry.name == outcome.entry), None)
        failed = self.failure_of(view, record)
        return failed if failed is not None or entry is None else self._frozen(view, entry, record)

    def _frozen(self, view: TenantView, entry: Entry, record: Object) -> ReconcileError | None:
        """Why a tenant's database does not get the version that a rollout brings, or brought to all others."""
        blueprint, at = f"{view.namespace}/{entry.blueprint}", record.get("version")
        if entry.version is not None or at is None:
            return None
        rollout, settled = record.get("rollout") or {}, self._settled(blueprint)
        wanted = rollout.get("version") if rollout.get("result") == Result.FROZEN else settled
        if wanted in (None, at) or was_taken(record, at, settled):
            return None
        if not self.freezes(blueprint) or not is_unaccepted(view.obj, record):
            if self._is_busy(blueprint) or not was_kept_from(record, settled):
                return None
            text = f"database {record['name']}: version {settled} comes next, now that nothing is in its way"
            return Waiting("Thawed", text)
        return Stalled(
            Result.FROZEN,
            f"{describe(record)}. It gets no other version until that is undone, or the annotation "
            f"{ACKNOWLEDGE_ANNOTATION} has a new value",
        )

    def judge(self, view: TenantView, outcomes: Iterable[Outcome], problem: ReconcileError | None) -> None:
        """Writes into the records what a rollout did to the tenant. Called before the status is written.

        :param problem: what stood in the way of all its databases.
        """
        entries = {entry.name: entry for entry in view.entries}
        for outcome in outcomes:
            entry = entries.get(outcome.entry)
            if entry is None or outcome.record is None:
                continue
            found = self._runs.get(f"{view.namespace}/{entry.blueprint}")
            if found is None or entry.name not in dict(followers(view.obj, entry.blueprint)):
                continue
            (_, name), run = found
            self._judge(view, outcome, name, run, problem or outcome.error)

    def _judge(
        self, view: TenantView, outcome: Outcome, name: str, run: Run, error: ReconcileError | None
    ) -> None:
        record, known = outcome.record or {}, view.known.get(outcome.entry, {})
        before = known.get("rollout") or {}
        ours = before if before.get("uid") == run.aim.uid else {}
        at, back = record.get("version"), run.aim.back
        # What was made during a rollout goes back with the others, if they do.
        settled = self._settled(f"{view.namespace}/{run.aim.blueprint}")
        previous = ours.get("previous") or known.get("version") or settled or run.aim.version
        entry = {"name": name, "uid": run.aim.uid, "version": run.aim.version, "previous": previous}
        attempt = run.running.get(view.key)
        if view.key in run.frozen:
            record["rollout"] = {**entry, "result": Result.FROZEN}
            return
        if error is None:
            if back and attempt is not None and ours and at == ours.get("previous"):
                record["rollout"] = {**entry, "result": Result.ROLLED_BACK}
            elif (
                not back
                and at == run.aim.version
                and (known.get("version") != at or ours.get("result") == Result.FAILED)
            ):
                record["rollout"] = {**entry, "result": Result.MIGRATED}
            return
        if attempt is None or (back and not ours):
            return
        if isinstance(error, Retryable) and error.reason in _AWAY:
            run.put_back(view.key)
            return
        final = self._final(run, view.key, error)
        if final is not None:
            record["rollout"] = {
                **entry,
                "result": Result.ROLL_BACK_FAILED if back else Result.FAILED,
                "round": run.aim.round,
                "reason": final.reason,
                "message": final.message[:2048],
            }

    def _final(self, run: Run, key: Key, error: ReconcileError) -> ReconcileError | None:
        """The error that a tenant failed with; None: it is tried again."""
        attempt = run.running[key]
        attempt.tries += 1
        late = time.monotonic() - attempt.since > run.timeout
        if isinstance(error, Stalled):
            return error
        if isinstance(error, Waiting) and not late:
            return None
        if not late and attempt.tries <= run.spec.retries:
            return None
        tries = f"given up after {attempt.tries} attempts" if not late else f"not done within {run.spec.timeout}"
        return Stalled(error.reason, f"{error.message} ({tries})")


def server_of(blueprint: str, placements: Callable[[Object], dict[str, Key]]) -> Callable[[Object], Key]:
    """Where the databases of a blueprint's tenants are: the first of them, when there are several."""

    def find(tenant: Object) -> Key:
        homes = placements(tenant)
        for name, _ in followers(tenant, blueprint):
            if name in homes:
                return homes[name]
        return ("", "")

    return find
