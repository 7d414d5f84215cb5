"""Scratch copies on one server, made one at a time to see what versions do, and dropped again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from tenantry_crds.common import DatabaseEngine
from tenantry_operator.engines.base import Chain, Desired, Mark, Presence, Structure
from tenantry_operator.engines.scratch import ENTRY, scratch_copy


class Rehearsals:
    """The scratch copies of one server.

    :param settle: brings a database to where it should be.
    """

    def __init__(
        self, installation: str, engine: DatabaseEngine, settle: Callable[[Desired], Awaitable[None]]
    ) -> None:
        self._installation = installation
        self._engine = engine
        self._settle = settle
        self._lock = asyncio.Lock()

    async def run(
        self,
        desired: Desired,
        chains: Sequence[Chain],
        structure: Callable[[Desired], Awaitable[Structure | None]],
    ) -> Mapping[str, Structure]:
        """Makes a copy, brings it along chains one after the other, and drops it.

        :returns: by the digest of a chain, what a database looks like that comes by it from the start.
        :raises Stalled: for what fails, as it would for a tenant.
        """
        absent = replace(desired, presence=Presence.ABSENT, chain=None)
        found: dict[str, Structure] = {}
        installed: Chain | None = None
        async with self._lock:  # all copies of a blueprint have one name
            await self._settle(absent)  # what a crash left
            try:
                for chain in chains:
                    await self._settle(replace(desired, chain=chain, installed=installed))
                    seen = await structure(desired) if chain.goes_on_from(installed) else None
                    if seen is not None:
                        found.setdefault(chain.digest, seen)
                    installed = chain
            finally:
                await self._settle(absent)
        return found

    async def clear(self, marks: Iterable[Mark | None]) -> None:
        """Drops the copies that a crash left.

        :param marks: of all that is on the server; those of tenants are passed over.
        """
        left = {
            mark.blueprint
            for mark in marks
            if mark is not None
            and (mark.installation, mark.tenant, mark.database) == (self._installation, "", ENTRY)
        }
        for blueprint in sorted(left):
            copy = scratch_copy(self._installation, blueprint, self._engine)
            async with self._lock:  # one that is being made is gone then
                await self._settle(replace(copy, presence=Presence.ABSENT))
