"""One rollout under way: who is next, who is being migrated, who is through. Pure, apart from its own state.

Nothing in here is kept anywhere else but in the statuses of tenants and Rollout: a run that is built anew
from those goes on where the other ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantry_crds.quantities import parse_duration
from tenantry_crds.rollout import RolloutSpec
from tenantry_operator.cache import Key, key_of
from tenantry_operator.rollouts.members import (
    DEFAULT_WAVE,
    Aim,
    Member,
    Result,
    Standing,
    is_meant,
    member,
    wave_of,
)

Object = dict[str, Any]


@dataclass(slots=True)
class Attempt:
    """A tenant that is being migrated."""

    since: float
    """When it was begun, by the clock of the run."""
    server: Key
    tries: int = 0
    """How many attempts failed."""


@dataclass(slots=True)
class _Wave:
    name: str
    soak: float
    pending: dict[Key, dict[Key, None]] = field(default_factory=dict)
    """By server."""
    counts: Counter[Standing] = field(default_factory=Counter)

    def add(self, server: Key, key: Key) -> None:
        self.pending.setdefault(server, {})[key] = None

    def remove(self, server: Key, key: Key) -> None:
        bucket = self.pending.get(server)
        if bucket is not None:
            bucket.pop(key, None)
            if not bucket:
                del self.pending[server]


@dataclass(frozen=True, slots=True)
class _Place:
    wave: int
    server: Key
    member: Member


class Run:
    """A rollout under way.

    :param tenants: those of the namespace that have a database of the blueprint.
    :param server_of: where a tenant's databases are.
    """

    def __init__(
        self, spec: RolloutSpec, aim: Aim, tenants: Iterable[Object], server_of: Callable[[Object], Key]
    ) -> None:
        self.spec = spec
        self.aim = aim
        self.soak_until: dict[str, float] = {}
        """By wave: until when the next one waits, in seconds since the epoch."""
        self.held = False
        """Nobody is begun."""
        self.running: dict[Key, Attempt] = {}
        self.timeout = parse_duration(spec.timeout)
        self.lock_timeout = parse_duration(spec.lock_timeout)
        self._server_of = server_of
        self._places: dict[Key, _Place] = {}
        self._waves = [_Wave(wave.name, parse_duration(wave.soak) if wave.soak else 0.0) for wave in spec.waves]
        self._waves.append(_Wave(DEFAULT_WAVE, 0.0))
        self._per_server: Counter[Key] = Counter()
        self.failures: dict[Key, Member] = {}
        self.frozen: set[Key] = set()
        """Who is skipped because somebody changed the schema."""
        self.started = False
        """Somebody was begun."""
        # In an order that people can foresee.
        for tenant in sorted(tenants, key=key_of):
            self.update(key_of(tenant), tenant)

    # What is known of the tenants

    def update(self, key: Key, tenant: Object | None) -> None:
        """Takes in how a tenant is now; None: it is gone. Who waits keeps its place in the queue."""
        before = self._forget(key)
        if tenant is None or not is_meant(self.spec, tenant):
            self._end(key)
            self._dequeue(key, before)
            return
        found = member(self.aim, tenant)
        place = _Place(wave_of(self.spec, tenant), self._server_of(tenant), found)
        self._places[key] = place
        wave = self._waves[place.wave]
        wave.counts[found.standing] += 1
        if found.standing is not Standing.PENDING:
            self._end(key)
        waits = found.standing is Standing.PENDING and key not in self.running
        if before is None or not waits or (before.wave, before.server) != (place.wave, place.server):
            self._dequeue(key, before)
        if waits:
            wave.add(place.server, key)
        if found.standing is Standing.FAILED:
            self.failures[key] = found
        if found.reason == Result.FROZEN:
            self.frozen.add(key)

    def _forget(self, key: Key) -> _Place | None:
        place = self._places.pop(key, None)
        self.failures.pop(key, None)
        self.frozen.discard(key)
        if place is not None:
            self._waves[place.wave].counts[place.member.standing] -= 1
        return place

    def _dequeue(self, key: Key, place: _Place | None) -> None:
        if place is not None:
            self._waves[place.wave].remove(place.server, key)

    def _end(self, key: Key) -> None:
        attempt = self.running.pop(key, None)
        if attempt is not None:
            self._per_server[attempt.server] -= 1

    def take_over(self, running: Mapping[Key, Attempt]) -> None:
        """Goes on with those whom an earlier run of the same rollout had in hand."""
        for key, attempt in running.items():
            place = self._places.get(key)
            if place is not None and place.member.standing is Standing.PENDING:
                self._waves[place.wave].remove(place.server, key)
                self.running[key] = attempt
                self._per_server[attempt.server] += 1

    def put_back(self, key: Key) -> None:
        """A tenant that is being migrated waits for another turn: its server is away."""
        self._end(key)
        place = self._places.get(key)
        if place is not None and place.member.standing is Standing.PENDING:
            self._waves[place.wave].add(place.server, key)

    def standing(self, key: Key) -> Standing | None:
        """How a tenant stands; None: the rollout does not mean it."""
        place = self._places.get(key)
        return place.member.standing if place is not None else None

    # Numbers

    def count(self, standing: Standing) -> int:
        """How many tenants stand so."""
        return sum(wave.counts[standing] for wave in self._waves)

    @property
    def total(self) -> int:
        """How many tenants it is for."""
        return sum(self.count(s) for s in (Standing.PENDING, Standing.DONE, Standing.FAILED))

    @property
    def budget(self) -> int:
        """How many failures are tolerated."""
        budget = self.spec.failure_budget
        if isinstance(budget, str):
            return self.total * int(budget.rstrip("%")) // 100
        return budget

    @property
    def exceeded(self) -> bool:
        """Whether more tenants failed than are tolerated."""
        return self.count(Standing.FAILED) > self.budget

    def waves(self) -> list[tuple[str, Mapping[Standing, int]]]:
        """Names and numbers of all waves; without the last one when nobody is in it and there are others."""
        found: list[tuple[str, Mapping[Standing, int]]] = [(wave.name, wave.counts) for wave in self._waves]
        if len(found) > 1 and not any(self._waves[-1].counts[s] for s in Standing if s is not Standing.SKIPPED):
            found.pop()
        return found

    @property
    def current(self) -> int | None:
        """The number of the first wave that is not through; None: all are."""
        for number, wave in enumerate(self._waves):
            if wave.counts[Standing.PENDING]:
                return number
        return None

    def wave_name(self, number: int) -> str:
        """The name of a wave."""
        return self._waves[number].name

    @property
    def done(self) -> bool:
        """Whether nobody is left to be migrated."""
        return self.current is None

    def soaking(self, now: float) -> float | None:
        """For how many seconds the next wave still waits for the one before; None: it does not.

        Looking starts the soaking of a wave that has just come to its end.

        :param now: seconds since the epoch.
        """
        current = self.current
        if current is None or self.aim.back:
            return None
        longest = 0.0
        for wave in self._waves[:current]:
            people = wave.counts[Standing.DONE] + wave.counts[Standing.FAILED]
            if wave.soak and people:
                until = self.soak_until.setdefault(wave.name, now + wave.soak)
                longest = max(longest, until - now)
        return longest or None

    def reached(self, tenant: Object) -> bool:
        """Whether the wave of a tenant, which may have no data yet, has begun."""
        if self.aim.back or not is_meant(self.spec, tenant) or not self.started:
            return False
        current = self.current
        return current is None or wave_of(self.spec, tenant) <= current

    # Who is next

    def admit(self, now: float, clock: float, is_up: Callable[[Key], bool]) -> list[Key]:
        """Begins with as many tenants as may be begun now.

        :param now: seconds since the epoch, for soaking.
        :param clock: a time that only goes forward, for timeouts.
        :param is_up: whether a server answers; tenants of one that does not are left for later.
        """
        current = self.current
        if self.held or current is None or (self.exceeded and not self.aim.back):
            return []
        if self.soaking(now) is not None:
            return []
        begun: list[Key] = []
        wave = self._waves[current]
        most = self.spec.max_parallel_per_server or self.spec.max_parallel
        while len(self.running) < self.spec.max_parallel:
            free = [s for s in wave.pending if self._per_server[s] < most and is_up(s)]
            if not free:
                break
            server = min(free, key=lambda s: self._per_server[s])
            key = next(iter(wave.pending[server]))
            wave.remove(server, key)
            self.running[key] = Attempt(clock, server)
            self._per_server[server] += 1
            begun.append(key)
        self.started = self.started or bool(begun)
        return begun
