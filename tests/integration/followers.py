"""Databases of tenants that follow a blueprint of their own, brought to what is wanted as the operator does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import (
    Chain,
    Credentials,
    DatabaseState,
    Desired,
    Isolation,
    Presence,
    Stale,
)
from tenantry_operator.tenants.naming import names_for

INSTALLATION = "test"


@dataclass(kw_only=True)
class Followers:
    """A blueprint with a name of its own, and databases of tenants that follow it."""

    kind: ClassVar[DatabaseEngine]
    password: ClassVar[str]
    """What the first login of each gets."""

    engine: Any
    name: str
    chain: Chain
    isolation: Isolation = Isolation.DATABASE

    def desired(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database as it should be, on the server or not."""
        names = names_for(self.isolation, self.name, tenant, "main", namespace="shop", engine=self.kind)
        wanted = Desired(
            installation=INSTALLATION,
            tenant=f"shop/{tenant}",
            tenant_id=tenant,
            entry="main",
            isolation=self.isolation,
            names=names,
            blueprint=f"shop/{self.name}",
            presence=Presence.LIVE,
            chain=self.chain,
            login=names.login_a,
        )
        return replace(wanted, **changes)

    def credentials(self, desired: Desired, login: str | None = None) -> Credentials:
        """A password for a login."""
        return Credentials(login or desired.login or desired.names.login_a, self.password)

    async def bring(
        self, desired: Desired, credentials: Credentials | None = None, engine: Any = None
    ) -> list[str]:
        """Observes, plans and applies, as the operator does; the names of the steps.

        :param engine: the one that does it, when it is another.
        """
        engine = engine or self.engine
        state = (await engine.observe()).database(desired)
        for _ in range(5):
            steps = engine.plan(desired, state, credentials)
            try:
                await engine.apply(desired, steps, credentials)
            except Stale:
                state = await engine.observe_one(desired)
                continue
            return [step.name for step in steps]
        raise AssertionError("it does not settle")

    async def make(self, tenant: str = "acme", **changes: Any) -> Desired:
        """A tenant's database that works."""
        desired = self.desired(tenant, **changes)
        await self.bring(desired, self.credentials(desired, desired.names.login_a))
        return desired

    def same(self, single: DatabaseState, snapshot: DatabaseState) -> None:
        """Asserts that a single look says the same as a snapshot, but for what moves by itself."""
        assert single == snapshot

    async def state(self, desired: Desired) -> DatabaseState:
        """What a fresh snapshot says; a single look must say the same."""
        snapshot: DatabaseState = (await self.engine.observe()).database(desired)
        self.same(await self.engine.observe_one(desired), snapshot)
        return snapshot

    async def is_settled(self, desired: Desired) -> bool:
        """Whether nothing is left to do, and nothing differs."""
        state = await self.state(desired)
        return self.engine.plan(desired, state, None) == () and state.drift == ()
